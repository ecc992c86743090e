"""Model files and checkpoints: whole, portable, and unable to execute code."""

import json
import pickle

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from SemiSegLib.export.__main__ import main as export_command
from SemiSegLib.models import Card, ModelError, load_model, main, save_model
from SemiSegLib.networks import build_network
from SemiSegLib.runs import RunError
from SemiSegLib.training.checkpoints import load_checkpoint, save_checkpoint


@pytest.fixture
def card(tiny_settings):
    return Card(tiny_settings(), sdm=True, iteration=5, scores={"dsc": 0.9}, notes="a test")


@pytest.fixture
def network(card):
    torch.manual_seed(0)
    return build_network(3, 2, True, card.settings.network).eval()


def test_a_model_file_gives_the_same_network_and_card(tmp_path, card, network):
    save_model(tmp_path / "m.safetensors", network, card)
    model = load_model(tmp_path / "m.safetensors")
    assert model.card == card
    image = torch.randn(1, 1, 32, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(model.network()(image).logits, network(image).logits, rtol=0, atol=0)
    assert [path.name for path in tmp_path.iterdir()] == ["m.safetensors"]


def test_half_precision_halves_the_file(tmp_path, card, network):
    save_model(tmp_path / "full.safetensors", network, card)
    save_model(tmp_path / "half.safetensors", network, card, half=True)
    sizes = [(tmp_path / f"{name}.safetensors").stat().st_size for name in ("full", "half")]
    assert sizes[1] < 0.51 * sizes[0] < 20e6
    image = torch.randn(1, 1, 32, 32, 32)
    with torch.no_grad():
        found = load_model(tmp_path / "half.safetensors").network()(image).logits
        torch.testing.assert_close(found, network(image).logits, atol=0.02, rtol=0.02)


@pytest.mark.parametrize("place", ["card", "settings", "training"])
def test_a_model_of_a_newer_version_is_named_and_updating_advised(place, tmp_path, card, network):
    path = tmp_path / "m.safetensors"
    save_model(path, network, card)
    with safe_open(path, framework="pt") as stored:
        metadata, weights = stored.metadata(), {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
    content = json.loads(metadata["card"])
    part = {"card": content, "settings": content["settings"], "training": content["settings"]["training"]}[place]
    part["of_tomorrow"] = 1
    save_file(weights, path, metadata | {"card": json.dumps(content)})
    with pytest.raises(ModelError, match=r"m\.safetensors.*of_tomorrow.*update SemiSeg"):
        load_model(path)


def test_damaged_absent_and_foreign_files_are_named(tmp_path, card, network):
    path = tmp_path / "m.safetensors"
    with pytest.raises(ModelError, match=r"no model .*m\.safetensors"):
        load_model(path)
    save_model(path, network, card)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(ModelError, match=r"m\.safetensors cannot be read"):
        load_model(path)
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(ModelError, match="not a SemiSeg model"):
        load_model(path)
    with pytest.raises(ModelError, match="no model yet"):
        load_model(tmp_path)


class Malicious:
    def __reduce__(self):
        return print, ("code was executed",)


def test_checkpoints_cannot_execute_code(tmp_path, capsys):
    path = tmp_path / "last.pt"
    torch.save({"x": Malicious()}, path)
    with pytest.raises(RunError, match=r"last\.pt"):
        load_checkpoint(path)
    path.write_bytes(pickle.dumps(Malicious()))
    with pytest.raises(RunError, match=r"last\.pt"):
        load_checkpoint(path)
    assert "code was executed" not in capsys.readouterr().out


def test_a_checkpoint_that_cannot_be_written_leaves_the_old_one(tmp_path):
    path = tmp_path / "last.pt"
    save_checkpoint(path, {"a": torch.ones(3), "n": 1})
    with pytest.raises((AttributeError, pickle.PicklingError, TypeError)):
        save_checkpoint(path, {"a": torch.zeros(3), "bad": lambda: None})
    assert load_checkpoint(path)["a"].tolist() == [1, 1, 1]
    assert [entry.name for entry in tmp_path.iterdir()] == ["last.pt"]


def test_a_full_disk_is_said_of_the_checkpoint_and_the_old_one_stays(no_room, tmp_path):
    path = tmp_path / "last.pt"
    save_checkpoint(path, {"n": 1})
    with no_room(), pytest.raises(OSError, match="large") as caught:
        save_checkpoint(path, {"a": torch.zeros(1 << 20), "n": 2})
    assert caught.value.filename == str(path)
    assert load_checkpoint(path) == {"n": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_the_same_model_is_the_same_file(tmp_path, card, network):
    """safetensors orders metadata by chance, so one of twenty files would differ from the first."""
    for number in range(20):
        save_model(tmp_path / f"{number}.safetensors", network, card)
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 1
    with safe_open(tmp_path / "0.safetensors", "pt") as file:  # read by the library itself
        assert file.metadata()["format"] == "semiseg-model-1"
        state = network.state_dict()
        assert set(file.keys()) == set(state)
        assert all(torch.equal(file.get_tensor(name), state[name]) for name in state)


def test_a_loaded_model_does_not_hold_its_file(tmp_path, card, network):
    """Windows replaces no file that is mapped into memory, and a calibration replaces the model's own."""
    path = tmp_path / "m.safetensors"
    save_model(path, network, card)
    model = load_model(path)
    before = model.fingerprint()
    with path.open("rb+") as file:
        file.seek(path.stat().st_size // 2)
        file.write(bytes(path.stat().st_size // 2))
    assert model.fingerprint() == before


def test_a_model_is_never_replaced_by_what_is_made_of_it(make_brightness_model, tmp_path, capsys):
    """Neither by itself in half precision, nor by TorchScript, which nobody can train on from."""
    run = tmp_path / "run"
    (run / "models").mkdir(parents=True)
    model = make_brightness_model(run / "models" / "last.safetensors")
    before = model.read_bytes()
    for source in (run, model):
        assert main(["export", str(source), str(model)]) == 2
        assert export_command([str(source), str(model), "--format", "torchscript"]) == 2
    assert capsys.readouterr().err.count(f"{model} is the model itself") == 4
    assert model.read_bytes() == before
