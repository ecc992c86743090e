"""Bidirectional copy-paste: boxes, both directions, annotated and pseudo-labelled parts."""

import pytest
import torch

from SemiSegLib.config import TrainingSettings
from SemiSegLib.losses.segmentation import mask_loss
from SemiSegLib.methods.bcp import halves, paste, random_box
from SemiSegLib.schedules import Step, learning_rate, step_at

torch.set_num_threads(1)
PRE, SELF = Step(1, 4, "pre-training"), Step(1, 4, "self-training")


@pytest.mark.parametrize("sides", [(30, 24), (30, 24, 12)])
def test_the_box_has_two_thirds_of_every_side(sides):
    torch.manual_seed(0)
    boxes = [random_box(torch.zeros(2, 1, *sides), 2 / 3) for _ in range(30)]
    for box in boxes:
        occupied = box.nonzero()
        extent = occupied.amax(0) - occupied.amin(0) + 1
        assert extent.tolist() == [side * 2 // 3 for side in sides]
        assert box.sum() == extent.prod()
    assert len({tuple(box.nonzero()[0].tolist()) for box in boxes}) > 10


def test_halves():
    batch = torch.arange(5)
    assert [half.tolist() for half in halves(batch[:4])] == [[0, 1], [2, 3]]
    assert [half.tolist() for half in halves(batch)] == [[0, 1], [3, 4]]
    assert [half.tolist() for half in halves(batch[:1])] == [[0], [0]]


def test_the_box_shows_what_is_pasted():
    box = torch.zeros(4, 4, dtype=torch.bool)
    box[1:3, 1:3] = True
    mixed = paste(box, torch.zeros(2, 1, 4, 4), torch.ones(2, 1, 4, 4))
    assert torch.equal(mixed[0, 0].bool(), box)


def test_pre_training_pastes_labelled_patches_into_each_other(make_method, make_batch):
    method, batch = make_method("bcp", classes=3), make_batch(classes=3)
    torch.manual_seed(5)
    terms = method.losses(batch, PRE)
    torch.manual_seed(5)
    box = random_box(batch.labelled.image, 2 / 3)
    (a, b), (y_a, y_b) = batch.labelled.image.split(1), batch.labelled.mask.split(1)
    logits = method.student(torch.cat([paste(box, a, b), paste(box, b, a)])).logits
    expected = mask_loss(logits, torch.cat([paste(box, y_a, y_b), paste(box, y_b, y_a)]), background=True)
    assert list(terms) == ["supervised"]
    torch.testing.assert_close(terms["supervised"].value, expected)


def test_self_training_weighs_annotated_and_pseudo_labelled_voxels_separately(make_method, make_batch):
    """Written out with explicit masks, as in the paper's equations."""
    method, batch = make_method("bcp", classes=3), make_batch(classes=3)
    method.enter_stage("self-training", True)
    pseudo = torch.randint(0, 3, (2, 32, 32), generator=torch.Generator().manual_seed(0))
    method._pseudo_labels = lambda image: pseudo
    torch.manual_seed(5)
    terms = method.losses(batch, SELF)
    torch.manual_seed(5)
    box = random_box(batch.labelled.image, 2 / 3)
    outside = (~box).float()
    x, y, u = batch.labelled.image, batch.labelled.mask, batch.unlabelled.image
    mixed = torch.cat([x[:1] * outside + u[:1] * (1 - outside), u[1:] * outside + x[1:] * (1 - outside)])
    probabilities = method.student(mixed).probabilities

    def part(p, target, where):
        ce = -(p.gather(1, target.unsqueeze(1)).log()[:, 0] * where).sum() / where.sum()
        dice = 0
        for c in range(3):
            q, p_c = (target == c) * where, p[:, c] * where
            dice += (1 - (2 * (p_c * q).sum() + 1e-5) / ((p_c**2).sum() + q.sum() + 1e-5)) / 3
        return (ce + dice) / 2

    inside = 1 - outside
    annotated = part(probabilities[:1], y[:1], outside) + part(probabilities[1:], y[1:], inside)
    imagined = part(probabilities[:1], pseudo[:1], inside) + part(probabilities[1:], pseudo[1:], outside)
    torch.testing.assert_close(terms["supervised"].value, annotated)
    torch.testing.assert_close(terms["pseudo"].value, imagined)
    assert (terms["supervised"].weight, terms["pseudo"].weight) == (1, 0.5)


def test_pseudo_labels_are_the_teachers_largest_parts(make_method):
    method = make_method("bcp", classes=3)
    image = torch.zeros(1, 1, 32, 32)
    image[..., 2:10, 2:10], image[..., 20:22, 20:22], image[..., 25:30, 2:6] = 1, 1, 2

    class Reader(torch.nn.Module):
        def forward(self, image):
            from SemiSegLib.networks.output import NetworkOutput

            logits = torch.cat([image == 0, image == 1, image == 2], 1).float()
            return NetworkOutput(logits, None, logits, [])

    method.teacher = Reader()
    labels = method._pseudo_labels(image)
    assert (labels == 1).sum() == 64
    assert (labels == 2).sum() == 20
    method.settings.largest_component = False
    assert (method._pseudo_labels(image) == 1).sum() == 68


def test_self_training_starts_from_the_pre_trained_network(make_method, make_batch, train_steps):
    method, batch = make_method("bcp", iterations=8), make_batch()
    first = {name: weight.clone() for name, weight in method.teacher.state_dict().items()}
    _, optimiser = train_steps(method, batch, last=2)
    assert all(torch.equal(weight, first[name]) for name, weight in method.teacher.state_dict().items())
    pretrained = {name: weight.clone() for name, weight in method.student.named_parameters()}
    train_steps(method, batch, 2, 3, optimiser=optimiser)
    for name, weight in method.teacher.named_parameters():
        expected = 0.99 * pretrained[name] + 0.01 * dict(method.student.named_parameters())[name]
        torch.testing.assert_close(weight, expected)


@pytest.mark.parametrize("schedule", ["step", "poly"])
def test_the_learning_rate_is_constant_in_pre_training_and_follows_the_schedule_afterwards(schedule, make_method):
    """As in the authors' code for the left atrium, whose pre-training knows no schedule."""
    method, training = make_method("bcp", iterations=80), TrainingSettings(schedule=schedule)
    steps = [step_at(iteration, 80, method.stages) for iteration in range(80)]
    rates = [learning_rate(step, training, method.constant_rate) for step in steps]
    assert rates[:20] == [0.01] * 20
    assert rates[20] == 0.01
    assert rates[79] < 0.001
