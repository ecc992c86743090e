"""The method that is taken where nobody names one, and trainings without scans that nobody annotated."""

from dataclasses import replace

import pytest

from SemiSegLib import methods
from SemiSegLib.compute.devices import choose_compute
from SemiSegLib.config import DEFAULT_METHOD, Settings
from SemiSegLib.data.layouts import find_cases
from SemiSegLib.data.splits import apply_splits
from SemiSegLib.presets import build_settings
from SemiSegLib.runs import RunFolder, read_json
from SemiSegLib.synthetic import make_dataset
from SemiSegLib.train import main
from SemiSegLib.training.session import prepare_cases
from SemiSegLib.training.trainer import Trainer

TINY = (
    *("--preset", "left-atrium", "--spacing", "4,4,4", "--patch", "32,16,16", "--iterations", "4", "--quiet"),
    *("--set", "training.threads=1", "--set", "training.precision=fp32", "--set", "training.validation_every=4"),
)


def test_one_method_is_the_default_everywhere():
    assert Settings().method == build_settings().method == DEFAULT_METHOD


def test_without_scans_to_label_the_whole_batch_is_annotated(tmp_path):
    """A round has nothing to label then: it is supervised training, and no patch's place stays empty."""
    data = make_dataset(tmp_path / "data", cases=3, labelled=2, validation=1, size=(32, 32, 16))
    assert (
        main(["--data", str(data), "--out", str(tmp_path / "run"), "--splits", f"{data}/splits.json:demo", *TINY]) == 0
    )
    run = RunFolder(tmp_path / "run")
    assert run.status().state == "finished"
    assert read_json(run.path / "settings.json")["method"] == DEFAULT_METHOD
    losses = [event["losses"] for event in run.events() if event["event"] == "iteration"]
    assert losses
    assert all(set(terms) == {"supervised"} for terms in losses)


@pytest.mark.parametrize("method", methods.available())
def test_without_unlabelled_scans_annotated_patches_take_their_places(method, tiny_data, tiny_settings, tmp_path):
    settings = tiny_settings(method, **{"training.labelled_batch": 2, "training.unlabelled_batch": 2})
    settings.data.cache = str(tmp_path / "cache")
    run = RunFolder.create(tmp_path / "run")
    cases = apply_splits(find_cases(tiny_data), f"{tiny_data / 'splits.json'}:demo")
    prepared = prepare_cases(run, settings, replace(cases, unlabelled=()), lambda: False)
    trainer = Trainer(run, settings, prepared, choose_compute("cpu", "fp32"))
    batch = trainer.sampler.draw(0)
    asks = method != "supervised" or settings.method_settings.get("fill", False)
    assert (len(batch.labelled), len(batch.unlabelled)) == (4 if asks else 2, 0)
    trainer.step(batch)


@pytest.mark.parametrize(("shares", "said"), [("none", True), ("3,1", False)])
def test_a_training_too_short_for_unlabelled_scans_says_so(tmp_path, shares, said):
    data = make_dataset(tmp_path / "data", cases=4, labelled=2, validation=1, size=(32, 32, 16))
    arguments = [
        "--data",
        str(data),
        "--out",
        str(tmp_path / "run"),
        "--labelled",
        "2",
        "--method",
        "self-training",
        *TINY,
    ]
    assert main([*arguments, "--set", f"method_settings.shares={shares}"]) == 0
    texts = [event["text"] for event in RunFolder(tmp_path / "run").history() if event["event"] == "message"]
    assert any("are not learnt from" in text for text in texts) == said


def test_a_correction_round_is_short_and_gentle(capsys):
    def shown(*arguments):
        assert main(["--preset", "left-atrium", "--list-settings", *arguments]) == 0
        lines = (line.split(" = ") for line in capsys.readouterr().out.splitlines() if " = " in line)
        return {name: value.partition("  (")[0] for name, value in lines}

    usual = shown()
    assert (usual["training.minutes"], usual["training.learning_rate"]) == ("60.0", "0.05")
    round_ = shown("--correction", "--init", "left-atrium-lge")
    assert float(round_["training.minutes"]) == 5
    assert float(round_["training.learning_rate"]) == pytest.approx(0.02)
    named = shown("--correction", "--init", "left-atrium-lge", "--time", "10m", "--set", "training.learning_rate=0.03")
    assert (float(named["training.minutes"]), float(named["training.learning_rate"])) == (10, 0.03)
    assert main(["--correction", "--list-settings"]) == 2
    assert "--init MODEL" in capsys.readouterr().err
