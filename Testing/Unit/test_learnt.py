"""Labels that a network makes say nothing about classes that it has not learnt."""

import pytest
import torch

from SemiSegLib.constants import IGNORE
from SemiSegLib.losses.learnt import LearntClasses, silent_about
from SemiSegLib.losses.segmentation import mask_loss, output_loss
from SemiSegLib.networks.output import NetworkOutput
from SemiSegLib.presets import build_settings
from SemiSegLib.schedules import Step


def logits_of(*rows):
    """(1, C, 1, N) logits whose softmax are these columns of probabilities."""
    return torch.tensor(rows).log().t().reshape(1, len(rows[0]), 1, len(rows))


def test_a_class_that_is_not_learnt_counts_for_every_label():
    """By hand: voxel 1 is labelled 0, voxel 2 is labelled 1; class 2 of three is missing, so of its probability."""
    logits = logits_of((0.5, 0.2, 0.3), (0.1, 0.6, 0.3))
    kept, counted = silent_about(torch.tensor([False, False, True]), logits, torch.tensor([[[0, 1]]]))
    torch.testing.assert_close(kept.softmax(1)[0, :, 0], torch.tensor([[0.8, 0.1], [0.2, 0.9]]))
    assert counted.tolist() == [[[0, 1]]]


def test_classes_after_a_missing_one_move_up_and_its_own_voxels_are_left_out():
    logits = logits_of(*[(0.1, 0.2, 0.3, 0.4)] * 4)
    kept, counted = silent_about(torch.tensor([False, True, False, False]), logits, torch.tensor([[[0, 1, 3, IGNORE]]]))
    assert counted.tolist() == [[[0, IGNORE, 2, IGNORE]]]
    torch.testing.assert_close(kept.softmax(1)[0, :, 0, 2], torch.tensor([0.1, 0.3, 0.6]))


def test_nothing_missing_changes_nothing():
    logits, target = torch.randn(2, 3, 4, 4), torch.randint(0, 3, (2, 4, 4))
    kept, counted = silent_about(torch.zeros(3, dtype=torch.bool), logits, target)
    assert kept is logits
    assert counted is target


def test_a_missing_class_is_not_taught_away():
    """Voxels that all are background by their label: a class as probable as background is pushed down, if learnt."""
    logits = torch.zeros(1, 3, 4, 4, requires_grad=True)
    output = NetworkOutput(logits, None, logits, [])
    output_loss(output, torch.zeros(1, 4, 4), learnt=torch.tensor([True, True, False])).backward()
    assert (logits.grad[:, 1] > 0).all()
    assert (logits.grad[:, 2] < 0).all()  # its rise, as that of background, is at the cost of class 1
    logits.grad = None
    output_loss(output, torch.zeros(1, 4, 4)).backward()
    assert (logits.grad[:, 2] > 0).all()


def test_coarser_outputs_are_silent_too():
    output = NetworkOutput(
        torch.randn(2, 3, 8, 8), None, torch.zeros(2), [], [torch.randn(2, 3, 2, 2), torch.randn(2, 3, 4, 4)]
    )
    target, learnt = torch.randint(0, 2, (2, 8, 8)), torch.tensor([True, True, False])
    parts = [
        mask_loss(*silent_about(~learnt, logits, target[:, ::step, ::step]))
        for logits, step in ((output.logits, 1), (output.coarse[1], 2), (output.coarse[0], 4))
    ]
    expected = (parts[0] + parts[1] / 2 + parts[2] / 4) / 1.75
    torch.testing.assert_close(output_loss(output, target, learnt=learnt), expected)


def test_where_background_alone_is_learnt_there_is_nothing_to_learn_from():
    logits = torch.randn(1, 3, 4, 4, requires_grad=True)
    loss = output_loss(
        NetworkOutput(logits, None, logits, []), torch.zeros(1, 4, 4), learnt=torch.tensor([True, False, False])
    )
    loss.backward()
    assert loss == 0
    assert (logits.grad == 0).all()


def test_a_class_is_learnt_from_its_dsc_on():
    """By hand, of six voxels, the last unknown: class 1 has DSC 2 x 1 / (2 + 1) = 0.67, class 2 has 0."""
    mask = torch.tensor([[[0, 1, 2, 2, 0, IGNORE]]])
    found = torch.tensor([[[0, 1, 1, 0, 0, 2]]])
    logits = torch.nn.functional.one_hot(found, 3).movedim(-1, 1).float()
    assert LearntClasses(3, 0.6).update(logits, mask).tolist() == [True, True, False]
    assert LearntClasses(3, 0.7).update(logits, mask).tolist() == [True, False, False]
    assert LearntClasses(3, 0.0).update(logits, mask).tolist() == [True, True, True]


def test_what_is_learnt_follows_the_last_iterations_not_one():
    """A class found in 100 patches stays learnt in one in which it is missed, and does not in a hundred."""
    learnt, mask = LearntClasses(2, 0.5), torch.ones(1, 2, 2)
    right = torch.stack([torch.zeros(1, 2, 2), mask], 1)
    for _ in range(100):
        learnt.update(right, mask)
    assert learnt.update(-right, mask).tolist() == [True, True]
    for _ in range(100):
        after = learnt.update(-right, mask)
    assert after.tolist() == [True, False]


@pytest.mark.parametrize(("least", "taught"), [(0.0, True), (0.9, False)])
def test_unimatch_teaches_no_structure_away_that_it_does_not_find(least, taught, make_method, make_batch):
    """The labelling network is sure of background everywhere, the student still finds class 1 possible."""
    method, batch = make_method("unimatch", learnt=least, features=0.0), make_batch()
    with torch.no_grad():
        method.teacher.mask_head.bias[:] = torch.tensor([50.0, 0.0])
    term = method.losses(batch, Step(9, 10))["strong"]
    assert (term.value > 0.01) == taught


def test_unlabelled_patches_weigh_as_much_as_is_learnt(make_method, make_batch):
    """One of two structures learnt: half of the weight, and all weights together are 1."""
    method, batch = make_method("unimatch", classes=3, learnt=0.6, features=0.0, strong=1.0), make_batch(classes=3)
    mask = batch.labelled.mask.clamp(max=1)
    one = torch.nn.functional.one_hot(mask.long(), 3).movedim(-1, 1).float()
    for _ in range(500):
        method.learnt.update(one, mask)
    terms = method.losses(batch, Step(9, 10))
    assert {name: term.weight for name, term in terms.items()} == pytest.approx({"supervised": 2 / 3, "strong": 1 / 3})


def test_the_recipe_of_our_own_asks_whether_a_class_is_learnt():
    assert build_settings("unimatch").method_settings["learnt"] == 0.5
    assert build_settings("unimatch", recipe="published").method_settings["learnt"] == 0.0
