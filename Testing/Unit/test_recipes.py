"""Two recipes by name: the papers' as published, and our own for every method; and what a task allows."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from SemiSegLib.config import NetworkSettings, Settings, SettingsError
from SemiSegLib.data.augmentation import Turn, random_turn
from SemiSegLib.methods import available
from SemiSegLib.models import load_model
from SemiSegLib.networks.ema import make_teacher, update_average
from SemiSegLib.presets import PRESETS, build_settings
from SemiSegLib.runs import RunFolder, read_json
from SemiSegLib.train import main
from SemiSegLib.training import timing
from SemiSegLib.training.checkpoints import load_checkpoint


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("method", available())
def test_every_method_has_both_recipes(method, preset):
    strong, published = build_settings(method, preset), build_settings(method, preset, recipe="published")
    assert strong.recipe == "strong"
    assert strong.augmentation.geometry == "warp"
    assert strong.augmentation.intensity == 1.0
    assert (strong.training.schedule, strong.inference.network) == ("poly", "average")
    assert published.augmentation.geometry == "turns"
    assert published.training.ema_decay == 0
    assert published.inference.network == "student"


def test_published_is_the_papers():
    """SimCVD: weight decay 5e-4, a tenth of the learning rate every 3,000 of 6,000 iterations (TMI 2022, p. 7)."""
    training = build_settings("simcvd", "left-atrium", recipe="published").training
    assert training.weight_decay == 5e-4
    assert (training.schedule, training.milestones, training.iterations) == ("step", (0.5,), 6000)


OURS = NetworkSettings(normalisation="instance", dropout=0.0, deep_supervision=True)


@pytest.mark.parametrize("preset", list(PRESETS))
@pytest.mark.parametrize("method", ["unimatch", "supervised", "simcvd"])
def test_the_strong_recipe_has_another_network_than_the_papers(method, preset):
    strong, published = (build_settings(method, preset, recipe=name) for name in ("strong", "published"))
    kind = "batch" if method != "simcvd" and preset != "abdomen-ct" else "instance"
    assert (strong.network, strong.training.learning_rate) == (replace(OURS, normalisation=kind), 0.05)
    assert (published.network, published.training.learning_rate) == (NetworkSettings(), 0.01)


def test_uncertainty_of_dropout_keeps_its_dropout():
    """UA-MT's passes of the teacher differ by dropout."""
    assert build_settings("ua-mt", "left-atrium").network.dropout == 1.0


def test_a_run_trains_and_keeps_the_network_of_its_settings(tiny_data, tmp_path):
    out = tmp_path / "run"
    wanted = [
        "network.normalisation=instance",
        "network.deep_supervision=true",
        "network.dropout=0",
        "training.patch_size=32,16,16",
    ]
    flags = [part for setting in wanted for part in ("--set", setting)]
    assert main(command(tiny_data, out, "--method", "supervised", "--iterations", "2", *flags)) == 0
    model = load_model(RunFolder.open(out).last_model)
    assert model.card.settings.network == OURS
    assert model.network().coarse_heads
    assert not any("running_mean" in name for name in model.weights)


def test_settings_of_runs_before_there_were_recipes_are_published():
    old = build_settings("simcvd", "left-atrium", recipe="published").to_dict()
    del old["recipe"], old["augmentation"], old["training"]["nesterov"], old["training"]["ema_decay"]
    assert Settings.from_dict(old).recipe == "published"
    assert Settings.from_dict(old).augmentation.geometry == "turns"


def test_an_unknown_recipe_is_named():
    with pytest.raises(SettingsError, match=r"soup.*strong, published"):
        build_settings("simcvd", recipe="soup")


@pytest.mark.parametrize("recipe", ["strong", "published"])
def test_anything_else_is_neither_mirrored_nor_turned_over(recipe):
    """Whole bodies and paired organs: left and right must stay what they are."""
    settings = build_settings("supervised", "custom", recipe=recipe)
    assert settings.augmentation.mirror_axes == ()
    turns = {random_turn((32, 32, 32), settings.training, np.random.default_rng(seed)) for seed in range(40)}
    assert turns == {Turn()}
    assert build_settings("supervised", "left-atrium").augmentation.mirror_axes == (0, 1)


def test_the_average_follows_weights_and_statistics_by_hand():
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    average = make_teacher(network)
    states = []
    for iteration in range(4):
        with torch.no_grad():
            network[0].weight.add_(1.0)
        network(torch.randn(8, 2))
        states.append({key: value.clone() for key, value in network.state_dict().items()})
        update_average(average, network, 0.6, iteration)
    # a = min(1 - 1/(t+1), 0.6) = 0, 0.5, 0.6, 0.6
    for key in ("0.weight", "1.running_mean", "1.running_var"):
        expected = states[0][key]
        for decay, state in zip((0.5, 0.6, 0.6), states[1:], strict=True):
            expected = decay * expected + (1 - decay) * state[key]
        torch.testing.assert_close(average.state_dict()[key], expected)
    assert int(average.state_dict()["1.num_batches_tracked"]) == 4


def command(data, out, *more):
    return [
        *("--data", str(data), "--out", str(out), "--splits", f"{data / 'splits.json'}:demo", "--quiet"),
        *("--preset", "left-atrium", "--spacing", "3.75,3.75,5", "--patch", "32,16,16", "--device", "cpu"),
        *("--set", "training.precision=fp32", "--set", "training.threads=1", *more),
    ]


def test_the_average_is_what_a_strong_run_predicts_with(tiny_data, tmp_path):
    out = tmp_path / "run"
    assert main(command(tiny_data, out, "--method", "mean-teacher", "--iterations", "5")) == 0
    model, content = load_model(RunFolder.open(out).last_model), load_checkpoint(RunFolder.open(out).checkpoint)
    assert model.card.network == "average"
    assert model.card.settings.recipe == "strong"
    key = "mask_head.weight"
    assert torch.equal(model.weights[key], content["average"][key])
    assert not torch.equal(model.weights[key], content["method"][f"student.{key}"])


def test_a_published_run_is_asked_for_by_name(tiny_data, tmp_path):
    out = tmp_path / "run"
    arguments = ("--method", "supervised", "--iterations", "2", "--recipe", "published")
    assert main(command(tiny_data, out, *arguments)) == 0
    assert json.loads((out / "settings.json").read_text(encoding="utf-8"))["recipe"] == "published"
    assert load_model(RunFolder.open(out).last_model).card.network == "student"


def test_a_network_that_a_method_does_not_have_is_named(tiny_data, tmp_path, capsys):
    arguments = ("--method", "supervised", "--iterations", "2", "--set", "inference.network=teacher")
    assert main(command(tiny_data, tmp_path / "run", *arguments)) == 2
    assert "inference.network" in capsys.readouterr().err
    arguments = ("--method", "supervised", "--set", "training.ema_decay=0", "--iterations", "2")
    assert main(command(tiny_data, tmp_path / "other", *arguments)) == 2
    assert "training.ema_decay" in capsys.readouterr().err


def test_time_instead_of_iterations(tiny_data, tmp_path, monkeypatch):
    """What is planned is what runs: 85 % of 6 seconds are 12 iterations of a device that takes 0.4 s for one."""
    monkeypatch.setattr(timing, "measured_seconds", lambda settings, compute, patch: 0.4)
    out = tmp_path / "run"
    assert main(command(tiny_data, out, "--method", "supervised", "--time", "0.1m")) == 0
    run = RunFolder.open(out)
    plan = next(event for event in run.history() if event["event"] == "plan")
    training = read_json(run.settings_file)["training"]
    assert plan["iterations"] == training["iterations"] == run.status().iteration == 12
    assert plan["patch_size"] == training["patch_size"]
    assert "0 minutes" in plan["text"]


def test_the_settings_of_a_run_of_some_time_train_as_long_as_it_did(tiny_data, tmp_path, monkeypatch, capsys):
    """On whatever device; a number of iterations or a time that is named counts instead."""
    monkeypatch.setattr(timing, "measured_seconds", lambda settings, compute, patch: 0.4)
    out = tmp_path / "run"
    assert main(command(tiny_data, out, "--method", "supervised", "--time", "0.1m")) == 0
    again = ["--config", str(out / "settings.json"), "--list-settings"]

    def shown(*arguments):
        capsys.readouterr()
        assert main([*again, *arguments]) == 0
        lines = (line.split(" = ") for line in capsys.readouterr().out.splitlines() if " = " in line)
        values = {name: value.partition("  (")[0] for name, value in lines}
        return values["training.iterations"], float(values["training.minutes"])

    assert shown() == ("12", 0)
    assert shown("--iterations", "3") == ("3", 0)
    assert shown("--time", "2m")[1] == 2


def test_iterations_count_where_a_file_names_a_time(tmp_path):
    (tmp_path / "mine.json").write_text(json.dumps({"training.minutes": 30}))
    assert build_settings(file=tmp_path / "mine.json").training.minutes == 30
    settings = build_settings(file=tmp_path / "mine.json", overrides={"training.iterations": 3})
    assert (settings.training.iterations, settings.training.minutes) == (3, 0)


def test_a_time_and_iterations_are_not_given_together(tmp_path, capsys):
    assert main(["--data", str(tmp_path), "--out", str(tmp_path / "run"), "--time", "15m", "--iterations", "9"]) == 2
    assert "A time (15 minutes) and a number of iterations (9) cannot both be given" in capsys.readouterr().err
    assert build_settings(overrides={"training.iterations": 9, "training.minutes": "0"}).training.iterations == 9
