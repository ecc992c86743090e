"""Two studies, two patients, one file name: nothing of the one is ever taken for the other's."""

import json
import threading

import numpy as np
import pytest
from drawing import write_prediction


@pytest.fixture
def predicted(table, a_volume, tmp_path):
    """A case and the folder of its prediction."""
    from SemiSegModuleLib.scene.training_files import export_cases

    case = table.add_volume(a_volume)
    image = export_cases(table, tmp_path / "data").images / f"{case.file_name}.nrrd"
    write_prediction(tmp_path / "masks", image, np.ones((9, 12, 15), np.uint8), table.labels)
    return case, tmp_path / "masks"


def test_a_mask_of_another_patient_with_the_same_file_name_is_not_loaded(scene, table, predicted, add_volume):
    from SemiSegModuleLib.scene.case import CaseError
    from SemiSegModuleLib.scene.predictions import load_predictions

    _, folder = predicted
    scene.Clear(0)
    table.labels = []
    other = table.add_volume(add_volume("another patient"))
    assert (folder / f"{other.file_name}.seg.nrrd").is_file()
    with pytest.raises(CaseError, match="belongs to another study"):
        load_predictions(table, folder)
    assert other.prediction is None


def test_a_mask_of_another_case_of_the_study_is_not_loaded(table, predicted, add_volume):
    """A scan was removed and another added under the same stem, as an old scene may bring it."""
    from SemiSegModuleLib.scene.case import CaseError
    from SemiSegModuleLib.scene.predictions import load_predictions

    case, folder = predicted
    content = json.loads((folder / "identity.json").read_text(encoding="utf-8"))
    content["cases"][case.file_name] = "somebody else"
    (folder / "identity.json").write_text(json.dumps(content))
    with pytest.raises(CaseError, match="is not that of 'scan'"):
        load_predictions(table, folder)


@pytest.mark.parametrize("content", [None, "", "{}", "[1]"])
def test_masks_of_which_nobody_knows_whose_they_are_are_not_loaded(table, predicted, content):
    from SemiSegModuleLib.scene.case import CaseError
    from SemiSegModuleLib.scene.predictions import load_predictions

    _, folder = predicted
    (folder / "identity.json").unlink()
    if content is not None:
        (folder / "identity.json").write_text(content)
    with pytest.raises(CaseError, match="Nobody knows"):
        load_predictions(table, folder)


def test_a_folder_belongs_to_the_study_that_came_first(tmp_path):
    from SemiSegModuleLib.scene.identity import claim, claimed

    folder = tmp_path / "SemiSeg"
    assert claimed(folder, "a" * 32) == folder
    assert claim(folder, "a" * 32) == folder
    assert claim(folder, "b" * 32) == folder / "study-bbbbbbbb"
    for study, own in (("a" * 32, folder), ("b" * 32, folder / "study-bbbbbbbb")):
        assert claim(folder, study) == claimed(folder, study) == own


def test_of_two_windows_that_come_at_once_one_gets_the_folder(tmp_path):
    from SemiSegModuleLib.scene.identity import claim

    for attempt in range(20):
        given = {}
        studies = [letter * 32 for letter in "abcd"]
        together = threading.Barrier(len(studies))

        def take(study, given=given, together=together, folder=tmp_path / str(attempt)):
            together.wait()
            given[study] = claim(folder, study)

        threads = [threading.Thread(target=take, args=(study,)) for study in studies]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(set(given.values())) == len(studies)
