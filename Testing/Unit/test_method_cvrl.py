"""CVRL: two levels, two directions of contrast, two views of the same voxels."""

import math

import pytest
import torch

from SemiSegLib.losses.contrastive import dimensional_info_nce, info_nce
from SemiSegLib.methods.cvrl import rows
from SemiSegLib.schedules import Step

torch.set_num_threads(1)


@pytest.mark.parametrize("sides", [(4, 5), (3, 2, 4)])
def test_rows_are_voxels(sides):
    features = torch.randn(2, 3, *sides)
    every = rows(features)
    count = math.prod(sides)
    for patch in range(2):
        for voxel, place in enumerate(torch.cartesian_prod(*map(torch.arange, sides)).tolist()):
            assert torch.equal(every[patch * count + voxel], features[(patch, slice(None), *place)])
    places = torch.randint(count, (2, 7))
    assert torch.equal(rows(features, places), torch.cat([every[:count][places[0]], every[count:][places[1]]]))


def test_both_views_show_the_same_voxels(make_method):
    """Views differ in noise and grey values, not in geometry."""
    method, image = make_method("cvrl"), torch.randn(3, 1, 32, 32) * 20
    one, two = method._view(image), method._view(image)
    assert not torch.equal(one, two)
    for a, b in zip(one.flatten(1), two.flatten(1), strict=True):
        assert torch.corrcoef(torch.stack([a, b]))[0, 1] > 0.999


def test_a_level_is_contrasted_in_both_directions(make_method):
    method = make_method("cvrl")
    student, teacher = torch.randn(20, 256), torch.randn(20, 256)
    z, k = method.student_heads["low"](student), method.teacher_heads["low"](teacher)
    voxels, features = info_nce(z, k, 0.1), dimensional_info_nce(z, k, 0.5)
    torch.testing.assert_close(method._contrast("low", student, teacher), voxels + features)
    method.settings.features = False
    torch.testing.assert_close(method._contrast("low", student, teacher), voxels)


def test_the_weights_follow_the_ramp(make_method, make_batch):
    method, batch = make_method("cvrl"), make_batch()
    ramp = math.exp(-5 * (1 - 3 / 8) ** 2)
    weights = {name: term.weight for name, term in method.losses(batch, Step(3, 8)).items()}
    assert weights == pytest.approx({"supervised": 1, "low": 0.1 * ramp, "high": 0.1 * ramp, "consistency": 0.1 * ramp})


def test_each_level_trains_its_own_head(make_method, make_batch):
    method, batch = make_method("cvrl", (16, 16, 32), 3), make_batch((16, 16, 32), 3)
    terms = method.losses(batch, Step(3, 8))
    for level, other in (("low", "high"), ("high", "low")):
        method.zero_grad(set_to_none=True)
        terms[level].value.backward(retain_graph=True)
        assert all(p.grad is not None for p in method.student_heads[level].parameters())
        assert all(p.grad is None for p in method.student_heads[other].parameters())
        decoder = [p.grad for name, p in method.student.named_parameters() if name.startswith("decoder")]
        assert all((grad is not None) == (level == "high") for grad in decoder)
        assert all(p.grad is None for p in method.student.mask_head.parameters())


def test_labelled_patches_may_be_contrasted_too(make_method, make_batch):
    method, batch = make_method("cvrl", labelled_too=True), make_batch(unlabelled=0)
    assert set(method.losses(batch, Step(3, 8))) == {"supervised", "low", "high", "consistency"}
    assert set(make_method("cvrl").losses(batch, Step(3, 8))) == {"supervised"}


def test_the_heads_of_the_teacher_follow_too(make_method, make_batch, train_steps):
    method = make_method("cvrl")
    train_steps(method, make_batch(), last=1)
    pairs = zip(method.student_heads.parameters(), method.teacher_heads.parameters(), strict=True)
    assert all(torch.equal(ours, theirs) for ours, theirs in pairs)
