"""What a study takes on the disk: every scan once, and what can be made again is found and removed."""

import os

import numpy as np
import pytest
from drawing import draw


@pytest.fixture
def two_exports(table, add_volume, tmp_path):
    """A study of two scans, written for two trainings; in between one annotation was changed."""
    from SemiSegModuleLib.scene.training_files import export_cases

    cases = [table.add_volume(add_volume(name)) for name in ("one", "three")]
    for case in cases:
        draw(table, case)
        case.mark_done()
    study = tmp_path / "study"
    for number in (1, 2):
        export_cases(table, study / f"training-{number}" / "data", pool=study / "scans")
        draw(table, cases[1], 3, np.s_[7, 7, 7])
    return study


def same_file(study, name):
    first, second = (study / f"training-{number}" / "data" / name for number in (1, 2))
    return os.path.samefile(first, second)


def test_trainings_share_the_files_that_are_the_same(two_exports):
    assert same_file(two_exports, "images/scan_001.nrrd")
    assert same_file(two_exports, "images/scan_002.nrrd")
    assert same_file(two_exports, "labels/scan_001.nrrd")
    assert not same_file(two_exports, "labels/scan_002.nrrd")


def test_what_is_shared_counts_once(two_exports):
    from SemiSegModuleLib.logic.storage import size_of

    expected = sum(path.stat().st_size for path in (two_exports / "scans").iterdir())
    assert len(list((two_exports / "scans").iterdir())) == 4  # two scans, the mask that both have, and the changed one
    others = [path for path in two_exports.rglob("*.json")]
    assert size_of(two_exports) == expected + sum(path.stat().st_size for path in others)


def test_tidying_up_leaves_what_is_needed(two_exports, tmp_path):
    """A finished training's scans go; those of one that may be resumed stay, and so does everything else."""
    from SemiSegModuleLib.logic.storage import storage_of, tidy_up

    from SemiSegLib.runs import RunFolder

    for number, state in ((1, "finished"), (2, "stopped")):
        folder = two_exports / f"training-{number}"
        (folder / "run.json").unlink(missing_ok=True)
        run = RunFolder.create(tmp_path / f"run-{number}")
        run.set_status(state)
        run.last_model.parent.mkdir()
        run.last_model.write_bytes(b"model")
        (folder / "data").rename(run.path / "data")
        folder.rmdir()
        run.path.rename(folder)
    (two_exports / "predictions" / "old" / "masks").mkdir(parents=True)
    (two_exports / "predictions" / "old" / "masks" / "scan_001.seg.nrrd").write_bytes(b"mask")
    (two_exports / "predictions" / "running" / "masks").mkdir(parents=True)
    storage = storage_of(two_exports, [two_exports / "predictions" / "running" / "masks"])
    assert 0 < storage.spare < storage.total
    tidy_up(storage)
    assert not (two_exports / "training-1" / "data").exists()
    assert not (two_exports / "predictions" / "old").exists()
    assert (two_exports / "training-1" / "models" / "last.safetensors").is_file()
    assert (two_exports / "training-2" / "data" / "images" / "scan_001.nrrd").is_file()
    assert (two_exports / "predictions" / "running").is_dir()


def test_what_is_said_to_be_spare_is_what_removing_it_gives_back(two_exports, tmp_path):
    """Scans of a training that may be resumed stay, under whichever name; so does all of another study below."""
    from SemiSegModuleLib.logic.storage import size_of, storage_of, tidy_up
    from SemiSegModuleLib.scene.identity import claim

    (two_exports / "cache" / "scan_001-abc").mkdir(parents=True)
    (two_exports / "cache" / "scan_001-abc" / "image.npy").write_bytes(bytes(1000))
    other = claim(two_exports, "first") and claim(two_exports, "second")
    (other / "scans").mkdir()
    (other / "scans" / "theirs.nrrd").write_bytes(bytes(5000))
    storage = storage_of(two_exports)
    assert storage.spare == 1000  # neither training has ended for good: they use every scan of the pool
    assert storage.total == size_of(two_exports)
    tidy_up(storage)
    assert size_of(two_exports) == storage.total - storage.spare
    assert (two_exports / "training-1" / "data" / "images" / "scan_001.nrrd").is_file()
    assert (other / "scans" / "theirs.nrrd").is_file()


def test_what_a_running_training_reads_is_not_removed(tmp_path):
    """Wherever it was started."""
    from SemiSegModuleLib.logic.storage import storage_of

    from SemiSegLib.runs import RunFolder

    run = RunFolder.create(tmp_path / "training-1")
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "image.npy").write_bytes(bytes(1000))
    with run.lock():
        run.set_status("training")
        assert storage_of(tmp_path).removable == []
    assert storage_of(tmp_path).removable == [tmp_path / "cache"]


@pytest.mark.parametrize(
    ("works_in", "holds"),
    [
        ("predictions/one/masks", "predictions/one"),
        ("predictions/one/quality", "predictions/one"),
        ("suggestions/one", "suggestions/one"),
        ("refinements/one", "refinements/one/scan"),
    ],
)
def test_what_another_window_works_with_is_not_removed(tmp_path, works_in, holds):
    """Nothing here knows of its processes but their locks."""
    import filelock
    from SemiSegModuleLib.logic.storage import storage_of

    from SemiSegLib.compute.attached import LOCK_NAME

    (tmp_path / works_in).mkdir(parents=True)
    (tmp_path / holds).mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(tmp_path / works_in / LOCK_NAME):
        assert storage_of(tmp_path).removable == []
    assert storage_of(tmp_path).removable == [tmp_path / holds]


def test_scans_that_were_written_for_refinements_go_and_what_was_drawn_stays(tmp_path):
    """The next refinement writes its scan anew, but begins from the strokes and the mask of the last one."""
    from SemiSegModuleLib.logic.storage import storage_of, tidy_up

    for name in ("done", "running"):
        (tmp_path / "refinements" / name / "scan" / "images").mkdir(parents=True)
        (tmp_path / "refinements" / name / "scan" / "images" / "scan_001.nrrd").write_bytes(bytes(1000))
        for file in ("drawn.nrrd", "annotation.nrrd"):
            (tmp_path / "refinements" / name / file).write_bytes(bytes(10))
    storage = storage_of(tmp_path, [tmp_path / "refinements" / "running"])
    assert storage.spare == 1000
    tidy_up(storage)
    assert sorted(path.name for path in (tmp_path / "refinements" / "done").iterdir()) == [
        "annotation.nrrd",
        "drawn.nrrd",
    ]
    assert (tmp_path / "refinements" / "running" / "scan" / "images" / "scan_001.nrrd").is_file()
