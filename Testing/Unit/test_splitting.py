"""The loop when memory is short: a batch in parts is the same batch, and what did not fit leaves no trace."""

import pytest
import torch
from ranks import freeze_statistics, pin_dropout

from SemiSegLib.compute.devices import choose_compute
from SemiSegLib.data.layouts import find_cases
from SemiSegLib.data.splits import apply_splits
from SemiSegLib.errors import TrainingError
from SemiSegLib.networks.bank import FeatureBank
from SemiSegLib.runs import RunFolder
from SemiSegLib.training.session import prepare_cases
from SemiSegLib.training.trainer import Trainer


@pytest.fixture
def make_trainer(tiny_data, tiny_settings, tmp_path):
    """A function that makes a trainer of patches with two cells at the bottleneck, so that one alone has a variance."""

    def make(method, frozen=False, **training):
        values = {"patch_size": (32, 16, 16), "iterations": 12, **training}
        network = {"network.normalisation": "batch", "network.dropout": 1.0, "network.deep_supervision": False}
        rate = {"training.learning_rate": 0.01}
        settings = tiny_settings(method, **network, **rate, **{f"training.{name}": v for name, v in values.items()})
        settings.data.cache = str(tmp_path / "cache")
        run = RunFolder.create(tmp_path / f"run{len(list(tmp_path.iterdir()))}")
        cases = apply_splits(find_cases(tiny_data), f"{tiny_data / 'splits.json'}:demo")
        prepared = prepare_cases(run, settings, cases, lambda: False)
        trainer = Trainer(run, settings, prepared, choose_compute("cpu", "fp32"))
        if frozen:
            pin_dropout(trainer.method)
            freeze_statistics(trainer.method)
        return trainer

    return make


def same(ours, theirs, **tolerance):
    for name, value in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value, msg=name, **tolerance)


@pytest.mark.parametrize("method", ["supervised", "bcp"])
def test_a_batch_in_parts_trains_as_the_whole_one(method, make_trainer):
    """Where patches do not share batch statistics; three labelled patches do not divide evenly."""
    whole, parts = (make_trainer(method, True, accumulation=n, labelled_batch=3) for n in (1, 2))
    for trainer in (whole, parts):
        trainer.step(trainer.sampler.draw(0))
    same(parts.method, whole.method, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("fails_in", ["forward", "backward"])
def test_a_step_that_did_not_fit_is_forgotten(fails_in, make_trainer, monkeypatch):
    """The state, banks and batch statistics too, is that of a training that computed in parts from the beginning."""
    short, planned = make_trainer("action"), make_trainer("action", accumulation=2)
    if fails_in == "forward":
        real = short.method.losses

        def failing(batch, step):
            real(batch, step)
            monkeypatch.undo()
            raise torch.OutOfMemoryError

        monkeypatch.setattr(short.method, "losses", failing)
    else:
        real_backward = torch.Tensor.backward

        def failing_backward(self, *arguments, **named):
            monkeypatch.undo()
            real_backward(self, *arguments, **named)
            raise torch.OutOfMemoryError

        monkeypatch.setattr(torch.Tensor, "backward", failing_backward)
    short.step(short.sampler.draw(0))
    assert short.parts == 2
    planned.step(planned.sampler.draw(0))
    banks = [module for module in short.method.modules() if isinstance(module, FeatureBank)]
    assert int(banks[0].pushed) == 4
    same(short.method, planned.method)
    assert any("memory ran out" in e["text"] for e in short.run.events() if e["event"] == "message")


def test_memory_that_never_suffices_ends_the_training(make_trainer, monkeypatch):
    trainer = make_trainer("supervised")

    def failing(batch, step):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(trainer.method, "losses", failing)
    with pytest.raises(TrainingError, match=r"one patch at a time.*training\.patch_size"):
        trainer.step(trainer.sampler.draw(0))
    assert trainer.parts == 4  # as many as the batch has patches, all of them labelled


@pytest.mark.parametrize(("method", "patches"), [("supervised", 4), ("mean-teacher", 4)])
def test_more_parts_than_patches_are_refused(method, patches, make_trainer):
    assert make_trainer(method, accumulation=patches).parts == patches
    with pytest.raises(TrainingError, match=rf"training\.accumulation.*{patches + 1}.*{patches} patches"):
        make_trainer(method, accumulation=patches + 1)


def test_what_a_stage_begins_with_follows_from_seed_and_iteration(make_trainer, monkeypatch):
    """A training that was resumed between two stages has other random numbers behind it."""
    trainer, drawn = make_trainer("supervised"), []
    monkeypatch.setattr(trainer.method, "enter_stage", lambda stage, first: drawn.append(torch.rand(3)))
    for state in (1, 2):
        torch.manual_seed(state)
        trainer._enter_stage("main", True)
    assert torch.equal(*drawn)
