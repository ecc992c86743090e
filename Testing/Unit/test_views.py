"""Random views keep geometry and change what they say they change."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from SemiSegLib.data.views import blur, half_boxes, jitter, mix_with_next

torch.set_num_threads(1)
SHAPES = [(4, 1, 24, 20), (3, 1, 16, 18, 12)]


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("shape", SHAPES)
def test_blur_is_gaussian(shape):
    images = torch.randn(shape)
    blurred = blur(images, 0.8, 0.8, 1.0)
    for image, result in zip(images[:, 0], blurred[:, 0], strict=True):
        expected = ndimage.gaussian_filter(image.numpy(), 0.8, mode="nearest", radius=4)
        np.testing.assert_allclose(result.numpy(), expected, atol=1e-5)


def test_blur_is_drawn_for_each_patch():
    images = torch.randn(200, 1, 8, 8)
    blurred = blur(images, 0.5, 1.0, 0.5)
    same = torch.isclose(images, blurred, atol=1e-5).flatten(1).all(1)
    assert 70 < same.sum() < 130
    assert blur(images[:0]).shape == (0, 1, 8, 8)


@pytest.mark.parametrize("shape", SHAPES)
def test_jitter_changes_contrast_and_brightness_only(shape):
    images = torch.randn(shape) * 3 + 7
    changed = jitter(images, 0.2, 1.0)
    for a, b in zip(images.flatten(1), changed.flatten(1), strict=True):
        slope = (b.std() / a.std()).item()
        assert 0.8 <= slope <= 1.2
        assert abs((b.mean() - a.mean()) / a.std()) <= 0.2
        torch.testing.assert_close(b, (a - a.mean()) * slope + b.mean(), rtol=1e-4, atol=1e-4)
    assert torch.equal(jitter(images, 0.2, 0.0), images)


def test_jitter_does_not_depend_on_the_intensity_unit():
    images = torch.randn(4, 1, 16, 16)
    torch.manual_seed(1)
    one = jitter(images, 0.2, 1.0)
    torch.manual_seed(1)
    torch.testing.assert_close(jitter(images * 1000 + 50, 0.2, 1.0), one * 1000 + 50, rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("shape", [(50, 1, 32, 32), (50, 1, 32, 16, 4)])
def test_boxes_have_half_the_area(shape):
    boxes = half_boxes(torch.zeros(shape))
    assert boxes.shape == shape
    if len(shape) == 5:
        assert (boxes == boxes[..., :1]).all()
        boxes = boxes[..., 0]
    width, height = shape[2:4]
    for box in boxes[:, 0]:
        wide, high = box.any(1).sum().item(), box.any(0).sum().item()
        assert box.sum() == wide * high  # one full rectangle
        assert width / 2 < wide < width
        assert abs(wide * high - width * height / 2) <= wide / 2
    assert len({tuple(box.flatten().tolist()) for box in boxes}) > 25


@pytest.mark.parametrize("probability", [0.0, 0.3])
def test_only_some_patches_have_a_box(probability):
    having = half_boxes(torch.zeros(500, 1, 16, 16), probability).flatten(1).any(1)
    assert having.float().mean() == pytest.approx(probability, abs=0.08)  # 4 sd of 500 draws


def test_the_next_patch_shows_in_the_box():
    images = torch.arange(3.0).reshape(3, 1, 1, 1).expand(3, 1, 8, 8)
    boxes = half_boxes(images)
    mixed, labels = mix_with_next(boxes, images), mix_with_next(boxes, images[:, 0])
    for index in range(3):
        assert (mixed[index][boxes[index]] == (index + 1) % 3).all()
        assert (mixed[index][~boxes[index]] == index).all()
    assert torch.equal(mixed[:, 0], labels)


def test_views_of_half_precision_images_stay_precise():
    images = torch.randn(2, 1, 16, 16)
    torch.manual_seed(1)
    with torch.autocast("cpu", torch.bfloat16):
        view = blur(jitter(images))
    torch.manual_seed(1)
    assert view.dtype == torch.float32
    torch.testing.assert_close(view, blur(jitter(images)))
