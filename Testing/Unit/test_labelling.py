"""Labels that a training gives its own scans, with networks whose answer is known; and a run that uses them."""

import numpy as np
import pytest
import torch
from torch import nn

from SemiSegLib.compute.devices import Compute
from SemiSegLib.config import Label
from SemiSegLib.constants import IGNORE
from SemiSegLib.data.preprocess import Prepared
from SemiSegLib.methods.base import Labelling
from SemiSegLib.networks.output import NetworkOutput
from SemiSegLib.presets import build_settings
from SemiSegLib.runs import RunFolder, read_json
from SemiSegLib.train import main, resume
from SemiSegLib.training.labelling import label_cases

CPU = Compute(torch.device("cpu"), torch.float32, "")


class Bright(nn.Module):
    """Foreground where a voxel is bright; the logit is its intensity. `sided`: one side of the input is dimmed."""

    def __init__(self, sided=False):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.sided = sided

    def forward(self, image):
        if self.sided:
            image = image.clone()
            image[:, :, : image.shape[2] // 2] -= 100
        logit = image * self.scale
        return NetworkOutput(torch.cat([torch.zeros_like(logit), logit], 1), None, image, [image])


@pytest.fixture
def make_case(tmp_path):
    """A function that makes an unlabelled case with these intensities (x, y, z)."""

    def make(name, image):
        folder = tmp_path / "cache" / name
        folder.mkdir(parents=True)
        np.save(folder / "image.npy", image.astype(np.float16))
        return Prepared(name, folder, image.shape, (1.0, 1.0, 1.0), False)

    return make


@pytest.fixture
def settings():
    overrides = {"data.spacing": "1,1,1", "training.patch_size": "16,16,16", "augmentation.mirror_axes": "0"}
    result = build_settings("self-training", "custom", overrides=overrides)
    result.data.labels = [Label(1, "bright", (1, 2, 3))]
    return result


def blob(value=9.0):
    image = np.full((16, 16, 16), -9.0)
    image[2:14, 4:10, 4:10] = value
    return image


def test_labels_are_what_the_network_sees(make_case, settings, tmp_path):
    image = blob()
    image[0, 0, 0] = 0.1  # sigmoid(0.1) = 0.52: not sure
    names = label_cases(Bright(), [make_case("a", image)], tmp_path / "labels", Labelling(0.75, 0.0), settings, CPU)
    found = np.load(tmp_path / "labels" / "a.npy")
    expected = np.where(blob() > 0, 1, 0)
    expected[0, 0, 0] = IGNORE
    np.testing.assert_array_equal(found, expected)
    assert names == ["a"]
    assert read_json(tmp_path / "labels" / "labels.json")["stability"] == {"a": 1.0}


def test_where_mirrored_views_disagree_nothing_is_learned(make_case, settings, tmp_path):
    label_cases(Bright(sided=True), [make_case("a", blob())], tmp_path / "labels", Labelling(0.75, 0.0), settings, CPU)
    found = np.load(tmp_path / "labels" / "a.npy")
    assert (found[blob() > 0] == IGNORE).all()  # one view says yes, the other no: mean 0.5
    assert (found[blob() < 0] == 0).all()


def test_the_least_stable_cases_are_left_out(make_case, settings, tmp_path):
    settings.augmentation.mirror_axes = (0,)
    cases = [make_case("even", np.full((16, 16, 16), 200.0)), make_case("odd", blob())]
    names = label_cases(Bright(sided=True), cases, tmp_path / "labels", Labelling(0.75, 0.5), settings, CPU)
    assert names == ["even"]


def test_a_run_labels_at_each_round_and_resumes_with_the_same_labels(tiny_data, tmp_path):
    """Stopped in the middle of a round, it ends with the weights of an uninterrupted run."""
    out, copy = tmp_path / "run", tmp_path / "copy"
    arguments = [
        *("--data", str(tiny_data), "--out", str(out), "--splits", f"{tiny_data / 'splits.json'}:demo", "--quiet"),
        *("--preset", "left-atrium", "--spacing", "3.75,3.75,5", "--patch", "16,16,16", "--device", "cpu"),
        *("--method", "self-training", "--iterations", "9", "--set", "method_settings.shares=1,1,1"),
        *("--set", "training.precision=fp32", "--set", "training.threads=1", "--set", "training.log_every=1"),
        *("--set", "training.checkpoint_minutes=0", "--set", "training.validation_every=100"),
    ]
    assert main(arguments) == 0
    run = RunFolder.open(out)
    rounds = sorted(path.name for path in (out / "labels").iterdir())
    assert rounds == ["round-1", "round-2"]
    unlabelled = {case["name"] for case in read_json(run.cases_file)["unlabelled"]}
    assert {path.stem for path in (out / "labels" / "round-2").glob("*.npy")} == unlabelled
    terms = {e["iteration"]: set(e["losses"]) for e in run.history() if e["event"] == "iteration"}
    assert [terms[index] for index in (3, 4, 9)] == [{"supervised"}, {"supervised", "pseudo"}, {"supervised", "pseudo"}]

    first = torch.load(run.checkpoint, weights_only=True)
    stopped = [*arguments]
    stopped[stopped.index(str(out))] = str(copy)

    class Stop:
        def __call__(self, event):
            if event["event"] == "checkpoint" and event["iteration"] == 5:
                (copy / "stop.request").touch()

    from SemiSegLib import train as module

    original = module._listen
    module._listen = lambda run, *rest: run.listeners.append(Stop())
    try:
        assert main(stopped) == 0
    finally:
        module._listen = original
    again = RunFolder.open(copy)
    assert again.status().state == "stopped"
    assert 5 <= again.status().iteration < 9
    resume(copy, quiet=True)
    second = torch.load(again.checkpoint, weights_only=True)
    assert all(torch.equal(first["method"][key], second["method"][key]) for key in first["method"])
