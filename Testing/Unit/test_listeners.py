"""Whoever listens to a run's events is a guest: nothing that a listener does ends a training."""

import io

import numpy as np
import pytest
import SimpleITK as sitk

from SemiSegLib.config import Label
from SemiSegLib.console import Console
from SemiSegLib.data.layouts import find_cases
from SemiSegLib.data.splits import hold_out
from SemiSegLib.runs import RunFolder
from SemiSegLib.synthetic import make_dataset
from SemiSegLib.training import session

LABELS = [Label(value, f"label {value}", (152, 55, 13)) for value in range(1, 10)]


@pytest.fixture
def run(tmp_path):
    return RunFolder.create(tmp_path / "run")


class Broken:
    """A listener as bad as they come: it raises at every event."""

    def __init__(self):
        self.heard = []

    def __call__(self, event):
        self.heard.append(event["event"])
        raise ConnectionError("the server is gone")


def test_a_listener_that_raises_becomes_one_warning_and_the_others_hear_everything(run):
    broken, heard = Broken(), []
    run.listeners += [broken, heard.append]
    for number in range(3):
        run.event("iteration", iteration=number)
    warnings = [event for event in run.events() if event["event"] == "message"]
    assert [warning["level"] for warning in warnings] == ["warning"]
    assert "Broken" in warnings[0]["text"]
    assert "the server is gone" in warnings[0]["text"]
    assert [event["iteration"] for event in heard if event["event"] == "iteration"] == [0, 1, 2]
    assert [event for event in heard if event["event"] == "message"] == warnings
    assert broken.heard.count("iteration") == 3  # what failed once may work the next time


def test_a_listener_that_cannot_be_made_becomes_a_warning(run):
    def make():
        raise ImportError("no module named tensorboard.compat")

    run.listen("TensorBoard", make)
    run.listen("nobody", lambda: None)
    assert run.listeners == []
    (warning,) = run.events()
    assert "TensorBoard" in warning["text"]
    assert "tensorboard.compat" in warning["text"]


def test_ctrl_c_in_a_listener_is_still_ctrl_c(run):
    def interrupted(event):
        raise KeyboardInterrupt

    run.listeners.append(interrupted)
    with pytest.raises(KeyboardInterrupt):
        run.event("message", level="info", text="")


def test_a_class_that_validation_never_sees_does_not_end_the_run(tiny_data, tiny_settings, run):
    """Labels 2 to 9 are in no mask, and networks of so few iterations do not predict all of them."""
    settings = tiny_settings("supervised", **{"data.labels": LABELS, "training.validation_every": 1})
    said = io.StringIO()
    run.listeners.append(Console(said))
    assert session.start(run, settings, hold_out(find_cases(tiny_data), 1)) == "finished"
    found = [event for event in run.events() if event["event"] == "validation"]
    assert any(None in event["per_class"].values() for event in found)
    for event in found:
        exist = [value for value in event["per_class"].values() if value is not None]
        assert event["dsc"] == pytest.approx(np.mean(exist))
    assert run.best_model.exists()
    assert said.getvalue().count("validation DSC") == 6


@pytest.mark.parametrize(("scores", "best"), [([None, 0.5, 0.25], 2), ([0.5, None, 0.75], 3), ([0.5, None, 0.5], 1)])
def test_a_score_that_does_not_exist_neither_beats_nor_blocks_the_best(
    scores, best, tiny_data, tiny_settings, run, monkeypatch
):
    """The score of each validation is given; `best` must come of the highest that exists."""
    from SemiSegLib.models import load_model
    from SemiSegLib.training import trainer

    given = iter(scores)

    def score(*arguments):
        value = next(given)
        return [float("nan") if value is None else value]

    monkeypatch.setattr(trainer, "validation_dice", score)
    settings = tiny_settings("supervised", **{"training.iterations": 3, "training.validation_every": 1})
    session.start(run, settings, hold_out(find_cases(tiny_data), 1))
    assert load_model(run.best_model).card.iteration == best
    assert run.status().best_dsc == max(score for score in scores if score is not None)


def test_the_console_says_that_a_score_does_not_exist():
    said = io.StringIO()
    Console(said)({"event": "validation", "iteration": 3, "dsc": None})
    assert "iteration 3" in said.getvalue()
    assert "no class" in said.getvalue()


def test_a_warning_of_many_files_is_kept_of_each_and_shown_of_a_few(tmp_path, tiny_settings, run):
    data = make_dataset(tmp_path / "data", cases=6, labelled=5, validation=0, size=(32, 32, 16))
    for file in (data / "labels").iterdir():
        mask = sitk.ReadImage(file)
        mask.SetOrigin(mask.TransformContinuousIndexToPhysicalPoint((0.4, 0, 0)))
        sitk.WriteImage(mask, file)
    said = io.StringIO()
    run.listeners.append(Console(said))
    session.start(run, tiny_settings("supervised", **{"training.iterations": 2}), find_cases(data))
    warned = [event["text"] for event in run.events() if "resampled onto" in event.get("text", "")]
    assert len(warned) == 5
    assert said.getvalue().count("resampled onto") == 3
    assert "events.jsonl in the run folder has all of them" in said.getvalue()
