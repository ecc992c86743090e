"""Training and prediction on several processes, as torchrun starts them, on this machine's CPU."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import ranks
import SimpleITK as sitk
import torch

from SemiSegLib.runs import RunFolder
from SemiSegLib.train import resume
from SemiSegLib.training.checkpoints import load_checkpoint

FOUR = {"labelled_batch": 4, "unlabelled_batch": 4}  # two patches each, enough for batch statistics of their own
HERE = Path(__file__).parent
BATCH = {  # batch statistics are what several processes must agree on
    "network.normalisation": "batch",
    "network.dropout": 1.0,
    "network.deep_supervision": False,
    "training.learning_rate": 0.01,
}
STRONG = ("--patch", "32,32,32", "--set=network.normalisation=instance", "--set=network.deep_supervision=true")
PAPERS = ("supervised", "mean-teacher", "simcvd")  # compared with one process
OTHERS = {
    "ua-mt": {"passes": 2},
    "bcp": {},
    "cvrl": {"voxels": 64},
    "secl": {"bank": 8, "warm_up": 0.5, "confidence": 0.5, "dense": 4},
    "action": {"queries": 16, "negatives": 16, "keys": 16, "bank": 8},
}


def torchrun(*arguments, count=2):
    """The command that starts `count` processes."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={count}"]
    return [*launcher, *map(str, arguments)]


def environment():
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def arguments(data, out, method, iterations, method_settings=None, **training):
    values = {
        "precision": "fp32",
        "log_every": 1,
        "threads": 1,
        "validation_every": 1000,
        **training,
    }
    settings = BATCH | {f"training.{name}": value for name, value in values.items()}
    settings |= {f"method_settings.{name}": value for name, value in (method_settings or {}).items()}
    settings["data.cache"] = data.parent / "cache"
    return [
        *("--data", str(data), "--out", str(out), "--splits", f"{data / 'splits.json'}:demo", "--method", method),
        *("--preset", "left-atrium", "--spacing", "3.75,3.75,5", "--patch", "16,16,16", "--device", "cpu", "--quiet"),
        *("--iterations", str(iterations)),
        *(part for key, value in settings.items() for part in ("--set", f"{key}={value}")),
    ]


def paper_settings(method):
    return {"pool": 32, "hidden": 64} if method == "simcvd" else {}


def job(program, values, **more):
    return {"program": program, "arguments": values, **more}


@pytest.fixture(scope="module")
def alone(tiny_data, tmp_path_factory):
    """Runs of one process: those to compare with, and one that was stopped after three of eight iterations."""
    folder = tmp_path_factory.mktemp("alone")
    for method in PAPERS:
        values = arguments(tiny_data, folder / method, method, 20, paper_settings(method))
        assert ranks.Job("train", values, "frozen").run()["code"] == 0
    values = arguments(tiny_data, folder / "double", "mean-teacher", 4, **FOUR)
    assert ranks.Job("train", values, "double").run()["code"] == 0
    values = [*arguments(tiny_data, folder / "strong", "mean-teacher", 4, **FOUR), *STRONG]
    assert ranks.Job("train", values, "double").run()["code"] == 0
    values = arguments(tiny_data, folder / "stopped", "mean-teacher", 8)
    assert ranks.Job("train", values, "frozen", 3).run()["code"] == 0
    return folder


def two_processes(folder, jobs):
    """The outcomes of both processes by job."""
    (folder / "jobs.json").write_text(json.dumps(list(jobs.values())))
    subprocess.run(torchrun(HERE / "ranks.py", folder), check=True, env=environment(), timeout=600)
    each = [json.loads((folder / f"{rank}.json").read_text(encoding="utf-8")) for rank in (0, 1)]
    return dict(zip(jobs, zip(*each, strict=True), strict=True))


@pytest.fixture(scope="module")
def together(tiny_data, alone, tmp_path_factory):
    """(folder, outcomes of both processes by job): everything that two processes do in these tests."""
    folder = tmp_path_factory.mktemp("together")
    shutil.copytree(alone / "stopped", folder / "resumed")
    broken = folder / "scans"
    shutil.copytree(tiny_data / "images", broken)
    scans = sorted(path for path in broken.iterdir())
    scans[1].write_bytes(scans[1].read_bytes()[:500])
    model = ("--model", str(alone / "double"), "--format", "nrrd")
    jobs = {
        **{
            method: job(
                "train", arguments(tiny_data, folder / method, method, 20, paper_settings(method)), pin="frozen"
            )
            for method in PAPERS
        },
        "double": job("train", arguments(tiny_data, folder / "double", "mean-teacher", 4, **FOUR), pin="double"),
        "strong": job(
            "train", [*arguments(tiny_data, folder / "strong", "mean-teacher", 4, **FOUR), *STRONG], pin="double"
        ),
        **{
            method: job("train", arguments(tiny_data, folder / method, method, 4, own, sync_batchnorm=False, **FOUR))
            for method, own in OTHERS.items()
        },
        "parts": job("train", arguments(tiny_data, folder / "parts", "mean-teacher", 2, accumulation=2, **FOUR)),
        "stopped": job(
            "train", arguments(tiny_data, folder / "stopped", "mean-teacher", 8), pin="frozen", stop_after=3
        ),
        "resumed": job("train", ["--out", str(folder / "resumed"), "--resume", "--quiet"], pin="frozen"),
        "predict": job("predict", [*model, "--input", str(tiny_data), "--output", str(folder / "masks")]),
        "broken": job("predict", [*model, "--input", str(broken), "--output", str(folder / "broken")]),
        "odd": job("train", arguments(tiny_data, folder / "odd", "mean-teacher", 2, unlabelled_batch=3)),
        "pairs": job("train", arguments(tiny_data, folder / "pairs", "bcp", 2)),
    }
    return folder, two_processes(folder, jobs)


@pytest.mark.parametrize("method", PAPERS)
def test_losses_are_those_of_one_process(method, alone, together):
    ours, theirs = ranks.totals(together[0] / method), ranks.totals(alone / method)
    assert len(ours) == 20
    assert np.ptp(theirs) > 1e-2  # the weights matter
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4)


@pytest.mark.parametrize("run", ["double", "strong"])
def test_batch_statistics_and_our_own_network_are_those_of_one_process(run, alone, together):
    # In double precision: the first layers' rounding errors grow tenfold with each of these tiny iterations.
    ours, theirs = ranks.totals(together[0] / run), ranks.totals(alone / run)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6)
    mine, its = (load_checkpoint(path / run / "checkpoints/last.pt")["method"] for path in (together[0], alone))
    for name in its:
        np.testing.assert_allclose(mine[name], its[name], rtol=0, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("method", [*PAPERS, *OTHERS, "parts"])
def test_all_processes_end_with_the_same_state(method, together):
    first, second = together[1][method]
    assert first["code"] == second["code"] == 0
    assert first["digest"] == second["digest"]
    assert RunFolder.open(together[0] / method).status().state == "finished"


@pytest.mark.parametrize(("method", "bank"), [("action", "bank"), ("action", "local_bank")])
def test_banks_hold_the_patches_of_all_processes(method, bank, together):
    state = load_checkpoint(together[0] / method / "checkpoints/last.pt")["method"]
    per_iteration = 8  # all patches of the global batch
    assert int(state[f"{bank}.pushed"]) % per_iteration == 0
    entries = state[f"{bank}.entries"].flatten(1)
    assert len(entries.unique(dim=0)) == len(entries)  # no patch was pushed by both


def test_only_one_process_writes_the_run(together):
    for method in PAPERS:
        events = list(RunFolder.open(together[0] / method).events())
        assert [event["iteration"] for event in events if event["event"] == "iteration"] == list(range(1, 21))
        assert [event["state"] for event in events if event["event"] == "state"].count("training") == 2


def test_a_stop_is_agreed_upon_and_one_process_goes_on(alone, together):
    folder, outcomes = together
    first, second = outcomes["stopped"]
    assert first["iteration"] == second["iteration"] == 3
    assert RunFolder.open(folder / "stopped").status().state == "stopped"
    assert ranks.Job("train", ["--out", str(folder / "stopped"), "--resume", "--quiet"], "frozen").run()["code"] == 0
    expected = ranks.totals(alone / "mean-teacher")[:2]  # the ramp depends on the number of iterations later on
    np.testing.assert_allclose(ranks.totals(folder / "stopped")[:2], expected, atol=1e-3)
    np.testing.assert_allclose(ranks.totals(folder / "stopped"), ranks.totals(folder / "resumed"), atol=1e-4)
    assert len(ranks.totals(folder / "resumed")) == 8


@pytest.mark.parametrize(("name", "setting"), [("odd", "training.unlabelled_batch"), ("pairs", "labelled_batch")])
def test_a_batch_that_cannot_be_divided_is_refused(name, setting, together):
    folder, outcomes = together
    assert [outcome["code"] for outcome in outcomes[name]] == [2, 2]
    status = RunFolder.open(folder / name).status()
    assert status.state == "failed"
    assert setting in status.message


def test_processes_divide_the_scans_that_they_label(tiny_data, tmp_path):
    """Each is written once: nobody draws patches of labels that another process is still writing."""
    own = {"members": 2, "shares": "1,1"}
    values = arguments(tiny_data, tmp_path / "run", "self-training", 6, own, sync_batchnorm=False, **FOUR)
    first, second = two_processes(tmp_path, {"run": job("train", values)})["run"]
    assert first["digest"] == second["digest"]
    unlabelled = [case["name"] for case in json.loads((tmp_path / "run" / "cases.json").read_text())["unlabelled"]]
    assert sorted(first["labelled"] + second["labelled"]) == sorted(unlabelled)
    assert {path.stem for path in (tmp_path / "run" / "labels" / "round-1").glob("*.npy")} == set(unlabelled)


def test_prediction_divides_the_scans(alone, together, tiny_data, tmp_path):
    from SemiSegLib.predict import predict

    folder, outcomes = together
    assert [outcome["code"] for outcome in outcomes["predict"]] == [0, 0]
    done = list(predict(alone / "double", tiny_data, tmp_path, "nrrd", device="cpu"))
    assert sorted(path.name for path in (folder / "masks").iterdir()) == sorted(
        path.name for path in tmp_path.iterdir()
    )
    for case in done:
        ours = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "masks" / case.mask.name)))
        assert np.array_equal(ours, sitk.GetArrayFromImage(sitk.ReadImage(str(case.mask))))


def test_a_scan_that_cannot_be_read_fails_its_process(together):
    folder, outcomes = together
    assert [outcome["code"] for outcome in outcomes["broken"]] == [0, 3]
    assert len(list((folder / "broken").glob("*.nrrd"))) == len(list((folder / "scans").iterdir())) - 1


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL is POSIX")
def test_one_of_four_processes_killed_ends_the_run_and_one_process_resumes_it(tiny_data, tmp_path):
    iterations, out = 20, tmp_path / "killed"
    batch = {"labelled_batch": 4, "unlabelled_batch": 4}
    values = arguments(tiny_data, out, "mean-teacher", iterations, checkpoint_minutes=0.001, **batch)
    run = RunFolder(out)
    command = torchrun("-m", "SemiSegLib.train", *values, count=4)
    launcher = subprocess.Popen(command, env=environment(), stderr=subprocess.PIPE)
    deadline = time.monotonic() + 400
    try:
        while not run.checkpoint.exists() or run.status().iteration < 3:
            assert launcher.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        other = next(pid for pid in children(launcher.pid) if pid != run.status().pid)
        os.kill(other, signal.SIGKILL)
        assert launcher.wait(timeout=200) != 0
    finally:
        launcher.terminate()  # it ends its processes
        launcher.stderr.close()
    status = run.status()
    assert status.resumable
    assert not status.active
    assert 0 < load_checkpoint(run.checkpoint)["iteration"] < iterations
    resume(out, quiet=True)
    assert run.status().state == "finished"
    assert len(ranks.totals(out)) == iterations


def children(pid):
    """Process ids of the direct children of a process."""
    listing = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, encoding="utf-8", check=True).stdout
    return [int(mine) for mine, parent in re.findall(r"(\d+)\s+(\d+)", listing) if int(parent) == pid]


def test_contrast_takes_in_the_rows_of_all_processes(tmp_path):
    rows, keys = torch.randn(2, 6, 8, generator=torch.Generator().manual_seed(0))
    total, gradient = ranks.contrasts(rows, keys)
    parts = [(rows[:3], keys[:3]), (rows[3:], keys[3:])]
    torch.multiprocessing.spawn(ranks.contrast_of_a_rank, (tmp_path, parts), nprocs=2)
    found = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    for value, _ in found:
        torch.testing.assert_close(value, total)
    torch.testing.assert_close(torch.cat([own for _, own in found]), gradient)
