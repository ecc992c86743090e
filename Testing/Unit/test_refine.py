"""Refining one scan: what is drawn is followed, what is far away stays, nothing of the old is touched."""

import json

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from SemiSegLib.compute.devices import Compute
from SemiSegLib.config import Label
from SemiSegLib.data.cases import Case, CaseList
from SemiSegLib.errors import SemiSegError
from SemiSegLib.models import Card, load_model, save_model
from SemiSegLib.networks import build_network
from SemiSegLib.networks.output import NetworkOutput
from SemiSegLib.predict import predict
from SemiSegLib.presets import build_settings
from SemiSegLib.refine import _replayed, main, refine, share_right
from SemiSegLib.runs import RunFolder, write_json
from SemiSegLib.training.intent import cases_to_dict
from SemiSegLib.training.refinement import RefinementSettings, between, keeping_loss, nearness, stroke_loss


@pytest.fixture(scope="module")
def untrained(tmp_path_factory):
    """A V-Net with fresh weights, which finds a little of everything."""
    torch.manual_seed(3)
    overrides = {
        "data.labels": [Label(4, "ball", (10, 200, 30))],
        "data.spacing": "1,1,1",
        "training.patch_size": "32,16,16",
        "network.normalisation": "batch",
        "network.deep_supervision": False,
        "training.precision": "fp32",
    }
    path = tmp_path_factory.mktemp("model") / "untrained.safetensors"
    settings = build_settings("supervised", overrides=overrides)
    network = build_network(3, 2, settings=settings.network)
    with torch.no_grad():
        network.mask_head.bias[0] += 3.0  # background nearly everywhere
    save_model(path, network, Card(settings, False, 0, quality={"any": 1}))
    return path


@pytest.fixture
def corrected(ball, tmp_path):
    """A scan of 32 x 16 x 16 voxels with a ball at one end, and two of its slices corrected."""
    scan, truth = ball((32, 16, 16), (1, 1, 1), radius=5)
    scan, truth = (sitk.GetArrayFromImage(image).T for image in (scan, truth))
    scan, truth = np.roll(scan, -8, 0), np.roll(truth, -8, 0)  # its middle at x = 7.5
    strokes = np.full(truth.shape, 255, np.uint8)
    for x in (6, 9):
        strokes[x] = 4 * truth[x]
    files = tmp_path / "scan.nii.gz", tmp_path / "strokes.nii.gz"
    for array, file in zip((scan, strokes), files, strict=True):
        sitk.WriteImage(sitk.GetImageFromArray(np.ascontiguousarray(array.T)), file)
    return *files, strokes


def array(file):
    return sitk.GetArrayFromImage(sitk.ReadImage(file)).T


def test_the_mask_follows_what_was_drawn_and_stays_far_from_it(untrained, corrected, tmp_path):
    scan, drawn, strokes = corrected
    before_bytes = untrained.read_bytes()
    [first] = predict(untrained, scan, tmp_path / "before", device="cpu")
    settings = RefinementSettings(seconds=60, steps=30, learning_rate=3e-3, reach=3)
    saved, output = tmp_path / "adapted.safetensors", tmp_path / "after.nii.gz"
    outcome = refine(untrained, scan, drawn, output, settings, save=saved, device="cpu")
    before, after = array(first.mask), array(output)
    assert (after[strokes != 255] == strokes[strokes != 255]).all()
    assert outcome.right_before < 0.6 < 0.85 < outcome.right_after
    between = slice(7, 9)  # nobody drew there
    truth = strokes[6] == 4
    assert (after[between] == 4)[:, truth].mean() > 0.8
    assert (after[between] == 4)[:, ~truth].mean() < 0.2
    assert (after[22:] == before[22:]).all()  # more than four times the reach away
    assert outcome.changed_ml == pytest.approx((after != before).sum() / 1000)
    assert untrained.read_bytes() == before_bytes
    assert load_model(saved).card.quality == {}
    assert not torch.equal(
        load_model(saved).weights["mask_head.weight"], load_model(untrained).weights["mask_head.weight"]
    )


def test_strokes_that_are_right_already_change_nothing(untrained, corrected, tmp_path, capsys):
    scan, drawn, _ = corrected
    [first] = predict(untrained, scan, tmp_path / "before", device="cpu")
    mask = array(first.mask)
    strokes = np.where(np.arange(32)[:, None, None] == 5, mask, 255).astype(np.uint8)
    sitk.WriteImage(sitk.GetImageFromArray(np.ascontiguousarray(strokes.T)), drawn)
    command = ["--model", str(untrained), "--scan", str(scan), "--strokes", str(drawn), "--device", "cpu"]
    assert main([*command, "--output", str(tmp_path / "after.nii.gz"), "--json-progress"]) == 0
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (said["event"], said["steps"], said["reason"], said["changed_ml"]) == ("refined", 0, "nothing", 0.0)
    assert (array(tmp_path / "after.nii.gz") == mask).all()


@pytest.mark.parametrize(("value", "words"), [(255, "nothing is drawn"), (0, "every voxel is drawn"), (7, "no label")])
def test_strokes_that_say_nothing_are_refused_by_name(value, words, untrained, corrected, tmp_path, capsys):
    scan, drawn, strokes = corrected
    sitk.WriteImage(sitk.GetImageFromArray(np.full(strokes.T.shape, value, np.uint8)), drawn)
    command = ["--model", str(untrained), "--scan", str(scan), "--strokes", str(drawn), "--device", "cpu"]
    assert main([*command, "--output", str(tmp_path / "after.nii.gz")]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert drawn.name in error


def test_only_strokes_that_contradict_the_mask_open_it():
    drawn, before = np.full((9, 1, 1), 255, np.uint8), np.zeros((9, 1, 1), np.uint8)
    drawn[1], drawn[6] = 0, 1  # right, wrong
    near = nearness(drawn, before, (2.0, 1.0, 1.0), reach=4.0)[:, 0, 0]
    assert near[6] == 1
    assert near[4] == pytest.approx(np.exp(-(4**2) / (2 * 4**2)))
    assert near[1] == pytest.approx(np.exp(-(10**2) / (2 * 4**2)))
    assert not nearness(np.where(drawn == 1, 255, drawn), before, (2.0, 1.0, 1.0), 4.0).any()


def test_the_losses_worked_by_hand():
    """One patch of three voxels: class 1 with probability 0.25, 0.5, 0.75."""
    p = torch.tensor([0.25, 0.5, 0.75])
    logits = torch.stack([torch.log(1 - p), torch.log(p)])[None]
    drawn = torch.tensor([[1, 255, 0]], dtype=torch.uint8)
    assert stroke_loss(logits, drawn).item() == pytest.approx(-(np.log(0.25) + np.log(0.25)) / 2)
    assert stroke_loss(logits, torch.full((1, 3), 255)).item() == 0
    before = torch.tensor([[[0.5, 0.5, 0.25], [0.5, 0.5, 0.75]]])
    weight = torch.tensor([[1.0, 3.0, 0.0]])
    divergence = 0.5 * np.log(0.5 / 0.75) + 0.5 * np.log(0.5 / 0.25)
    assert keeping_loss(logits, before, weight).item() == pytest.approx(divergence / 4)


def test_a_kept_model_goes_part_of_the_way():
    old = {"weight": torch.tensor([1.0, 2.0]).half(), "count": torch.tensor(3)}
    new = {"weight": torch.tensor([3.0, 0.0]), "count": torch.tensor(7)}
    found = between(old, new, 0.25)
    assert found["weight"].tolist() == [1.5, 1.5]
    assert found["count"] == 7


def test_each_drawn_class_counts_the_same():
    drawn = np.array([0, 0, 0, 0, 1, 255])
    assert share_right(np.array([0, 0, 0, 1, 0, 1]), drawn) == pytest.approx((3 / 4 + 0) / 2)


def test_a_run_whose_masks_are_gone_refines_without_them(corrected, tmp_path):
    """Unless they were asked for: then it is said what is missing."""
    scan, strokes, _ = corrected
    mask, run = tmp_path / "mask.nii.gz", RunFolder.create(tmp_path / "run")
    sitk.WriteImage(sitk.ReadImage(str(strokes)), str(mask))
    settings = build_settings(
        "supervised", overrides={"data.labels": [Label(4, "ball", (10, 200, 30))], "training.patch_size": "32,16,16"}
    )
    write_json(run.settings_file, settings.to_dict())
    write_json(run.cases_file, cases_to_dict(CaseList((Case("one", scan, mask),), (), (), None, tmp_path)))
    assert _replayed(run.path, settings, asked=False) is not None
    mask.unlink()
    assert _replayed(run.path, settings, asked=False) is None
    with pytest.raises(SemiSegError, match=r"mask\.nii\.gz"):
        _replayed(run.path, settings, asked=True)


@pytest.mark.parametrize(("axes", "expected"), [((), {()}), ((2,), {(), (2,)})])
def test_old_annotations_are_mirrored_only_as_in_their_training(axes, expected, tmp_path):
    """Trainings that warp mirror along the task's axes alone; their settings for turns and flips are not in force."""
    scan = np.random.default_rng(0).random((32, 16, 16), np.float32)
    files = tmp_path / "scan.nii.gz", tmp_path / "mask.nii.gz"
    for array, file in zip((scan, (scan > 0.5).astype(np.uint8)), files, strict=True):
        sitk.WriteImage(sitk.GetImageFromArray(np.ascontiguousarray(array.T)), file)
    values = {"data.labels": [Label(1, "bright", (10, 200, 30))], "data.spacing": "1,1,1", "training.flip": "each"}
    values |= {"training.patch_size": "32,16,16", "augmentation.mirror_axes": axes}
    settings, run = build_settings("supervised", overrides=values), RunFolder.create(tmp_path / "run")
    write_json(run.settings_file, settings.to_dict())
    write_json(run.cases_file, cases_to_dict(CaseList((Case("one", *files),), (), (), None, tmp_path)))
    replay = _replayed(run.path, settings, asked=True)
    whole = torch.from_numpy(replay.cases[0][0].image().astype(np.float32))
    flips = [(), (0,), (1,), (0, 1), (2,)]
    seen = set()
    for step in range(20):
        patch = replay.draw(step).labelled.image[0, 0]
        seen |= {flip for flip in flips if torch.allclose(patch, whole.flip(flip), atol=0.02)}
    assert seen == expected


def test_scan_strokes_and_model_are_never_replaced(untrained, corrected, tmp_path, capsys):
    scan, drawn, _ = corrected
    before = [path.read_bytes() for path in (scan, drawn, untrained)]
    command = ["--model", str(untrained), "--scan", str(scan), "--strokes", str(drawn), "--device", "cpu"]
    for given in (scan, drawn):
        assert main([*command, "--output", str(given)]) == 2
        assert f"{given} would be replaced" in capsys.readouterr().err
    mask = tmp_path / "mask.nii.gz"
    for given in (untrained, scan, drawn, mask):
        assert main([*command, "--output", str(mask), "--save", str(given)]) == 2
        assert f"{given} would be replaced by the adapted model" in capsys.readouterr().err
    assert [path.read_bytes() for path in (scan, drawn, untrained)] == before


def test_in_half_precision_small_gradients_are_not_lost():
    """fp16 has nothing below 6e-8, and a voxel's share of the loss is less: GPUs without bf16 learnt little of it."""
    from SemiSegLib.training import refinement

    class Pointwise(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.convolution = torch.nn.Conv3d(1, 2, 1)

        def forward(self, image):
            logits = self.convolution(image)
            return NetworkOutput(logits, None, logits, [logits])

    torch.manual_seed(0)
    network, before = Pointwise(), torch.full((1, 2, 32, 32, 32), 0.5)
    with torch.no_grad():
        network.convolution.weight.zero_()
        network.convolution.bias[0] = 8.0  # quite sure: gradients of 3e-4 / 32,768 at each of the voxels
    drawn = torch.zeros(1, 32, 32, 32, dtype=torch.uint8)
    patch = [torch.ones(1, 1, 32, 32, 32), drawn, before, torch.ones(1, 32, 32, 32)]
    optimiser = torch.optim.SGD(network.parameters(), 1.0)
    compute = Compute(torch.device("cpu"), torch.float16, "")
    refinement._step(network, optimiser, torch.amp.GradScaler("cpu", 1024.0), patch, compute, None, 1)
    assert float(network.convolution.weight.detach().abs().max()) > 0
