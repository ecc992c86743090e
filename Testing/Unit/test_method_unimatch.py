"""UniMatch: what the labelling network is sure of must hold on the strong views, and nothing else counts."""

import pytest
import torch

from SemiSegLib.losses.segmentation import mask_loss
from SemiSegLib.networks.output import NetworkOutput
from SemiSegLib.schedules import Step, step_at

LATE = Step(9, 10)


class Shown(torch.nn.Module):
    """Logits are the input itself: sure of bright voxels and of dark ones."""

    def encode(self, image):
        return [image]

    def decode(self, features):
        image = features[0]
        return NetworkOutput(torch.cat([-image, image], 1), None, image, [image])

    def forward(self, image):
        return self.decode(self.encode(image))


@pytest.fixture
def shown(make_method):
    """A function that makes the method around a network that shows its input."""

    def make(**settings):
        method = make_method("unimatch", **settings)
        method.student = method.teacher = Shown()
        return method

    return make


def test_a_strong_view_that_agrees_costs_nothing(shown, make_batch):
    method, batch = shown(features=0.0, cutmix=1.0), make_batch()
    sure = 20.0 * batch.labelled.mask.unsqueeze(1).float() - 10.0
    batch.unlabelled.image, batch.unlabelled.views = sure, torch.stack([sure, 0.5 * sure], 1)
    assert method.losses(batch, LATE)["strong"].value < 1e-2
    batch.unlabelled.views = -batch.unlabelled.views
    assert method.losses(batch, LATE)["strong"].value > 5


def test_voxels_below_the_threshold_take_no_part(shown, make_batch):
    """sigmoid(2 x 0.9) = 0.858: below 0.95, above 0.8."""
    batch = make_batch()
    batch.unlabelled.image = torch.full_like(batch.unlabelled.image, 0.9)
    batch.unlabelled.views = torch.full_like(batch.unlabelled.views, -5.0)
    assert shown(features=0.0).losses(batch, LATE)["strong"].value == 0
    assert shown(features=0.0, threshold=0.8).losses(batch, LATE)["strong"].value > 4


def test_the_weights_are_the_papers(make_method, make_batch):
    """L = (L_x + 0.25 L_s1 + 0.25 L_s2 + 0.5 L_fp) / 2; the mean of two views with 0.5 is 0.25 of each."""
    terms = make_method("unimatch").losses(make_batch(), LATE)
    assert {name: round(term.weight, 9) for name, term in terms.items()} == {
        "supervised": 0.5,
        "strong": 0.25,
        "features": 0.25,
    }


def test_the_unlabelled_terms_ramp_up(make_method, make_batch):
    method, batch = make_method("unimatch", ramp=0.5), make_batch()
    weights = [method.losses(batch, Step(index, 10))["strong"].weight for index in (0, 3, 5, 9)]
    assert weights == sorted(weights)
    assert weights[0] < 0.01 < weights[1] < weights[2] == weights[3]


def test_the_supervised_term_is_that_of_the_labelled_patches(make_method, make_batch):
    method, batch = make_method("unimatch").eval(), make_batch(classes=2)
    expected = mask_loss(method.student(batch.labelled.image).logits, batch.labelled.mask)
    torch.testing.assert_close(method.losses(batch, LATE)["supervised"].value, expected)


def test_without_an_average_the_student_labels(make_method, make_batch):
    method, batch = make_method("unimatch", ema_decay=0.0), make_batch()
    with torch.no_grad():
        method.student.mask_head.bias[:] = torch.tensor([0.0, 50.0])
    labels = method._labels(batch.unlabelled.image)
    assert (labels == 1).all()
    assert method.student.training


def test_a_supervised_stage_goes_before_with_the_whole_batch(make_method):
    method = make_method("unimatch", shares=(1.0, 3.0))
    assert method.stages == {"supervised": 1.0, "weak to strong": 3.0}
    assert method.patches("supervised", 2, 3) == (5, 0)
    assert method.patches("weak to strong", 2, 3) == (2, 3)
    assert "supervised" in method.constant_rate
    published = make_method("unimatch").stages
    assert [step_at(iteration, 4, published).stage for iteration in range(4)] == ["weak to strong"] * 4


def test_labels_go_by_the_patches_and_not_by_running_statistics(make_method, make_batch):
    """Running statistics lag behind weights that move fast; a label that they spoil is learnt, and spoils the next."""
    batch = make_batch(unlabelled=2)
    for own in (True, False):
        torch.manual_seed(0)
        method = make_method("unimatch", batch_statistics=own, threshold=0.0)
        method.train()
        before = method._labels(batch.unlabelled.image)
        norms = [module for module in method.teacher.modules() if isinstance(module, torch.nn.BatchNorm2d)]
        assert norms
        assert all(norm.training for norm in norms)
        for norm in norms:
            norm.running_mean += 5 * torch.randn(norm.running_mean.shape)
        assert torch.equal(method._labels(batch.unlabelled.image), before) is own
