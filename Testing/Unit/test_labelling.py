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
from SemiSegLib.models import Card, load_model, save_model
from SemiSegLib.networks import build_network
from SemiSegLib.networks.output import NetworkOutput
from SemiSegLib.presets import build_settings
from SemiSegLib.runs import RunFolder, read_json
from SemiSegLib.train import main, resume
from SemiSegLib.training.labelling import label_cases, never_found

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


class Brighter(Bright):
    """Foreground where a voxel is brighter than 8.5."""

    def forward(self, image):
        return super().forward(10 * (image - 8.5))


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
    overrides = {"data.spacing": "1,1,1", "training.patch_size": "32,16,16", "augmentation.mirror_axes": "0"}
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
    names = label_cases([Bright()], [make_case("a", image)], tmp_path / "labels", Labelling(0.75, 0.0), settings, CPU)
    found = np.load(tmp_path / "labels" / "a.npy")
    expected = np.where(blob() > 0, 1, 0)
    expected[0, 0, 0] = IGNORE
    np.testing.assert_array_equal(found, expected)
    assert names == ["a"]
    assert read_json(tmp_path / "labels" / "labels.json")["stability"] == {"a": 1.0}


def test_where_mirrored_views_disagree_nothing_is_learned(make_case, settings, tmp_path):
    label_cases(
        [Bright(sided=True)], [make_case("a", blob())], tmp_path / "labels", Labelling(0.75, 0.0), settings, CPU
    )
    found = np.load(tmp_path / "labels" / "a.npy")
    assert (found[blob() > 0] == IGNORE).all()  # one view says yes, the other no: mean 0.5
    assert (found[blob() < 0] == 0).all()


def test_several_networks_label_together(make_case, settings, tmp_path):
    """At 8.4 one is sure that there is something (8.4), the other not (-1): p 0.9998 and 0.27, so 0.63 in the mean."""
    image = blob()
    image[2:8] = np.where(image[2:8] > 0, 8.4, -9)
    case, choice = make_case("a", image), Labelling(0.6, 0.0)
    label_cases([Bright(), Brighter()], [case], tmp_path / "labels", choice, settings, CPU)
    np.testing.assert_array_equal(np.load(tmp_path / "labels" / "a.npy"), blob() > 0)
    label_cases([Bright(), Brighter()], [case], tmp_path / "surer", Labelling(0.75, 0.0), settings, CPU)
    np.testing.assert_array_equal(np.load(tmp_path / "surer" / "a.npy") == IGNORE, image == 8.4)
    # of six pairs of four opinions (two networks, two views) the two within a network agree; 216 of 432 voxels: 2/3
    assert read_json(tmp_path / "surer" / "labels.json")["stability"]["a"] == pytest.approx((2 + 4 * 2 / 3) / 6)


def test_the_least_stable_cases_are_left_out(make_case, settings, tmp_path):
    settings.augmentation.mirror_axes = (0,)
    cases = [make_case("even", np.full((16, 16, 16), 200.0)), make_case("odd", blob())]
    names = label_cases([Bright(sided=True)], cases, tmp_path / "labels", Labelling(0.75, 0.5), settings, CPU)
    assert names == ["even"]


def test_without_mirror_images_scans_are_shifted_and_seen_with_other_contrast(make_case, settings, tmp_path):
    """A blob of 9 is lost where contrast is 0.87 times as strong (7.8): four of five views see it; one of 200 stays."""
    settings.augmentation.mirror_axes = ()
    cases = [make_case("faint", blob()), make_case("clear", blob(200.0))]
    names = label_cases([Brighter()], cases, tmp_path / "labels", Labelling(0.75, 0.5), settings, CPU)
    stability = read_json(tmp_path / "labels" / "labels.json")["stability"]
    assert stability["faint"] == pytest.approx(6 / 10)  # of ten pairs of views, six without the one that sees nothing
    assert (stability["clear"], names) == (1.0, ["clear"])
    np.testing.assert_array_equal(np.load(tmp_path / "labels" / "faint.npy"), blob() > 0)


def test_classes_that_the_network_sees_nowhere_are_named(make_case, settings, tmp_path):
    """Also where it is too unsure to label them: what is left out teaches nothing."""
    faint = np.full((16, 16, 16), -9.0)
    faint[2:14, 4:10, 4:10] = 0.1
    folders = []
    for name, image in (("seen", faint), ("unseen", np.full((16, 16, 16), -9.0))):
        folders.append(tmp_path / name)
        label_cases([Bright()], [make_case(name, image)], folders[-1], Labelling(0.75, 0.0), settings, CPU)
    assert not (np.load(folders[0] / "seen.npy") == 1).any()
    assert [never_found(folder, [1]) for folder in folders] == [[], [1]]
    assert never_found(folders[0], [1, 2]) == [2]


def command(data, out, *more):
    return [
        *("--data", str(data), "--out", str(out), "--splits", f"{data / 'splits.json'}:demo", "--quiet"),
        *("--preset", "left-atrium", "--spacing", "3.75,3.75,5", "--patch", "32,16,16", "--device", "cpu"),
        *("--set", "training.precision=fp32", "--set", "training.threads=1", "--set", "training.log_every=1"),
        *("--method", "self-training", *more),
    ]


def test_a_round_does_not_teach_that_a_class_does_not_exist(tiny_data, tmp_path):
    """Trained on from a network that sees background alone, at a rate that changes nothing."""
    labels = [Label(1, "left atrium", (152, 55, 13))]
    settings = build_settings("supervised", "left-atrium", overrides={"data.labels": labels})
    out, blind = tmp_path / "run", build_network(3, 2, settings=settings.network)
    with torch.no_grad():
        blind.mask_head.bias.copy_(torch.tensor([50.0, -50.0]))
    save_model(tmp_path / "blind.safetensors", blind, Card(settings, False, 0))
    more = ("--iterations", "4", "--set", "method_settings.shares=1,1", "--init", str(tmp_path / "blind.safetensors"))
    assert main(command(tiny_data, out, *more, "--set", "training.learning_rate=1e-9")) == 0
    events = list(RunFolder.open(out).history())
    assert {name for e in events if e["event"] == "iteration" for name in e["losses"]} == {"supervised"}
    [said] = [e["text"] for e in events if e["event"] == "message" and "annotated scans alone" in e.get("text", "")]
    assert "left atrium" in said


@pytest.mark.parametrize(
    ("members", "shares", "folders", "networks"),
    [
        (1, "1,1,1", ["networks", "round-1", "round-2"], ["round-1", "round-2"]),
        (2, "1,1", ["networks", "round-1"], ["round-1", "supervised-2"]),
    ],
)
def test_a_run_labels_at_each_round_and_resumes_with_the_same_labels(
    members, shares, folders, networks, tiny_data, tmp_path
):
    """Stopped in the middle, at the second of three stages, it ends with the weights of an uninterrupted run."""
    out, copy = tmp_path / "run", tmp_path / "copy"
    arguments = command(
        *(tiny_data, out, "--iterations", "9", "--set", f"method_settings.shares={shares}"),
        *("--set", f"method_settings.members={members}"),
        *("--set", "training.checkpoint_minutes=0", "--set", "training.validation_every=100"),
    )
    assert main(arguments) == 0
    run = RunFolder.open(out)
    assert sorted(path.name for path in (out / "labels").iterdir()) == folders
    assert sorted(path.stem for path in (out / "labels" / "networks").iterdir()) == networks
    unlabelled = {case["name"] for case in read_json(run.cases_file)["unlabelled"]}
    assert {path.stem for path in (out / "labels" / folders[-1]).glob("*.npy")} == unlabelled
    terms = {e["iteration"]: set(e["losses"]) for e in run.history() if e["event"] == "iteration"}
    middle = {"supervised"} if members == 2 else {"supervised", "pseudo"}
    assert [terms[index] for index in (3, 4, 9)] == [{"supervised"}, middle, {"supervised", "pseudo"}]

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


def test_the_first_of_two_networks_is_kept_as_it_was_and_the_second_begins_anew(tiny_data, tmp_path):
    """At a rate at which nothing is learnt each keeps the weights that it began with."""
    out = tmp_path / "run"
    more = ("--set", "method_settings.members=2", "--set", "method_settings.shares=1,1", "--iterations", "9")
    assert main(command(tiny_data, out, *more, "--set", "training.learning_rate=1e-9")) == 0
    networks = [out / "labels" / "networks" / f"{name}.safetensors" for name in ("supervised-2", "round-1")]
    first, second, last = (load_model(path) for path in (*networks, out))
    assert [model.card.iteration for model in (first, second, last)] == [3, 6, 9]
    weight = next(name for name, value in last.weights.items() if value.dim() > 3)
    assert torch.allclose(second.weights[weight], last.weights[weight], atol=1e-6)
    assert not torch.allclose(first.weights[weight], last.weights[weight], atol=1e-3)


def test_a_run_that_labels_is_at_work(tiny_data, tmp_path, monkeypatch):
    """So that one that is killed then counts as interrupted, and nobody starts a second one beside it."""
    active = {}

    def look(run, *_):
        run.listeners.append(
            lambda event: active.update({event["state"]: run.status().active} if event["event"] == "state" else {})
        )

    monkeypatch.setattr("SemiSegLib.train._listen", look)
    assert main(command(tiny_data, tmp_path / "run", "--iterations", "4", "--set", "method_settings.shares=1,1")) == 0
    assert active["labelling"]
    assert {state for state, at_work in active.items() if not at_work} == {"finished"}
