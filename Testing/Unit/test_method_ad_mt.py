"""AD-MT: whose turn it is, what the labels are, worked by hand."""

import math

import torch

from SemiSegLib.compute import distributed
from SemiSegLib.constants import IGNORE
from SemiSegLib.methods.ad_mt import agreed_labels
from SemiSegLib.schedules import Step


def voxel(*probabilities):
    return torch.tensor(probabilities).reshape(1, -1, 1, 1)


def label(first, second, student, threshold=0.5):
    return int(agreed_labels(voxel(*first), voxel(*second), voxel(*student), threshold))


def test_the_surer_teacher_weighs_more():
    """exp(-H): 0.5 for (0.5, 0.5), 0.819 for (0.05, 0.95): (0.5 * 0.5 + 0.819 * 0.95) / 1.319 = 0.779."""
    assert math.exp(-(-0.05 * math.log(0.05) - 0.95 * math.log(0.95))) > 0.81
    assert label((0.5, 0.5), (0.05, 0.95), (0.5, 0.5), 0.77) == 1
    assert label((0.5, 0.5), (0.05, 0.95), (0.5, 0.5), 0.79) == IGNORE


def test_in_a_conflict_the_more_confident_wins():
    assert label((0.9, 0.1), (0.3, 0.7), (0.05, 0.95)) == 1  # the student is surer than both together
    assert label((0.99, 0.01), (0.45, 0.55), (0.4, 0.6)) == 0  # it is not
    assert label((0.9, 0.1), (0.7, 0.3), (0.01, 0.99)) == 0  # the teachers agree: it is not asked


def test_teachers_take_turns(make_method, make_batch, train_steps):
    method = make_method("ad-mt", iterations=12, longest=3)
    batch, turns = make_batch(), []
    before = [{k: v.clone() for k, v in teacher.state_dict().items()} for teacher in method.teachers]
    optimiser = None
    for iteration in range(12):
        turn = int(method.turn[0])
        turns.append(turn)
        _, optimiser = train_steps(method, batch, iteration, iteration + 1, optimiser=optimiser)
        after = [{k: v.clone() for k, v in teacher.state_dict().items()} for teacher in method.teachers]
        moved = [
            any(not torch.equal(old[key], new[key]) for key in old if not key.endswith("num_batches_tracked"))
            for old, new in zip(before, after, strict=True)
        ]
        assert moved == [turn == 0, turn == 1]
        before = after
    runs = "".join(map(str, turns))
    assert {"0", "1"} == set(runs)
    assert "0000" not in runs
    assert "1111" not in runs


def test_the_weight_follows_its_ramp(make_method, make_batch):
    method, batch = make_method("ad-mt", weight=2.0), make_batch()
    weights = [method.losses(batch, Step(index, 10))["pseudo"].weight for index in (0, 2, 4, 9)]
    assert weights[0] == 2 * math.exp(-5)
    assert weights[1] == 2 * math.exp(-5 * 0.25)
    assert weights[2] == weights[3] == 2


def test_all_processes_of_a_training_take_the_same_turns(make_method, monkeypatch):
    """Dropout's random numbers differ from process to process; whose turn it is must not."""
    monkeypatch.setattr(distributed, "size", lambda: 2)
    turns = []
    for rank in (0, 1):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        method = make_method("ad-mt", iterations=12, longest=1000)
        method.turn.copy_(torch.tensor([0, 1]))
        distributed.seed(5)
        method.after_step(Step(3, 12))
        turns.append(method.turn.tolist())
    assert turns[0] == turns[1]
