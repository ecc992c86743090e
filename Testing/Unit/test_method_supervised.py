"""Supervised training: the baseline uses the labelled patches and nothing else."""

import torch

from SemiSegLib.losses.segmentation import mask_loss
from SemiSegLib.schedules import Step

torch.set_num_threads(1)


def test_the_loss_is_that_of_the_labelled_patches_alone(make_method, make_batch):
    method, batch = make_method("supervised", classes=3), make_batch(classes=3)
    torch.manual_seed(0)
    terms = method.losses(batch, Step(0, 8))
    torch.manual_seed(0)
    expected = mask_loss(method.student(batch.labelled.image).logits, batch.labelled.mask)
    assert list(terms) == ["supervised"]
    assert terms["supervised"].weight == 1
    torch.testing.assert_close(terms["supervised"].value, expected)
    batch.unlabelled.image += 5
    torch.manual_seed(0)
    torch.testing.assert_close(method.losses(batch, Step(0, 8))["supervised"].value, expected)


def test_it_asks_for_no_unlabelled_scans(make_method):
    assert not make_method("supervised").needs_unlabelled
    assert list(make_method("supervised").predictors()) == ["student"]
