"""Starting from a trained model: what is taken over, what is not, and what differs is said."""

from dataclasses import replace

import pytest
import torch

from SemiSegLib import methods
from SemiSegLib.compute.devices import choose_compute
from SemiSegLib.config import Label
from SemiSegLib.data.layouts import find_cases
from SemiSegLib.data.splits import apply_splits
from SemiSegLib.models import Card, Model, ModelError, save_model
from SemiSegLib.networks import build_network
from SemiSegLib.networks.parts import InParts
from SemiSegLib.runs import RunFolder, read_json
from SemiSegLib.train import main
from SemiSegLib.training.initial import differences, take_weights
from SemiSegLib.training.session import prepare_cases
from SemiSegLib.training.trainer import Trainer

ATRIUM = Label(1, "left atrium", (152, 55, 13))


@pytest.fixture
def model(tiny_settings):
    """A function that makes a model of a task, with random weights."""

    def make(sdm=False, **overrides):
        papers = {"network.normalisation": "batch", "network.deep_supervision": False}
        settings = tiny_settings("supervised", **papers, **overrides)
        torch.manual_seed(3)
        network = build_network(settings.data.dimensions, len(settings.data.labels) + 1, sdm, settings.network)
        return Model(Card(settings, sdm, 7), network.state_dict())

    return make


def train(data, out, *more):
    task = ("--preset", "left-atrium", "--spacing", "3.75,3.75,5", "--device", "cpu", "--set", "training.threads=1")
    return main(
        ["--data", str(data), "--out", str(out), "--splits", f"{data / 'splits.json'}:demo", "--quiet", *task, *more]
    )


def test_all_networks_take_the_weights(model, make_method):
    method = make_method("mean-teacher", (16, 16, 16), seed=1)
    source = model()
    assert take_weights(method.predictors(), source) == []
    for network in method.predictors().values():
        assert all(torch.equal(weight, source.weights[name]) for name, weight in network.state_dict().items())


@pytest.mark.parametrize("method", methods.available())
def test_every_network_of_every_method_begins_with_the_model(method, tiny_data, tiny_settings, tmp_path):
    """A teacher that does not predict, too: it labels from the first iteration on."""
    settings = tiny_settings(method)
    settings.data.cache = str(tmp_path / "cache")
    run = RunFolder.create(tmp_path / "run")
    cases = apply_splits(find_cases(tiny_data), f"{tiny_data / 'splits.json'}:demo")
    trainer = Trainer(run, settings, prepare_cases(run, settings, cases, lambda: False), choose_compute("cpu", "fp32"))
    source = build_network(3, 2, False, settings.network)
    save_model(tmp_path / "source.safetensors", source, Card(settings, False, 7))
    trainer.start_from(tmp_path / "source.safetensors")
    wanted = source.state_dict()
    networks = [module for module in trainer.method.modules() if isinstance(module, InParts)]
    assert networks
    for network in networks:
        assert all(torch.equal(weight, wanted[n]) for n, weight in network.state_dict().items() if n in wanted)


def test_what_is_not_taken_over_is_named(model, make_method):
    """Three classes here, two in the model; its distance-map head has no place here."""
    method = make_method("mean-teacher", (16, 16, 16), classes=3)
    before = {name: weight.clone() for name, weight in method.student.state_dict().items()}
    new, unused = take_weights(method.predictors(), model(sdm=True))
    assert new.startswith("new here")
    assert "mask_head.weight" in new
    assert "sdm_head.weight" in unused
    assert torch.equal(method.student.mask_head.weight, before["mask_head.weight"])
    assert not torch.equal(method.student.encoder[0][0].weight, before["encoder.0.0.weight"])


def test_a_model_of_which_nothing_fits_is_refused(model, make_method):
    source = replace(model(), weights={"layer.weight": torch.zeros(3)})
    with pytest.raises(ModelError, match="None of the model's weights"):
        take_weights(make_method("supervised", (16, 16, 16)).predictors(), source)


def test_differences_of_the_task_are_said(model, tiny_settings):
    labels = [replace(ATRIUM, name="pancreas")]
    changed = {
        "data.labels": labels,
        "data.spacing": (1, 1, 1),
        "data.window": (-125, 275),
        "data.normalisation": "unit",
    }
    card, settings = model(**changed).card, tiny_settings("supervised")
    found = "; ".join(differences(card, settings))
    for part in ("labels: pancreas (here left atrium)", "spacing: 1.0, 1.0, 1.0 (here 3.75, 3.75, 5.0)"):
        assert part in found
    assert "window: -125.0, 275.0 (here none)" in found
    assert "normalisation: unit (here tissue)" in found
    assert differences(model().card, settings) == []


def test_a_training_goes_on_with_the_kind_of_network_that_its_model_is(tiny_data, tmp_path):
    """Weights learnt with batch statistics are worth nothing with instance normalisation; the rate belongs to them."""
    first, kept, chosen = tmp_path / "first", tmp_path / "kept", tmp_path / "chosen"
    sizes = ("--patch", "32,16,16", "--iterations", "2", "--method", "supervised")
    network = ("--set", "network.architecture=dynunet", "--set", "network.normalisation=instance")
    wanted = (*network, "--set", "training.learning_rate=0.02")
    assert train(tiny_data, first, *sizes, *wanted) == 0
    assert train(tiny_data, kept, *sizes, "--init", str(first)) == 0
    assert train(tiny_data, chosen, *sizes, "--init", str(first), "--set", "training.learning_rate=0.002") == 0
    found = {run: read_json(run / "settings.json") for run in (kept, chosen)}
    for run in (kept, chosen):
        assert [found[run]["network"][name] for name in ("architecture", "normalisation")] == ["dynunet", "instance"]
    assert [found[run]["training"]["learning_rate"] for run in (kept, chosen)] == [0.02, 0.002]
    said = "goes on with the architecture (dynunet) and normalisation (instance) of the model it starts from"
    assert said in (kept / "events.jsonl").read_text(encoding="utf-8")


def test_a_model_of_other_dimensions_is_refused_before_anything_is_prepared(model, tiny_data, tmp_path, capsys):
    source = model(**{"data.dimensions": 2, "training.patch_size": (32, 32), "data.spacing": (3.75, 3.75, 0)})
    file = tmp_path / "flat.safetensors"
    save_model(file, build_network(2, 2), source.card)
    arguments = ["--data", str(tiny_data), "--out", str(tmp_path / "run"), "--init", str(file), "--device", "cpu"]
    assert main([*arguments, "--splits", f"{tiny_data / 'splits.json'}:demo", "--quiet"]) == 2
    assert "flat.safetensors is 2D and this training is 3D" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
