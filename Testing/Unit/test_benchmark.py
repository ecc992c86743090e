"""The benchmark command: real trainings on tiny scans, killed, resumed, repeated; tables checked by hand."""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from SemiSegLib import methods
from SemiSegLib.benchmark.__main__ import main
from SemiSegLib.benchmark.budgets import BUDGETS, SCALED
from SemiSegLib.benchmark.cells import Cell, Study, Variant
from SemiSegLib.benchmark.published import published, published_for
from SemiSegLib.benchmark.results import FORMAT, load, peak_memory, training_time
from SemiSegLib.benchmark.tables import class_table, groups, mean_and_sd, method_table, tables
from SemiSegLib.config import SettingsError
from SemiSegLib.metrics import inconsistency, summarise
from SemiSegLib.presets import build_settings
from SemiSegLib.runs import RunFolder, read_json, write_json
from SemiSegLib.synthetic import make_dataset
from SemiSegLib.training.checkpoints import load_checkpoint

GOOD = ("supervised", "secl:sampling=region")
NAMES = ("left-atrium-supervised-2-seed1", "left-atrium-secl-sampling-region-2-seed1")


def command(data, folder, chosen=GOOD, iterations=2, extra=()):
    settings = {
        "data.spacing": "3.75,3.75,5",
        "training.patch_size": "32,16,16",
        "training.iterations": iterations,
        "training.precision": "fp32",
        "training.log_every": 1,
        "training.checkpoint_minutes": 0.001,
    }
    sets = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    return [
        *("--data", str(data), "--splits", f"{data / 'splits.json'}:demo", "--dataset", "left-atrium"),
        *("--methods", *chosen, "--labelled", "2", "--seeds", "1", "--device", "cpu", "--threads", "1"),
        *("--out", str(folder / "runs"), "--results", str(folder / "results"), *sets, *extra),
    ]


def process(*arguments):
    return [sys.executable, "-m", "SemiSegLib.benchmark", *arguments]


@pytest.fixture(scope="module")
def measured(tiny_data, tmp_path_factory):
    """Two cells measured and one failed, side by side: the folder and what the command said."""
    folder = tmp_path_factory.mktemp("first")
    arguments = command(tiny_data, folder, (*GOOD, "supervised:inference.network=teacher"), extra=("--jobs", "2"))
    return folder, subprocess.run(process(*arguments), capture_output=True, encoding="utf-8", check=False)


# ---- cells as trainings ------------------------------------------------------------------------------------


def test_a_failed_cell_is_named_and_the_others_go_on(measured):
    folder, result = measured
    assert result.returncode == 1, result.stderr
    failed = "left-atrium-supervised-inference.network-teacher-2-seed1"
    assert f"error: {failed}: The setting 'inference.network' is teacher" in result.stderr
    assert sorted(file.stem for file in (folder / "results").glob("*.json")) == sorted(NAMES)
    assert all(RunFolder(folder / "runs" / name).status().state == "finished" for name in NAMES)


def test_a_variant_that_cannot_be_is_refused_before_the_first_training(tiny_data, tmp_path, capsys):
    assert main(command(tiny_data, tmp_path, ("supervised", "secl:sampling=nowhere"))) == 2
    assert "one of anatomical, region, none" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_a_cell_tells_everything_but_where_it_was_measured(measured):
    folder, _ = measured
    for name, variant in zip(NAMES, GOOD, strict=True):
        text = (folder / "results" / f"{name}.json").read_text(encoding="utf-8")
        assert str(folder) not in text
        cell = json.loads(text)
        assert (cell["dataset"], cell["split"], cell["labelled"], cell["seed"]) == ("left-atrium", "demo", 2, 1)
        assert (cell["variant"], cell["budget"]) == (variant, "lite")
        assert cell["cases"] == {"labelled": 2, "unlabelled": 3, "validation": 1}
        assert cell["settings"]["training"]["patch_size"] == [32, 16, 16]
        assert cell["environment"]["libraries"]["torch"]
        assert cell["training_seconds"] >= cell["median_seconds_per_iteration"] > 0
        assert 50e6 < cell["peak_memory_bytes"] < 50e9  # PyTorch alone takes more than 50 MB
        assert list(cell["validation"]["cases"]) == ["atrium_006"]


def test_the_same_seed_gives_the_same_numbers(measured, tiny_data, tmp_path):
    folder, _ = measured
    assert main(command(tiny_data, tmp_path)) == 0
    first, again = ([read_json(f / "results" / f"{name}.json") for name in NAMES] for f in (folder, tmp_path))
    assert [cell["validation"] for cell in again] == [cell["validation"] for cell in first]
    assert first[0]["validation"] != first[1]["validation"]


def test_finished_cells_are_skipped(measured, tiny_data, tmp_path, capsys):
    folder, _ = measured
    shutil.copytree(folder, tmp_path / "copy")
    folder = tmp_path / "copy"
    removed = folder / "results" / f"{NAMES[0]}.json"
    before = read_json(removed)
    removed.unlink()
    events = [RunFolder(folder / "runs" / name).events_file for name in NAMES]
    sizes = [file.stat().st_size for file in events]
    assert main(command(tiny_data, folder)) == 0
    said = capsys.readouterr().out
    assert f"{NAMES[0]}: had finished" in said
    assert f"{NAMES[1]}: measured already" in said
    assert [file.stat().st_size for file in events] == sizes
    assert read_json(removed) == before


def test_other_settings_are_not_taken_for_the_same_cell(measured, tiny_data, tmp_path, capsys):
    folder, _ = measured
    assert main(command(tiny_data, folder, iterations=3)) == 2
    assert "was measured with another training.iterations: name another --results" in capsys.readouterr().err
    elsewhere = ("--results", str(tmp_path))
    assert main(command(tiny_data, folder, iterations=3, extra=elsewhere)) == 2
    assert "was begun with other training.iterations: name another --out" in capsys.readouterr().err
    assert main(command(tiny_data, folder, extra=("--labelled", "4"))) == 2
    assert "4 labelled cases wanted" in capsys.readouterr().err


def test_other_scans_are_not_taken_for_the_same_cell(measured, tiny_data, tmp_path, capsys):
    """Their names and numbers may be the same."""
    folder = tmp_path / "copy"
    shutil.copytree(measured[0], folder)
    other = make_dataset(tmp_path / "data", cases=6, labelled=2, validation=1, size=(32, 32, 16), seed=5)
    assert main(command(other, folder)) == 2
    assert "was measured with another set of scans and masks: name another --results" in capsys.readouterr().err
    assert main(command(other, folder, extra=("--results", str(tmp_path / "results")))) == 2
    assert "was begun with other cases: name another --out" in capsys.readouterr().err
    for name in NAMES:  # as earlier versions wrote them
        file = folder / "results" / f"{name}.json"
        content = read_json(file)
        del content["digest"]
        write_json(file, content)
    assert main(command(tiny_data, folder)) == 0
    assert capsys.readouterr().out.count("measured already") == 2


def test_a_cell_whose_machine_broke_down_is_resumed(measured, tiny_data, tmp_path, capsys):
    """The status says that it is training, and nobody is left to say otherwise."""
    folder = tmp_path / "copy"
    shutil.copytree(measured[0], folder)
    run = RunFolder(folder / "runs" / NAMES[0])
    (folder / "results" / f"{NAMES[0]}.json").unlink()
    write_json(run.status_file, read_json(run.status_file) | {"state": "training", "host": "node7"})
    assert run.status().active
    assert main(command(tiny_data, folder)) == 0
    assert f"{NAMES[0]}: going on" in capsys.readouterr().out
    assert (folder / "results" / f"{NAMES[0]}.json").exists()


def test_the_table_is_rebuilt_from_the_cells_alone(measured, tmp_path, capsys):
    folder, result = measured
    for name in NAMES:
        shutil.copy(folder / "results" / f"{name}.json", tmp_path)
    assert main(["--results", str(tmp_path), "--table-only"]) == 0
    table = (tmp_path / "table.md").read_text(encoding="utf-8")
    assert table == (folder / "results" / "table.md").read_text(encoding="utf-8")
    assert table in capsys.readouterr().out
    assert table in result.stdout
    pictures = sorted(path.name for path in tmp_path.glob("*.png"))
    assert pictures == [f"left-atrium-demo-lite-{kind}.png" for kind in ("labelled", "time")]
    assert all((tmp_path / name).read_bytes()[:8] == b"\x89PNG\r\n\x1a\n" for name in pictures)


@contextmanager
def started(arguments, run, iteration):
    """The benchmark as a child process, its training at `iteration` with a checkpoint; killed at the end."""
    benchmark = subprocess.Popen(process(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8")
    try:
        deadline = time.monotonic() + 120
        while not (run.checkpoint.exists() and run.status().iteration >= iteration):
            assert benchmark.poll() is None, benchmark.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield benchmark
    finally:
        benchmark.kill()  # and with it its trainings, whatever failed above
        benchmark.communicate()


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL is POSIX")
def test_a_killed_cell_is_resumed(tiny_data, tmp_path):
    arguments = command(tiny_data, tmp_path, ["supervised"], iterations=20)
    run = RunFolder(tmp_path / "runs" / NAMES[0])
    with started(arguments, run, 2) as benchmark:
        os.kill(run.status().pid, signal.SIGKILL)
        _, errors = benchmark.communicate(timeout=60)
    assert benchmark.returncode == 1
    assert NAMES[0] in errors
    assert not (tmp_path / "results" / f"{NAMES[0]}.json").exists()
    reached = load_checkpoint(run.checkpoint)["iteration"]
    assert main(arguments) == 0
    assert [e["iteration"] for e in run.events() if e["event"] == "resumed"] == [reached]
    iterations = [event["iteration"] for event in run.history() if event["event"] == "iteration"]
    assert iterations == list(range(1, 21))


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL is POSIX")
def test_trainings_end_with_a_benchmark_that_is_killed(tiny_data, tmp_path):
    run = RunFolder(tmp_path / "runs" / NAMES[0])
    with started(command(tiny_data, tmp_path, ["supervised"], iterations=100_000), run, 2) as benchmark:
        trainer = psutil.Process(run.status().pid)
        benchmark.kill()
        benchmark.wait()
        assert psutil.wait_procs([trainer], timeout=60)[1] == []
    assert run.status().resumable
    assert not run.is_locked()
    assert load_checkpoint(run.checkpoint)["iteration"] == run.status().iteration


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_saves_the_trainings_first(number, tiny_data, tmp_path):
    run = RunFolder(tmp_path / "runs" / NAMES[0])
    with started(command(tiny_data, tmp_path, ["supervised"], iterations=100_000), run, 2) as benchmark:
        benchmark.send_signal(number)
        _, errors = benchmark.communicate(timeout=120)
    assert benchmark.returncode == 130
    assert "interrupted" in errors
    assert run.status().state == "stopped"
    assert not run.is_locked()
    assert load_checkpoint(run.checkpoint)["iteration"] == run.status().iteration


# ---- the command line --------------------------------------------------------------------------------------


def test_help_comes_without_heavy_imports():
    code = (
        "import sys; from SemiSegLib.benchmark.__main__ import parser; assert '--labelled' in parser().format_help()\n"
        "heavy = {'torch', 'numpy', 'matplotlib', 'SimpleITK', 'monai'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--methods", "secl:region"], "write METHOD:KEY=VALUE"),
        (["--methods", "magic"], "no method 'magic'"),
        (["--methods", "simcvd:magic=1"], "no setting 'magic'"),
        (["--set", "magic=1"], "no setting 'magic'"),
        (["--jobs", "0"], "--jobs"),
    ],
)
def test_wrong_input_is_refused_before_any_training(arguments, message, tiny_data, tmp_path, capsys):
    assert main([*command(tiny_data, tmp_path), *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("option", ["--out", "--results"])
def test_a_place_where_nothing_can_be_written_is_refused_before_any_training(option, tiny_data, tmp_path, capsys):
    (tmp_path / "file").write_text("x", encoding="utf-8")
    assert main([*command(tiny_data, tmp_path), option, str(tmp_path / "file" / "folder")]) == 2
    assert capsys.readouterr().err.startswith(f"error: {tmp_path / 'file'}")
    assert not list(tmp_path.rglob("run.json"))


def test_a_folder_without_cells_has_no_table(tmp_path, capsys):
    assert main(["--results", str(tmp_path), "--table-only"]) == 2
    assert "holds no cell" in capsys.readouterr().err
    (tmp_path / "other.json").write_text("{}")
    assert main(["--results", str(tmp_path), "--table-only"]) == 2
    assert "other.json is not a cell" in capsys.readouterr().err


def study(dataset, budget, tmp_path):
    return Study(tmp_path, dataset, None, budget, {}, "cpu", 1, None)


@pytest.mark.parametrize("dataset", list(BUDGETS["lite"]))
@pytest.mark.parametrize("budget", list(BUDGETS))
@pytest.mark.parametrize("method", methods.available())
def test_every_budget_is_valid_for_every_method(budget, dataset, method, tmp_path):
    settings = Cell(study(dataset, budget, tmp_path), 3, Variant(method), 7).settings()
    assert (settings.method, settings.preset, settings.training.seed) == (method, dataset, 7)
    own = {key: json.loads(value) for b, m, key, value, _ in SCALED if (b, m) == (budget, method)}
    own = {key: tuple(value) if isinstance(value, list) else value for key, value in own.items()}
    found = {f"training.{key}": value for key, value in vars(settings.training).items()}
    found |= {f"method_settings.{key}": value for key, value in settings.method_settings.items()}
    assert {key: found[key] for key in own} == own


def test_the_papers_protocols(tmp_path):
    atrium = Cell(study("left-atrium", "paper", tmp_path), 8, Variant("simcvd"), 1).settings()
    assert atrium.data.spacing == (0.625, 0.625, 0.625)
    assert atrium.training.patch_size == (112, 112, 80)
    assert atrium.training.iterations == 6000
    assert atrium.inference.stride == (18, 18, 4)
    assert not atrium.inference.largest_component
    assert atrium.method_settings["ema_decay"] == 0.999
    assert atrium.training.weight_decay == 5e-4
    cardiac = Cell(study("cardiac-cine", "paper", tmp_path), 3, Variant("action"), 1).settings()
    assert cardiac.data.normalisation == "unit"
    assert cardiac.training.patch_size == (256, 256)
    assert (cardiac.training.labelled_batch, cardiac.training.unlabelled_batch) == (12, 12)
    assert (cardiac.training.iterations, cardiac.training.schedule) == (30000, "poly")


def test_variants_are_named_and_have_the_last_word(tmp_path):
    variant = Variant.parse("secl:sampling=region:training.iterations=9")
    assert variant.name == "secl (sampling=region, training.iterations=9)"
    assert variant.slug == "secl-sampling-region-training.iterations-9"
    assert Variant.parse(variant.text) == variant
    settings = Cell(study("left-atrium", "lite", tmp_path), 8, variant, 1).settings()
    assert (settings.method_settings["sampling"], settings.training.iterations) == ("region", 9)
    with pytest.raises(SettingsError):
        Variant.parse("secl:=3")


# ---- what is kept of a run ---------------------------------------------------------------------------------


def test_time_and_memory_of_a_run_that_was_resumed(tmp_path):
    run = RunFolder.create(tmp_path / "run")

    def iteration(number, seconds):
        run.event("iteration", iteration=number, seconds_per_iteration=seconds)

    iteration(1, 5.0)
    iteration(10, 2.0)
    run.event("checkpoint", iteration=10, peak_memory=900, peak_device_memory=50)
    iteration(20, 7.0)  # lost
    run.event("resumed", iteration=10)
    iteration(20, 1.0)
    run.event("checkpoint", iteration=20, peak_memory=700, peak_device_memory=60)
    assert training_time(run) == {"training_seconds": 5.0 + 9 * 2.0 + 10 * 1.0, "median_seconds_per_iteration": 2.0}
    assert peak_memory(run) == {"peak_memory_bytes": 900, "peak_device_memory_bytes": 60}


# ---- tables ------------------------------------------------------------------------------------------------


def made_up(variant, seed, dsc, settings=None, labelled=3, **extra):
    """A cell with one validation case; `dsc` is one number, or one for each class, of which None is undefined."""
    values = dsc if isinstance(dsc, dict) else {"left atrium": dsc}
    scores = {
        name: {
            "dsc": math.nan if value is None else value,
            "jaccard": math.nan if value is None else value / (2 - value),
            **{key: math.nan if value is None else 2.0 for key in ("hd95_mm", "assd_mm", "hd95_voxel", "asd_voxel")},
        }
        for name, value in values.items()
    }
    overrides = {
        "training.patch_size": (32, 16, 16),
        "data.labels": [{"value": i, "name": name, "color": (0, 0, 0)} for i, name in enumerate(values, start=1)],
    }
    method = variant.partition(":")[0]
    complete = build_settings(method, "left-atrium", overrides={**overrides, **(settings or {})}).to_dict()
    cell = {
        "format": FORMAT,
        "dataset": "left-atrium",
        "split": "demo",
        "budget": "lite",
        "labelled": labelled,
        "variant": variant,
        "seed": seed,
        "method": method,
        "cases": {"labelled": labelled, "unlabelled": 5, "validation": 1},
        "settings": complete,
        "environment": {},
        "training_seconds": 90.0,
        "median_seconds_per_iteration": 0.1,
        "peak_memory_bytes": 2_500_000_000,
        "peak_device_memory_bytes": None,
        "validation": {"cases": {"one": scores}, "summary": summarise([scores])},
    }
    return json.loads(json.dumps({**cell, **extra}).replace("NaN", "null"))


def lines(table):
    return [[part.strip() for part in line.strip("|").split("|")] for line in table.splitlines()]


def test_mean_and_sd_by_hand():
    assert mean_and_sd([80.0, 90.0]) == "85.00 ± 7.07"  # sqrt((5^2 + 5^2) / 1)
    assert mean_and_sd([0.1, 0.2, 0.6], 100) == "30.00 ± 26.46"  # sqrt((400 + 100 + 900) / 2)
    assert mean_and_sd([4.0, math.nan]) == "4.00"
    assert mean_and_sd([math.nan]) == "–"


def test_the_table_by_hand():
    cells = [
        made_up("simcvd", 1, 0.90),
        made_up("simcvd", 2, 0.80, peak_device_memory_bytes=1_200_000_000),
        made_up("supervised", 1, 0.84),
        made_up("supervised", 2, 0.76),
        made_up("supervised", 3, 0.20),
    ]
    ((group, rows),) = groups(cells).items()
    assert (group.labelled, group.split) == (3, "demo")
    header, _, first, second = lines(method_table(rows))
    assert header[0] == "method"
    assert header[5] == "DSC − supervised"
    assert first[:2] == ["supervised", "60.00 ± 34.87"]  # sqrt((24^2 + 16^2 + 40^2) / 2)
    assert first[5:] == ["–", "1.5", "2.50", "1, 2, 3"]
    # Jaccard 0.9 / 1.1 and 0.8 / 1.2; the gain over the seeds in common: (6 + 4) / 2.
    assert second == [
        "simcvd",
        "85.00 ± 7.07",
        "74.24 ± 10.71",
        "2.00 ± 0.00",
        "2.00 ± 0.00",
        "+5.00",
        "1.5",
        "1.85",
        "1, 2",
    ]


def test_without_plain_supervised_training_its_first_variant_is_compared_with():
    cells = [made_up("unimatch", 1, 0.8), made_up("supervised:fill=true", 1, 0.7)]
    (rows,) = groups(cells).values()
    assert [row[5] for row in lines(method_table(rows))[2:]] == ["–", "+10.00"]


def test_several_classes_are_averaged_without_the_undefined():
    cells = [
        made_up("supervised", 1, {"a": 0.5, "b": 0.7}),
        made_up("supervised", 2, {"a": 0.9, "b": None}),
    ]
    (rows,) = groups(cells).values()
    assert lines(method_table(rows))[2][1] == "75.00 ± 21.21 (1 undefined)"  # of 60 and 90
    assert lines(class_table(rows, ["a", "b"]))[2] == ["supervised", "70.00 ± 28.28", "70.00"]
    assert "DSC [%] of each class" in tables(cells)


def test_methods_have_their_order_and_counts_their_sections():
    chosen = ("simcvd", "secl:sampling=region", "mean-teacher", "secl", "supervised")
    text = tables([made_up(variant, 1, 0.5, labelled=count) for variant in chosen for count in (16, 8)])
    names = [row[0] for row in lines(text) if row[-1] == "1"]
    assert names == 2 * ["supervised", "mean-teacher", "secl", "secl (sampling=region)", "simcvd"]
    assert text.index("8 labelled") < text.index("16 labelled")


def test_cells_that_differ_in_more_than_the_seed_are_not_averaged():
    cells = [made_up("simcvd", 1, 0.9), made_up("simcvd", 2, 0.8, {"training.iterations": 9})]
    (rows,) = groups(cells).values()
    assert sorted(row.name for row in rows) == ["simcvd [training.iterations=6000]", "simcvd [training.iterations=9]"]
    older = made_up("simcvd", 3, 0.7)
    del older["settings"]["training"]["rotation_angle"]  # a setting that an earlier version did not have
    older["settings"]["training"]["threads"] = 5
    (rows,) = groups([cells[0], older]).values()
    assert [row.seeds() for row in rows] == [[1, 3]]


@pytest.mark.parametrize("folder", ["results", "results-strong"])
def test_the_measured_cells_give_the_table_beside_them(folder):
    results = Path(__file__).resolve().parents[1] / "Benchmarks" / folder
    assert (results / "table.md").read_text(encoding="utf-8") == tables(load(results))


def test_the_facts_above_a_table_hold_for_all_its_rows():
    usual = [made_up("supervised", 1, 0.5), made_up("simcvd", 1, 0.5)]
    larger = made_up("supervised:training.labelled_batch=4", 1, 0.6, {"training.labelled_batch": 4})
    assert "where a row does not name others" not in tables(usual)
    text = tables([*usual, larger])
    assert "iterations of 2 + 2 patches" in text
    assert "where a row does not name others" in text


def test_cells_without_validation_cases_have_no_scores():
    text = tables([made_up("supervised", 1, 0.5), made_up("simcvd", 1, 0.5, validation=None)])
    row = next(row for row in lines(text) if row[0] == "simcvd")
    assert row[1:] == ["–", "–", "–", "–", "–", "1.5", "2.50", "1"]


def test_published_figures_are_consistent_and_have_sources():
    for entry in published():
        assert entry.source.reference
        assert entry.source.protocol
        if entry.jaccard is not None:
            assert inconsistency(entry.dsc / 100, entry.jaccard / 100, 1e-4) is None, entry
    assert not [entry for entry in published() if "CVRL" in entry.method]
    text = tables([made_up("supervised", 1, 0.5, labelled=8)], published=True)
    assert "| SimCVD | 89.03 | 80.34 | 2.59 | 8.34 | SimCVD |" in text
    assert "* SimCVD: You et al., IEEE TMI" in text
    assert {entry.labelled for entry in published() if entry.dataset == "cardiac-cine"} == {3, 7}
    assert not published_for("pancreas", 8)
    assert len(published()) == len({(e.source, e.dataset, e.labelled, e.method) for e in published()}) == 79


def test_without_a_task_it_is_one_of_one_s_own(tmp_path, capsys):
    """As for `semiseg train`, and as the README's command has it."""
    wanted = ["--methods", "supervised", "--labelled", "2", "--out", str(tmp_path / "runs")]
    assert main(["--data", str(tmp_path / "scans"), *wanted, "--results", str(tmp_path / "results")]) == 2
    assert capsys.readouterr().err == f"error: {tmp_path / 'scans'}: no such file or folder\n"
