"""The loop in the panel: what to annotate next, a few slices, the mask that follows the strokes, rounds and minutes."""

import json
import os

import numpy as np
import pytest
from steps import limit_to

MODEL = "left-atrium-lge"
TINY = """\
training.labelled_batch=1
training.unlabelled_batch=1
training.log_every=1
training.threads=1
training.precision=fp32"""


def wrap_python(monkeypatch, folder, first):
    """Child processes run these lines of shell first."""
    script = folder / "python"
    script.write_text(f'#!/bin/sh\n{first}\nexec "{os.environ["SEMISEG_PYTHON"]}" "$@"\n')
    script.chmod(0o755)
    monkeypatch.setenv("SEMISEG_PYTHON", str(script))


def mask_of(opened, case, node=None):
    from SemiSegModuleLib.scene import segments

    return segments.voxels_on_grid(node or case.annotation, case.volume, opened.work.cases.labels)


def draw(opened, case, mask):
    """Change what the editor shows, as its brush does."""
    from SemiSegModuleLib.scene import segments, volumes

    segments.replace_voxels(case.annotation, mask, volumes.ijk_to_ras(case.volume), opened.work.cases.labels)


def wait_for(opened, work):
    opened.wait_until(lambda: not work.active)
    assert work.process.state == "finished", work.process.log.tail()


@pytest.fixture
def predicted(opened, scans, tmp_path):
    """One scan with a predicted block, and the model that comes with SemiSeg."""
    from SemiSegModuleLib.scene import volumes
    from SemiSegModuleLib.scene.predictions import load_prediction

    opened.parameters.device = opened.module.Device.CPU
    opened.logic.add_cases(sorted((scans / "images").iterdir())[2:3])
    case = opened.work.cases.cases[0]
    block = np.zeros((32, 32, 32), np.uint8)
    block[10:20, 8:22, 8:22] = 1
    volumes.write_image(volumes.world_image(case.volume, block), tmp_path / "mask.nrrd")
    load_prediction(opened.work.cases, case, tmp_path / "mask.nrrd")
    opened.work.use_model(MODEL)
    opened.logic.refining.seconds = 2.0
    opened.unfold("annotate")
    return opened


# ---- what to annotate next -----------------------------------------------------------------------------------


def test_what_to_annotate_next_with_a_model_shows_and_jumps(with_cases, mrml, training_python_with_torch):
    """Two scans are annotated and two are not: these two are suggested, each with slices."""
    import slicer
    from SemiSegModuleLib.scene import slices

    opened, work = with_cases, with_cases.logic.suggesting
    opened.parameters.device = opened.module.Device.CPU
    opened.work.use_model(MODEL)
    opened.work.case = opened.work.cases.cases[0]
    opened.unfold("annotate")
    views = {name: mrml.scene.AddNode(slicer.vtkMRMLSliceNode()) for name in ("sagittal", "coronal", "axial")}
    for name, view in views.items():
        view.SetOrientation(name.capitalize())
    opened.ui.suggestButton.click()
    assert opened.ui.loopLabel.text == "Looking which scans to annotate next"
    assert opened.ui.loopCancelButton.isVisibleTo(opened.parent)
    wait_for(opened, work)

    written = json.loads((work.process.output / "suggestions.json").read_text())
    assert written["strategy"] == "foreground-random", "the model was asked"
    names = [entry["name"] for entry in written["suggestions"]]
    assert sorted(names) == ["scan_003", "scan_004"]
    assert [case.file_name for case in work.cases()] == names
    first = opened.work.case
    assert first.file_name == names[0]
    assert first.suggestion.slices == tuple(place["index"] for place in written["suggestions"][0]["slices"])
    table = opened.ui.casesTable
    row = opened.panel.data.rows.cases.index(first)
    assert table.item(row, 1).text() == "unlabeled, next: 1"
    assert str(first.suggestion.slices[0]) in table.item(row, 1).toolTip()
    assert "Number 1 to annotate next" in opened.ui.annotateLabel.text
    place = slices.place_of(first, first.suggestion.axis, first.suggestion.slices[0])
    orientation = slices.orientation_of(first, first.suggestion.axis)
    along = list(views).index(orientation)
    assert views[orientation].GetSliceToRAS().GetElement(along, 3) == pytest.approx(place[along], abs=1e-3)

    opened.ui.annotateButton.click()
    opened.choose(opened.ui.partialComboBox, f"only the {orientation} slices with something drawn")
    opened.ui.proposeSlicesButton.click()
    assert opened.ui.slicesList.item(0).text() == f"★ {first.suggestion.slices[0]}"


def test_before_the_first_training_scans_are_suggested_by_their_looks(with_cases):
    work = with_cases.logic.suggesting
    with_cases.unfold("annotate")
    assert with_cases.work.model is None
    with_cases.ui.suggestButton.click()
    wait_for(with_cases, work)
    assert json.loads((work.process.output / "suggestions.json").read_text())["strategy"] == "cold-start"
    assert {case.file_name for case in work.cases()} == {"scan_003", "scan_004"}
    assert all(case.suggestion.uncertainty is None for case in work.cases())


def test_a_search_that_fails_or_is_cancelled_leaves_what_was_suggested(with_cases, monkeypatch, tmp_path):
    from SemiSegModuleLib.scene.records import Suggestion

    opened, work = with_cases, with_cases.logic.suggesting
    case = opened.work.cases.cases[3]
    case.suggestion = Suggestion(1, None, 2, (5,))
    opened.unfold("annotate")
    wrap_python(monkeypatch, tmp_path, "echo 'error: the disk is gone' >&2; exit 2")
    opened.ui.suggestButton.click()
    opened.wait_until(lambda: not work.active)
    assert opened.ui.loopLabel.text == "Nothing can be suggested. the disk is gone"
    wrap_python(monkeypatch, tmp_path, "sleep 60")
    opened.ui.suggestButton.click()
    assert not opened.ui.suggestButton.enabled
    opened.ui.loopCancelButton.click()
    assert work.process.state == "cancelled"
    assert opened.ui.suggestButton.enabled
    assert work.cases() == [case]


def test_slices_that_are_suggested_stay_where_they_are_when_a_box_is_made_meanwhile(predicted, monkeypatch, tmp_path):
    """They are counted in what was written when the search began."""
    case, work = predicted.work.cases.cases[0], predicted.logic.suggesting
    slices = [{"axis": 2, "index": 5}]
    found = [{"name": case.file_name, "uncertainty": None, "slices": slices}]
    told = json.dumps({"event": "suggested", "suggestions": found})
    wrap_python(monkeypatch, tmp_path, f"sleep 1; echo '{told}'; exit 0")
    predicted.ui.suggestButton.click()
    limit_to(predicted, case, 16 * case.volume.GetSpacing()[2])
    assert case.box().start[2] > 0
    wait_for(predicted, work)
    assert case.suggestion.slices == (5,)


# ---- a few slices --------------------------------------------------------------------------------------------


def test_slices_are_proposed_stepped_through_and_shown_as_done(predicted, mrml):
    import slicer

    ui, case = predicted.ui, predicted.work.cases.cases[0]
    assert not ui.slicesWidget.isVisibleTo(predicted.parent), "the whole scan counts"
    ui.annotateButton.click()
    predicted.choose(ui.partialComboBox, "only the axial slices with something drawn")
    assert ui.slicesWidget.isVisibleTo(predicted.parent)
    ui.everySpinBox.setValue(10)
    view = mrml.scene.AddNode(slicer.vtkMRMLSliceNode())
    view.SetOrientationToAxial()
    ui.proposeSlicesButton.click()

    def shown():
        return [ui.slicesList.item(row).text() for row in range(ui.slicesList.count)]

    assert shown() == ["5", "15", "25"]
    assert ui.slicesLabel.text == "0 of 3 slices done"
    z = [slicer.util.arrayFromVTKMatrix(_ijk_to_ras(case.volume))[2] @ [0, 0, number, 1] for number in (5, 15, 25)]
    assert view.GetSliceToRAS().GetElement(2, 3) == pytest.approx(z[0], abs=1e-3)
    ui.emptySliceCheckBox.click()
    assert shown() == ["5 ✓", "15", "25"]
    ui.nextSliceButton.click()
    assert view.GetSliceToRAS().GetElement(2, 3) == pytest.approx(z[1], abs=1e-3)
    assert not ui.emptySliceCheckBox.checked
    mask = np.zeros((32, 32, 32), np.uint8)
    mask[15, 8:22, 8:22] = 1
    draw(predicted, case, mask)
    predicted.wait_until(lambda: shown() == ["5 ✓", "15 ✓", "25"], 20)
    assert ui.slicesLabel.text == "2 of 3 slices done"
    ui.nextSliceButton.click()
    assert ui.slicesList.currentRow == 2
    ui.emptySliceCheckBox.click()
    assert not ui.nextSliceButton.enabled
    assert case.empty_slices == (5, 25)


def _ijk_to_ras(volume):
    import vtk

    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    return matrix


# ---- refine this scan ----------------------------------------------------------------------------------------


def test_the_mask_follows_the_strokes_and_undo_brings_the_former_back(
    predicted, training_python_with_torch, monkeypatch
):
    """Real adaptation, twice: what was drawn is in every mask, what was drawn meanwhile and doubts stay, too."""
    from SemiSegModuleLib.panels import dialogs
    from SemiSegModuleLib.scene import segments, volumes

    ui, case, work = predicted.ui, predicted.work.cases.cases[0], predicted.logic.refining
    predicted.work.case = case
    assert not ui.refineButton.enabled, "nothing is drawn yet"
    predicted.panel.results.correct()
    assert ui.refineButton.enabled
    drawn = mask_of(predicted, case)
    drawn[12, 22:26, 10:20] = 1
    drawn[18, 8:12, 8:22] = 0
    draw(predicted, case, drawn)
    doubt = np.zeros(drawn.shape, bool)
    doubt[0:2, 0:2, 0:2] = True
    segments.set_not_sure(case.annotation, doubt, volumes.ijk_to_ras(case.volume))
    ui.refineButton.click()
    assert ui.loopCancelButton.isVisibleTo(predicted.parent)
    assert not ui.refineButton.enabled
    later = drawn.copy()
    later[25, 25, 25] = 1
    draw(predicted, case, later)
    wait_for(predicted, work)

    strokes = volumes.read_image(work.process.output / "strokes.nrrd")
    given = volumes.sitk.GetArrayFromImage(strokes)
    assert np.array_equal(np.unique(given), [0, 1, 255])
    assert (given[12, 22:26, 10:20] == 1).all()
    assert (given[18, 8:12, 8:22] == 0).all()
    assert (given != 255).sum() == 40 + 56
    first = mask_of(predicted, case)
    assert (first[12, 22:26, 10:20] == 1).all()
    assert (first[18, 8:12, 8:22] == 0).all()
    assert first[25, 25, 25] == 1, "drawn while the process ran"
    assert np.array_equal(segments.not_sure_on_grid(case.annotation, case.volume), doubt)
    refined = volumes.sitk.GetArrayFromImage(volumes.read_image(work.process.output / "refined.nrrd"))
    assert (first != refined).sum() == 1
    assert case.state.value == "predicted", "not done yet"
    assert "Undo" in ui.loopLabel.text
    assert mask_of(predicted, case, case.prediction).sum() == 10 * 14 * 14, "the prediction stays"

    again = first.copy()
    again[20, 10:14, 10:14] = 1 - again[20, 10:14, 10:14]
    draw(predicted, case, again)
    ui.refineButton.click()
    wait_for(predicted, work)
    second = mask_of(predicted, case)
    given = volumes.sitk.GetArrayFromImage(volumes.read_image(work.process.output / "strokes.nrrd"))
    assert (given != 255).sum() == 40 + 56 + 16, "the network's own changes are no strokes"
    for where in (np.s_[12, 22:26, 10:20], np.s_[18, 8:12, 8:22], np.s_[20, 10:14, 10:14]):
        assert np.array_equal(second[where], again[where])

    ui.undoButton.click()
    assert np.array_equal(mask_of(predicted, case), again)
    for answer, expected in ((False, again), (True, later)):  # the second stroke would go with it
        monkeypatch.setattr(dialogs, "confirm", lambda text, answer=answer: answer)
        ui.undoButton.click()
        assert np.array_equal(mask_of(predicted, case), expected)
    assert np.array_equal(segments.not_sure_on_grid(case.annotation, case.volume), doubt)
    assert case.refinement == ""


def test_a_refinement_that_fails_or_is_cancelled_changes_nothing(predicted, monkeypatch, tmp_path):
    ui, case, work = predicted.ui, predicted.work.cases.cases[0], predicted.logic.refining
    predicted.work.case = case
    predicted.panel.results.correct()
    drawn = mask_of(predicted, case)
    drawn[12, 22:26, 10:20] = 1
    draw(predicted, case, drawn)
    undo = predicted.logic.review.undo.text
    wrap_python(monkeypatch, tmp_path, "kill -9 $$")
    ui.refineButton.click()
    predicted.wait_until(lambda: not work.active)
    assert work.process.state == "failed"
    assert ui.loopLabel.text.startswith("The annotation is as it was. The program was ended from outside")
    wrap_python(monkeypatch, tmp_path, "sleep 60")
    ui.refineButton.click()
    assert work.active
    ui.loopCancelButton.click()
    assert ui.loopLabel.text == "Cancelled: the annotation is as it was."
    assert np.array_equal(mask_of(predicted, case), drawn)
    assert predicted.logic.review.undo.text == undo
    assert ui.refineButton.enabled


def test_slices_that_are_right_as_a_whole_and_strokes_on_an_empty_annotation(predicted, monkeypatch, tmp_path):
    """What the child process is given, in three ways to draw."""
    from SemiSegModuleLib.scene import strokes
    from SemiSegModuleLib.scene.annotations import make_annotation
    from SemiSegModuleLib.scene.case import CaseError

    case, labels = predicted.work.cases.cases[0], predicted.work.cases.labels
    make_annotation(predicted.work.cases, case)
    mask = np.zeros((32, 32, 32), np.uint8)
    mask[7, 3:5, 3:5] = 1
    draw(predicted, case, mask)
    assert strokes.base_of(case, labels) is None
    given = strokes.corrections(case, labels, strokes.base_of(case, labels)).strokes
    assert (given != 255).sum() == (given == 1).sum() == 4, "an empty annotation says nothing of the rest"

    predicted.work.case = case
    predicted.logic.review.correct(overwrite=True)
    with pytest.raises(CaseError, match="Nothing was corrected"):
        strokes.corrections(case, labels, strokes.base_of(case, labels))
    mask = mask_of(predicted, case)
    mask[12, 3:5, 3:5] = 1
    draw(predicted, case, mask)
    given = strokes.corrections(case, labels, strokes.base_of(case, labels), whole="axial").strokes
    assert np.array_equal(given[12], mask[12])
    assert (given != 255).sum() == 32 * 32


def test_a_model_with_other_values_for_the_same_labels_is_understood(predicted, monkeypatch, tmp_path):
    """The model has 1 for the left atrium, the study 5: both get their own values. The mask comes from a file."""
    import dataclasses

    from SemiSegModuleLib.scene import volumes

    case, table = predicted.work.cases.cases[0], predicted.work.cases
    table.labels = [dataclasses.replace(table.labels[0], value=5)]
    predicted.work.case = case
    predicted.panel.results.correct()
    mask = mask_of(predicted, case)
    assert set(np.unique(mask)) == {0, 5}
    mask[12, 22:26, 10:20] = 5
    draw(predicted, case, mask)
    volumes.write_image(volumes.world_image(case.volume, (mask > 0).astype(np.uint8)), tmp_path / "made.nrrd")
    told = '{"event": "refined", "reason": "followed", "changed_ml": 1.25}'
    wrap_python(monkeypatch, tmp_path, f"cp '{tmp_path}/made.nrrd' refined.nrrd; echo '{told}'; exit 0")
    predicted.ui.refineButton.click()
    wait_for(predicted, predicted.logic.refining)
    strokes = volumes.read_image(predicted.logic.refining.process.output / "strokes.nrrd")
    assert set(np.unique(volumes.sitk.GetArrayFromImage(strokes))) == {1, 255}
    assert np.array_equal(mask_of(predicted, case), mask)
    assert predicted.ui.loopLabel.text.startswith("1.25 ml of the mask have followed")


@pytest.mark.parametrize("name", ["annotation.nrrd", "drawn.nrrd"])
def test_a_disk_that_is_full_leaves_the_annotation_as_it_was(predicted, monkeypatch, tmp_path, name):
    """What the next refinement begins from cannot be kept: it would take the network's own changes for strokes."""
    from SemiSegModuleLib.scene import volumes

    case, review = predicted.work.cases.cases[0], predicted.logic.review
    mask = stroke(predicted, case)
    steps = review.undo.text
    made = volumes.world_image(case.volume, np.ones((32, 32, 32), np.uint8))
    volumes.write_image(made, tmp_path / "made.nrrd")
    told = '{"event": "refined", "reason": "followed", "changed_ml": 1.25}'
    wrap_python(monkeypatch, tmp_path, f"cp '{tmp_path}/made.nrrd' refined.nrrd; echo '{told}'; exit 0")
    write = volumes.write_image

    def write_until_full(image, path, *options):
        if path.name == name:
            raise OSError(28, "No space left on device", str(path))
        write(image, path, *options)

    monkeypatch.setattr(volumes, "write_image", write_until_full)
    predicted.ui.refineButton.click()
    predicted.wait_until(lambda: not predicted.logic.refining.active)
    assert np.array_equal(mask_of(predicted, case), mask)
    assert (case.refinement, review.undo.text) == ("", steps)
    assert "No space left on device" in predicted.ui.loopLabel.text


def test_a_box_that_was_moved_meanwhile_moves_no_mask(predicted, monkeypatch, tmp_path):
    """It is as large as before, and what comes back fits in it."""
    from SemiSegModuleLib.scene import volumes

    ui, case = predicted.ui, predicted.work.cases.cases[0]
    predicted.work.case = case
    predicted.panel.results.correct()
    mask = mask_of(predicted, case)
    mask[12, 22:26, 10:20] = 1
    draw(predicted, case, mask)
    ui.addRegionButton.click()
    case.region.SetSize(*(12 * spacing for spacing in case.volume.GetSpacing()))
    box = case.box()
    made = volumes.world_image(case.volume, np.ones((32, 32, 32), np.uint8), box)
    volumes.write_image(made, tmp_path / "made.nrrd")
    told = '{"event": "refined", "reason": "followed", "changed_ml": 1.25}'
    wrap_python(monkeypatch, tmp_path, f"sleep 1; cp '{tmp_path}/made.nrrd' refined.nrrd; echo '{told}'; exit 0")
    ui.refineButton.click()
    center = np.array(case.region.GetCenter())
    case.region.SetCenter(center + 3 * np.array(case.volume.GetSpacing()))
    assert (case.box().size, case.box() == box) == (box.size, False)
    predicted.wait_until(lambda: not predicted.logic.refining.active)
    assert np.array_equal(mask_of(predicted, case), mask)
    assert "was changed meanwhile" in ui.loopLabel.text


def stroke(opened, case):
    """Correct the prediction, and draw on it."""
    opened.work.case = case
    opened.panel.results.correct()
    mask = mask_of(opened, case)
    mask[12, 22:26, 10:20] = 1
    draw(opened, case, mask)
    return mask


def predict_otherwise(opened, monkeypatch, case):
    """Another model's mask comes for the case; its child process is not started."""
    from SemiSegModuleLib.logic import predicting as module
    from SemiSegModuleLib.processes.prediction_process import PredictionProcess
    from SemiSegModuleLib.scene import volumes

    class Done(PredictionProcess):
        def start(self, model, inputs, count, options=()):
            self.state = "running"

        def poll(self):
            self.state = "cancelled"
            return [case.file_name]

    monkeypatch.setattr(module, "PredictionProcess", Done)
    predicting = opened.logic.predicting
    look, predicting._poller.look = predicting._poller.look, lambda: None
    predicting.start([case])
    other = np.zeros((32, 32, 32), np.uint8)
    other[2:9, 2:9, 2:9] = 1
    volumes.write_image(volumes.world_image(case.volume, other), predicting.process.output / f"{case.file_name}.nrrd")
    predicting._poll()
    predicting._poller.look = look
    assert np.array_equal(mask_of(opened, case, case.prediction), other)


def given_to_the_child_process(opened, monkeypatch, tmp_path, case):
    """Strokes of a refinement that leaves the mask as it is."""
    from SemiSegModuleLib.scene import volumes

    made = volumes.world_image(case.volume, mask_of(opened, case))
    volumes.write_image(made, tmp_path / "made.nrrd")
    told = '{"event": "refined", "reason": "followed", "changed_ml": 1.25}'
    with monkeypatch.context() as patch:
        wrap_python(patch, tmp_path, f"cp '{tmp_path}/made.nrrd' refined.nrrd; echo '{told}'; exit 0")
        opened.ui.refineButton.click()
        wait_for(opened, opened.logic.refining)
    strokes = volumes.read_image(opened.logic.refining.process.output / "strokes.nrrd")
    return volumes.sitk.GetArrayFromImage(strokes)


def test_what_another_model_predicts_meanwhile_is_no_stroke(predicted, monkeypatch, tmp_path):
    """The scan is predicted again while its correction is under way: drawn is what differs from the former mask."""
    case = predicted.work.cases.cases[0]
    mask = stroke(predicted, case)
    predict_otherwise(predicted, monkeypatch, case)
    assert np.array_equal(mask_of(predicted, case), mask)
    predict_otherwise(predicted, monkeypatch, case)  # the base that was kept stays
    given = given_to_the_child_process(predicted, monkeypatch, tmp_path, case)
    assert (given != 255).sum() == (given == 1).sum() == 40
    assert (given[12, 22:26, 10:20] == 1).all()


def test_corrected_anew_an_annotation_begins_as_the_new_prediction(predicted, monkeypatch, tmp_path):
    from SemiSegModuleLib.panels import dialogs

    monkeypatch.setattr(dialogs, "confirm", lambda text: True)
    case = predicted.work.cases.cases[0]
    stroke(predicted, case)
    predict_otherwise(predicted, monkeypatch, case)
    assert case.refinement
    stroke(predicted, case)
    assert case.refinement == ""
    given = given_to_the_child_process(predicted, monkeypatch, tmp_path, case)
    assert (given != 255).sum() == 40


@pytest.mark.parametrize("how", ["predicted again", "edited", "deleted", "files of the refinement lost"])
def test_where_nobody_knows_what_was_drawn_nothing_is_refined(predicted, monkeypatch, tmp_path, mrml, how):
    """Such as when the folder of the study was left behind; the annotation stays."""
    import shutil

    case, study = predicted.work.cases.cases[0], predicted.work
    mask = stroke(predicted, case)
    if how == "predicted again":
        predict_otherwise(predicted, monkeypatch, case)
        shutil.rmtree(study.folder / "refinements")
    elif how == "edited":
        edited = mask_of(predicted, case, case.prediction)
        edited[0, 0, 0] = 1
        from SemiSegModuleLib.scene import segments, volumes

        segments.set_voxels(case.prediction, edited, volumes.ijk_to_ras(case.volume), study.cases.labels)
    elif how == "deleted":
        mrml.scene.RemoveNode(case.prediction)
    else:
        given_to_the_child_process(predicted, monkeypatch, tmp_path, case)
        shutil.rmtree(study.folder / "refinements" / case.refinement)
    from SemiSegModuleLib.scene.case import CaseError

    with pytest.raises(CaseError, match="Nobody can tell any more what in the mask"):
        predicted.logic.refining.start(case)
    assert not predicted.logic.refining.active
    assert np.array_equal(mask_of(predicted, case), mask)


# ---- rounds and minutes --------------------------------------------------------------------------------------


def test_minutes_are_counted_where_somebody_works(predicted):
    """In the editor while it is open, and in the review; a long pause counts as a minute."""
    from SemiSegModuleLib.logic.stopwatch import IDLE_SECONDS

    case, watch = predicted.work.cases.cases[0], predicted.logic.stopwatch
    now = [0.0]
    watch._clock = lambda: now[0]
    predicted.work.case = case
    predicted.ui.annotateButton.click()
    now[0] = 20.0
    mask = np.zeros((32, 32, 32), np.uint8)
    mask[7, 3:5, 3:5] = 1
    draw(predicted, case, mask)
    predicted.wait_until(lambda: case.seconds == 20.0, 20)
    now[0] = 5000.0
    predicted.unfold("train")
    assert case.seconds == 20.0 + IDLE_SECONDS
    now[0] = 6000.0
    predicted.unfold("results")
    assert case.seconds == 20.0 + IDLE_SECONDS, "the editor is not seen"
    predicted.ui.reviewButton.click()
    now[0] = 6007.0
    predicted.ui.reviewCloseButton.click()
    assert case.seconds == 27.0 + IDLE_SECONDS


def test_drawing_in_slicers_own_segment_editor_counts(predicted):
    """As long as somebody holds a tool there; masks that programs change meanwhile are nobody's minutes."""
    case, watch = predicted.work.cases.cases[0], predicted.logic.stopwatch
    now, told = [0.0], []
    watch._clock = lambda: now[0]
    predicted.work.case = case
    predicted.ui.annotateButton.click()
    predicted.widget.exit()
    predicted.panel.annotate.drawn.connect(lambda: told.append(case.seconds))

    def stroke(seconds, row):
        """At this time; returns what is counted then."""
        now[0], before = seconds, len(told)
        mask = np.zeros((32, 32, 32), np.uint8)
        mask[7, row : row + 2, 3:5] = 1
        draw(predicted, case, mask)
        predicted.wait_until(lambda: len(told) > before, 20)
        return case.seconds

    assert [stroke(100.0, 3), stroke(110.0, 5)] == [0.0, 0.0], "nobody draws"
    editor = predicted.work.cases.scene.AddNewNodeByClass("vtkMRMLSegmentEditorNode")
    editor.SetAndObserveSegmentationNode(case.annotation)
    assert [stroke(120.0, 7), stroke(130.0, 9)] == [0.0, 0.0], "no tool"
    editor.SetActiveEffectName("Paint")
    assert [stroke(140.0, 11), stroke(152.0, 13)] == [0.0, 12.0]
    editor.SetAndObserveSegmentationNode(case.prediction)
    editor.SetActiveEffectName("")  # as leaving that module does
    predicted.widget.enter()
    predicted.unfold("train")
    assert case.seconds == 12.0


def test_what_is_expected_of_a_round_is_of_the_masks_of_its_model(predicted):
    import dataclasses
    from types import SimpleNamespace

    from SemiSegModuleLib.logic.rounds import Round
    from SemiSegModuleLib.scene.records import Expected, Quality

    work, models = predicted.work, [predicted.work.folder / f"training-{n}" / "models" / "m" for n in (1, 2)]
    work.cases.rounds = [dataclasses.asdict(Round(f"training-{n}", "", 60.0 * n, {})) for n in (1, 2)]
    first = work.cases.cases[0]
    second = work.cases.add_volume(predicted.work.cases.scene.AddNode(copy_of(first.volume)))
    for case, model, dsc in ((first, models[0], 0.6), (second, models[1], 0.9)):
        case.quality = Quality(Expected(dsc, 0.5, 1.0), {}, str(model))
        predicted.logic.judging.model = model
        predicted.logic.judging.ended.emit(SimpleNamespace(state="finished"))
    assert [each.expected_dsc for each in predicted.logic.rounds.all()] == [0.6, 0.9]


def test_the_curve_shows_every_round(predicted, monkeypatch):
    """Also one that only trained longer, and one after a scan was removed with its minutes."""
    import dataclasses

    import slicer
    from SemiSegModuleLib.logic.rounds import Round

    opened, shown = predicted, []
    figures = [(60.0, 0.7), (60.0, 0.8), (180.0, 0.85), (120.0, 0.86)]
    rounds = [Round(f"training-{n}", "", seconds, {}, "finished", dsc) for n, (seconds, dsc) in enumerate(figures)]
    opened.work.cases.rounds = [dataclasses.asdict(each) for each in rounds]
    opened.logic.rounds.changed.emit()
    plots = type("Plots", (), {"ShowChartInLayout": lambda self, chart: shown.append(chart)})()
    monkeypatch.setattr(slicer.modules, "plots", type("Module", (), {"logic": lambda self: plots})(), raising=False)
    opened.ui.minutesCurveButton.click()
    opened.work.cases.scene.RemoveNode(shown[0])
    opened.ui.minutesCurveButton.click()
    chart = shown[1]
    assert chart.GetScene() is not None, "deleted, and made again"
    values = chart.GetNthPlotSeriesNode(0).GetTableNode().GetTable()
    columns = [values.GetColumnByName(name) for name in ("minutes", "validation DSC")]
    points = [tuple(column.GetValue(row) for column in columns) for row in range(values.GetNumberOfRows())]
    assert points == [(seconds / 60, dsc) for seconds, dsc in figures]
    assert chart.GetXAxisRange()[1] > 3.0


def copy_of(volume):
    import slicer
    import vtk

    node, image = slicer.vtkMRMLScalarVolumeNode(), vtk.vtkImageData()
    image.DeepCopy(volume.GetImageData())
    node.SetAndObserveImageData(image)
    return node


def test_each_round_is_kept_with_its_minutes_masks_and_scores(
    with_cases, mrml, training_python_with_torch, tmp_path, monkeypatch
):
    """Two real trainings; the table, the curve, and the same again from the saved scene."""
    import slicer

    opened = with_cases
    parameters = opened.parameters
    parameters.method = opened.module.Method.SUPERVISED
    parameters.iterations, parameters.spacing, parameters.patchSize = 2, "4", "32"
    parameters.extraSettings, parameters.validationCases = TINY, 1
    parameters.device = opened.module.Device.CPU
    scores = []
    for seconds in (60.0, 150.0):
        opened.work.cases.cases[0].seconds = seconds
        opened.ui.trainButton.click()
        opened.wait_until(lambda: not opened.logic.training.active)
        run = opened.logic.training.process.run
        assert opened.logic.training.process.state == "finished", opened.logic.training.process.log.tail()
        scores.append([event["dsc"] for event in run.events() if event["event"] == "validation"][-1])
    rounds = opened.logic.rounds.all()
    assert [each.minutes for each in rounds] == [1.0, 2.5]
    assert [each.validation_dsc for each in rounds] == scores
    assert [each.count("drawn") for each in rounds] == [2, 2]
    assert rounds[1].cases["scan_001"] == {"how": "drawn", "seconds": 150.0, "slices": ""}
    table = opened.ui.roundsTable
    texts = [[table.item(row, column).text() for column in range(4)] for row in range(table.rowCount)]
    assert texts[1] == ["2", "2.5", f"{scores[1]:.3f}", "2 drawn"]
    shown = []
    plots = type("Plots", (), {"ShowChartInLayout": lambda self, chart: shown.append(chart)})()
    monkeypatch.setattr(slicer.modules, "plots", type("Module", (), {"logic": lambda self: plots})(), raising=False)
    opened.ui.minutesCurveButton.click()
    (chart,) = shown
    values = chart.GetNthPlotSeriesNode(0).GetTableNode().GetTable()
    assert [values.GetValueByName(row, "minutes").ToDouble() for row in range(2)] == [1.0, 2.5]
    assert [values.GetValueByName(row, "validation DSC").ToDouble() for row in range(2)] == pytest.approx(scores)

    mrml.save(tmp_path / "work.mrb")
    opened.close()
    mrml.scene.Clear(0)
    mrml.load(tmp_path / "work.mrb")
    opened.__init__(opened.qt, opened.module)
    assert opened.logic.rounds.all() == rounds
    assert opened.ui.roundsTable.rowCount == 2


def test_strokes_on_other_voxels_than_the_scan_has_now_are_not_taken_for_its(with_cases):
    from SemiSegModuleLib.logic import refinement_files
    from SemiSegModuleLib.scene import volumes

    case = with_cases.work.cases.cases[0]
    strokes = np.zeros((32, 32, 32), np.uint8)
    refinement_files.write(with_cases.work.folder / refinement_files.FOLDERS / "one", case, strokes, strokes)
    assert refinement_files.read(with_cases.work, case)[0].shape == (32, 32, 32)
    volumes.fill_volume(case.volume, np.zeros((32, 32, 20), np.int16), volumes.ijk_to_ras(case.volume))
    assert refinement_files.read(with_cases.work, case) == (None, None)
