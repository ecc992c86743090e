"""Self-ensembling contrastive learning: regions of the body, classes by pseudo labels, one decoder."""

import math

import pytest
import torch

from SemiSegLib.methods.secl import class_weights, region_weights
from SemiSegLib.schedules import Step

torch.set_num_threads(1)
LATE = Step(4, 8)


@pytest.fixture
def turned():
    """A function that turns and mirrors patches, as the sampler does, with their frame."""

    def turn(patches):
        rotation = torch.tensor([[0.0, 1, 0, 0], [-1, 0, 0, 1], [0, 0, 1, 0], [0, 0, 0, 1]])
        whole = torch.eye(4).repeat(len(patches.image), 1, 1)
        whole[:, :3] = patches.frame
        patches.image = patches.image.rot90(1, (2, 3))
        patches.frame = (whole @ rotation)[:, :3]
        return patches

    return turn


@pytest.mark.parametrize("sides", [(8, 8), (8, 8, 4)])
def test_regions_divide_the_scan(make_batch, sides):
    patches = make_batch(tuple(8 * side for side in sides)[:2] + (32,) * (len(sides) - 2)).unlabelled
    weights = region_weights(patches, sides, 4, 4)
    assert weights.shape == (2, 64, *sides)
    assert (weights.sum(1) == 1).all()
    if len(sides) == 2:  # all in the middle of the scan
        assert weights[:, :32].sum() == weights[:, 48:].sum() == 0
        expected = torch.stack([torch.arange(8).div(2, rounding_mode="floor")] * 8, 1)
        assert torch.equal(weights[0, 32:48].argmax(0) // 4, expected)
        assert torch.equal(weights[0, 32:48].argmax(0) % 4, expected.T)
    else:
        assert torch.equal(weights.argmax(1)[0, 0, 0], torch.arange(4) * 16)


def test_regions_stay_with_the_body_when_a_patch_is_turned(make_batch, turned):
    patches = make_batch((64, 64)).unlabelled
    before = region_weights(patches, (8, 8), 4, 4)
    after = region_weights(turned(patches), (8, 8), 4, 4)
    assert torch.equal(after, before.rot90(1, (2, 3)))
    assert not torch.equal(after, before)


def test_padding_lies_in_no_region(make_batch):
    patches = make_batch((64, 64)).unlabelled
    patches.frame[:, 0, 0], patches.frame[:, 0, 3] = 2.0, -0.5  # the scan fills the middle half along x
    weights = region_weights(patches, (8, 8), 4, 4).sum(1)
    assert (weights[:, 2:6] == 1).all()
    assert weights[:, :2].sum() == weights[:, 6:].sum() == 0


def test_class_weights_are_shares_of_sure_voxels():
    probabilities = torch.zeros(1, 3, 4, 4)
    probabilities[:, 0] = 1.0
    probabilities[0, :, 0, 0] = torch.tensor([0.0, 0.95, 0.05])
    probabilities[0, :, 0, 1] = torch.tensor([0.0, 0.8, 0.2])  # unsure
    weights = class_weights(probabilities, 0.9, (2, 2))
    assert weights[0, :, 0, 0].tolist() == [0.5, 0.25, 0.0]
    assert weights[0, :, 1, 1].tolist() == [1.0, 0.0, 0.0]


def test_turning_both_networks_inputs_does_not_change_the_region_loss(make_method, make_batch, turned):
    """Embeddings that follow the image: the contrast sees the same regions."""
    method, batch = make_method("secl", (64, 64), sampling="region"), make_batch((64, 64))
    method._view = lambda image: image
    method.teacher.encode = lambda image: [torch.nn.functional.avg_pool2d(image, 8).expand(-1, 128, -1, -1) ** 2] * 4
    student = torch.nn.functional.avg_pool2d(batch.unlabelled.image, 8).expand(-1, 128, -1, -1)
    student = student + torch.linspace(0, 1, 128).reshape(1, -1, 1, 1)
    before = method._region_aware(student, batch.unlabelled)
    after = method._region_aware(student.rot90(1, (2, 3)), turned(batch.unlabelled))
    torch.testing.assert_close(before, after)
    assert before > 0


def test_the_same_place_in_another_scan_is_a_positive(make_method, make_batch):
    """Embeddings that are a code of the place alone give the least loss, whatever the image."""
    method, batch = make_method("secl", (64, 64), sampling="region", embedding=16), make_batch((64, 64))
    code = torch.eye(16).reshape(16, 4, 4).repeat_interleave(2, 1).repeat_interleave(2, 2).expand(2, -1, -1, -1)
    method.teacher_head = torch.nn.Identity()
    method.teacher.encode = lambda image: [code] * 4
    value = method._region_aware(code, batch.unlabelled).item()
    expected = -math.log(math.exp(10) / (math.exp(10) + 30))  # 15 other cells, in 2 images
    assert value == pytest.approx(expected, rel=1e-3)
    shuffled = torch.stack([code[0], code[1].roll(1, 0)])  # the second image has its cells elsewhere
    method.teacher.encode = lambda image: [shuffled] * 4
    assert method._region_aware(code, batch.unlabelled).item() > value + 1


def test_classes_attract_across_scans_and_repel_each_other(make_method, make_batch):
    """Embeddings that are a code of the pseudo class; the second call finds the first one's means in the bank."""
    method, batch = make_method("secl", (64, 64), 3, embedding=3, bank=4), make_batch((64, 64), 3)
    code = torch.zeros(2, 3, 8, 8)
    code[:, 0, :4], code[:, 1, 4:6], code[:, 2, 6:] = 1, 1, 1

    class Sure(torch.nn.Module):
        def encode(self, image):
            return [code] * 4

        def decode(self, features):
            from SemiSegLib.networks.output import NetworkOutput

            logits = 50 * torch.nn.functional.interpolate(features[3], scale_factor=8)
            return NetworkOutput(logits, None, logits, [])

    method.teacher, method.teacher_head = Sure(), torch.nn.Identity()
    first = method._anatomical_aware(code, batch.unlabelled).item()
    assert first == pytest.approx(-math.log(math.exp(10) / (math.exp(10) + 4)), rel=1e-3)
    assert [int(bank.pushed) for bank in method.banks] == [2, 2, 2]
    second = method._anatomical_aware(code, batch.unlabelled).item()
    assert second == pytest.approx(-math.log(math.exp(10) / (math.exp(10) + 8)), rel=1e-3)
    method.settings.dense = 5
    dense = method._anatomical_aware(code, batch.unlabelled).item()
    assert dense == pytest.approx(-math.log(math.exp(10) / (math.exp(10) + 12)), rel=1e-3)
    assert method._anatomical_aware(code.roll(1, 1), batch.unlabelled).item() > 5


def test_the_contrast_trains_the_encoder_only(make_method, make_batch):
    method, batch = make_method("secl", (64, 64), sampling="region"), make_batch((64, 64))
    method.losses(batch, LATE)["region"].value.backward()
    reached = {name.split(".")[0] for name, p in method.student.named_parameters() if p.grad is not None}
    assert reached == {"encoder"}
    assert all(p.grad is not None for p in method.student_head.parameters())


def test_there_is_one_decoder(make_method, make_batch, train_steps):
    method, batch = make_method("secl", (32, 32)), make_batch((32, 32))
    train_steps(method, batch, last=4)
    ours, theirs = (dict(net.named_parameters()) for net in (method.teacher, method.student))
    for name in ours:
        if name.endswith("weight"):
            assert torch.equal(ours[name], theirs[name]) == (not name.startswith("encoder"))


def test_pseudo_labels_are_not_used_at_the_beginning(make_method, make_batch):
    method, batch = make_method("secl", iterations=100), make_batch()
    assert method.losses(batch, Step(9, 100))["anatomical"].value == 0
    assert not any(bank.filled.any() for bank in method.banks)


def test_without_contrast_it_is_supervised_training(make_method, make_batch):
    method, batch = make_method("secl", sampling="none"), make_batch()
    assert set(method.losses(batch, LATE)) == {"supervised"}
    assert not method.needs_unlabelled


def test_without_contrast_it_is_the_supervised_method(make_method, make_batch, train_steps):
    batch = make_batch()
    ours, _ = train_steps(make_method("secl", sampling="none"), batch)
    supervised, _ = train_steps(make_method("supervised"), batch)
    assert ours == supervised
