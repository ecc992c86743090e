"""What every method must do, in 2D and 3D, with two and with more classes, whatever the masks look like."""

import copy
import math

import pytest
import torch

from SemiSegLib.config import NetworkSettings
from SemiSegLib.constants import IGNORE
from SemiSegLib.losses.segmentation import mask_loss
from SemiSegLib.methods import available, describe, method_class
from SemiSegLib.methods.base import Plan
from SemiSegLib.schedules import Step

torch.set_num_threads(1)
METHODS = available()
TASKS = {"slices, 4 classes": ((32, 32), 4), "volumes": ((16, 16, 16), 2), "volumes, 3 classes": ((16, 16, 16), 3)}


def stages(name):
    return method_class(name).stages


@pytest.mark.parametrize("name", [name for name in METHODS if len(stages(name)) > 1])
def test_the_lengths_of_stages_are_a_setting(name, make_method):
    """More iterations for a run are written into it (training.lengthening); of self-training test_starting has more."""
    method = make_method(name)
    assert len(method.stages) == len(method.settings.shares)


def fit(method, batch):
    """The supervised loss of the student on its training patches; its state is left as it was."""
    student = copy.deepcopy(method.student)
    torch.manual_seed(0)
    return mask_loss(student(batch.labelled.image).logits, batch.labelled.mask).item()


def last_stage(method):
    """A step in the middle of the method's last stage, where all supervised terms are active."""
    return Step(5, 10, list(method.stages)[-1])


def total(terms):
    return torch.stack([term.weight * term.value for term in terms.values()]).sum()


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("name", METHODS)
def test_a_few_steps_reduce_the_supervised_loss(name, task, make_method, make_batch, train_steps):
    sides, classes = TASKS[task]
    iterations = 6 + 2 * len(stages(name))
    method, batch = make_method(name, sides, classes, iterations), make_batch(sides, classes)
    before = fit(method, batch)
    history, _ = train_steps(method, batch)
    assert all(math.isfinite(value) for terms in history for value in terms.values())
    assert "supervised" in history[-1]
    assert fit(method, batch) < 0.9 * before


@pytest.mark.parametrize("name", METHODS)
def test_a_method_continues_from_its_state_as_if_never_stopped(name, make_method, make_batch, train_steps):
    """Stopped in the middle of each stage; optimiser and state go through `state_dict`, as in a checkpoint."""
    batch, iterations = make_batch(classes=3), 4 * len(stages(name))
    whole, optimiser = make_method(name, classes=3, iterations=iterations), None
    for stop, stage in zip(range(2, iterations, 4), stages(name), strict=True):
        _, optimiser = train_steps(whole, batch, max(0, stop - 2), stop, optimiser=optimiser)
        resumed = make_method(name, classes=3, iterations=iterations, seed=99)
        resumed.load_state_dict(copy.deepcopy(whole.state_dict()))
        resumed.enter_stage(stage, first=False)
        fresh = torch.optim.SGD(resumed.trained_parameters(), 0.02, momentum=0.9)
        fresh.load_state_dict(copy.deepcopy(optimiser.state_dict()))
        expected, optimiser = train_steps(whole, batch, stop, stop + 2, optimiser=optimiser)
        found, _ = train_steps(resumed, batch, stop, stop + 2, optimiser=fresh)
        assert found == expected
        ours, theirs = resumed.state_dict(), whole.state_dict()
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


@pytest.mark.parametrize("name", METHODS)
def test_gradients_stay_out_of_the_teacher(name, make_method, make_batch, train_steps):
    method, batch = make_method(name), make_batch()
    train_steps(method, batch, last=1)
    for stage in method.stages:
        method.zero_grad(set_to_none=True)
        total(method.losses(batch, Step(5, 10, stage))).backward()
        frozen = [p for key, p in method.named_parameters() if key.startswith("teacher")]
        assert not any(parameter.requires_grad for parameter in frozen)
        assert all(parameter.grad is None for parameter in frozen)
        assert any(parameter.grad is not None and parameter.grad.any() for parameter in method.student.parameters())


@pytest.mark.parametrize("name", METHODS)
def test_half_precision_gives_numbers(name, make_method, make_batch):
    for sides, classes in (((32, 32), 3), ((16, 16, 16), 2)):
        method, batch = make_method(name, sides, classes), make_batch(sides, classes)
        for stage in method.stages:
            method.enter_stage(stage, True)
            for _ in range(2):  # the second finds filled banks
                with torch.autocast("cpu", torch.bfloat16):
                    terms = method.losses(batch, Step(5, 10, stage))
                assert all(torch.isfinite(term.value) for term in terms.values())
                assert all(term.value.dtype == torch.float32 for term in terms.values())
                total(terms).backward()
        if len(sides) == 2:  # PyTorch 2.13's bf16 weight gradient of 2 x 2 x 2 feature maps is often NaN on a CPU
            assert all(p.grad.isfinite().all() for p in method.trained_parameters() if p.grad is not None)


@pytest.mark.parametrize("mask", ["empty", "full", "one class missing", "nothing annotated", "half annotated"])
@pytest.mark.parametrize("name", METHODS)
def test_masks_of_every_kind_give_numbers(name, mask, make_method, make_batch):
    method, batch = make_method(name, classes=3), make_batch(classes=3)
    target = batch.labelled.mask
    batch.labelled.mask = {
        "empty": torch.zeros_like(target),
        "full": torch.ones_like(target),
        "one class missing": target.where(target != 2, 0),
        "nothing annotated": torch.full_like(target, IGNORE),
        "half annotated": torch.cat([target[..., :16], torch.full_like(target[..., 16:], IGNORE)], -1),
    }[mask]
    if mask == "nothing annotated":
        batch.labelled.sdm = torch.full_like(batch.labelled.sdm, math.nan)
    for stage in method.stages:
        method.enter_stage(stage, True)
        terms = method.losses(batch, Step(5, 10, stage))
        assert all(torch.isfinite(term.value) for term in terms.values())
        total(terms).backward()
    assert all(p.grad.isfinite().all() for p in method.trained_parameters() if p.grad is not None)


@pytest.mark.parametrize("name", METHODS)
def test_voxels_nobody_annotated_have_no_influence(name, make_method, make_batch):
    """Whatever stands in the mask under the ignored voxels beforehand, terms and gradients are the same."""
    method, results = make_method(name, classes=3), []
    for other in (1, 2):
        batch = make_batch(classes=3)
        batch.labelled.mask[..., 10:20] = other
        batch.labelled.mask[..., 10:20] = IGNORE
        batch.labelled.sdm[..., 10:20] = math.nan
        torch.manual_seed(0)
        results.append({key: term.value.item() for key, term in method.losses(batch, last_stage(method)).items()})
    assert results[0] == results[1]


@pytest.mark.parametrize("name", METHODS)
def test_batches_without_unlabelled_patches_or_with_one_of_each(name, make_method, make_batch, train_steps):
    for labelled, unlabelled in ((2, 0), (1, 1), (3, 2)):
        method = make_method(name, (32, 32), 3, iterations=2 * len(stages(name)))
        history, _ = train_steps(method, make_batch((32, 32), 3, labelled, unlabelled))
        assert all(math.isfinite(value) for terms in history for value in terms.values())


@pytest.mark.parametrize("name", METHODS)
def test_every_method_trains_the_other_network_too(name, make_method, make_batch, train_steps):
    method = make_method(name, (32, 32), 3, iterations=2)
    plan = Plan(2, 3, (32, 32), 2 * len(stages(name)), NetworkSettings("dynunet", "instance", 0.0, True))
    history, _ = train_steps(type(method)(method.settings, plan).train(), make_batch((32, 32), 3))
    assert all(math.isfinite(value) for terms in history for value in terms.values())


@pytest.mark.parametrize("name", METHODS)
def test_every_predictor_predicts(name, make_method):
    method = make_method(name, (16, 16, 16), 3).eval()
    predictors = method.predictors()
    assert "student" in predictors
    for network in predictors.values():
        assert network(torch.zeros(1, 1, 16, 16, 16)).probabilities.shape == (1, 3, 16, 16, 16)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_explains_itself(name):
    description = describe(name)
    assert len(description.title) > 40
    assert description.title.endswith(".")
    assert all(len(option.help) > 10 for option in description.options)
    assert description.needs_unlabelled == method_class(name).needs_unlabelled
