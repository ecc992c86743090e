"""ACTION: its three stages, windows, banks, pseudo labels and anatomical contrast."""

import itertools

import pytest
import torch

from SemiSegLib.constants import IGNORE
from SemiSegLib.errors import SemiSegError
from SemiSegLib.losses.segmentation import mask_loss
from SemiSegLib.methods.action import PixelHead, cut_windows, draw_voxels
from SemiSegLib.schedules import Step, step_at
from SemiSegLib.train import train

torch.set_num_threads(1)
SMALL = {"queries": 16, "negatives": 32, "keys": 16, "bank": 6}


@pytest.mark.parametrize("sides", [(12, 8), (8, 4, 6)])
def test_windows_overlap_by_half(sides):
    maps, side = torch.randn(2, 3, *sides), 4
    windows = cut_windows(maps, side)
    starts = [range(0, length - side + 1, side // 2) for length in sides]
    expected = []
    for start in itertools.product(*starts):
        expected.append(maps[(..., *[slice(s, s + side) for s in start])].flatten(1))
    assert torch.equal(windows, torch.stack(expected, 1))
    fewer = [len(range(0, length - side, side // 2)) for length in sides]
    assert cut_windows(maps, side, leave_last=True).shape[1] == torch.tensor(fewer).prod()


def test_the_windows_of_the_paper_are_found_in_its_image_size(make_method):
    """256 x 256: windows of 64 every 32 voxels, embeddings of 4 * 8 * 8; 36 of them as released, 49 in all."""
    method = make_method("action", (256, 256), 4, **SMALL)
    assert method.cell * 8 == 64
    assert method.local_bank.entries.shape == (6, 49, 256)
    released = make_method("action", (256, 256), 4, as_released=True)
    assert released.local_bank.entries.shape == (36 * 256, 1, 36)
    volumes = make_method("action", (112, 112, 80), 2, **SMALL)
    assert volumes.cell * 4 == 20
    assert volumes.local_bank.entries.shape == (6, 10 * 10 * 7, 128)


def test_heads_have_the_released_sizes(make_method):
    method = make_method("action", (64, 64), 4, **SMALL)
    assert sum(p.numel() for p in method.pixel_head.parameters()) == 2_548_224
    assert sum(p.numel() for p in PixelHead(3, 256, 128, True).parameters()) == 901_248
    assert [m.out_features for m in method.student_head if isinstance(m, torch.nn.Linear)] == [256, 512]


def test_stages_share_the_iterations(make_method):
    method = make_method("action", iterations=40, **SMALL)
    names = [step_at(i, 40, method.stages).stage for i in range(40)]
    assert [names.count(name) for name in ("global", "local", "anatomical")] == [10, 10, 20]
    method = make_method("action", iterations=40, **SMALL, shares=[0, 1, 1])
    assert {step_at(i, 40, method.stages).stage for i in range(40)} == {"local", "anatomical"}
    for shares in ([1, 1], [0, 0, 0], [1, 1, -1]):
        with pytest.raises(SemiSegError, match=r"shares.*global, local, anatomical"):
            make_method("action", **SMALL, shares=shares)


def test_the_first_stage_trains_the_encoder_only(make_method, make_batch, train_steps):
    method, batch = make_method("action", classes=3, iterations=16, **SMALL), make_batch(classes=3)
    before = {name: weight.clone() for name, weight in method.student.named_parameters()}
    history, _ = train_steps(method, batch, last=4)
    changed = {name for name, weight in method.student.named_parameters() if not torch.equal(weight, before[name])}
    assert all(name.startswith("encoder") for name in changed)
    assert changed >= {name for name in before if name.startswith("encoder") and name.endswith("weight")}
    assert history[0]["global"] == 0  # the bank was empty
    assert history[1]["global"] > 0


def test_the_last_stage_starts_with_a_teacher_that_is_the_student(make_method, make_batch, train_steps):
    method, batch = make_method("action", iterations=16, **SMALL), make_batch()
    train_steps(method, batch, last=8)
    student, teacher = method.student.state_dict(), method.teacher.state_dict()
    assert any(not torch.equal(student[name], teacher[name]) for name in student)
    method.enter_stage("anatomical", first=False)  # resumed in the middle: nothing is handed over
    assert any(not torch.equal(student[name], teacher[name]) for name in student)
    method.enter_stage("anatomical", first=True)
    handed = method.teacher.state_dict()  # it counts its own batches from here
    assert all(torch.equal(student[name], handed[name]) for name in student if "num_batches" not in name)


def test_dice_counts_the_background(make_method, make_batch):
    method, batch = make_method("action", classes=3, **SMALL), make_batch(classes=3, unlabelled=0)
    torch.manual_seed(0)
    found = method.losses(batch, Step(0, 4, "anatomical"))["supervised"].value
    torch.manual_seed(0)
    logits = method.student(batch.labelled.image).logits
    torch.testing.assert_close(found, mask_loss(logits, batch.labelled.mask, background=True))


def test_the_weights_are_the_papers(make_method, make_batch):
    method, batch = make_method("action", **SMALL), make_batch()
    terms = {stage: method.losses(batch, Step(0, 4, stage)) for stage in method.stages}
    weights = {stage: {name: term.weight for name, term in terms[stage].items()} for stage in terms}
    assert weights == {
        "global": {"global": 1},
        "local": {"supervised": 1, "global": 1, "local": 1},
        "anatomical": {"supervised": 1, "pseudo": 1, "anatomical": 0.01},
    }


def test_mixed_patches_carry_the_teachers_labels_along(make_method):
    """A teacher that reads the class off the intensity: labels and confidence must follow the pasted voxels."""
    method = make_method("action", classes=3, **SMALL)

    class Reader(torch.nn.Module):
        def forward(self, image):
            from SemiSegLib.networks.output import NetworkOutput

            logits = 40.0 * torch.cat([image < 0.5, (image >= 0.5) & (image < 1.5), image >= 1.5], 1).float()
            return NetworkOutput(logits, None, logits, [])

    method.teacher = Reader()
    flat = torch.tensor([0.0, 1.0, 2.0]).reshape(3, 1, 1, 1).expand(3, 1, 32, 32)
    image, target, confidence = method._mixed(flat)
    assert image.shape == flat.shape
    for index in range(3):
        assert set(target[index].unique().tolist()) == {index, (index + 1) % 3}
    torch.testing.assert_close(confidence, torch.ones(3, 32, 32))


def test_unsure_voxels_are_no_part_of_the_anatomical_contrast(make_method, make_batch):
    method, batch = make_method("action", classes=3, **SMALL), make_batch(classes=3)
    student = method.student(batch.images)
    one_class = torch.where(torch.cat([batch.labelled.mask] * 2) == 1, 1, IGNORE)
    assert method._anatomical_contrast(student, one_class) == 0
    assert method._anatomical_contrast(student, torch.full_like(one_class, IGNORE)) == 0
    assert method._anatomical_contrast(student, torch.cat([batch.labelled.mask] * 2)) > 0


def test_voxels_are_drawn_from_the_mask():
    mask = torch.zeros(2, 5, 6, dtype=torch.bool)
    mask[0, 1, 2] = mask[1, 4, 5] = True
    drawn = draw_voxels(mask, 200)
    assert {tuple(voxel) for voxel in drawn.tolist()} == {(0, 1, 2), (1, 4, 5)}
    assert 60 < (drawn[:, 0] == 0).sum() < 140
    assert draw_voxels(mask & False, 3) is None


def test_as_released_the_heads_of_the_teacher_are_trained_by_the_target(make_method, make_batch, train_steps):
    batch = make_batch()
    method = make_method("action", as_released=True, linear_heads=True, **SMALL)
    head = method.teacher_head[0].weight
    assert not torch.equal(head, method.student_head[0].weight)
    before = head.detach().clone()
    train_steps(method, batch, last=1)
    assert not torch.equal(head, before)
    history, _ = train_steps(method, batch)
    assert all(torch.isfinite(torch.tensor(list(terms.values()))).all() for terms in history)


def test_as_released_the_teacher_is_averaged_twice_in_the_last_stage(make_method):
    for released, factor in ((False, 0.99), (True, 0.99**2)):
        method = make_method("action", as_released=released, **SMALL)
        for parameter in method.teacher.parameters():
            parameter.data.fill_(1.0)
        for parameter in method.student.parameters():
            parameter.data.fill_(0.0)
        method.after_step(Step(5000, 10_000, "anatomical"))
        assert method.teacher.mask_head.weight.mean().item() == pytest.approx(factor, rel=1e-5)


def test_a_teacher_in_eval_mode_uses_the_students_statistics(make_method, make_batch, train_steps):
    method, batch = make_method("action", teacher_eval=True, shares=[0, 0, 1], **SMALL), make_batch()
    train_steps(method, batch, last=2)
    ours, theirs = dict(method.teacher.named_buffers()), dict(method.student.named_buffers())
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert not method.teacher.training


def test_a_run_logs_stages_whose_terms_differ(tiny_data, tiny_settings, tmp_path):
    """A line of the log may span the end of a stage."""
    overrides = {f"method_settings.{name}": value for name, value in SMALL.items()}
    settings = tiny_settings("action", **{"training.log_every": 4, "training.validation_every": 6, **overrides})
    run = train(tiny_data, tmp_path / "run", settings, f"{tiny_data / 'splits.json'}:demo", quiet=True)
    events = list(run.history())
    assert [e["stage"] for e in events if e["event"] == "stage"] == ["global", "local", "anatomical"]
    terms = [set(e["losses"]) for e in events if e["event"] == "iteration"]
    last = {"supervised", "pseudo", "anatomical"}
    assert terms == [{"global"}, {"global", "local"} | last, last]


def test_labelled_and_mixed_patches_have_batch_statistics_of_their_own(make_method, make_batch):
    method, batch = make_method("action", classes=3, **SMALL), make_batch(classes=3)
    for module in method.student.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    terms = method.losses(batch, Step(1, 4, "anatomical"))
    logits = method.student(batch.labelled.image).logits
    torch.testing.assert_close(terms["supervised"].value, mask_loss(logits, batch.labelled.mask, background=True))
