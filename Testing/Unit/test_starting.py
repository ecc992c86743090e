"""Starting, starting again and going on: whatever ended a run, the next command does what one expects."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys

import pytest
import SimpleITK as sitk
import torch

from SemiSegLib.benchmark.results import training_time
from SemiSegLib.compute.devices import Compute
from SemiSegLib.config import Label
from SemiSegLib.data.images import read_mask
from SemiSegLib.data.layouts import find_cases
from SemiSegLib.data.splits import apply_splits
from SemiSegLib.data.writing import remove_unfinished, write_mask
from SemiSegLib.errors import SemiSegError
from SemiSegLib.files import whole, write_whole, writer_mark
from SemiSegLib.models import load_model
from SemiSegLib.presets import build_settings
from SemiSegLib.runs import RunError, RunFolder, read_json
from SemiSegLib.schedules import step_at
from SemiSegLib.synthetic import make_dataset
from SemiSegLib.train import main, resume, train
from SemiSegLib.training import session
from SemiSegLib.training.checkpoints import load_checkpoint
from SemiSegLib.training.lengthening import lengthen, stage_lengths
from SemiSegLib.training.trainer import Trainer
from SemiSegLib.values import SettingsError

SETTINGS = {
    "training.precision": "fp32",
    "training.log_every": 1,
    "training.threads": 1,
    "training.validation_every": 3,
}


def command(data, out, method="supervised", iterations=4, settings=None):
    sets = [part for key, value in {**SETTINGS, **(settings or {})}.items() for part in ("--set", f"{key}={value}")]
    return [
        *("--data", str(data), "--out", str(out), "--splits", f"{data / 'splits.json'}:demo", "--method", method),
        *("--preset", "left-atrium", "--spacing", "3.75,3.75,5", "--patch", "32,16,16"),
        *("--iterations", str(iterations), "--device", "cpu", "--quiet", *sets),
    ]


def dies_at(arguments, moment):
    """Run the command in a process that ends without a word (as by SIGKILL) at a moment: a line of code to patch in."""
    code = f"import os, sys\n{moment}\nfrom SemiSegLib.train import main\nsys.exit(main(sys.argv[1:]))"
    result = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, encoding="utf-8", check=False
    )
    assert result.returncode == 9, result.stderr


SMALL = {"data.spacing": (3.75, 3.75, 5.0), "training.patch_size": (32, 16, 16), "training.device": "cpu"}
AFTER_ITERATION_2 = """
from SemiSegLib.training import log
add = log.Log.add
def dying(self, iteration, *rest):
    due = add(self, iteration, *rest)
    return os._exit(9) if iteration == 2 else due
log.Log.add = dying
"""
BEFORE_THE_SETTINGS = """
from SemiSegLib.training import planning
planning.complete = lambda *a: os._exit(9)
"""
MAKING_A_CASE = """
import numpy
save = numpy.save
numpy.save = lambda *a, **n: (save(*a, **n), os._exit(9))
"""
WRITING_A_MODEL = """
from pathlib import Path
write = Path.write_bytes
def dying(path, content):
    write(path, content)
    return os._exit(9) if "safetensors" in path.name else len(content)
Path.write_bytes = dying
"""


def weights(path):
    return load_model(path).weights


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in other)


@pytest.fixture(scope="module")
def pretrained(tiny_data, tmp_path_factory):
    """A model to start from, and the run that starts from it without interruption."""
    folder = tmp_path_factory.mktemp("pretrained")
    assert main(command(tiny_data, folder / "first", iterations=2, settings={"training.seed": 5})) == 0
    assert main([*command(tiny_data, folder / "whole"), "--init", str(folder / "first")]) == 0
    return folder


# ---- a run remembers what it was asked for -----------------------------------------------------------------


def test_a_run_that_died_before_its_first_checkpoint_starts_from_its_model_again(pretrained, tiny_data, tmp_path):
    run = RunFolder(tmp_path / "run")
    dies_at([*command(tiny_data, run.path), "--init", str(pretrained / "first")], AFTER_ITERATION_2)
    assert not run.checkpoint.exists()
    assert main(["--out", str(run.path), "--resume", "--quiet"]) == 0
    assert same(weights(run.last_model), weights(pretrained / "whole" / "models" / "last.safetensors"))


def test_what_was_asked_for_is_kept(pretrained, tiny_data):
    intent = read_json(RunFolder(pretrained / "whole").intent_file)
    assert intent["cases"]["root"] == str(tiny_data.resolve())
    assert intent["cases"]["layout"] == "images and labels"
    assert intent["splits"] == f"{tiny_data / 'splits.json'}:demo"
    assert intent["settings"]["training"]["iterations"] == 4
    assert intent["init"]["model"].endswith(".safetensors")
    assert re.fullmatch("[0-9a-f]{64}", intent["init"]["sha256"])
    assert intent["command"]


def test_another_model_in_its_place_is_not_taken_for_the_same(pretrained, tiny_data, tmp_path):
    model, run = tmp_path / "model.safetensors", RunFolder(tmp_path / "run")
    shutil.copy(pretrained / "first" / "models" / "last.safetensors", model)
    dies_at([*command(tiny_data, run.path), "--init", str(model)], AFTER_ITERATION_2)
    shutil.copy(pretrained / "whole" / "models" / "last.safetensors", model)
    with pytest.raises(RunError, match=r"model\.safetensors.*replaced"):
        resume(run.path, quiet=True)
    model.unlink()
    with pytest.raises(RunError, match=r"model\.safetensors.*gone"):
        resume(run.path, quiet=True)


@pytest.mark.parametrize("again", ["--resume", "the same command"])
def test_a_run_that_died_before_it_had_settings_goes_on_or_starts_again(again, tiny_data, tmp_path):
    run = RunFolder(tmp_path / "run")
    dies_at(command(tiny_data, run.path), BEFORE_THE_SETTINGS)
    assert run.run_file.exists()
    assert not run.settings_file.exists()
    resumed = ["--out", str(run.path), "--resume", "--quiet"]
    assert main(resumed if again == "--resume" else command(tiny_data, run.path)) == 0
    assert run.status().state == "finished"


def test_a_run_that_failed_before_it_had_learnt_anything_may_be_started_again(tiny_data, tmp_path, capsys):
    data, run = tmp_path / "data", RunFolder(tmp_path / "run")
    shutil.copytree(tiny_data, data)
    (data / "images" / "atrium_004.nii.gz").write_bytes(b"cut off")
    arguments = command(data, run.path)
    assert main(arguments) == 2
    assert "atrium_004" in capsys.readouterr().err
    assert not run.settings_file.exists()
    shutil.copy(tiny_data / "images" / "atrium_004.nii.gz", data / "images")
    assert main(arguments) == 0
    assert [event["state"] for event in run.events() if event["event"] == "state"][:2] == ["preparing", "training"]
    assert main(arguments) == 2
    assert "already holds a run: add --resume" in capsys.readouterr().err


def test_a_run_without_settings_or_intent_says_what_to_do(tmp_path, capsys):
    run = RunFolder.create(tmp_path / "run")
    run.intent_file.unlink()
    assert main(["--out", str(run.path), "--resume", "--quiet"]) == 2
    assert "start it again without --resume" in capsys.readouterr().err


def test_half_a_start_is_no_foreign_folder(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    for name in ("lock", "intent.json", ".run.json.123.tmp"):
        (folder / name).write_text("")
    RunFolder.create(folder)
    assert not list(folder.glob(".*.tmp"))


def test_iterations_that_a_crash_lost_count_once(tiny_data, tmp_path):
    run = RunFolder(tmp_path / "run")
    dies_at(command(tiny_data, run.path), AFTER_ITERATION_2)
    assert main(["--out", str(run.path), "--resume", "--quiet"]) == 0
    counted = [event for event in run.history() if event["event"] == "iteration"]
    assert [event["iteration"] for event in counted] == [1, 2, 3, 4]
    assert training_time(run)["training_seconds"] == sum(event["seconds_per_iteration"] for event in counted)
    assert len([event for event in run.events() if event["event"] == "iteration"]) == 6


# ---- another machine ---------------------------------------------------------------------------------------


@pytest.fixture
def prepared(tiny_data, tiny_settings, tmp_path):
    """A run folder, settings and prepared cases, to make trainers of."""
    run, settings = RunFolder.create(tmp_path / "run"), tiny_settings("mean-teacher")
    cases = apply_splits(find_cases(tiny_data), f"{tiny_data / 'splits.json'}:demo")
    return run, settings, session.prepare_cases(run, settings, cases, lambda: False)


PRECISIONS = (torch.float32, torch.bfloat16, torch.float16)


@pytest.mark.parametrize("after", PRECISIONS)
@pytest.mark.parametrize("before", PRECISIONS)
def test_a_checkpoint_goes_on_in_any_precision_and_says_so(before, after, prepared):
    run, settings, cases = prepared
    trainers = [Trainer(run, settings, cases, Compute(torch.device("cpu"), dtype, "")) for dtype in (before, after)]
    if before == torch.float16:
        trainers[0].scaler.scale(torch.ones(()))
        trainers[0].scaler.update(1024.0)
    trainers[0].iteration = 3
    trainers[0].save()
    trainers[1].load()
    assert trainers[1].iteration == 3
    assert same(trainers[1].method.state_dict(), trainers[0].method.state_dict())
    said = [event["text"] for event in run.events() if event["event"] == "message"]
    names = [str(dtype).removeprefix("torch.") for dtype in (after, before)]
    assert said == ([] if before == after else [f"Going on with precision {names[0]} instead of {names[1]}: {REST}"])
    if before == after == torch.float16:
        assert trainers[1].scaler.get_scale() == 1024.0


REST = "the numbers may differ in their last digits from now on."


def test_a_run_begun_in_fp16_goes_on_without_a_gpu(tiny_data, tiny_settings, tmp_path):
    run, settings = RunFolder(tmp_path / "run"), tiny_settings("supervised", **{"training.iterations": 2})
    with run.begun({}):
        run.request_stop()
        session.start(run, settings, apply_splits(find_cases(tiny_data), f"{tiny_data / 'splits.json'}:demo"))
    content = read_json(run.settings_file)
    content["training"]["precision"] = "fp16"
    run.settings_file.write_text(json.dumps(content))
    resume(run.path, "cpu", quiet=True)
    assert run.status().state == "finished"
    assert any("fp16 needs a CUDA GPU" in event.get("text", "") for event in run.events())


# ---- more iterations ---------------------------------------------------------------------------------------


def test_a_finished_run_goes_on_with_more_iterations(tiny_data, tmp_path, capsys):
    run = RunFolder(tmp_path / "run")
    schedule = {"training.schedule": "step", "training.learning_rate": 0.01}
    assert main(command(tiny_data, run.path, iterations=2, settings=schedule)) == 0
    assert main(["--out", str(run.path), "--resume", "--quiet"]) == 2
    assert "add --iterations with a larger number" in capsys.readouterr().err
    assert main(["--out", str(run.path), "--resume", "--iterations", "2", "--quiet"]) == 2
    assert main(["--out", str(run.path), "--resume", "--iterations", "4", "--quiet"]) == 0
    assert (run.status().state, run.status().iteration) == ("finished", 4)
    assert load_model(run.last_model).card.iteration == 4
    assert read_json(run.settings_file)["training"]["iterations"] == 4
    iterations = [event["iteration"] for event in run.history() if event["event"] == "iteration"]
    assert iterations == [1, 2, 3, 4]
    (note,) = [event["text"] for event in run.events() if "stretched" in event.get("text", "")]
    # The step schedule drops at 2500/6000 and 5000/6000: 0.001 at 1/2, and again after 2/4; 0.001 at 3/4.
    assert "4 iterations instead of 2, 2 of them done" in note
    assert "was 0.001, goes on at 0.001 and ends at 0.001" in note


def test_stages_that_are_over_keep_their_length(tiny_settings):
    settings = tiny_settings("action", **{"training.iterations": 120, "training.schedule": "poly"})
    stages = {"global": 1.0, "local": 1.0, "anatomical": 2.0}
    assert stage_lengths(stages, 120) == {"global": 30, "local": 30, "anatomical": 60}
    lengthen(settings, stages, 120, 200)
    assert settings.training.iterations == 200
    assert settings.method_settings["shares"] == (30, 30, 140)
    assert step_at(119, 200, dict(zip(stages, (30, 30, 140), strict=True))).iteration == 59

    settings = tiny_settings("action", **{"training.iterations": 120})
    lengthen(settings, stages, 40, 210)  # within the second stage
    assert settings.method_settings["shares"] == (30, 60, 120)
    with pytest.raises(SemiSegError, match="too few for the stage 'local'"):
        lengthen(tiny_settings("action", **{"training.iterations": 120}), stages, 55, 60)
    with pytest.raises(SemiSegError, match="has done 120 iterations already"):
        lengthen(tiny_settings("action", **{"training.iterations": 120}), stages, 120, 100)


def test_a_constant_rate_is_said_to_stay(tiny_settings):
    settings = tiny_settings("bcp", **{"training.iterations": 120, "training.schedule": "poly"})
    settings.training.learning_rate = 0.01
    note = lengthen(settings, {"pre-training": 1.0, "self-training": 1.0}, 30, 240, ("pre-training",))
    assert "was 0.01, goes on at 0.01 and ends at" in note


def test_stages_that_come_with_the_length_are_said(tiny_settings):
    """Self-training of 3000 iterations has one stage, of 6000 two: 3600 and 2400."""
    settings = tiny_settings("self-training", **{"training.iterations": 3000, "training.schedule": "poly"})
    settings.training.learning_rate = 0.01
    note = session._lengthened(settings, 3000, 6000)
    assert f"goes on at {0.01 * (1 - 3000 / 3600) ** 0.9:.3g} and ends at {0.01 * (1 / 2400) ** 0.9:.3g}" in note
    assert settings.training.iterations == 6000


def test_stages_that_settings_cannot_say_are_not_made_longer(tiny_data, tmp_path, capsys):
    """Each network of two has as many iterations as the other: with the shares of three stages there were four."""
    run = RunFolder(tmp_path / "run")
    chosen = {"method_settings.shares": "1,1", "method_settings.members": "2"}
    assert main(command(tiny_data, run.path, "self-training", 3, chosen)) == 0
    before = read_json(run.settings_file)
    assert main(["--out", str(run.path), "--resume", "--iterations", "6", "--quiet"]) == 2
    assert "supervised, supervised 2, round 1" in capsys.readouterr().err
    assert read_json(run.settings_file) == before


@pytest.mark.parametrize(
    ("method", "names"), [("bcp", ("pre-training", "self-training")), ("unimatch", ("supervised", "weak to strong"))]
)
def test_a_finished_run_of_stages_goes_on_in_its_last(method, names, tiny_data, tmp_path):
    run = RunFolder(tmp_path / "run")
    assert main(command(tiny_data, run.path, method, 4, {"method_settings.shares": "1,1"})) == 0
    assert main(["--out", str(run.path), "--resume", "--iterations", "6", "--quiet"]) == 0
    stages = [(event["stage"], event["iteration"]) for event in run.events() if event["event"] == "stage"]
    assert stages == [(names[0], 0), (names[1], 2)]
    assert load_checkpoint(run.checkpoint)["iteration"] == 6


# ---- what is said ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (["--seed", "1"], "--seed"),
        (["--preset", "custom"], "--preset"),
        (["--labelled", "2"], "--labelled"),
        (["--validation", "1"], "--validation"),
        (["--init", "left-atrium"], "--init"),
        (["--method", "bcp", "--patch", "32,16,16"], "--method, --patch"),
        (["--set", "training.learning_rate=1"], "training.learning_rate"),
        (["--set", "training.iterations=many"], "training.iterations"),
    ],
)
def test_resume_refuses_what_it_would_ignore(given, named, pretrained, capsys):
    assert main(["--out", str(pretrained / "whole"), "--resume", *given]) == 2
    assert named in capsys.readouterr().err


def test_a_training_says_what_it_found_before_it_starts(tiny_data, tmp_path):
    run = RunFolder(tmp_path / "run")
    settings = build_settings(
        "mean-teacher", "left-atrium", overrides={**SETTINGS, **SMALL, "training.iterations": 150}
    )
    with run.begun({}):
        run.listeners.append(lambda event: run.request_stop() if event["event"] == "iteration" else None)
        cases = apply_splits(find_cases(tiny_data), f"{tiny_data / 'splits.json'}:demo")
        assert session.start(run, settings, cases) == "stopped"
    events = list(run.events())
    told = next(index for index, event in enumerate(events) if "found" in event)
    assert told < next(index for index, event in enumerate(events) if event["event"] == "iteration")
    found, text = events[told]["found"], events[told]["text"]
    assert (found["labelled"], found["unlabelled"], found["held_out"]) == (2, 3, ["atrium_006"])
    assert (found["layout"], found["classes"]) == ("images and labels", {"left atrium": 1})
    assert found["spacing"] == [3.75, 3.75, 5.0]
    assert 0 < found["expected_seconds"] < 150 * 60
    parts = ("6 cases", "2 labelled", "atrium_006", "1 left atrium", "3.75 x 3.75 x 5 mm", "150 iterations: ")
    for part in parts:
        assert part in text


def test_what_the_library_warns_of_is_an_event(tiny_data, tiny_settings, tmp_path):
    """One warning while the data folder is looked at, before the run exists; one while a scan is read."""
    data = tmp_path / "data"
    shutil.copytree(tiny_data, data)
    shutil.copy(data / "labels" / "atrium_001.nii.gz", data / "labels" / "nobody.nii.gz")
    scan = sitk.ReadImage(str(data / "images" / "atrium_003.nii.gz"), sitk.sitkFloat32)
    scan[1, 1, 1] = float("nan")
    sitk.WriteImage(scan, str(data / "images" / "atrium_003.nii.gz"))
    run = train(data, tmp_path / "run", tiny_settings("mean-teacher", **{"training.iterations": 1}), quiet=True)
    warnings = [event["text"] for event in run.events() if event.get("level") == "warning"]
    assert len([text for text in warnings if "nobody.nii.gz" in text]) == 1
    assert len([text for text in warnings if "atrium_003.nii.gz" in text and "NaN" in text]) == 1


def test_labels_can_be_named_on_the_command_line():
    settings = build_settings(overrides={"data.labels": "1:liver,2:left kidney"})
    assert [(label.value, label.name) for label in settings.data.labels] == [(1, "liver"), (2, "left kidney")]
    text = json.dumps([{"value": 3, "name": "a", "color": [1, 2, 3]}, {"value": 4, "name": "b"}])
    labels = build_settings(overrides={"data.labels": text}).data.labels
    assert labels[0] == Label(3, "a", (1, 2, 3))
    assert len({label.color for label in labels}) == 2


@pytest.mark.parametrize("wrong", ["liver", "1:", "x:liver", "[1]"])
def test_labels_that_are_none_are_told_how_to_be_written(wrong):
    with pytest.raises(SettingsError, match=r"data\.labels.*1:liver,2:tumour"):
        build_settings(overrides={"data.labels": wrong})


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.parametrize("module", ["predict", "evaluate"])
def test_ctrl_c_ends_a_command_without_a_traceback(module):
    """The signal comes while the command does its work, which here is waiting."""
    places = {"predict": ("SemiSegLib.predict._run", ["--model", "m", "--input", "i", "--output", "o"])}
    places["evaluate"] = ("SemiSegLib.evaluate.evaluate", ["--predictions", "p", "--references", "r"])
    target, arguments = places[module]
    code = f"""
import sys, time, SemiSegLib.{module} as command
def wait(*arguments, **named):
    print("ready", flush=True)
    time.sleep(60)
command.{target.rpartition(".")[2]} = wait
sys.exit(command.main(sys.argv[1:]))
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8"
    )
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (130, "interrupted\n")


# ---- no litter ---------------------------------------------------------------------------------------------


def test_a_failed_writing_leaves_the_old_file_and_nothing_else(tmp_path):
    file = tmp_path / "status.json"
    write_whole(file, "old")

    def half():
        with whole(file) as temporary:
            temporary.write_text("half of what is ne")
            raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space"):
        half()
    assert [(path.name, path.read_text(encoding="utf-8")) for path in tmp_path.iterdir()] == [("status.json", "old")]


def test_what_has_its_name_is_on_the_disk_already(tiny_data, tmp_path, monkeypatch):
    """Else a loss of power leaves names of files that are empty: masks, preprocessed scans, checkpoints."""
    settled, renamed, fsync, rename = set(), [], os.fsync, os.replace

    def settle(number):
        settled.add(os.fstat(number).st_ino)
        fsync(number)

    def replace(source, target):
        files = [file for file in (source, *source.rglob("*")) if file.is_file()]
        renamed.append((target.name, all(file.stat().st_ino in settled for file in files)))
        rename(source, target)

    monkeypatch.setattr(os, "fsync", settle)
    monkeypatch.setattr(os, "replace", replace)
    for kind in ("nii.gz", "nrrd", "mha"):
        write_mask(sitk.Image(4, 4, 4, sitk.sitkUInt8), tmp_path / f"mask.{kind}")
    assert main(command(tiny_data, tmp_path / "run", iterations=1)) == 0
    assert {"mask.nii.gz", "mask.nrrd", "mask.mha", "last.pt", "last.safetensors"} < {name for name, _ in renamed}
    assert [name for name, there in renamed if not there] == []


@pytest.mark.parametrize("moment", ["MAKING_A_CASE", "WRITING_A_MODEL"])
def test_what_a_killed_trainer_left_is_swept_at_the_next_start(moment, tiny_data, tmp_path):
    run = RunFolder(tmp_path / "run")
    dies_at(command(tiny_data, run.path, iterations=1), globals()[moment])
    litter = [*run.path.rglob("*.tmp"), *run.cache.glob(".making-*")]
    assert litter
    foreign = run.cache / ".making-another.host-123-abc"  # may be at work
    foreign.mkdir(parents=True)
    assert main(["--out", str(run.path), "--resume", "--quiet"]) == 0
    assert [*run.path.rglob("*.tmp"), *run.cache.glob(".making-*")] == [foreign]


def test_masks_that_a_killed_process_was_writing_are_swept(tmp_path):
    image = sitk.Image(4, 4, 4, sitk.sitkUInt8)
    code = f"""
import os, sys
from pathlib import Path
import SimpleITK as sitk
from SemiSegLib.data import nifti, writing
nifti.write = lambda array, geometry, path, like: (path.write_bytes(b"half"), os._exit(9))
writing.write_mask(sitk.Image(4, 4, 4, sitk.sitkUInt8), Path({str(tmp_path)!r}) / "a-b.nii.gz")
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 9
    (tmp_path / ".c~another.host-1.tmp.nii.gz").write_bytes(b"at work elsewhere")
    (tmp_path / f".d~{writer_mark()}.tmp.nii.gz").write_bytes(b"at work here")
    write_mask(image, tmp_path / "whole.nii.gz")
    assert len(list(tmp_path.iterdir())) == 4
    remove_unfinished(tmp_path)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [".c~another.host-1.tmp.nii.gz", f".d~{writer_mark()}.tmp.nii.gz", "whole.nii.gz"]


@pytest.mark.parametrize("count", ["-1", "0"])
def test_a_number_of_annotations_below_one_is_no_file(count, tiny_data, tmp_path, capsys):
    assert main([*command(tiny_data, tmp_path / "run"), "--labelled", count]) == 2
    assert "at least 1" in capsys.readouterr().err


def test_what_validation_takes_out_of_the_labelled_cases_is_said(tmp_path, capsys):
    data = make_dataset(tmp_path / "data", cases=4, labelled=3, validation=0, size=(32, 32, 16))
    run = RunFolder(tmp_path / "run")
    start = ["--data", str(data), "--method", "supervised", "--patch", "32,16,16", "--device", "cpu", "--quiet"]
    start += ["--iterations", "1", "--labelled", "2"]
    assert main([*start, "--out", str(run.path), "--validation", "1"]) == 0
    said = [event["text"] for event in run.events() if "--labelled" in event.get("text", "")]
    assert said == ["Of the 2 annotated cases of --labelled, --validation holds out 1 to measure with: 1 train."]
    assert main([*start, "--out", str(tmp_path / "other"), "--validation", "2"]) == 2
    assert "out of 2 annotated ones: some must train (where --labelled" in capsys.readouterr().err


def test_data_that_numbers_the_task_s_classes_otherwise_is_refused(tiny_data, tmp_path, capsys):
    """Its masks' 1 would be learnt as what the task calls 1."""
    shutil.copytree(tiny_data / "images", tmp_path / "data" / "images")
    shutil.copytree(tiny_data / "labels", tmp_path / "data" / "labels")
    names = {"labels": {"left ventricle": 1, "Myocardium": 2}}
    (tmp_path / "data" / "dataset.json").write_text(json.dumps(names), encoding="utf-8")
    command = ["--data", str(tmp_path / "data"), "--out", str(tmp_path / "run"), "--method", "supervised"]
    short = ["--preset", "cardiac-cine", "--iterations", "1", "--patch", "32,32", "--device", "cpu", "--quiet"]
    assert main([*command, *short]) == 2
    said = capsys.readouterr().err
    assert "left ventricle as 1, the task 'cardiac-cine' as 3" in said
    assert '--set "data.labels=1:left ventricle,2:Myocardium"' in said


def test_data_that_names_the_task_s_values_otherwise_is_warned_of(tiny_data, tmp_path):
    """LV may be what the task calls right ventricle, or an abbreviation of the same."""
    data, colour = tmp_path / "data", (1, 2, 3)
    shutil.copytree(tiny_data / "images", data / "images")
    names = [Label(1, "LV", colour), Label(2, "RV", colour), Label(3, "Left Ventricle", colour)]
    for file in (tiny_data / "labels").iterdir():
        write_mask(read_mask(file).image, data / "labels" / file.name.replace(".nii.gz", ".seg.nrrd"), names)
    run = RunFolder(tmp_path / "run")
    command = ["--data", str(data), "--out", str(run.path), "--method", "supervised", "--preset", "cardiac-cine"]
    assert main([*command, "--iterations", "1", "--patch", "32,32", "--device", "cpu", "--quiet"]) == 0
    warnings = [event["text"] for event in run.events() if event.get("level") == "warning"]
    (warning,) = [text for text in warnings if "in brackets" in text]
    assert "1 'LV' ('right ventricle'), 2 'RV' ('myocardium'), in brackets" in warning
    assert '--set "data.labels=1:LV,2:RV,3:Left Ventricle"' in warning


def test_a_segment_of_what_nobody_is_sure_of_is_no_class(tiny_data, tmp_path, capsys):
    data, unsure = tmp_path / "data", iter(["not sure", "ignore", "not sure"])
    shutil.copytree(tiny_data / "images", data / "images")
    for file in sorted((tiny_data / "labels").iterdir()):
        mask = read_mask(file).image
        mask[0:4, :, :] = 255
        labels = [Label(1, "left atrium", (1, 2, 3)), Label(255, next(unsure), (4, 5, 6))]
        write_mask(mask, data / "labels" / file.name.replace(".nii.gz", ".seg.nrrd"), labels)
    start = ["--data", str(data), "--method", "supervised", "--iterations", "1", "--patch", "32,16,16"]
    start += ["--device", "cpu", "--quiet", "--out"]
    assert main([*start, str(tmp_path / "run")]) == 0
    labels = read_json(RunFolder(tmp_path / "run").settings_file)["data"]["labels"]
    assert [(label["value"], label["name"]) for label in labels] == [(1, "left atrium")]
    for file in (data / "labels").iterdir():
        write_mask((read_mask(file).image == 255) * 255, file, [Label(255, "left atrium", (1, 2, 3))])
    assert main([*start, str(tmp_path / "other")]) == 2
    assert '--set "data.labels=255:NAME" --set data.ignore_value=254' in capsys.readouterr().err


def test_settings_in_another_encoding_are_named(tmp_path, capsys):
    (tmp_path / "settings.json").write_bytes('{"data.labels": "1:Größe"}'.encode("latin-1"))
    assert main(["--config", str(tmp_path / "settings.json"), "--list-settings"]) == 2
    assert f"{tmp_path / 'settings.json'} is not valid JSON" in capsys.readouterr().err


def test_where_the_scans_went_is_kept_and_what_changed_in_them_is_said(tiny_data, tmp_path, capsys):
    before, data = tmp_path / "before", tmp_path / "data"
    shutil.copytree(tiny_data, before)
    run = RunFolder(tmp_path / "run")
    assert main(command(before, run.path, iterations=1)) == 0
    before.rename(data)
    again = ["--out", str(run.path), "--resume", "--quiet", "--iterations"]
    assert main([*again, "2", "--data", str(data)]) == 0
    assert not [event for event in run.events() if "changed since" in event.get("text", "")]
    mask = data / "labels" / "atrium_002.nii.gz"
    mask.write_bytes((data / "labels" / "atrium_001.nii.gz").read_bytes())
    assert main([*again, "3"]) == 0
    (warning,) = [event for event in run.events() if "changed since" in event.get("text", "")]
    assert warning["level"] == "warning"
    assert "Scan or mask of atrium_002 changed" in warning["text"]


def test_scans_and_masks_that_are_links_are_found_and_the_same_when_it_goes_on(tiny_data, tmp_path):
    """As version control of data keeps them: links to files in a store whose names say nothing."""
    data, store = tmp_path / "data", tmp_path / "store"
    shutil.copytree(tiny_data, data)
    store.mkdir()
    for number, file in enumerate(sorted(data.glob("*/*.nii.gz"))):
        file.rename(store / str(number))
        try:
            file.symlink_to(store / str(number))
        except OSError:
            pytest.skip("this system makes no links")
    run = RunFolder(tmp_path / "run")
    assert main(command(data, run.path, iterations=1)) == 0
    shutil.rmtree(run.cache)
    moved = tmp_path / "moved"
    data.rename(moved)
    assert main(["--out", str(run.path), "--resume", "--quiet", "--iterations", "2", "--data", str(moved)]) == 0
    assert not [event["text"] for event in run.events() if event.get("level") == "warning"]


def test_a_scan_that_is_too_large_to_prepare_is_named(tiny_data, tmp_path, monkeypatch, capsys):
    from SemiSegLib.data import preprocess

    def to_network_grid(scan, settings):
        raise MemoryError("Unable to allocate 64. GiB for an array")

    monkeypatch.setattr(preprocess, "to_network_grid", to_network_grid)
    assert main(command(tiny_data, tmp_path / "run")) == 2
    scan = re.escape(str(tiny_data / "images"))
    assert re.search(rf"{scan}.*: memory does not suffice for this scan", capsys.readouterr().err)
    assert "memory does not suffice" in RunFolder(tmp_path / "run").status().message
