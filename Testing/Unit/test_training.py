"""Training runs as users meet them: stopped, killed, resumed, refused, with real processes and files."""

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch

from SemiSegLib.data.layouts import find_cases
from SemiSegLib.data.splits import apply_splits
from SemiSegLib.errors import SemiSegError
from SemiSegLib.models import load_model
from SemiSegLib.runs import RunError, RunFolder, read_json
from SemiSegLib.train import main, resume, train
from SemiSegLib.training.checkpoints import load_checkpoint


def demo_split(data):
    return f"{data / 'splits.json'}:demo"


def losses(run):
    return {e["iteration"]: (e["total"], e["losses"]) for e in run.history() if e["event"] == "iteration"}


@pytest.fixture(scope="module", params=["supervised", "mean-teacher", "simcvd"])
def finished(request, tiny_data, tmp_path_factory):
    """A finished run of each method, from the command line."""
    out = tmp_path_factory.mktemp(request.param) / "run"
    code = main(command(tiny_data, out, request.param))
    assert code == 0
    return RunFolder.open(out)


def command(data, out, method="simcvd", iterations=6):
    settings = {
        "training.precision": "fp32",
        "training.log_every": 1,
        "training.threads": 1,
        "training.validation_every": 3,
    }
    sets = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    return [
        *("--data", str(data), "--out", str(out), "--splits", demo_split(data), "--method", method),
        *("--preset", "left-atrium", "--spacing", "3.75,3.75,5", "--patch", "32,16,16"),
        *("--iterations", str(iterations), "--device", "cpu", "--quiet", *sets),
    ]


def test_a_run_tells_everything(finished):
    assert finished.status().state == "finished"
    states = [event["state"] for event in finished.history() if event["event"] == "state"]
    assert states == [
        "preparing",
        "training",
        "validating",
        "training",
        "validating",
        "training",
        "reporting",
        "finished",
    ]
    assert sorted(losses(finished)) == [1, 2, 3, 4, 5, 6]
    environment = read_json(finished.environment_file)
    assert environment["libraries"]["torch"] == torch.__version__
    assert "as asked for" in environment["reason"]
    cases = read_json(finished.cases_file)
    assert [case["name"] for case in cases["labelled"]] == ["atrium_001", "atrium_002"]
    assert all(case["label"] is None for case in cases["unlabelled"])
    assert cases["fingerprint"]["digest"]
    assert read_json(finished.settings_file)["training"]["seed"] == 1337
    assert {path.suffix for path in finished.report.iterdir() if path.is_file()} == {".png", ".json", ".txt", ".html"}
    assert [path.name for path in (finished.report / "cases").iterdir()] == ["atrium_006.png"]


def test_the_models_carry_what_prediction_needs(finished):
    card = load_model(finished.last_model).card
    assert card.settings.data.spacing == (3.75, 3.75, 5.0)
    assert card.iteration == 6
    assert load_model(finished.best_model).card.scores["dsc"] == finished.status().best_dsc


@pytest.mark.parametrize("method", ["mean-teacher", "simcvd"])
def test_a_resumed_run_equals_an_uninterrupted_one(method, tiny_data, tiny_settings, tmp_path):
    settings = tiny_settings(method)
    whole = train(tiny_data, tmp_path / "whole", settings, demo_split(tiny_data), quiet=True)
    part = RunFolder(tmp_path / "part")

    class StopAfterThree:
        def __call__(self, event):
            if event["event"] == "iteration" and event["iteration"] == 3:
                part.request_stop()

    settings = tiny_settings(method)
    from SemiSegLib.training import session

    part = RunFolder.create(part.path)
    part.listeners.append(StopAfterThree())
    cases = apply_splits(find_cases(tiny_data), demo_split(tiny_data))
    assert session.start(part, settings, cases) == "stopped"
    assert part.status().state == "stopped"
    assert 3 <= part.status().iteration <= 5
    resume(part.path, quiet=True)
    assert losses(part) == losses(whole)
    ours, theirs = (load_checkpoint(run.checkpoint)["method"] for run in (part, whole))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL is POSIX")
def test_a_killed_run_resumes_as_if_nothing_had_happened(tiny_data, tiny_settings, tmp_path):
    iterations = 24
    arguments = command(tiny_data, tmp_path / "killed", iterations=iterations)
    arguments += ["--set", "training.checkpoint_minutes=0.001"]
    process = subprocess.Popen([sys.executable, "-m", "SemiSegLib.train", *arguments])
    run = RunFolder(tmp_path / "killed")
    deadline = time.monotonic() + 120
    while not run.checkpoint.exists() or run.status().iteration < 4:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert run.status().state == "interrupted"
    assert load_checkpoint(run.checkpoint)["iteration"] < iterations
    assert main(["--out", str(run.path), "--resume", "--quiet"]) == 0
    whole = tmp_path / "whole"
    assert main(command(tiny_data, whole, iterations=iterations)) == 0
    assert losses(run) == losses(RunFolder(whole))
    assert not list(run.path.rglob("*.tmp"))


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_save_first(number, tiny_data, tmp_path):
    arguments = command(tiny_data, tmp_path / "run", iterations=100_000)
    process = subprocess.Popen([sys.executable, "-m", "SemiSegLib.train", *arguments])
    run = RunFolder(tmp_path / "run")
    deadline = time.monotonic() + 120
    while not run.status_file.exists() or run.status().iteration < 1:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(number)
    assert process.wait(60) == 0
    assert run.status().state == "stopped"
    assert load_checkpoint(run.checkpoint)["iteration"] == run.status().iteration


def test_masks_of_unlabelled_cases_are_never_read(tiny_data, tiny_settings, tmp_path):
    """Garbage in the files changes nothing: no error, no loss."""
    clean, garbage = tmp_path / "clean", tmp_path / "garbage"
    for folder in (clean, garbage):
        shutil.copytree(tiny_data, folder)
        for path in (folder / "held_out").iterdir():
            shutil.copy(path, folder / "labels" / path.name)
    for path in (garbage / "held_out").iterdir():
        (garbage / "labels" / path.name).write_bytes(b"not an image at all")
    runs = [
        train(folder, tmp_path / f"run-{folder.name}", tiny_settings(), demo_split(folder), quiet=True)
        for folder in (clean, garbage)
    ]
    assert losses(runs[0]) == losses(runs[1])


def test_two_trainers_cannot_share_a_run(tiny_data, tiny_settings, tmp_path):
    from SemiSegLib.training import session

    run = RunFolder.create(tmp_path / "run")
    cases = apply_splits(find_cases(tiny_data), demo_split(tiny_data))
    with RunFolder(run.path).lock(), pytest.raises(RunError, match="Another process"):
        session.start(run, tiny_settings(), cases)


def test_a_finished_run_is_not_resumed(finished):
    with pytest.raises(RunError, match="finished all its 6 iterations"):
        resume(finished.path, quiet=True)


def test_a_run_can_be_moved_with_its_scans(tiny_data, tiny_settings, tmp_path):
    from SemiSegLib.training import session

    data = tmp_path / "here" / "data"
    shutil.copytree(tiny_data, data)
    run = RunFolder.create(tmp_path / "here" / "run")
    run.request_stop()
    assert session.start(run, tiny_settings(), apply_splits(find_cases(data), demo_split(data))) == "stopped"
    (tmp_path / "here").rename(tmp_path / "there")
    moved = tmp_path / "there" / "run"
    with pytest.raises(RunError, match="--data NEW_FOLDER"):
        resume(moved, quiet=True)
    resume(moved, data=tmp_path / "there" / "data", quiet=True)
    assert RunFolder(moved).status().state == "finished"


def test_training_starts_from_a_model(finished, tiny_data, tiny_settings, tmp_path):
    settings = tiny_settings(
        **{"training.iterations": 1, "training.learning_rate": 1e-12, "training.weight_decay": 0.0}
    )
    run = train(tiny_data, tmp_path / "run", settings, demo_split(tiny_data), init=finished.path, quiet=True)
    before, after = (load_model(source).weights for source in (finished.path, run.last_model))
    name = "encoder.0.0.weight"
    torch.testing.assert_close(after[name], before[name])
    assert any("Starting from" in e["text"] for e in run.events() if e["event"] == "message")


def test_batches_can_be_computed_in_parts(tiny_data, tiny_settings, tmp_path):
    settings = tiny_settings(
        "supervised", **{"training.accumulation": 2, "training.iterations": 2, "training.patch_size": (32, 16, 16)}
    )
    run = train(tiny_data, tmp_path / "run", settings, demo_split(tiny_data), quiet=True)
    totals = [total for total, _ in losses(run).values()]
    assert len(totals) == 2
    assert None not in totals
    assert load_checkpoint(run.checkpoint)["parts"] == 2


def test_a_failed_run_says_why(tiny_data, tiny_settings, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(tiny_data, data)
    broken = data / "images" / "atrium_004.nii.gz"
    broken.write_bytes(b"cut off")
    with pytest.raises(SemiSegError, match="atrium_004"):
        train(data, tmp_path / "run", tiny_settings(), demo_split(data), quiet=True)
    status = RunFolder(tmp_path / "run").status()
    assert status.state == "failed"
    assert "atrium_004" in status.message


def test_a_loss_that_is_no_number_ends_the_run(tiny_data, tiny_settings, tmp_path):
    settings = tiny_settings(**{"training.learning_rate": 1e30})
    with pytest.raises(SemiSegError, match=r"no longer a number.*learning_rate"):
        train(tiny_data, tmp_path / "run", settings, demo_split(tiny_data), quiet=True)
    assert RunFolder(tmp_path / "run").status().state == "failed"


def test_a_broken_network_does_not_replace_the_checkpoint(tiny_data, tiny_settings, tmp_path):
    from SemiSegLib.compute.devices import choose_compute
    from SemiSegLib.errors import TrainingError
    from SemiSegLib.training.session import prepare_cases
    from SemiSegLib.training.trainer import Trainer

    run, settings = RunFolder.create(tmp_path / "run"), tiny_settings()
    cases = prepare_cases(run, settings, apply_splits(find_cases(tiny_data), demo_split(tiny_data)), lambda: False)
    trainer = Trainer(run, settings, cases, choose_compute("cpu", "fp32"))
    trainer.save()
    with torch.no_grad():
        trainer.method.student.mask_head.weight[0] = torch.nan
    with pytest.raises(TrainingError, match="no longer numbers"):
        trainer.save()
    assert all(value.isfinite().all() for value in load_checkpoint(run.checkpoint)["method"].values())
    assert all(value.isfinite().all() for value in load_model(run.last_model).weights.values())


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (["--data", "absent"], "absent"),
        (["--method", "simcvd", "--set", "method_settings.tau=1"], "temperature"),
        (["--splits", "absent.json:demo"], r"absent\.json"),
        (["--labelled", "50"], "50"),
        (["--device", "cuda:7"], "cuda:7"),
    ],
)
def test_wrong_commands_say_what_is_wrong(change, part, tiny_data, tmp_path, capsys):
    import re

    assert main([*command(tiny_data, tmp_path / "run"), *change]) == 2
    assert re.search(part, capsys.readouterr().err)


def test_one_annotated_case_and_no_others_is_enough_to_start(tiny_data, tiny_settings, tmp_path):
    data = tmp_path / "data"
    for folder in ("images", "labels"):
        (data / folder).mkdir(parents=True)
        shutil.copy(tiny_data / folder / "atrium_001.nii.gz", data / folder)
    run = train(data, tmp_path / "run", tiny_settings("mean-teacher", **{"training.iterations": 2}), quiet=True)
    assert run.status().state == "finished"
    assert "consistency" not in losses(run)[1][1]
