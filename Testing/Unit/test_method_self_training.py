"""Self-training: annotated and self-labelled voxels each have their term, stages their patches."""

import pytest
import torch

from SemiSegLib.constants import IGNORE
from SemiSegLib.errors import SemiSegError
from SemiSegLib.losses.segmentation import mask_loss
from SemiSegLib.methods.self_training import MethodSettings
from SemiSegLib.schedules import Step

ROUND = Step(5, 10, "round 1")


def test_the_terms_are_those_of_two_separate_batches(make_method, make_batch):
    """Without CutMix and with fixed statistics the network sees patches one by one."""
    method = make_method("self-training", classes=3, cutmix=0.0, weight=0.5, learnt=0.0).eval()
    batch = make_batch(classes=3, labels=True)
    terms = method.losses(batch, ROUND)
    for name, patches, weight in (("supervised", batch.labelled, 1 / 1.5), ("pseudo", batch.unlabelled, 0.5 / 1.5)):
        expected = mask_loss(method.student(patches.image).logits, patches.mask.long())
        torch.testing.assert_close(terms[name].value, expected)
        assert terms[name].weight == pytest.approx(weight)


def test_with_cutmix_labels_go_where_the_pixels_go(make_method, make_batch):
    """A network that shows what it is given: all that is pasted is still labelled rightly."""
    method = make_method("self-training", cutmix=1.0).eval()
    batch = make_batch(labels=True)
    for patches in (batch.labelled, batch.unlabelled):
        patches.image = 20.0 * patches.mask.unsqueeze(1).float() - 10.0

    class Mirror(torch.nn.Module):
        def forward(self, image):
            from SemiSegLib.networks.output import NetworkOutput

            return NetworkOutput(torch.cat([-image, image], 1), None, image, [image])

    method.student = Mirror()
    terms = method.losses(batch, ROUND)
    assert terms["supervised"].value < 1e-3
    assert terms["pseudo"].value < 1e-3


def test_own_labels_say_nothing_about_classes_that_are_not_learnt(make_method, make_batch):
    """A network of new weights finds none of the classes: whatever its labels are, they teach nothing."""
    method, batch = make_method("self-training", cutmix=0.0, learnt=0.9).eval(), make_batch(labels=True)
    assert method.losses(batch, ROUND)["pseudo"].value == 0
    for _ in range(200):  # annotated patches on which it is right
        method.learnt.update(torch.stack([1.0 - batch.labelled.mask, batch.labelled.mask], 1), batch.labelled.mask)
    assert method.losses(batch, ROUND)["pseudo"].value > 0


def test_unsure_voxels_have_no_influence(make_method, make_batch):
    method, values = make_method("self-training", cutmix=0.0, learnt=0.0).eval(), []
    for other in (0, 1):
        batch = make_batch(labels=True)
        batch.unlabelled.mask[:, :10] = other
        batch.unlabelled.mask[:, :10] = IGNORE
        values.append(method.losses(batch, ROUND)["pseudo"].value.item())
    assert values[0] == values[1]


def test_stages_and_their_patches(make_method):
    method = make_method("self-training", shares=(2.0, 1.0, 1.0))
    assert list(method.stages) == ["supervised", "round 1", "round 2"]
    assert set(method.labelling) == {"round 1", "round 2"}
    assert method.patches("supervised", 2, 3) == (5, 0)
    assert method.patches("round 2", 2, 3) == (2, 3)


@pytest.mark.parametrize(
    ("iterations", "stages"),
    [
        (2000, {"supervised": 2000}),
        (3000, {"supervised": 3000}),
        (4000, {"supervised": 3000, "round 1": 1000}),
        (10000, {"supervised": 6000, "round 1": 4000}),
    ],
)
def test_a_short_training_gives_its_labels_no_chance_to_do_harm(make_method, iterations, stages):
    method = make_method("self-training", iterations=iterations)
    assert method.stages == stages
    assert set(method.labelling) == set(stages) - {"supervised"}


@pytest.mark.parametrize(
    ("iterations", "stages"),
    [
        (5000, {"supervised": 3000, "round 1": 2000}),  # no time for two
        (6000, {"supervised": 3600, "round 1": 2400}),
        (8000, {"supervised": 3000, "supervised 2": 3000, "round 1": 2000}),
        (20000, {"supervised": 6000, "supervised 2": 6000, "round 1": 8000}),
    ],
)
def test_two_networks_are_trained_where_there_is_time(make_method, iterations, stages):
    method = make_method("self-training", iterations=iterations, members=2)
    assert method.stages == stages
    assert method.fresh == [name for name in stages if name == "supervised 2"]
    assert set(method.labelling) == {"round 1"}
    assert method.patches("supervised 2", 2, 3) == (5, 0)


@pytest.mark.parametrize("shares", [(1.0,), (1.0, 0.0)])
def test_a_round_is_needed(make_method, shares):
    with pytest.raises(SemiSegError, match=r"method_settings\.shares"):
        make_method("self-training", shares=shares)


def test_a_restarted_round_begins_with_new_weights(make_method):
    for restart in (True, False):
        method = make_method("self-training", iterations=5000, restart=restart)
        before = method.student.state_dict()["mask_head.weight"].clone()
        method.enter_stage("round 1", first=True)
        assert torch.equal(before, method.student.state_dict()["mask_head.weight"]) != restart
        kept = method.student.state_dict()["mask_head.weight"].clone()
        method.enter_stage("round 1", first=False)
        assert torch.equal(kept, method.student.state_dict()["mask_head.weight"])
    assert MethodSettings().restart is False
