"""Every loss against a slow reference with explicit loops, and the properties that its paper gives it."""

import math

import numpy as np
import pytest
import torch

from SemiSegLib.constants import IGNORE
from SemiSegLib.losses.anatomical import anatomical_contrast, confusion, weighted_means
from SemiSegLib.losses.consistency import masked_probability_mse, probability_mse
from SemiSegLib.losses.contrastive import dimensional_info_nce, grouped_info_nce, info_nce, symmetric_info_nce
from SemiSegLib.losses.distillation import bank_distillation, pairwise_distillation
from SemiSegLib.losses.segmentation import (
    cross_entropy,
    dice_loss,
    mask_loss,
    output_loss,
    pseudo_label_loss,
    sdm_loss,
)
from SemiSegLib.networks.output import NetworkOutput
from SemiSegLib.schedules import gaussian_ramp

torch.set_num_threads(1)
SHAPES = [(3, 4, 6, 5), (2, 3, 4, 5, 3)]  # (B, C, *S) in 2D and 3D


def values(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def annotated(shape, ignored=True, seed=1):
    """A random mask for logits of `shape`, with voxels to ignore."""
    random = np.random.default_rng(seed)
    mask = random.integers(shape[1], size=(shape[0], *shape[2:]))
    if ignored:
        mask[random.random(mask.shape) < 0.3] = IGNORE
    return torch.from_numpy(mask)


def voxels(logits, target):
    """(B, *S) places, each with its logits and class, one after the other."""
    for place in np.ndindex(tuple(target.shape)):
        yield logits[(place[0], slice(None), *place[1:])].double(), int(target[place])


def cosine(a, b):
    return float(a.double() @ b.double() / (a.double().norm() * b.double().norm()))


def softmax(numbers):
    exponentials = [math.exp(number - max(numbers)) for number in numbers]
    return [e / sum(exponentials) for e in exponentials]


# Supervised losses


@pytest.mark.parametrize("shape", SHAPES)
def test_cross_entropy_is_the_mean_over_annotated_voxels(shape):
    logits, target = values(*shape), annotated(shape)
    losses = [
        -math.log(math.exp(here[index]) / sum(math.exp(v) for v in here))
        for here, index in voxels(logits, target)
        if index != IGNORE
    ]
    assert cross_entropy(logits, target).item() == pytest.approx(np.mean(losses), rel=1e-5)


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_dice_is_the_mean_over_classes_of_squared_dice(shape, background):
    probabilities, target = values(*shape).softmax(1), annotated(shape)
    losses = []
    for c in range(0 if background else 1, shape[1]):
        overlap = size = 0.0
        for here, index in voxels(probabilities, target):
            if index != IGNORE:
                p, q = float(here[c]), float(index == c)
                overlap, size = overlap + p * q, size + p * p + q * q
        losses.append(1 - (2 * overlap + 1e-5) / (size + 1e-5))
    assert dice_loss(probabilities, target, background).item() == pytest.approx(np.mean(losses), rel=1e-5)


def test_the_mask_loss_is_half_of_both():
    logits, target = values(*SHAPES[0]), annotated(SHAPES[0])
    both = cross_entropy(logits, target) + dice_loss(logits.softmax(1), target)
    torch.testing.assert_close(mask_loss(logits, target), both / 2)


def test_deep_supervision_halves_the_weight_with_every_resolution():
    target = annotated((2, 3, 8, 8, 4))
    fine, half, quarter = values(2, 3, 8, 8, 4), values(2, 3, 4, 4, 2, seed=5), values(2, 3, 2, 2, 1, seed=6)
    output = NetworkOutput(fine, None, fine, [fine], [quarter, half])
    parts = [
        mask_loss(fine, target),
        mask_loss(half, target[:, ::2, ::2, ::2]),
        mask_loss(quarter, target[:, ::4, ::4, ::4]),
    ]
    expected = (4 * parts[0] + 2 * parts[1] + parts[2]) / 7
    torch.testing.assert_close(output_loss(output, target), expected)
    torch.testing.assert_close(output_loss(NetworkOutput(fine, None, fine, [fine]), target), parts[0])


def test_a_perfect_prediction_costs_nothing():
    target = annotated(SHAPES[1])
    certain = 40.0 * torch.nn.functional.one_hot(target.where(target != IGNORE, 0), 3).movedim(-1, 1)
    assert mask_loss(certain, target).item() == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_voxels_nobody_annotated_change_neither_loss_nor_gradient(shape):
    target, logits = annotated(shape), values(*shape)
    ignored = (target == IGNORE).unsqueeze(1)
    other = torch.where(ignored, values(*shape, seed=7) * 9, logits).requires_grad_()
    loss = mask_loss(other, target, background=True)
    torch.testing.assert_close(loss, mask_loss(logits, target, background=True))
    loss.backward()
    assert (other.grad * ignored == 0).all()
    assert (other.grad * ~ignored != 0).any()


@pytest.mark.parametrize("mask", ["empty", "full", "one class missing", "nothing annotated"])
@pytest.mark.parametrize("background", [False, True])
def test_masks_of_every_kind_give_numbers(mask, background):
    logits = values(*SHAPES[0]).requires_grad_()
    target = annotated(SHAPES[0], ignored=False)
    target = {
        "empty": torch.zeros_like(target),
        "full": torch.ones_like(target),
        "one class missing": target.where(target != 2, 1),
        "nothing annotated": torch.full_like(target, IGNORE),
    }[mask]
    loss = mask_loss(logits, target, background)
    loss.backward()
    assert torch.isfinite(loss)
    assert logits.grad.isfinite().all()
    if mask == "nothing annotated":
        assert loss == 0
        assert (logits.grad == 0).all()


def test_masks_may_be_bytes():
    logits, target = values(*SHAPES[0]), annotated(SHAPES[0])
    torch.testing.assert_close(mask_loss(logits, target.to(torch.uint8)), mask_loss(logits, target))


def test_distance_maps_are_compared_where_they_are_known():
    predicted, target = values(2, 3, 4, 5).tanh(), values(2, 3, 4, 5, seed=3).tanh()
    target[values(2, 3, 4, 5, seed=4) > 0.5] = math.nan
    squares = [
        (float(p) - float(t)) ** 2
        for p, t in zip(predicted.flatten(), target.flatten(), strict=True)
        if not math.isnan(t)
    ]
    predicted.requires_grad_()
    loss = sdm_loss(predicted, target)
    loss.backward()
    assert loss.item() == pytest.approx(np.mean(squares), rel=1e-5)
    assert (predicted.grad[target.isnan()] == 0).all()
    assert predicted.grad.isfinite().all()


def test_unknown_distances_everywhere_cost_nothing():
    predicted = values(1, 2, 4, 4).requires_grad_()
    loss = sdm_loss(predicted, torch.full((1, 2, 4, 4), math.nan))
    loss.backward()
    assert loss == 0
    assert (predicted.grad == 0).all()


# Consistency


@pytest.mark.parametrize("shape", SHAPES)
def test_consistency_is_the_mean_squared_difference_of_probabilities(shape):
    a, b = values(*shape), values(*shape, seed=2)
    total = 0.0
    for place in np.ndindex(shape[0], *shape[2:]):
        p, q = (x[(place[0], slice(None), *place[1:])].double().exp() for x in (a, b))
        total += ((p / p.sum() - q / q.sum()) ** 2).sum().item()
    assert probability_mse(a, b).item() == pytest.approx(total / a.numel(), rel=1e-5)
    torch.testing.assert_close(probability_mse(a, b), probability_mse(b, a))
    assert probability_mse(a, a + 3) == pytest.approx(0, abs=1e-12)  # softmax ignores a common shift


@pytest.mark.parametrize("shape", SHAPES)
def test_masked_consistency_counts_the_masked_voxels_alone(shape):
    a, b = values(*shape), values(*shape, seed=2)
    mask = values(shape[0], 1, *shape[2:], seed=3) > 0
    squares = (a.double().softmax(1) - b.double().softmax(1)).square().movedim(1, -1)[mask[:, 0]]
    assert masked_probability_mse(a, b, mask).item() == pytest.approx(squares.mean().item(), rel=1e-5)
    everything = torch.ones_like(mask)
    torch.testing.assert_close(masked_probability_mse(a, b, everything), probability_mse(a, b))
    assert masked_probability_mse(a, b, ~everything) == 0


# Contrast of slices


def slow_info_nce(queries, keys, temperature):
    queries, keys = queries.double(), keys.double()
    total = 0.0
    for i, q in enumerate(queries):
        similar = [math.exp(float(q @ k / (q.norm() * k.norm())) / temperature) for k in keys]
        total -= math.log(similar[i] / sum(similar))
    return total / len(queries)


@pytest.mark.parametrize("temperature", [0.07, 0.5])
def test_info_nce_against_loops(temperature):
    queries, keys = values(7, 5), values(7, 5, seed=1)
    expected = slow_info_nce(queries, keys, temperature)
    assert info_nce(queries, keys, temperature).item() == pytest.approx(expected, rel=1e-5)
    both = expected + slow_info_nce(keys, queries, temperature)
    assert symmetric_info_nce(queries, keys, temperature).item() == pytest.approx(both, rel=1e-5)


def test_without_normalisation_the_dot_product_is_bare():
    queries, keys = values(4, 3), values(4, 3, seed=1)
    logits = (queries @ keys.T / 0.5).double()
    expected = np.mean([-math.log(float(logits[i, i].exp() / logits[i].exp().sum())) for i in range(4)])
    assert info_nce(queries, keys, 0.5, normalise=False).item() == pytest.approx(expected, rel=1e-5)
    assert info_nce(queries, keys, 0.5).item() == pytest.approx(info_nce(3 * queries, keys, 0.5).item(), rel=1e-5)


def test_info_nce_of_equal_and_of_orthogonal_slices():
    """160 slices: log 160 = 5.075 when all are equal, 3.114 when orthogonal at temperature 0.5."""
    equal = torch.ones(160, 128)
    assert info_nce(equal, equal, 0.5).item() == pytest.approx(math.log(160), abs=1e-4)
    orthogonal = torch.eye(160)
    assert info_nce(orthogonal, orthogonal, 0.5).item() == pytest.approx(3.114, abs=1e-3)


def test_slice_contrast_ignores_a_common_order_and_who_is_who():
    student, teacher = values(20, 8), values(20, 8) + 0.1 * values(20, 8, seed=1)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(0))
    loss = symmetric_info_nce(student, teacher, 0.5)
    torch.testing.assert_close(symmetric_info_nce(student[order], teacher[order], 0.5), loss)
    torch.testing.assert_close(symmetric_info_nce(teacher, student, 0.5), loss)
    assert symmetric_info_nce(student[order], teacher, 0.5) > loss + 0.1


def test_harder_negatives_get_larger_gradients():
    """dL/ds_ij = p_ij / tau / n for negatives, and each row of gradients sums to zero."""
    similarity = values(6, 6).requires_grad_()
    loss = info_nce(similarity, torch.eye(6), 0.1, normalise=False)
    loss.backward()
    p = (similarity.detach() / 0.1).softmax(1)
    expected = (p - torch.eye(6)) / 0.1 / 6
    torch.testing.assert_close(similarity.grad, expected, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(similarity.grad.sum(1), torch.zeros(6), rtol=0, atol=1e-5)


# Contrast of feature channels


def test_dimensional_contrast_against_loops():
    queries, keys, total = values(9, 5), values(9, 5, seed=1), 0.0
    for d in range(5):
        u = queries[:, d] - queries[:, d].mean()
        likeness = softmax([cosine(u, keys[:, e] - keys[:, e].mean()) / 0.5 for e in range(5)])
        total -= math.log(likeness[d]) / 5
    assert dimensional_info_nce(queries, keys, 0.5).item() == pytest.approx(total, rel=1e-5)


def test_dimensional_contrast_of_uncorrelated_and_of_collapsed_features():
    full, _ = torch.linalg.qr(torch.cat([torch.ones(32, 1), values(32, 8)], 1))
    uncorrelated = full[:, 1:]  # orthogonal to the constant vector, so already centred
    expected = math.log(1 + 7 * math.exp(-1 / 0.5))
    assert dimensional_info_nce(uncorrelated, uncorrelated, 0.5).item() == pytest.approx(expected, rel=1e-4)
    collapsed = values(32, 1).expand(32, 8)
    assert dimensional_info_nce(collapsed, collapsed, 0.5).item() == pytest.approx(math.log(8), rel=1e-4)
    assert dimensional_info_nce(torch.ones(32, 8), torch.ones(32, 8), 0.5).isfinite()


# Contrast with several positives


def test_grouped_contrast_against_loops():
    anchors, keys = values(6, 4), values(9, 4, seed=1)
    random = np.random.default_rng(0)
    kind = random.integers(3, size=(6, 9))  # 0 neither, 1 positive, 2 negative
    kind[0] = 2  # no positive
    kind[1] = np.where(kind[1] == 2, 0, kind[1])  # no negative
    losses = []
    for i in range(6):
        similar = [math.exp(cosine(anchors[i], key) / 0.1) for key in keys]
        others = sum(similar[k] for k in range(9) if kind[i, k] == 2)
        terms = [-math.log(similar[k] / (similar[k] + others)) for k in range(9) if kind[i, k] == 1]
        if terms and others:
            losses.append(np.mean(terms))
    assert len(losses) >= 3
    loss = grouped_info_nce(anchors, keys, torch.from_numpy(kind == 1), torch.from_numpy(kind == 2), 0.1)
    assert loss.item() == pytest.approx(np.mean(losses), rel=1e-4)


def test_grouped_contrast_with_one_positive_is_info_nce():
    anchors, keys, same = values(6, 4), values(6, 4, seed=1), torch.eye(6, dtype=torch.bool)
    torch.testing.assert_close(grouped_info_nce(anchors, keys, same, ~same, 0.2), info_nce(anchors, keys, 0.2))


def test_grouped_contrast_without_pairs_costs_nothing():
    anchors, none = values(3, 4).requires_grad_(), torch.zeros(3, 5, dtype=torch.bool)
    for positive, negative in ((none, none), (~none, none), (none, ~none)):
        anchors.grad = None
        loss = grouped_info_nce(anchors, values(5, 4), positive, negative, 0.1)
        loss.backward()
        assert loss == 0
        assert (anchors.grad == 0).all()
    assert grouped_info_nce(anchors[:0], values(5, 4), none[:0], none[:0], 0.1) == 0


# Distillation of voxels


@pytest.mark.parametrize("sides", [(3, 4), (2, 3, 2)])
def test_pairwise_distillation_against_loops(sides):
    student, teacher = values(2, 5, *sides), values(2, 5, *sides, seed=1)
    total = 0.0
    for s, t in zip(student.flatten(2).double(), teacher.flatten(2).double(), strict=True):
        n = s.shape[1]
        for j in range(n):
            similar = [math.exp(float(s[:, j] @ t[:, k] / (s[:, j].norm() * t[:, k].norm()))) for k in range(n)]
            total -= math.log(similar[j] / sum(similar))
    assert pairwise_distillation(student, teacher, "sum").item() == pytest.approx(total / 2, rel=1e-5)
    count = math.prod(sides)
    assert pairwise_distillation(student, teacher).item() == pytest.approx(total / 2 / count, rel=1e-5)


def test_pairwise_distillation_has_its_limits():
    """245 voxels: log 245 = 5.50 when all are equal, 4.51 when orthogonal."""
    equal = torch.ones(1, 256, 7, 7, 5)
    assert pairwise_distillation(equal, equal).item() == pytest.approx(math.log(245), abs=1e-3)
    orthogonal = torch.eye(256)[:, :245].reshape(1, 256, 7, 7, 5)
    assert pairwise_distillation(orthogonal, orthogonal).item() == pytest.approx(4.51, abs=0.01)


# Distillation with a bank


def test_bank_distillation_against_loops():
    student, teacher, bank = values(3, 4, 5), values(3, 4, 5, seed=1), values(6, 4, 5, seed=2)
    filled = torch.tensor([True, True, True, True, False, False])
    total = 0.0
    for b in range(3):
        for w in range(4):
            p_t = softmax([cosine(teacher[b, w], bank[n, w]) / 0.05 for n in range(4)])
            p_s = softmax([cosine(student[b, w], bank[n, w]) / 0.1 for n in range(4)])
            total += sum(t * (math.log(t) - math.log(s)) for t, s in zip(p_t, p_s, strict=True))
    loss = bank_distillation(student, teacher, bank, filled, 0.1, 0.05)
    assert loss.item() == pytest.approx(total / 12, rel=1e-4)
    garbage = bank.clone()
    garbage[4:] = 1e6
    torch.testing.assert_close(bank_distillation(student, teacher, garbage, filled, 0.1, 0.05), loss)


def test_bank_distillation_trains_the_student_alone():
    student, teacher = values(3, 1, 5).requires_grad_(), values(3, 1, 5, seed=1).requires_grad_()
    arguments = values(6, 1, 5, seed=2), torch.ones(6, dtype=torch.bool), 0.1, 0.01
    bank_distillation(student, teacher, *arguments).backward()
    assert teacher.grad is None
    assert student.grad.abs().sum() > 0
    bank_distillation(student, teacher, *arguments, detach=False).backward()  # as the official code does
    assert teacher.grad.isfinite().all()
    assert teacher.grad.abs().sum() > 0


def test_bank_distillation_is_nothing_between_equals_and_before_the_bank_has_two_entries():
    student, bank, every = values(3, 2, 5).requires_grad_(), values(6, 2, 5, seed=2), torch.ones(6, dtype=torch.bool)
    assert bank_distillation(student, student, bank, every, 0.1, 0.1).item() == pytest.approx(0, abs=1e-6)
    for count in (0, 1):
        filled = torch.arange(6) < count
        loss = bank_distillation(student, values(3, 2, 5, seed=1), torch.zeros_like(bank), filled, 0.1, 0.01)
        loss.backward()
        assert loss == 0
        assert (student.grad == 0).all()


# Pseudo labels


@pytest.mark.parametrize("shape", SHAPES)
def test_pseudo_labels_are_weighted_by_each_patchs_certain_share(shape):
    logits, target = values(*shape), annotated(shape, ignored=False)
    confidence = torch.rand(target.shape, generator=torch.Generator().manual_seed(0))
    total = count = 0.0
    for place in np.ndindex(tuple(target.shape)):
        here = logits[(place[0], slice(None), *place[1:])].double()
        loss = -math.log(softmax(here.tolist())[int(target[place])])
        share = (confidence[place[0]] >= 0.8).double().mean().item()
        total, count = total + share * loss, count + (loss > 0)
    assert pseudo_label_loss(logits, target, confidence, 0.8).item() == pytest.approx(total / count, rel=1e-5)
    assert pseudo_label_loss(logits, target, confidence, 1.1) == 0


# Anatomical contrast


def test_confusable_classes_are_drawn_more_often():
    means = values(4, 6)
    probability = confusion(means, 0.5)
    for c in range(4):
        others = [v for v in range(4) if v != c]
        expected = softmax([cosine(means[c], means[v]) / 0.5 for v in others])
        assert probability[c, others].tolist() == pytest.approx(expected, rel=1e-4)
        assert probability[c, c] == 0


def test_anatomical_contrast_is_what_loops_expect_on_average():
    """With one key per class all draws of a class are the same: only their numbers vary, and average out."""
    queries, keys, active = values(3, 40, 6), values(3, 1, 6, seed=1), torch.tensor([True, False, True])
    probability = confusion(keys[:, 0], 0.5)
    negatives, total = 4000, 0.0
    for c in (0, 2):
        for q in queries[c]:
            positive = math.exp(cosine(q, keys[c, 0]) / 0.5)
            sum_of_others = sum(
                negatives * float(probability[c, v]) * math.exp(cosine(q, keys[v, 0]) / 0.5) for v in range(3) if v != c
            )
            total -= math.log(positive / (positive + sum_of_others)) / 40
    torch.manual_seed(0)
    loss = anatomical_contrast(queries, active, keys, 0.5, negatives)
    assert loss.item() == pytest.approx(total / 3, rel=5e-3)  # the mean is over all classes that are present


@pytest.mark.parametrize("sides", [(3, 4), (2, 3, 2)])
def test_weighted_means_against_loops(sides):
    features, weights = values(2, 5, *sides), values(2, 3, *sides, seed=1).relu()
    weights[1, 2] = 0
    means = weighted_means(features, weights)
    for b in range(2):
        for k in range(3):
            places = list(np.ndindex(sides))
            total = sum(float(weights[(b, k, *place)]) for place in places)
            for d in range(5):
                expected = sum(float(weights[(b, k, *p)] * features[(b, d, *p)]) for p in places)
                assert means[b, k, d].item() == pytest.approx(expected / total if total else 0, rel=1e-4, abs=1e-6)


def test_anatomical_contrast_moves_queries_only():
    queries, keys = values(2, 5, 4).requires_grad_(), values(2, 7, 4, seed=1).requires_grad_()
    anatomical_contrast(queries, torch.tensor([True, False]), keys, 0.5, 8).backward()
    assert keys.grad is None
    assert queries.grad[0].abs().sum() > 0
    assert (queries.grad[1] == 0).all()


def test_anatomical_contrast_needs_two_classes_and_hard_voxels():
    one, two = values(1, 5, 4).requires_grad_(), values(2, 5, 4).requires_grad_()
    assert anatomical_contrast(one, torch.tensor([True]), one.detach(), 0.5, 8) == 0
    loss = anatomical_contrast(two, torch.tensor([False, False]), two.detach(), 0.5, 8)
    loss.backward()
    assert loss == 0
    assert (two.grad == 0).all()


# Precision


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_losses_of_half_precision_are_computed_in_single_precision(dtype):
    shape = SHAPES[0]
    logits, other, target = values(*shape).to(dtype), values(*shape, seed=2).to(dtype), annotated(shape)
    rows, more = values(6, 8).to(dtype), values(6, 8, seed=1).to(dtype)
    cases = [
        (mask_loss, (logits, target)),
        (sdm_loss, (logits.tanh(), other.tanh())),
        (probability_mse, (logits, other)),
        (symmetric_info_nce, (rows, more, 0.1)),
        (pairwise_distillation, (logits, other)),
        (masked_probability_mse, (logits, other, logits[:, :1] > 0)),
        (dimensional_info_nce, (rows, more, 0.5)),
        (grouped_info_nce, (rows, more, torch.eye(6) > 0, torch.eye(6) == 0, 0.1)),
        (bank_distillation, (rows[None], more[None], values(4, 6, 8, seed=5).to(dtype), torch.ones(4) > 0, 0.1, 0.1)),
        (pseudo_label_loss, (logits, target.clamp(max=3), target / 255, 0.5)),
        (weighted_means, (logits, other.relu())),
    ]
    for loss, arguments in cases:
        with torch.autocast("cpu", torch.bfloat16):
            half = loss(*arguments)
        whole = loss(*(a.float() if isinstance(a, torch.Tensor) and a.is_floating_point() else a for a in arguments))
        assert half.dtype == torch.float32
        torch.testing.assert_close(half, whole)


def test_the_ramp():
    assert gaussian_ramp(0.0) == pytest.approx(math.exp(-5))
    assert gaussian_ramp(0.5) == pytest.approx(math.exp(-1.25))
    assert gaussian_ramp(1.0) == gaussian_ramp(3.0) == 1.0
