"""Experiment trackers hear a run's numbers when they are asked for, on this machine alone, and never disturb it.

MLflow and Weights & Biases are real where they are installed; elsewhere stand-ins take exactly the calls that are made.
"""

import sys
import types
from importlib.util import find_spec
from pathlib import Path

import pytest

from SemiSegLib.config import SettingsError
from SemiSegLib.presets import build_settings
from SemiSegLib.runs import RunFolder, read_json, write_json
from SemiSegLib.tracking.listening import follow
from SemiSegLib.tracking.tracker import scalars
from SemiSegLib.train import parser, settings_overrides


@pytest.fixture
def settings():
    return lambda *trackers: build_settings("supervised", overrides={"training.trackers": trackers})


def train(run, settings, first, last, state):
    """What a training tells, from one iteration to another."""
    run.listeners.clear()
    write_json(run.settings_file, settings.to_dict())
    follow(run)
    for iteration in range(first, last + 1):
        losses = {"supervised": 1 / iteration, "undefined": None}
        run.event("iteration", iteration=iteration, losses=losses, total=2 / iteration, learning_rate=0.01)
    run.event("validation", iteration=last, dsc=0.5, per_class={"left atrium": 0.5, "absent": None})
    run.set_status(state)
    return run


def warnings(run):
    return [event["text"] for event in run.events() if event.get("level") == "warning"]


def test_numbers_are_named_alike_for_every_tracker():
    event = {"event": "iteration", "iteration": 1, "losses": {"a": 1.0, "b": None}, "total": 3.0, "learning_rate": 0.1}
    assert scalars(event) == {"loss/a": 1.0, "loss/total": 3.0, "learning_rate": 0.1}
    event = {"event": "validation", "iteration": 1, "dsc": None, "per_class": {"x": 0.5, "y": None}}
    assert scalars(event) == {"validation/dsc/x": 0.5}
    assert scalars({"event": "checkpoint", "iteration": 1}) == {}


@pytest.mark.skipif(find_spec("tensorboard") is None, reason="needs tensorboard")
def test_tensorboard_is_written_unasked(settings, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = train(RunFolder.create(tmp_path / "run"), settings(), 1, 3, "finished")
    board = EventAccumulator(str(run.path / "tensorboard")).Reload()
    assert [(s.step, s.value) for s in board.Scalars("loss/total")] == [(1, 2.0), (2, 1.0), (3, pytest.approx(2 / 3))]
    assert [s.value for s in board.Scalars("validation/dsc/left atrium")] == [0.5]
    assert warnings(run) == []


def test_other_trackers_are_never_loaded_unasked(settings, tmp_path, monkeypatch):
    for name in ("mlflow", "wandb"):
        monkeypatch.setitem(sys.modules, name, None)  # loading it would fail, and be a warning
    assert warnings(train(RunFolder.create(tmp_path / "run"), settings(), 1, 2, "finished")) == []


@pytest.mark.parametrize(("tracker", "name"), [("mlflow", "MLflow"), ("wandb", "Weights & Biases")])
def test_a_tracker_that_is_missing_is_one_warning(tracker, name, settings, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, tracker, None)
    [text] = warnings(train(RunFolder.create(tmp_path / "run"), settings(tracker), 1, 2, "finished"))
    assert text.startswith(name)
    assert tracker in text


def test_trackers_are_chosen_on_the_command_line():
    options = parser().parse_args(["--track", "mlflow", "--track", "wandb"])
    assert build_settings(overrides=settings_overrides(options)).training.trackers == ("mlflow", "wandb")
    assert build_settings().training.trackers == ()
    with pytest.raises(SettingsError, match=r"training\.trackers"):
        build_settings(overrides={"training.trackers": "neptune"})


# ---- MLflow ---------------------------------------------------------------------------------------------------


class StandInMlflow:
    """mlflow.MlflowClient, as far as it is called; the store is shared by all clients of one address."""

    stores: dict = {}  # noqa: RUF012

    def __init__(self, tracking_uri):
        self.store = self.stores.setdefault(tracking_uri, {"experiments": {}, "runs": {}})

    def get_experiment_by_name(self, name):
        return self.store["experiments"].get(name)

    def create_experiment(self, name, artifact_location=None):
        self.store["experiments"][name] = types.SimpleNamespace(experiment_id="1")
        return "1"

    def create_run(self, experiment_id, run_name=None):
        identifier = f"run{len(self.store['runs'])}"
        info = types.SimpleNamespace(run_id=identifier, status="RUNNING")
        data = types.SimpleNamespace(params={}, history=[])
        self.store["runs"][identifier] = types.SimpleNamespace(info=info, data=data)
        return self.store["runs"][identifier]

    def get_run(self, run_id):
        return self.store["runs"][run_id]

    def update_run(self, run_id, status=None):
        self.get_run(run_id).info.status = status

    def set_terminated(self, run_id, status=None):
        self.get_run(run_id).info.status = status

    def log_batch(self, run_id, metrics=(), params=()):
        assert len(params) <= 100
        assert all(
            set(x.key) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./ ") for x in params
        )
        self.get_run(run_id).data.params.update({x.key: x.value for x in params})
        self.get_run(run_id).data.history.extend(metrics)

    def get_metric_history(self, run_id, key):
        return [metric for metric in self.get_run(run_id).data.history if metric.key == key]


@pytest.fixture
def mlflow(monkeypatch):
    """The class MlflowClient."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    if find_spec("mlflow"):
        return pytest.importorskip("mlflow").MlflowClient

    def entity(*names):
        return lambda *values: types.SimpleNamespace(**dict(zip(names, values, strict=True)))

    entities = {"Metric": entity("key", "value", "timestamp", "step"), "Param": entity("key", "value")}
    monkeypatch.setitem(sys.modules, "mlflow", types.SimpleNamespace(MlflowClient=StandInMlflow))
    monkeypatch.setitem(sys.modules, "mlflow.entities", types.SimpleNamespace(**entities))
    return StandInMlflow


def test_mlflow_keeps_one_run_in_the_run_folder_over_a_resume(mlflow, settings, tmp_path):
    run = train(RunFolder.create(tmp_path / "run"), settings("mlflow"), 1, 2, "stopped")
    client = mlflow(tracking_uri=f"sqlite:///{(run.trackers / 'mlflow.db').resolve().as_posix()}")
    identifier = read_json(run.trackers / "mlflow.json")["run_id"]
    assert client.get_run(identifier).info.status == "KILLED"
    train(run, settings("mlflow"), 3, 4, "finished")
    assert read_json(run.trackers / "mlflow.json")["run_id"] == identifier
    found = client.get_run(identifier)
    assert found.info.status == "FINISHED"
    assert found.data.params["training.learning_rate"] == "0.05"
    assert [(m.step, m.value) for m in client.get_metric_history(identifier, "loss/total")] == [
        (step, 2 / step) for step in (1, 2, 3, 4)
    ]
    assert [m.step for m in client.get_metric_history(identifier, "validation/dsc/left atrium")] == [2, 4]
    assert warnings(run) == []


# ---- Weights & Biases -----------------------------------------------------------------------------------------


class StandInRun:
    """What wandb.init returns, as far as it is called."""

    def __init__(self, options):
        self.options, self.logged, self.exit_code = options, [], None
        self.id = options["id"] or "abc"

    def log(self, data, step=None):
        self.logged.append((step, data))

    def finish(self, exit_code=None):
        self.exit_code = exit_code


@pytest.mark.skipif(find_spec("wandb") is not None, reason="the real one is tested below")
def test_wandb_is_offline_in_the_run_folder_and_goes_on_after_a_resume(settings, tmp_path, monkeypatch):
    made = []
    monkeypatch.delenv("WANDB_MODE", raising=False)
    module = types.SimpleNamespace(
        init=lambda **options: made.append(StandInRun(options)) or made[-1], Settings=lambda **options: options
    )
    monkeypatch.setitem(sys.modules, "wandb", module)
    run = train(RunFolder.create(tmp_path / "run"), settings("wandb"), 1, 2, "stopped")
    train(run, settings("wandb"), 3, 4, "failed")
    assert [wandb.options["id"] for wandb in made] == [None, "abc"]
    assert {wandb.options["mode"] for wandb in made} == {"offline"}
    assert {Path(wandb.options["dir"]) for wandb in made} == {run.trackers.resolve()}
    assert made[0].options["config"]["training.learning_rate"] == 0.05
    assert [step for wandb in made for step, _ in wandb.logged] == [1, 2, 2, 3, 4, 4]
    assert [wandb.exit_code for wandb in made] == [0, 1]
    assert warnings(run) == []


@pytest.mark.skipif(find_spec("wandb") is None, reason="needs wandb")
def test_wandb_for_real(settings, tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_MODE", raising=False)
    run = train(RunFolder.create(tmp_path / "run"), settings("wandb"), 1, 2, "stopped")
    train(run, settings("wandb"), 3, 4, "finished")
    identifier = read_json(run.trackers / "wandb.json")["id"]
    files = list((run.trackers / "wandb").glob("offline-run-*/*.wandb"))  # one folder a second
    assert {file.name for file in files} == {f"run-{identifier}.wandb"}
    assert warnings(run) == []
