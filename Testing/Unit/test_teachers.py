"""A teacher that predicts has batch statistics that belong to its weights, whichever part of it training runs."""

import copy

import pytest
import torch

from SemiSegLib.networks import build_network
from SemiSegLib.networks.ema import hand_over, make_teacher, update_teacher

CASES = {
    "mean-teacher without unlabelled patches": ("mean-teacher", 0, {"ema_decay": 0.5}),
    "only the teacher's encoder runs": ("secl", 2, {"ema_decay": 0.5, "sampling": "region"}),
    "no teacher runs": ("secl", 0, {"ema_decay": 0.5, "sampling": "none"}),
    "bcp without unlabelled patches": ("bcp", 0, {"ema_decay": 0.5}),
    "action without unlabelled patches": ("action", 0, {"ema_decay": 0.5, "shares": (0, 0, 1), "queries": 8}),
}


def overlap(network, batch):
    """DSC of the foreground as prediction computes it."""
    with torch.no_grad():
        found = copy.deepcopy(network).eval()(batch.labelled.image).logits.argmax(1) == 1
    truth = batch.labelled.mask == 1
    return 2 * float((found & truth).sum()) / float(found.sum() + truth.sum())


@pytest.mark.parametrize("case", CASES)
def test_the_teacher_predicts_as_well_as_the_student(case, make_method, make_batch, train_steps):
    name, unlabelled, settings = CASES[case]
    method, batch = make_method(name, iterations=30, **settings), make_batch(unlabelled=unlabelled)
    train_steps(method, batch, rate=0.05)
    scores = {name: overlap(network, batch) for name, network in method.predictors().items()}
    assert scores["student"] > 0.9
    assert scores["teacher"] > 0.9


def norms(network):
    return [module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)]


def test_layers_that_never_ran_follow_the_student_and_others_keep_their_own():
    student = build_network(2, 2)
    teacher = make_teacher(student)
    student.train()(torch.randn(2, 1, 32, 32))
    teacher.train().encode(3 + torch.randn(2, 1, 32, 32))
    own = {key: value.clone() for key, value in teacher.encoder.state_dict().items() if "running" in key}
    update_teacher(teacher, student, 0.9, 5)
    for key, value in own.items():
        assert torch.equal(teacher.encoder.state_dict()[key], value)
    for ours, theirs in zip(norms(teacher.decoder), norms(student.decoder), strict=True):
        assert torch.equal(ours.running_mean, theirs.running_mean)
        assert torch.equal(ours.running_var, theirs.running_var)
        assert ours.num_batches_tracked == 0


def test_a_teacher_that_was_handed_the_student_gathers_its_own_from_there():
    student, teacher = build_network(2, 2), build_network(2, 2)
    student.train()(torch.randn(2, 1, 32, 32))
    hand_over(teacher, student)
    for ours, theirs in zip(teacher.parameters(), student.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    student(torch.randn(2, 1, 32, 32))
    update_teacher(teacher, student, 0.9, 5)
    assert torch.equal(norms(teacher)[0].running_var, norms(student)[0].running_var)
    teacher.train()(torch.randn(2, 1, 32, 32))
    student(torch.randn(2, 1, 32, 32))
    update_teacher(teacher, student, 0.9, 5)
    assert not torch.equal(norms(teacher)[0].running_var, norms(student)[0].running_var)
