"""What SemiSegModuleLogic offers to scripts, each example on the real scene with real child processes; no panel."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

TINY = {
    "training.iterations": 4,
    "data.spacing": [4.0, 4.0, 4.0],
    "training.patch_size": [32, 32, 32],
    "training.labelled_batch": 1,
    "training.unlabelled_batch": 1,
    "training.log_every": 1,
    "training.threads": 1,
    "training.precision": "fp32",
}


@pytest.fixture
def logic(module, qt_modules, tmp_path, training_python, monkeypatch):
    """The module's logic in an empty scene, as a script makes it."""
    monkeypatch.setenv("SEMISEG_PYTHON", str(training_python))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    qt_modules.QSettings().clear()
    logic = module.SemiSegModuleLogic()
    parameters = logic.getParameterNode()
    parameters.studyFolder = tmp_path / "study"
    parameters.device = module.Device.CPU
    yield logic
    if logic.workbench.training.process is not None:
        logic.workbench.training.process.end_now()
    logic.close()


def test_trained_predicted_reviewed_exported_by_script(logic, scans, training_python_with_torch, tmp_path):
    from SemiSegLib.runs import read_json

    heard = []
    assert [case.state.value for case in logic.addCases([scans])] == ["annotated"] * 2 + ["unlabelled"] * 2
    logic.workbench.training.ended.connect(lambda process: heard.append(process.state))
    logic.workbench.predicting.loaded.connect(lambda case: heard.append(case.name))
    training = logic.train(method="mean-teacher", settings=TINY, wait=True)
    assert training.state == "finished", training.log.tail()
    assert read_json(training.run.settings_file)["method"] == "mean-teacher"
    assert logic.workbench.study.model == training.run.last_model
    assert len(list((tmp_path / "study" / "cache").iterdir())) == 4  # preprocessed once for all trainings of the study
    assert not training.run.cache.exists()

    prediction = logic.predict(wait=True)
    assert prediction.state == "finished", prediction.log.tail()
    assert heard == ["finished", "atrium_003", "atrium_004"]
    waiting = logic.review()
    assert [case.name for case in sorted(waiting, key=lambda case: case.name)] == ["atrium_003", "atrium_004"]
    known = [case.confidence for case in waiting if case.confidence is not None]
    assert known == sorted(known)

    case = waiting[0]
    before = probabilities(case)
    part = logic.workbench.predicting.part_of([case], "axial")
    before[part.slices] = -1
    again = logic.predict([case], part="axial", wait=True)
    assert again.state == "finished", again.log.tail()
    after = probabilities(case)
    assert after[part.slices].min() >= 0
    after[part.slices] = -1
    assert np.array_equal(after, before)  # what lies outside

    logic.acceptPrediction(case)
    decided = case.state.value
    logic.undo()
    assert (case.state.value, case.annotation) == ("predicted", None)
    assert decided == "corrected" or not case.labels_present(logic.workbench.study.cases.labels)
    assert logic.correctPrediction(case) is case.annotation
    if case.has_drawing:
        case.mark_done()  # else it would be left out

    written = logic.exportMasks(tmp_path / "masks", ".nii.gz")
    assert [path.name for path in written] == [f"atrium_00{number}.nii.gz" for number in (1, 2, 3, 4)]


def test_the_loop_by_script(logic, scans, training_python_with_torch):
    """Told what next, a few slices drawn, predicted, judged, a stroke followed and taken back."""
    import slicer
    from SemiSegModuleLib.scene import segments, volumes

    logic.addCases(sorted((scans / "images").iterdir())[:2])
    labels = logic.workbench.study.cases.labels
    logic.suggest(budget=1, slices=2, wait=True)
    (case,) = logic.workbench.suggesting.cases()
    numbers = logic.proposeSlices(case, "axial", every=16)
    assert numbers[:2] == list(case.suggestion.slices)
    logic.nothingInSlice(case, numbers[0])
    assert case.empty_slices == (numbers[0],)
    case.partial = ""

    prediction = logic.predict(model="left-atrium-lge", wait=True)
    assert prediction.state == "finished", prediction.log.tail()
    assert all(found.quality.whole.low <= found.expected_dsc for found in logic.workbench.study.cases)
    worst = logic.review()[0]
    assert worst.expected_dsc == min(found.expected_dsc for found in logic.workbench.study.cases)
    worst.quality = None
    assert logic.estimateQuality(wait=True).state == "finished"
    assert worst.expected_dsc is not None

    logic.workbench.refining.seconds = 2.0
    node = logic.correctPrediction(worst)
    drawn = segments.voxels_on_grid(node, worst.volume, labels)
    drawn[2, 2:6, 2:6] = 1 - drawn[2, 2:6, 2:6]
    segments.replace_voxels(node, drawn, volumes.ijk_to_ras(worst.volume), labels)
    assert logic.refine(worst, wait=True).state == "finished"
    assert np.array_equal(segments.voxels_on_grid(node, worst.volume, labels)[2, 2:6, 2:6], drawn[2, 2:6, 2:6])
    logic.undo()
    assert np.array_equal(segments.voxels_on_grid(node, worst.volume, labels), drawn)
    assert logic.history() == [], "nothing was trained"
    assert slicer.util.arrayFromVolume(worst.uncertainty).max() <= 1 + 1e-6


def test_masks_by_a_model_of_the_study_are_of_the_label_that_was_renamed(logic, scans, training_python_with_torch):
    """Under its former name it would be another structure, which nobody learns from."""
    import shutil

    from SemiSegModuleLib.scene import segments

    from SemiSegLib.models import named_models

    (case,) = logic.addCases(scans / "images" / "atrium_003.nii.gz")
    study = logic.workbench.study
    model = study.claim_folder() / "training-1" / "models" / "last.safetensors"
    model.parent.mkdir(parents=True)
    shutil.copyfile(named_models()["left-atrium-lge"], model)
    study.cases.rename_label(1, "LA")
    for part in (None, "axial"):
        process = logic.predict([case], model=model, part=part, wait=True)
        assert process.state == "finished", process.log.tail()
        assert logic.workbench.predicting.problems == []
        assert [label.name for label in study.cases.labels] == ["LA"]
        assert segments.foreign_segments(case.prediction, study.cases.labels) == []
        assert list(case.probabilities) == [1]


def test_masks_by_a_model_from_outside_follow_a_label_that_is_renamed_while_it_is_used(
    logic, scans, training_python_with_torch, mrml, tmp_path
):
    """Its label was this one when its masks were asked for, so it is this one still: also of masks that were on their
    way, and in the next session. A model of that name which nobody has used here may mean anything."""
    import shutil

    from SemiSegModuleLib.scene import segments

    from SemiSegLib.models import named_models

    study = logic.workbench.study
    logic.addCases(scans / "images" / "atrium_003.nii.gz")
    logic.predict(model="left-atrium-lge")
    study.cases.rename_label(1, "LA")
    assert logic.wait(300)
    mrml.save(tmp_path / "study.mrb")
    mrml.scene.Clear(0)
    mrml.load(tmp_path / "study.mrb")
    logic.review()  # adopts the scene
    (case,) = study.cases
    for name in ("LA", "atrium"):
        study.cases.rename_label(1, name)
        assert logic.workbench.predicting.misfits() == misfits_of_size(case)
        assert [label.name for label in case.labels_present(study.cases.labels)] == [name]
        logic.predict([case], wait=True)
        assert logic.workbench.predicting.problems == []
        assert segments.foreign_segments(case.prediction, study.cases.labels) == []
        assert len(logic.exportMasks(tmp_path / name)) == 1
    other = shutil.copy(named_models()["left-atrium-lge"], tmp_path / "other.safetensors")
    assert not study.model_fits(other)
    study.cases.labels = [type(study.cases.labels[0])(1, "aorta", (1, 2, 3))]
    assert not study.model_fits("left-atrium-lge")
    assert [label.name for label in study.labels_of("left-atrium-lge")] == ["left atrium"]


def misfits_of_size(case):
    return [f"{case.name}: voxels more than twice as large as those the model learnt from (1.6 × 1.6 × 1.6 mm)."]


def probabilities(case):
    import slicer

    return slicer.util.arrayFromVolume(case.probabilities[1]).copy()


def test_volumes_of_the_scene_become_cases_with_their_annotations(logic, scans, mrml):
    import slicer

    load = slicer.modules.volumes.logic().AddArchetypeVolume
    volumes = [load(str(scans / "images" / f"atrium_00{n}.nii.gz"), f"scan {n}", 0) for n in (1, 2)]
    annotation = mrml.scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "by hand")
    image = slicer.vtkOrientedImageData()
    image.SetDimensions(3, 3, 3)
    image.AllocateScalars(3, 1)
    image.GetPointData().GetScalars().Fill(1)
    annotation.AddSegmentFromBinaryLabelmapRepresentation(image, "left atrium", (1, 0, 0))
    cases = logic.addCases(volumes, [annotation, None])
    assert [case.state.value for case in cases] == ["annotated", "unlabelled"]
    assert logic.addCases() == []


def test_no_cases_are_not_all_cases(logic, scans, tmp_path):
    """A list that a condition has left empty must not give everything away."""
    logic.addCases([scans])
    with pytest.raises(ValueError, match="None of the chosen cases"):
        logic.exportMasks(tmp_path / "masks", ".nrrd", cases=[])
    assert not (tmp_path / "masks").exists()
    assert len(logic.exportMasks(tmp_path / "masks", ".nrrd", (case for case in logic.workbench.study.cases))) == 2


def test_what_is_wrong_is_said_before_anything_starts(logic, scans):
    from SemiSegLib.errors import SemiSegError

    with pytest.raises(SemiSegError, match="A model and at least one scan"):
        logic.predict()
    with pytest.raises(SemiSegError, match="Annotate at least one scan"):
        logic.train()
    logic.addCases([scans])
    with pytest.raises(SemiSegError, match=r"Method is one of .*simcvd.*, not 'magic'"):
        logic.train(method="magic")
    with pytest.raises(SemiSegError, match="Did you mean"):
        logic.train(settings={"training.iteration": 3})
    assert not (logic.workbench.study.folder).exists()


def test_wrong_calls_change_nothing(logic, scans, tmp_path):
    """What is refused is refused at once, and neither the settings nor the folder are others afterwards."""
    from SemiSegLib.errors import SemiSegError

    cases, parameters = logic.addCases([scans]), logic.getParameterNode()
    folder = parameters.studyFolder
    with pytest.raises(SemiSegError, match="2 annotated scans cannot be kept aside"):
        logic.train(validation=10, settings=TINY, folder=tmp_path / "other")
    with pytest.raises(SemiSegError, match="'soon' is not understood"):
        logic.train(time="soon", method="supervised", folder=tmp_path / "other")
    with pytest.raises(SemiSegError, match="A model and at least one scan"):
        logic.predict(folder=tmp_path / "other")
    with pytest.raises(SemiSegError, match="has no box"):
        logic.predict(cases[2:3], model="left-atrium-lge", part="box")
    for call in (logic.predict, logic.acceptPrediction, logic.correctPrediction, logic.refine, logic.estimateQuality):
        with pytest.raises(TypeError, match="'scan' is a name, which several scans may have"):
            call("scan")
    assert (parameters.studyFolder, parameters.validationCases) == (folder, 0)
    assert parameters.method.value == "recommended"
    assert not (tmp_path / "other").exists()


def test_paths_count_from_where_the_script_is(logic, scans, tmp_path, monkeypatch):
    """Copies of scans must not go to another folder than the one that was named."""
    import shutil

    from SemiSegLib.models import named_models

    sleeping = tmp_path / "python"
    sleeping.write_text("#!/bin/sh\nexec sleep 60\n")
    sleeping.chmod(0o755)
    monkeypatch.setenv("SEMISEG_PYTHON", str(sleeping))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    shutil.copy(named_models()["left-atrium-lge"], tmp_path / "mine.safetensors")
    cases = logic.addCases([scans])
    process = logic.predict(cases[2], model="mine.safetensors", folder="here")
    assert process.output.is_relative_to(tmp_path / "here")
    assert logic.workbench.predicting.model == tmp_path / "mine.safetensors"
    process = logic.predict(cases[2].volume, folder="~/there")
    assert process.output.is_relative_to(tmp_path / "home" / "there")


def test_nothing_runs_twice(logic, scans, tmp_path, monkeypatch):
    """A second prediction ends the first, of which nobody would hear; a training is not left behind unwatched."""
    from SemiSegLib.errors import SemiSegError

    sleeping = tmp_path / "python"
    sleeping.write_text("#!/bin/sh\nexec sleep 60\n")
    sleeping.chmod(0o755)
    monkeypatch.setenv("SEMISEG_PYTHON", str(sleeping))
    cases = logic.addCases([scans])
    first = logic.predict(cases[:1], model="left-atrium-lge")
    second = logic.predict(cases[1:2])
    assert (first.state, second.state) == ("cancelled", "running")
    training = logic.train(settings=TINY)
    with pytest.raises(SemiSegError, match="training runs"):
        logic.train(settings=TINY)
    with pytest.raises(SemiSegError, match="training runs"):
        logic.workbench.training.resume()
    assert logic.workbench.training.process is training
    assert len(list((tmp_path / "study").glob("training-*"))) == 1


def test_a_training_that_starts_in_another_window_is_seen(logic, scans, tmp_path, monkeypatch):
    """Its folder says nothing until its trainer has loaded PyTorch: two trainings would share the computer's memory."""
    from SemiSegModuleLib.logic.training import Training

    from SemiSegLib.errors import SemiSegError

    sleeping = tmp_path / "python"
    sleeping.write_text("#!/bin/sh\nexec sleep 60\n")
    sleeping.chmod(0o755)
    monkeypatch.setenv("SEMISEG_PYTHON", str(sleeping))
    logic.addCases([scans])
    training = logic.train(settings=TINY)
    other = Training(logic.workbench.study)  # as another window has on the same study
    with pytest.raises(SemiSegError, match=f"this study runs already.*: {training.run.path}"):
        other.start(settings=TINY)
    training.end_now()
    assert logic.wait(20)
    monkeypatch.setenv("SEMISEG_PYTHON", str(tmp_path / "nothing"))
    with pytest.raises(FileNotFoundError):
        other.start(settings=TINY)
    monkeypatch.setenv("SEMISEG_PYTHON", str(sleeping))
    assert logic.train(settings=TINY).state == "starting"


def test_annotations_stay_with_their_scans_beside_a_sequence(logic, scans, mrml):
    """A sequence becomes several cases."""
    import slicer

    load = slicer.modules.volumes.logic().AddArchetypeVolume
    volume, frame = (load(str(scans / "images" / f"atrium_00{n}.nii.gz"), f"scan {n}", 0) for n in (1, 2))
    sequence = mrml.scene.AddNewNodeByClass("vtkMRMLSequenceNode", "cine")
    for number in range(3):
        sequence.SetDataNodeAtValue(frame, str(number))
    annotation = mrml.scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "by hand")
    image = slicer.vtkOrientedImageData()
    image.SetDimensions(3, 3, 3)
    image.AllocateScalars(3, 1)
    image.GetPointData().GetScalars().Fill(1)
    annotation.AddSegmentFromBinaryLabelmapRepresentation(image, "left atrium", (1, 0, 0))
    cases = logic.addCases([sequence, volume], [None, annotation])
    assert [case.annotation is annotation for case in cases] == [False, False, False, True]
    assert cases[-1].volume is volume
    assert cases[-1].done


def test_two_windows_and_two_patients_of_one_name(scans, training_python_with_torch, tmp_path):
    """Both scenes use the default folder at the same time, both scans are called alike, both masks are right.

    What is right says the command line, which predicts each scan by itself.
    """
    folder = Path(__file__).parent
    environment = {
        **os.environ,
        "SEMISEG_PYTHON": str(training_python_with_torch),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(folder.parent.parent),
    }
    shared = ["3: CT Thorax", tmp_path / "SemiSeg", "left-atrium-lge"]
    numbers = (3, 4)
    windows = [
        subprocess.Popen(
            [
                sys.executable,
                folder / "window.py",
                scans / "images" / f"atrium_00{number}.nii.gz",
                *shared,
                tmp_path / f"{number}.nrrd",
            ],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in numbers
    ]
    printed = [window.communicate(timeout=900) for window in windows]
    assert [window.returncode for window in windows] == [0, 0], printed
    told = [json.loads(lines.strip().splitlines()[-1]) for lines, _ in printed]
    assert [window["file_name"] for window in told] == ["scan_001", "scan_001"]
    assert told[0]["folder"] != told[1]["folder"]

    command = [training_python_with_torch, "-m", "SemiSegLib.predict", "--model", "left-atrium-lge", "--device", "cpu"]
    subprocess.run(
        [*command, "--input", scans / "images", "--output", tmp_path / "expected", "--format", "nrrd"],
        env=environment,
        check=True,
        capture_output=True,
    )
    in_scene = [sitk.ReadImage(str(tmp_path / f"{number}.nrrd")) for number in numbers]
    expected = [sitk.ReadImage(str(tmp_path / "expected" / f"atrium_00{number}.nrrd")) for number in numbers]
    agreement = [[agreement_in_the_world(found, mask) for mask in expected] for found in in_scene]
    assert agreement[0][0] > 0.99, agreement
    assert agreement[1][1] > 0.99, agreement
    assert max(agreement[0][1], agreement[1][0]) < 0.9, agreement


def agreement_in_the_world(first, second):
    """Dice coefficient of two masks, each where its file says it lies: Slicer turns left-handed grids round."""
    second = sitk.Resample(second, first, sitk.Transform(), sitk.sitkNearestNeighbor)
    one, other = (sitk.GetArrayFromImage(image) > 0 for image in (first, second))
    return 2 * np.count_nonzero(one & other) / (np.count_nonzero(one) + np.count_nonzero(other))


def test_a_script_goes_on_after_the_scene_was_closed(logic, mrml, scans, tmp_path, monkeypatch):
    """As one that works through a folder of patients, without a panel: the next study has settings of its own."""
    monkeypatch.chdir(tmp_path)
    logic.addCases([scans / "images" / "atrium_001.nii.gz"])
    first = logic.workbench.study.cases.identifier
    mrml.scene.Clear(0)
    (case,) = logic.addCases([scans / "images" / "atrium_002.nii.gz"])
    study = logic.workbench.study
    assert study.cases.identifier != first
    assert study.case == case
    assert [label.name for label in study.cases.labels] == ["left atrium"]
    assert study.folder.is_absolute()
    assert study.parameters.trainingTime.value == "hour"


def test_one_scan_needs_no_list(logic, scans):
    """A path would be taken for a list of letters, the first of them the root of the disk."""
    (case,) = logic.addCases(str(scans / "images" / "atrium_003.nii.gz"))
    assert logic.addCases(case.volume) == [case]


def test_annotations_that_belong_to_no_scan_are_refused(logic, scans):
    """They would silently count nowhere."""
    import slicer

    from SemiSegLib.errors import SemiSegError

    (case,) = logic.addCases([scans / "images" / "atrium_003.nii.gz"])
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    for given in ([scans], None, [case.volume, case.volume], []):
        with pytest.raises(SemiSegError, match="one for each volume node"):
            logic.addCases(given, [node])
