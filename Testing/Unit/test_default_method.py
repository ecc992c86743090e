"""The method that is taken where nobody names one, with and without scans that nobody annotated."""

import pytest

from SemiSegLib.config import DEFAULT_METHOD, Settings
from SemiSegLib.presets import build_settings
from SemiSegLib.runs import RunFolder, read_json
from SemiSegLib.synthetic import make_dataset
from SemiSegLib.train import main

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


@pytest.mark.parametrize(("shares", "said"), [("none", True), ("3,1", False)])
def test_a_training_too_short_for_unlabelled_scans_says_so(tmp_path, shares, said):
    data = make_dataset(tmp_path / "data", cases=4, labelled=2, validation=1, size=(32, 32, 16))
    arguments = ["--data", str(data), "--out", str(tmp_path / "run"), "--labelled", "2", *TINY]
    assert main([*arguments, "--set", f"method_settings.shares={shares}"]) == 0
    texts = [event["text"] for event in RunFolder(tmp_path / "run").history() if event["event"] == "message"]
    assert any("are not learnt from" in text for text in texts) == said
