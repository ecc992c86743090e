"""The ways in and the review mode, by pressing buttons and keys; predictions are loaded from files."""

import numpy as np
import pytest

CONFIDENCE = {"atrium_001": 0.95, "atrium_002": 0.55, "atrium_003": 0.75, "atrium_004": None}


@pytest.fixture
def reviewing(opened, scans, tmp_path):
    """Four scans with a predicted block each, of different confidence, in the review mode."""
    from SemiSegModuleLib.scene import volumes
    from SemiSegModuleLib.scene.predictions import load_prediction

    opened.logic.add_cases(sorted((scans / "images").iterdir()))
    for number, case in enumerate(opened.work.cases):
        array = np.zeros((32, 32, 32), np.uint8)
        array[10:20, 10:20, 4 + 4 * number : 14 + 4 * number] = 1
        volumes.write_image(volumes.world_image(case.volume, array), tmp_path / f"{number}.nrrd")
        load_prediction(opened.work.cases, case, tmp_path / f"{number}.nrrd")
        case.confidence = CONFIDENCE[case.name]
    opened.ui.reviewButton.click()
    return opened


def test_sorting_makes_no_text_and_no_picture_anew(reviewing, monkeypatch):
    """Of hundreds of large scans that takes long."""
    from SemiSegModuleLib.panels import case_rows

    rows = reviewing.panel.review.rows
    rows.draw_pictures()
    monkeypatch.delattr(case_rows, "_texts")
    monkeypatch.delattr(case_rows, "thumbnails")
    before = names(reviewing)
    for _time in range(2):
        reviewing.ui.reviewTable.horizontalHeader().sectionClicked.emit(0)
        rows.draw_pictures()
    assert names(reviewing) == sorted(before, reverse=True)
    assert not any(reviewing.ui.reviewTable.item(row, 0).icon().isNull() for row in range(4))


def names(opened):
    table = opened.ui.reviewTable
    return [table.item(row, 0).text() for row in range(table.rowCount)]


def press(opened, *keys):
    """As on the keyboard, wherever in the window the focus is."""
    from PySide6.QtTest import QTest

    opened.parent.show()
    opened.parent.activateWindow()
    opened.qt.QApplication.processEvents()
    for key in keys:
        QTest.keyClick(opened.ui.reviewWidget, key)
        opened.qt.QApplication.processEvents()


def state_of(opened, name):
    return next(case for case in opened.work.cases if case.name == name).state.value


def test_the_least_certain_comes_first(reviewing):
    assert names(reviewing) == ["atrium_002", "atrium_003", "atrium_001", "atrium_004"]
    assert reviewing.work.case.name == "atrium_002"
    assert reviewing.ui.reviewLabel.text == "0 of 4 scans decided"


def test_what_is_expected_to_be_worst_comes_first_and_what_is_not_known_by_its_confidence(reviewing):
    from SemiSegModuleLib.scene.records import Expected, Quality

    one, two, _three, four = reviewing.work.cases.cases
    one.quality = Quality(Expected(0.71, 0.6, 0.8), {})
    two.quality = Quality(
        Expected(0.93, 0.9, 0.95), {"atrium": Expected(0.95, 0.9, 1), "wall": Expected(0, 0, 1, True)}
    )
    four.quality = Quality(Expected(0.2, None, None), {})  # not calibrated: agreement is no DSC
    reviewing.ui.reviewTable.horizontalHeader().sectionClicked.emit(1)
    reviewing.ui.reviewTable.horizontalHeader().sectionClicked.emit(1)
    assert names(reviewing) == ["atrium_001", "atrium_002", "atrium_003", "atrium_004"]
    cell = reviewing.ui.reviewTable.item(1, 1)
    assert cell.text() == "0.93\n(0.90 to 0.95)"
    assert cell.toolTip().splitlines()[1:] == ["atrium: 0.95 (0.90 to 1.00)", "wall: nothing found"]
    assert reviewing.ui.reviewTable.item(3, 1).text() == ""


def test_state_and_expected_dsc_are_seen_in_a_narrow_dock(reviewing):
    """The name makes room: its middle is left out, so that both patient and number can be told apart."""
    from SemiSegModuleLib.scene.records import Expected, Quality, Suggestion

    for rank, case in enumerate(reviewing.work.cases, 1):
        case.suggestion = Suggestion(rank, 0.5, 2, (3,))
        case.volume.SetName(f"Left atrium of a patient, {case.volume.GetName()}")
        case.quality = Quality(Expected(0.93, 0.9, 0.95), {})
    reviewing.parent.resize(340, 700)
    reviewing.parent.show()
    reviewing.qt.QApplication.processEvents()
    table = reviewing.ui.reviewTable
    table.verticalHeader().setDefaultSectionSize(300)  # as with many scans: the scroll bar takes its part
    reviewing.qt.QApplication.processEvents()
    assert "Number 2 to annotate next" in table.item(0, 2).toolTip()
    assert table.width <= 340
    for column, heading in ((1, "Expected\nDSC"), (2, "State")):
        assert table.horizontalHeaderItem(column).text() == heading
        assert table.columnWidth(column) >= table.sizeHintForColumn(column)
        assert table.columnViewportPosition(column) + table.columnWidth(column) <= table.viewport().width
    beside = table.columnWidth(0) - table.iconSize.width()
    assert beside >= 12 * table.fontMetrics().averageCharWidth(), "a dozen letters of the name beside the picture"


def test_the_name_takes_what_room_a_wide_dock_has(reviewing):
    table = reviewing.ui.reviewTable
    reviewing.parent.resize(340, 700)
    reviewing.parent.show()
    reviewing.qt.QApplication.processEvents()
    narrow = table.columnWidth(0)
    reviewing.parent.resize(700, 700)
    reviewing.qt.QApplication.processEvents()
    assert table.columnWidth(0) >= narrow + 300


def test_only_the_list_is_shown(reviewing):
    parent = reviewing.parent
    sections = [f"{name}CollapsibleButton" for name in ("data", "annotate", "train", "results", "export")]
    assert not any(getattr(reviewing.ui, name).isVisibleTo(parent) for name in [*sections, "startWidget"])
    assert reviewing.ui.reviewWidget.isVisibleTo(parent)
    reviewing.ui.reviewCloseButton.click()
    assert all(getattr(reviewing.ui, name).isVisibleTo(parent) for name in [*sections, "startWidget"])
    assert not reviewing.ui.reviewWidget.isVisibleTo(parent)


def test_a_heading_sorts_and_sorts_the_other_way(reviewing):
    header = reviewing.ui.reviewTable.horizontalHeader()
    header.sectionClicked.emit(0)
    assert names(reviewing) == ["atrium_001", "atrium_002", "atrium_003", "atrium_004"]
    header.sectionClicked.emit(0)
    assert names(reviewing) == ["atrium_004", "atrium_003", "atrium_002", "atrium_001"]
    header.sectionClicked.emit(3)
    assert names(reviewing)[0] == "atrium_002"
    assert reviewing.work.case.name == "atrium_002", "sorting does not change the scan at hand"


def test_keys_step_accept_and_correct(reviewing):
    from PySide6.QtCore import Qt

    press(reviewing, Qt.Key_N)
    assert reviewing.work.case.name == "atrium_003"
    press(reviewing, Qt.Key_P, Qt.Key_P)
    assert reviewing.work.case.name == "atrium_004"
    press(reviewing, Qt.Key_Down, Qt.Key_Right)
    assert reviewing.work.case.name == "atrium_003"
    press(reviewing, Qt.Key_Up, Qt.Key_A)
    assert state_of(reviewing, "atrium_002") == "corrected"
    assert reviewing.work.case.name == "atrium_003", "accepting goes on to the next"
    press(reviewing, Qt.Key_C)
    assert reviewing.work.case.annotation is not None
    assert not reviewing.ui.annotateCollapsibleButton.collapsed
    press(reviewing, Qt.Key_A)
    assert state_of(reviewing, "atrium_003") == "predicted", "keys work in the review only"


def test_accepting_passes_over_what_is_decided_and_ends(reviewing):
    reviewing.work.case = reviewing.work.cases.cases[2]  # atrium_003
    for expected in ("atrium_001", "atrium_004", "atrium_002"):
        reviewing.ui.reviewAcceptButton.click()
        assert reviewing.work.case.name == expected
    reviewing.ui.reviewAcceptButton.click()
    assert reviewing.ui.reviewLabel.text == "4 of 4 scans decided"
    assert names(reviewing) == ["atrium_002", "atrium_003", "atrium_001", "atrium_004"], "no row runs away"


def test_accepting_is_taken_back(reviewing):
    reviewing.ui.reviewAcceptButton.click()
    assert reviewing.ui.reviewUndoButton.toolTip == "Take back: accepting atrium_002"
    reviewing.ui.reviewUndoButton.click()
    case = reviewing.work.case
    assert (case.name, case.state.value, case.annotation) == ("atrium_002", "predicted", None)
    assert not reviewing.ui.reviewUndoButton.enabled


def test_what_was_drawn_since_is_not_taken_back_unasked(reviewing, monkeypatch):
    """Undo of a correction that was worked on for an hour."""
    from SemiSegModuleLib.panels import dialogs
    from SemiSegModuleLib.scene import segments, volumes

    asked, answers = [], [False, True]
    monkeypatch.setattr(dialogs, "confirm", lambda text: asked.append(text) or answers[len(asked) - 1])
    reviewing.ui.reviewCorrectButton.click()
    case, labels = reviewing.work.case, reviewing.work.cases.labels
    mask = segments.voxels_on_grid(case.annotation, case.volume, labels)
    mask[25:28, 3:9, 3:9] = 1
    segments.replace_voxels(case.annotation, mask, volumes.ijk_to_ras(case.volume), labels)
    reviewing.ui.undoButton.click()
    assert "atrium_002" in asked[0]
    assert (segments.voxels_on_grid(case.annotation, case.volume, labels) == mask).all()
    assert reviewing.ui.undoButton.toolTip == "Take back: correcting atrium_002"
    reviewing.ui.undoButton.click()
    assert case.annotation is None
    reviewing.ui.reviewButton.click()
    reviewing.ui.reviewAcceptButton.click()
    reviewing.ui.reviewUndoButton.click()
    assert reviewing.work.case.state.value == "predicted"
    assert len(asked) == 2, "nothing was drawn since"


def test_a_key_held_down_accepts_one_scan_only(reviewing):
    repeats = {s.key.toString(): s.autoRepeat for s in reviewing.panel.review._shortcuts}
    assert (repeats["A"], repeats["C"]) == (False, False)
    assert (repeats["N"], repeats["Down"]) == (True, True)


def test_nobody_draws_by_mistake_while_the_list_is_shown(reviewing):
    """The tools of the Segment Editor, which is hidden then, work in all views."""
    ui, editor = reviewing.ui, reviewing.panel.annotate.editor
    ui.reviewCorrectButton.click()
    case = reviewing.work.case
    assert editor.press("1")
    ui.reviewButton.click()
    reviewing.work.case = case
    assert editor.segmentationNode() is case.annotation
    assert (editor._active_effect, editor._views_observed) == ("", False)
    assert not editor.press("1")
    ui.reviewCloseButton.click()
    assert editor.press("1")


def test_what_is_looked_at_counts_also_while_its_row_changes(reviewing):
    watch, now = reviewing.logic.stopwatch, [100.0]
    watch._clock = lambda: now[0]
    reviewing.work.case = reviewing.work.cases.cases[2]
    case = reviewing.work.case
    now[0] += 10
    case.confidence = 0.5  # as an estimate that arrives
    now[0] += 20
    reviewing.work.case = reviewing.work.cases.cases[0]
    assert case.seconds == 30.0


@pytest.fixture
def told(reviewing, monkeypatch):
    """What error messages said."""
    import slicer

    said = []
    monkeypatch.setattr(slicer.util, "errorDisplay", lambda text, *_rest, **_named: said.append(text))
    monkeypatch.setattr(type(slicer.app), "testingEnabled", lambda self: False)
    return said


def test_a_mask_in_which_nothing_was_found_cannot_be_accepted_and_that_is_said(reviewing, told):
    from SemiSegModuleLib.scene import segments, volumes

    case, nothing = reviewing.work.case, np.zeros((32, 32, 32), np.uint8)
    segments.set_voxels(case.prediction, nothing, volumes.ijk_to_ras(case.volume), reviewing.work.cases.labels)
    reviewing.ui.reviewAcceptButton.click()
    assert "Nothing was found in 'atrium_002'" in told[0]
    assert (case.state.value, case.annotation) == ("predicted", None)
    assert not reviewing.ui.reviewUndoButton.enabled
    reviewing.ui.reviewCorrectButton.click()
    assert case.annotation is not None, "it can be drawn"


def test_a_removed_scan_that_was_deleted_cannot_come_back_and_leaves_nothing(reviewing, mrml, told):
    reviewing.ui.reviewCloseButton.click()
    case = reviewing.work.case
    name, volume = case.name, case.volume
    reviewing.ui.removeCaseButton.click()
    mrml.scene.RemoveNode(volume)
    before, at_hand = mrml.scene.GetNumberOfNodes(), reviewing.work.case
    reviewing.ui.undoButton.click()
    assert f"'{name}' cannot be brought back" in told[0]
    assert (mrml.scene.GetNumberOfNodes(), reviewing.work.case) == (before, at_hand)
    assert not reviewing.ui.undoButton.enabled


def test_taking_back_a_step_of_a_scan_that_was_deleted_keeps_the_one_at_hand(reviewing, mrml):
    reviewing.ui.reviewAcceptButton.click()
    mrml.scene.RemoveNode(reviewing.work.cases.cases[1].volume)
    at_hand = reviewing.work.case
    reviewing.ui.reviewUndoButton.click()
    assert reviewing.work.case == at_hand


def test_an_annotation_that_was_replaced_comes_back(reviewing, monkeypatch):
    from SemiSegModuleLib.panels import dialogs
    from SemiSegModuleLib.scene import segments, volumes
    from SemiSegModuleLib.scene.annotations import make_annotation

    case, labels = reviewing.work.case, reviewing.work.cases.labels
    drawn = np.zeros((32, 32, 32), np.uint8)
    drawn[1:4, 2:5, 3:6] = 1
    node = make_annotation(reviewing.work.cases, case)
    segments.set_voxels(node, drawn, volumes.ijk_to_ras(case.volume), labels)
    case.mark_done()
    monkeypatch.setattr(dialogs, "confirm", lambda text: True)
    reviewing.ui.reviewAcceptButton.click()
    assert not np.array_equal(segments.voxels_on_grid(case.annotation, case.volume, labels), drawn)
    reviewing.ui.reviewUndoButton.click()
    assert np.array_equal(segments.voxels_on_grid(case.annotation, case.volume, labels), drawn)
    assert case.state.value == "annotated"


@pytest.mark.parametrize("button", ["reviewAcceptButton", "reviewCorrectButton", "acceptButton", "correctButton"])
def test_the_answer_is_for_the_scan_that_was_asked_about(reviewing, monkeypatch, button):
    """Work goes on while a question is open: a suggestion that comes then takes another scan to hand."""
    from SemiSegModuleLib.panels import dialogs
    from SemiSegModuleLib.scene import segments, volumes
    from SemiSegModuleLib.scene.annotations import make_annotation

    case, other = reviewing.logic.review.cases[:2]
    labels = reviewing.work.cases.labels
    drawn = np.zeros((32, 32, 32), np.uint8)
    drawn[1:4, 2:5, 3:6] = 1
    for each in (case, other):
        node = make_annotation(reviewing.work.cases, each)
        segments.set_voxels(node, drawn, volumes.ijk_to_ras(each.volume), labels)

    def answered(text):
        assert case.name in text
        reviewing.work.case = other
        return True

    monkeypatch.setattr(dialogs, "confirm", answered)
    getattr(reviewing.ui, button).click()
    assert case.began_as_prediction
    assert np.array_equal(segments.voxels_on_grid(other.annotation, other.volume, labels), drawn)


def test_an_annotation_that_was_replaced_comes_back_also_when_its_node_was_deleted(reviewing, mrml):
    from SemiSegModuleLib.scene import segments, volumes
    from SemiSegModuleLib.scene.annotations import make_annotation

    table, case = reviewing.work.cases, reviewing.work.case
    mask = np.zeros((32, 32, 32), np.uint8)
    mask[1:4, 2:5, 3:9] = 1
    annotation = make_annotation(table, case)
    segments.set_voxels(annotation, mask, volumes.ijk_to_ras(case.volume), table.labels)
    case.mark_done()
    reviewing.logic.review.accept(overwrite=True)
    mrml.scene.RemoveNode(annotation)
    reviewing.ui.reviewUndoButton.click()
    assert (case.state.value, case.began_as_prediction) == ("annotated", False)
    assert np.array_equal(segments.voxels_on_grid(case.annotation, case.volume, table.labels), mask)


def test_the_views_jump_to_the_structure(reviewing, mrml):
    """To the middle of the slice with most of it: the block's x is known, and so is its y."""
    import slicer

    view = mrml.scene.AddNode(slicer.vtkMRMLSliceNode())
    view.SetOrientationToSagittal()
    case = reviewing.work.cases.cases[3]
    reviewing.work.case = case
    expected = slicer.util.arrayFromVTKMatrix(matrix_of(case.volume)) @ [20.5, 14.5, 10.0, 1.0]
    assert view.GetSliceToRAS().GetElement(0, 3) == pytest.approx(expected[0], abs=1e-3)


def matrix_of(volume):
    import vtk

    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    return matrix


# ---- predicting again ----------------------------------------------------------------------------------------


def test_predictions_that_somebody_changed_are_not_replaced_unasked(reviewing, monkeypatch):
    from SemiSegModuleLib.panels import dialogs
    from SemiSegModuleLib.scene import segments, volumes

    case, labels = reviewing.work.case, reviewing.work.cases.labels
    assert reviewing.logic.predicting.edited(reviewing.work.cases) == []
    mask = segments.voxels_on_grid(case.prediction, case.volume, labels)
    mask[0, 0, 0] = 1
    segments.set_voxels(case.prediction, mask, volumes.ijk_to_ras(case.volume), labels)
    asked, started = [], []
    monkeypatch.setattr(dialogs, "confirm", lambda text: asked.append(text))
    monkeypatch.setattr(reviewing.logic.predicting, "start", lambda *arguments: started.append(arguments))
    reviewing.panel.results.predict_all()
    assert (len(asked), started) == (1, [])
    assert case.name in asked[0]
    assert "atrium_003" not in asked[0]


def test_a_prediction_that_somebody_changes_meanwhile_stays_and_the_others_come(reviewing, monkeypatch):
    """Hours may pass from the start of a prediction of many scans to the mask of the last one."""
    from SemiSegModuleLib.logic import predicting as module
    from SemiSegModuleLib.processes.prediction_process import PredictionProcess
    from SemiSegModuleLib.scene import segments, volumes

    table, predicting = reviewing.work.cases, reviewing.logic.predicting
    first, second = table.cases[:2]

    class Done(PredictionProcess):
        """One that has made both masks when somebody looks, and was cancelled then."""

        def start(self, model, inputs, count, options=()):
            self.state, self.count = "running", count

        def poll(self):
            self.state, self.index = "cancelled", len(made)
            return [case.file_name for case in made]

    made = []
    monkeypatch.setattr(module, "PredictionProcess", Done)
    reviewing.work.use_model("left-atrium-lge")
    edited = segments.voxels_on_grid(second.prediction, second.volume, table.labels)
    edited[0, 0, 0] = 1
    segments.set_voxels(second.prediction, edited, volumes.ijk_to_ras(second.volume), table.labels)
    predicting._poller.look = lambda: None
    predicting.start([first, second])  # somebody was asked about the second one
    new = np.zeros(edited.shape, np.uint8)
    new[3:9, 3:9, 3:9] = 1
    for case in (first, second):
        volumes.write_image(volumes.world_image(case.volume, new), predicting.process.output / f"{case.file_name}.nrrd")
    segments.set_voxels(first.prediction, edited, volumes.ijk_to_ras(first.volume), table.labels)
    made += [first, second]
    predicting._poll()
    assert np.array_equal(segments.voxels_on_grid(first.prediction, first.volume, table.labels), edited)
    assert np.array_equal(segments.voxels_on_grid(second.prediction, second.volume, table.labels), new)
    assert f"The prediction of {first.name} was changed meanwhile" in reviewing.ui.predictionLabel.text
    assert "Cancelled after 2 of 2 scans" in reviewing.ui.predictionLabel.text
    assert reviewing.logic.judging.possible() != []
    made.clear()
    predicting.start([second])
    predicting.changed.emit()
    assert reviewing.ui.predictionLabel.text == "Predicting: 0 of 1 scans"


# ---- the ways in: every click is counted ---------------------------------------------------------------------


class Clicks:
    """Presses what a person sees, and counts: a button or entry that is hidden or grey cannot be pressed."""

    def __init__(self, opened):
        self.opened, self.count = opened, 0

    def press(self, name):
        button = getattr(self.opened.ui, name)
        assert button.isVisibleTo(self.opened.parent), name
        assert button.enabled, name
        self.count += 1
        button.click()

    def choose(self, name, text):
        """Open a button's menu, and choose an entry: two clicks."""
        button = getattr(self.opened.ui, name)
        assert button.isVisibleTo(self.opened.parent)
        button.menu().aboutToShow.emit()
        (action,) = [action for action in button.menu().actions() if text in action.text]
        self.count += 2
        action.trigger()


@pytest.fixture
def loaded(opened, scans):
    """Slicer with four scans loaded, the module just opened."""
    import slicer

    for file in sorted((scans / "images").iterdir()):
        slicer.modules.volumes.logic().AddArchetypeVolume(str(file), file.name.split(".")[0], 0)
    opened.unfold("data")
    return opened


def test_segment_my_scans_in_five_clicks(loaded, training_python_with_torch):
    """From loaded volumes to masks to look at, with a ready model; its limits are seen before it predicts."""
    clicks = Clicks(loaded)
    clicks.choose("startSegmentButton", "left-atrium-lge")
    assert "left atrium" in loaded.ui.modelLabel.text
    assert len(loaded.work.cases) == 4
    clicks.press("predictAllButton")
    prediction = loaded.logic.predicting.process
    loaded.wait_until(lambda: not prediction.active, 900)
    assert prediction.state == "finished", prediction.log.tail()
    clicks.press("reviewButton")
    assert loaded.ui.reviewTable.rowCount == 4
    assert loaded.work.case.prediction.GetDisplayNode().GetVisibility()
    assert clicks.count == 4  # and one more where packages must be installed first


def test_the_ways_in_leave_off_the_table_what_somebody_took_off_it(loaded):
    clicks = Clicks(loaded)
    clicks.press("startTrainButton")
    loaded.unfold("data")
    clicks.press("removeCaseButton")
    clicks.press("startTrainButton")
    clicks.choose("startSegmentButton", "left-atrium-lge")
    assert len(loaded.work.cases) == 3


def test_train_with_unlabeled_scans_in_five_clicks_plus_drawing(loaded, training_python_with_torch):
    from SemiSegModuleLib.scene import segments, volumes

    parameters = loaded.parameters
    parameters.method = loaded.module.Method.MEAN_TEACHER
    parameters.iterations, parameters.spacing, parameters.patchSize = 4, "4", "32"
    parameters.extraSettings = "training.labelled_batch=1\ntraining.unlabelled_batch=1\ntraining.threads=1"
    parameters.device = loaded.module.Device.CPU
    clicks = Clicks(loaded)
    clicks.press("startTrainButton")
    case, editor = loaded.work.case, loaded.panel.annotate.editor
    assert editor.segmentationNode() is case.annotation
    drawn = np.zeros((32, 32, 32), np.uint8)
    drawn[2:31, 1:30, 3:32] = 1
    segments.set_voxels(case.annotation, drawn, volumes.ijk_to_ras(case.volume), loaded.work.cases.labels)
    clicks.press("doneCheckBox")
    clicks.press("trainButton")
    loaded.wait_until(lambda: not loaded.logic.training.active, 900)
    clicks.press("predictAllButton")
    loaded.wait_until(lambda: not loaded.logic.predicting.active, 900)
    clicks.press("reviewButton")
    assert loaded.ui.reviewTable.rowCount == 3
    assert clicks.count == 5


# ---- before export -------------------------------------------------------------------------------------------


def test_masks_are_checked_and_each_remark_leads_to_its_place(reviewing, mrml):
    import slicer
    from SemiSegModuleLib.scene import segments, volumes

    reviewing.ui.reviewCloseButton.click()
    reviewing.unfold("export")
    labels = reviewing.work.cases.labels
    parts, hole, cut = reviewing.work.cases.cases[:3]
    for case, change in ((parts, np.s_[2:5, 2:5, 2:5]), (hole, np.s_[13:16, 13:16, 11:14]), (cut, np.s_[0:10, 12, 14])):
        mask = segments.voxels_on_grid(case.prediction, case.volume, labels)
        mask[change] = 0 if case == hole else 1
        segments.set_voxels(case.prediction, mask, volumes.ijk_to_ras(case.volume), labels)
    reviewing.ui.checkMasksButton.click()
    table = reviewing.ui.checksTable
    found = [(table.item(row, 0).text(), table.item(row, 1).text()) for row in range(table.rowCount)]
    assert found == [
        ("atrium_001", "left atrium: 2 parts"),
        ("atrium_002", "The network is not sure: 0.55"),
        ("atrium_002", "left atrium: a hole"),
        ("atrium_003", "The network is not sure: 0.75"),
        ("atrium_003", "left atrium: cut off by the border of the scan"),
    ]
    place = reviewing.panel.export._remarks[0].place
    expected = (slicer.util.arrayFromVTKMatrix(matrix_of(parts.volume)) @ [3, 3, 3, 1])[:3]
    assert np.allclose(place, expected)
    table.selectRow(2)
    assert reviewing.work.case == hole


def test_remarks_go_with_the_scene_that_they_are_of(reviewing, mrml):
    """They name patients, and a click would lead to a place in another one's scan."""
    reviewing.ui.reviewCloseButton.click()
    reviewing.ui.checkMasksButton.click()
    assert reviewing.ui.checksTable.rowCount
    reviewing.parent.__dict__["isEntered"] = False  # it is closed from another module
    mrml.scene.Clear(0)
    assert reviewing.ui.checksTable.rowCount == 0


def test_a_volume_far_from_the_others_is_named(reviewing):
    from SemiSegModuleLib.scene.checks import _volumes_far_from_the_others

    class Measured:
        def __init__(self, amount):
            self.id, self.amount = str(amount), amount

        def volumes_ml(self, labels):
            return {1: self.amount}

    cases = [Measured(amount) for amount in (50.0, 52.0, 48.0, 51.0, 49.5, 12.0)]
    (remark,) = _volumes_far_from_the_others(cases, reviewing.work.cases.labels)
    assert remark.case is cases[-1]
    assert remark.text == "left atrium: 12.0 ml, while 49.8 ml are usual here"
    assert _volumes_far_from_the_others(cases[2:], reviewing.work.cases.labels) == []
