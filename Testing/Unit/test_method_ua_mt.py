"""UA-MT: consistency only where several passes of the teacher agree."""

import math

import pytest
import torch

from SemiSegLib.schedules import Step

torch.set_num_threads(1)


class Oracle(torch.nn.Module):
    """Stands in for the teacher's network: certain in the left half of a patch, undecided in the right."""

    def forward(self, image):
        from SemiSegLib.networks.output import NetworkOutput

        logits = torch.zeros(len(image), 3, *image.shape[2:])
        logits[:, 1, : image.shape[2] // 2] = 20.0
        return NetworkOutput(logits, None, logits, [])


def test_uncertainty_is_the_entropy_of_the_mean_prediction(make_method, make_batch):
    method = make_method("ua-mt", classes=3)
    method.teacher = Oracle()
    entropy = method._uncertainty(make_batch(classes=3).unlabelled.image)
    assert entropy.shape == (2, 1, 32, 32)
    torch.testing.assert_close(entropy[:, :, :16], torch.zeros(2, 1, 16, 32), rtol=0, atol=1e-5)
    torch.testing.assert_close(entropy[:, :, 16:], torch.full((2, 1, 16, 32), math.log(3)), rtol=0, atol=1e-4)


def test_only_certain_voxels_count(make_method, make_batch):
    method, batch = make_method("ua-mt", classes=3), make_batch(classes=3)
    method.teacher = Oracle()
    torch.manual_seed(1)
    term = method.losses(batch, Step(0, 8))["consistency"]
    torch.manual_seed(1)
    student = method.student(batch.images).probabilities[2:, :, :16]
    target = torch.tensor([0.0, 1.0, 0.0]).reshape(1, 3, 1, 1)
    assert term.value.item() == pytest.approx((student - target).square().mean().item(), rel=1e-4)
    assert term.weight == pytest.approx(0.1 * math.exp(-5))


def test_at_the_end_of_the_ramp_everything_below_the_largest_entropy_counts(make_method, make_batch):
    """log(mu + 1e-6) puts an undecided voxel's entropy just below ln C, as in the code."""
    method, batch = make_method("ua-mt", classes=3), make_batch(classes=3)
    method.teacher = Oracle()
    torch.manual_seed(1)
    value = method.losses(batch, Step(8, 8))["consistency"].value
    torch.manual_seed(1)
    student, teacher = method.student(batch.images).probabilities[2:], method.teacher(batch.unlabelled.image)
    assert value.item() == pytest.approx((student - teacher.probabilities).square().mean().item(), rel=1e-4)
