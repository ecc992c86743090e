"""The DSC to expect of masks in the panel, estimated by real child processes with the model that comes with SemiSeg."""

import dataclasses
import json
import os
import shutil

import numpy as np
import pytest

MODEL = "left-atrium-lge"


@pytest.fixture
def predicted(opened, scans, training_python_with_torch):
    """Four scans, not predicted yet, and the ready model, which is calibrated."""
    opened.logic.add_cases(sorted((scans / "images").iterdir())[:3])
    opened.parameters.device = opened.module.Device.CPU
    opened.work.use_model(MODEL)
    opened.unfold("results")
    return opened


def predict(opened):
    opened.ui.predictAllButton.click()
    opened.wait_until(lambda: not opened.logic.predicting.active)
    assert opened.logic.predicting.process.state == "finished", opened.logic.predicting.process.log.tail()


def wait_for_the_estimate(opened):
    opened.wait_until(lambda: not opened.logic.judging.active)
    assert opened.logic.judging.process.state == "finished", opened.logic.judging.process.log.tail()


def without_calibration(model, path):
    """A copy of a model file whose card says nothing of its quality."""
    content = model.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    card = json.loads(header["__metadata__"]["card"])
    card["quality"] = {}
    header["__metadata__"]["card"] = json.dumps(card)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + size :])
    return path


def as_the_last_of_a_round(opened):
    """Use a copy of the model, as if a training of this study had made it."""
    from SemiSegModuleLib.logic.rounds import Round

    path = opened.work.claim_folder() / "training-1" / "models" / "last.safetensors"
    path.parent.mkdir(parents=True)
    path.write_bytes(opened.work.model.read_bytes())
    opened.work.cases.rounds = [dataclasses.asdict(Round("training-1", "2026-01-01T12:00:00", 90.0, {}, "finished"))]
    opened.work.use_model(path)
    return path


def wrap_python(opened, monkeypatch, folder, first):
    """Child processes run these lines of shell first."""
    script = folder / "python"
    script.write_text(f'#!/bin/sh\n{first}\nexec "{os.environ["SEMISEG_PYTHON"]}" "$@"\n')
    script.chmod(0o755)
    monkeypatch.setenv("SEMISEG_PYTHON", str(script))


def test_the_quality_is_known_after_a_prediction_and_sorts_the_review(predicted):
    import slicer
    from SemiSegModuleLib.logic.model_card import which
    from SemiSegModuleLib.scene import volumes
    from SemiSegModuleLib.scene.case import CaseError
    from SemiSegModuleLib.scene.predictions import find_prediction, load_prediction

    ui = predicted.ui
    own = as_the_last_of_a_round(predicted)
    predict(predicted)
    assert ui.qualityLabel.text.startswith("Estimating how good the masks are: ")
    assert ui.cancelPredictionButton.enabled
    wait_for_the_estimate(predicted)
    assert {case.predicted_by for case in predicted.work.cases} == {which(own)}
    assert not ui.qualityLabel.isVisibleTo(predicted.parent)

    written = json.loads((predicted.logic.judging.process.output / "quality.json").read_text())
    expected = {entry["name"]: entry for entry in written["cases"]}
    assert len(expected) == 3
    for case in predicted.work.cases:
        whole, entry = case.quality.whole, expected[case.file_name]
        assert (whole.dsc, whole.low, whole.high) == (entry["expected_dsc"], entry["low"], entry["high"])
        assert whole.low <= whole.dsc <= whole.high
        map_array = slicer.util.arrayFromVolume(case.uncertainty)
        assert map_array.shape == slicer.util.arrayFromVolume(case.volume).shape
        assert 0 <= map_array.min() < map_array.max() <= 1 + 1e-6
        assert np.allclose(volumes.ijk_to_ras(case.uncertainty), volumes.ijk_to_ras(case.volume), atol=1e-3)
    (done,) = predicted.logic.rounds.all()
    assert done.run == own.parent.parent.name
    assert done.expected_dsc == pytest.approx(np.mean([entry["expected_dsc"] for entry in written["cases"]]))
    ui.reviewButton.click()
    shown = [predicted.panel.review.rows.cases[row].file_name for row in range(3)]
    assert shown == [entry["name"] for entry in written["cases"]], "the command lists the worst first, too"
    worst = written["cases"][0]
    text = f"{worst['expected_dsc']:.2f} ({worst['low']:.2f} to {worst['high']:.2f})"
    assert ui.reviewTable.item(0, 1).text() == text.replace(" (", "\n(")
    assert ui.reviewTable.item(0, 1).toolTip() == f"Expected DSC: {text}"
    assert text in ui.resultLabel.text
    with pytest.raises(CaseError, match="known already"):
        predicted.widget.logic.estimateQuality()

    ui.showUncertaintyCheckBox.click()
    case = predicted.work.case
    composite = predicted.work.cases.scene.AddNewNodeByClass("vtkMRMLSliceCompositeNode")
    predicted.panel.results.overlays.update()
    assert composite.GetForegroundVolumeID() == case.uncertainty.GetID()

    quality, map_id = case.quality, case.uncertainty.GetID()
    predicted.panel.data.remove()
    predicted.panel.data.undo()
    assert case.quality == quality, "removed and taken back"
    assert case.uncertainty is not None
    files = find_prediction(predicted.logic.predicting.process.output, case.file_name)
    load_prediction(predicted.work.cases, case, files.mask, files.sdms, files.probabilities)
    assert (case.quality, case.uncertainty) == (None, None), "another prediction forgets what the former was worth"
    assert predicted.work.cases.scene.GetNodeByID(map_id) is None


def test_a_mask_with_a_part_of_its_own_is_not_judged_and_the_panel_says_why(with_prediction):
    from SemiSegModuleLib.scene import volumes
    from SemiSegModuleLib.scene.case import CaseError
    from SemiSegModuleLib.scene.predictions import load_part
    from SemiSegModuleLib.scene.records import Expected, Quality

    opened, case = with_prediction, with_prediction.work.case
    case.quality = Quality(Expected(0.9, 0.8, 0.95), {})
    assert "0.90 (0.80 to 0.95)" in opened.ui.resultLabel.text
    part = volumes.VoxelBox((0, 0, 3), (32, 32, 1))
    image = volumes.world_image(case.volume, np.ones((32, 32, 32), np.uint8), part)
    volumes.write_image(image, opened.work.folder / "part.nrrd")
    load_part(opened.work.cases, case, opened.work.folder / "part.nrrd")
    assert opened.ui.resultLabel.text.endswith("No expected DSC: a part was predicted on its own.")
    assert "0.90" not in opened.ui.resultLabel.text
    opened.work.use_model(MODEL)
    assert opened.logic.judging.waiting() == []
    assert not opened.ui.judgeButton.enabled
    with pytest.raises(CaseError, match="predicted as a whole"):
        opened.logic.judging.start([case])


def test_a_model_without_calibration_is_told_and_still_shows_where_it_is_unsure(predicted, monkeypatch, tmp_path):
    """One scan of the three cannot be read, which does not keep the others from it."""
    predicted.work.use_model(without_calibration(predicted.work.model, tmp_path / "bare.safetensors"))
    predict(predicted)
    assert predicted.logic.judging.process is None
    assert predicted.ui.qualityLabel.text.startswith("No expected DSC: ")
    assert all(case.quality is None and case.confidence is not None for case in predicted.work.cases)

    damage = 'for f in ../scans/images/scan_002.nrrd; do rm "$f"; echo rubbish > "$f"; done'
    wrap_python(predicted, monkeypatch, tmp_path, damage)
    predicted.ui.judgeButton.click()
    wait_for_the_estimate(predicted)
    assert [case.uncertainty is not None for case in predicted.work.cases] == [True, False, True]
    assert all(case.expected_dsc is None for case in predicted.work.cases)
    predicted.ui.reviewButton.click()
    assert predicted.ui.reviewTable.isColumnHidden(1), "nothing is expected of any"
    shown = [case.confidence for case in predicted.panel.review.rows.cases]
    assert shown == sorted(shown)


def test_a_mask_of_another_part_of_the_scan_than_the_box_is_now_is_not_judged(with_prediction):
    """The estimate would be of what the model finds in the box, not of the mask that is there."""
    from SemiSegModuleLib.scene.case import CaseError

    opened, case = with_prediction, with_prediction.work.case
    opened.work.use_model(MODEL)
    assert opened.ui.judgeButton.enabled
    opened.ui.addRegionButton.click()
    assert opened.logic.judging.waiting() == [case], "the box holds all of the scan"
    case.region.SetSize([8 * spacing for spacing in case.volume.GetSpacing()])
    assert opened.logic.judging.possible() == []
    assert not opened.ui.judgeButton.enabled
    with pytest.raises(CaseError, match="The box of atrium_003 was changed"):
        opened.logic.judging.start([case])
    assert not (opened.work.folder / "predictions").exists()
    opened.ui.removeRegionButton.click()
    assert opened.logic.judging.waiting() == [case]
    assert opened.ui.judgeButton.enabled


def test_what_is_expected_of_a_mask_is_not_said_of_one_that_was_changed_meanwhile(with_prediction):
    from SemiSegModuleLib.scene import segments, volumes
    from SemiSegModuleLib.scene.identity import write_identity

    table, case, judging = with_prediction.work.cases, with_prediction.work.case, with_prediction.logic.judging
    judging._data = with_prediction.work.folder / "scans"
    write_identity(judging._data, table.identifier, [case], {})
    judging.model = with_prediction.work.folder / "model.safetensors"
    figures = {"expected_dsc": 0.9, "low": 0.8, "high": 0.95, "empty": False}
    report = {"event": "case", "name": case.file_name, "classes": {}, **figures}
    judging._keep(report)
    assert case.expected_dsc == 0.9
    case.quality = None
    mask = segments.voxels_on_grid(case.prediction, case.volume, table.labels)
    mask[0, 0, 0] = 1
    segments.set_voxels(case.prediction, mask, volumes.ijk_to_ras(case.volume), table.labels)
    judging._keep(report)
    mask[0, 0, 0] = 0
    segments.set_voxels(case.prediction, mask, volumes.ijk_to_ras(case.volume), table.labels)
    assert case.quality is None, "nothing was kept"


def test_what_was_expected_of_a_mask_is_not_said_of_it_once_somebody_has_changed_it(with_prediction):
    """Seen when the module is shown again after the Segment Editor; the table, the result and the estimate agree."""
    from SemiSegModuleLib.scene import segments, volumes
    from SemiSegModuleLib.scene.case import CaseError
    from SemiSegModuleLib.scene.records import Expected, Quality

    opened, case = with_prediction, with_prediction.work.case
    opened.work.use_model(MODEL)
    case.quality = quality = Quality(Expected(0.9, 0.8, 0.95), {})
    opened.ui.reviewButton.click()

    def shown():
        item = opened.ui.reviewTable.item(0, 1)
        hidden = opened.ui.reviewTable.isColumnHidden(1)
        return item.text(), item.toolTip(), hidden, "0.90" in opened.ui.resultLabel.text

    assert shown() == ("0.90\n(0.80 to 0.95)", "Expected DSC: 0.90 (0.80 to 0.95)", False, True)
    mask = segments.voxels_on_grid(case.prediction, case.volume, opened.work.cases.labels)
    for change in (1, 0):  # an edit, and its undoing
        opened.widget.exit()
        mask[0, 0, 0] = change
        segments.set_voxels(case.prediction, mask, volumes.ijk_to_ras(case.volume), opened.work.cases.labels)
        opened.widget.enter()
        opened.ui.reviewButton.click()
        if change:
            assert shown() == ("", "", True, False)
            assert opened.ui.resultLabel.text.endswith("No expected DSC: the mask was changed after it was predicted.")
            assert opened.logic.judging.possible() == []
            with pytest.raises(CaseError, match=f"The mask of {case.name} was changed"):
                opened.logic.judging.start([case])
    assert shown()[0] == "0.90\n(0.80 to 0.95)"
    assert case.quality == quality


def test_an_estimate_is_cancelled_by_a_click_and_by_another_prediction(predicted, monkeypatch, tmp_path):
    from SemiSegModuleLib.scene import volumes
    from SemiSegModuleLib.scene.predictions import load_prediction

    case = predicted.work.cases.cases[0]
    mask = np.zeros((32, 32, 32), np.uint8)
    mask[10:20, 10:20, 10:20] = 1
    volumes.write_image(volumes.world_image(case.volume, mask), tmp_path / "mask.nrrd")
    load_prediction(predicted.work.cases, case, tmp_path / "mask.nrrd")
    wrap_python(predicted, monkeypatch, tmp_path, "sleep 60")
    predicted.ui.judgeButton.click()
    assert predicted.logic.judging.active
    assert not predicted.ui.judgeButton.enabled
    predicted.ui.cancelPredictionButton.click()
    assert predicted.logic.judging.process.state == "cancelled"
    assert (case.prediction is not None, case.quality) == (True, None)
    predicted.ui.judgeButton.click()
    predicted.work.case = case
    predicted.panel.results.predict_one()
    assert predicted.logic.judging.process.state == "cancelled", "of masks that will be others"
    assert predicted.logic.predicting.active
    predicted.panel.results.cancel()


def test_only_the_model_that_made_a_mask_is_asked_how_good_it_is(with_prediction, tmp_path, monkeypatch):
    """Another one, or the same after it was trained on, says something of masks of its own."""
    from SemiSegModuleLib.logic.model_card import which
    from SemiSegModuleLib.scene.case import CaseError
    from SemiSegModuleLib.scene.predictions import load_prediction

    from SemiSegLib.models import named_models

    opened, case = with_prediction, with_prediction.work.case
    opened.work.use_model(MODEL)
    assert opened.ui.judgeButton.enabled, "who made it is not known"
    made_by = which(opened.work.model)
    load_prediction(opened.work.cases, case, opened.work.folder / "mask.nrrd", model=made_by)
    assert opened.ui.judgeButton.enabled
    assert opened.logic.judging.waiting() == [case]
    other = without_calibration(opened.work.model, tmp_path / "other.safetensors")
    opened.work.use_model(other)
    assert not opened.ui.judgeButton.enabled
    with pytest.raises(CaseError, match="that it has predicted"):
        opened.logic.judging.start([case])
    moved = tmp_path / "elsewhere" / "/".join(named_models()[MODEL].parts[-3:])
    moved.parent.mkdir(parents=True)
    shutil.copyfile(named_models()[MODEL], moved)
    opened.work.use_model(moved)
    assert opened.ui.judgeButton.enabled, "the same, on another computer"
    opened.ui.excludeCaseButton.click()
    assert not opened.ui.judgeButton.enabled
