"""Mean teacher: consistency of unlabelled patches with the EMA of the student."""

import math

import pytest
import torch

from SemiSegLib.data.views import noisy
from SemiSegLib.losses.consistency import probability_mse
from SemiSegLib.schedules import Step

torch.set_num_threads(1)


def test_the_weight_follows_the_ramp(make_method, make_batch):
    method, batch = make_method("mean-teacher"), make_batch()
    for iteration in (0, 4, 7):
        terms = method.losses(batch, Step(iteration, 8))
        ramp = math.exp(-5 * (1 - iteration / 8) ** 2)
        assert terms["consistency"].weight == pytest.approx(0.1 * ramp)


def test_the_consistency_is_that_of_the_unlabelled_patches(make_method, make_batch):
    method, batch = make_method("mean-teacher"), make_batch()
    for parameter in method.teacher.parameters():
        parameter.add_(0.01)
    torch.manual_seed(3)
    value = method.losses(batch, Step(4, 8))["consistency"].value
    torch.manual_seed(3)
    student = method.student(batch.images).logits[2:]
    with torch.no_grad():
        teacher = method.teacher(noisy(batch.unlabelled.image)).logits
    torch.testing.assert_close(value, probability_mse(student, teacher))
    assert value > 0


def test_noise_is_clipped():
    difference = noisy(torch.zeros(100, 100))
    assert difference.abs().max() == pytest.approx(0.2)
    assert difference.std().item() == pytest.approx(0.1, rel=0.1)
    assert difference.mean().item() == pytest.approx(0, abs=0.01)


def test_the_teacher_is_copied_at_first_and_then_averaged(make_method, make_batch, train_steps):
    method, batch = make_method("mean-teacher"), make_batch()
    method.student.mask_head.weight.data.add_(1)
    _, optimiser = train_steps(method, batch, last=1)
    weights = [net.mask_head.weight.detach().clone() for net in (method.student, method.teacher)]
    assert torch.equal(*weights)
    train_steps(method, batch, 1, 2, optimiser=optimiser)
    torch.testing.assert_close(method.teacher.mask_head.weight, (method.student.mask_head.weight + weights[0]) / 2)


def test_both_networks_predict(make_method):
    assert list(make_method("mean-teacher").predictors()) == ["student", "teacher"]
