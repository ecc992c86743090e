"""Patches: image, mask and distance map stay together, and everything follows from seed and iteration."""

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage

from SemiSegLib.config import AugmentationSettings, DataSettings, Label, TrainingSettings
from SemiSegLib.data import patches
from SemiSegLib.data.augmentation import Turn, turn_matrix, turned
from SemiSegLib.data.batch import Patches
from SemiSegLib.data.distance import label_distances
from SemiSegLib.data.patches import PatchSampler
from SemiSegLib.data.preprocess import Prepared

SPACING = (1.5, 1.5, 2.0)


def make_case(folder, name, shape, seed, annotated=True):
    """A preprocessed case whose image is a function of its mask, so that they can be compared in any patch."""
    folder = folder / name
    folder.mkdir()
    random = np.random.default_rng(seed)
    centre = random.uniform(0.35, 0.65, 3) * shape
    radii = np.array(shape) * 0.25
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
    mask = (((index - centre) / radii) ** 2).sum(-1) < 1
    code = index @ np.array([1, 100, 10000]) / 1e6  # tells every voxel's place
    np.save(folder / "image.npy", (code + 8 * mask).astype(np.float16))
    if annotated:
        np.save(folder / "mask.npy", mask.astype(np.uint8))
        np.save(folder / "sdm.npy", label_distances(mask, (1,), SPACING).astype(np.float16))
        np.savez(folder / "foreground.npz", **{"1": np.argwhere(mask).astype(np.uint16)})
    (folder / "meta.json").write_text(json.dumps({}))
    return Prepared(name, folder, shape, SPACING, annotated)


@pytest.fixture
def sampler(tmp_path):
    def make(shape=(40, 36, 28), patch=(32, 32, 16), sdm=True, normalisation="patch", dimensions=3, **training):
        labelled = [make_case(tmp_path, f"l{i}", shape, i) for i in range(3)]
        unlabelled = [make_case(tmp_path, f"u{i}", shape, 10 + i, annotated=False) for i in range(5)]
        data = DataSettings(labels=[Label(1, "a", (0, 0, 0))], sdm_normalisation=normalisation, dimensions=dimensions)
        return PatchSampler(labelled, unlabelled, data, TrainingSettings(patch_size=patch, **training), sdm)

    return make


def test_a_batch_follows_from_seed_and_iteration(sampler):
    first, other = sampler(), None
    a, b = first.draw(5), first.draw(5)
    assert torch.equal(a.images, b.images)
    assert torch.equal(a.labelled.mask, b.labelled.mask)
    other = first.draw(6)
    assert not torch.equal(a.images, other.images)
    first.training.seed += 1
    assert not torch.equal(a.images, first.draw(5).images)


def test_drawing_ahead_gives_the_same_batches(sampler):
    source = sampler()
    for iteration, batch in zip(range(3, 7), source.batches(3, 7), strict=True):
        assert torch.equal(batch.images, source.draw(iteration).images)


@pytest.mark.parametrize("iteration", range(6))
def test_image_mask_and_distances_are_turned_together(sampler, iteration):
    batch = sampler().draw(iteration).labelled
    inside = batch.image[:, 0] > 5
    assert torch.equal(inside, batch.mask == 1)
    assert (batch.sdm[:, 0][inside] <= 0).all()
    assert (batch.sdm[:, 0][~inside] > 0).all()


def test_shapes(sampler):
    batch = sampler().draw(0)
    assert batch.labelled.image.shape == batch.unlabelled.image.shape == (2, 1, 32, 32, 16)
    assert batch.labelled.mask.shape == (2, 32, 32, 16)
    assert batch.labelled.sdm.shape == (2, 1, 32, 32, 16)
    assert batch.unlabelled.mask.numel() == batch.unlabelled.sdm.numel() == 0


@pytest.mark.parametrize(("flip", "count"), [("one", 4), ("each", 8), ("none", 4)])
def test_all_turns_and_flips_occur(sampler, flip, count):
    """With the place of every voxel written into the image, the turn can be read off the corners.

    A quarter turn followed by exactly one flip is always one of the four mirror images; without flips there are the
    four turns; with independent flips all eight.
    """
    source = sampler(shape=(32, 32, 16), foreground_fraction=0.0, flip=flip)
    seen = set()
    for iteration in range(40):
        for image in source.draw(iteration).labelled.image[:, 0, :, :, 0]:
            place = image - 8 * (image > 5)
            rows, columns = place[-1, 0] - place[0, 0], place[0, -1] - place[0, 0]
            # x steps by 1, y by 100 (times 1e-6): which one runs along the rows, and which way.
            seen.add((bool(rows.abs() > columns.abs()), bool(rows > 0), bool(columns > 0)))
    assert len(seen) == count
    turns = {(False, False, False), (False, True, True), (True, False, True), (True, True, False)}
    assert len(seen & turns) == {"one": 0, "each": 4, "none": 4}[flip]


@pytest.mark.parametrize("dimensions", [2, 3])
def test_rotated_patches_stay_together_and_their_corners_are_not_annotated(sampler, dimensions):
    source = sampler(shape=(64, 64, 16), patch=(32, 32, 16)[:dimensions], dimensions=dimensions, rotation_angle=20.0)
    agree, turned = [], 0
    for iteration in range(10):
        batch = source.draw(iteration).labelled
        for image, mask, sdm in zip(batch.image[:, 0], batch.mask, batch.sdm[:, 0], strict=True):
            known = mask != 255
            turned += not known.all()
            assert torch.equal(sdm.isnan(), ~known)
            agree.append(((image > 4) == (mask == 1))[known].float().mean())  # 8 inside, 0 outside, 4 between
            assert not (mask == 1).any() or ((sdm <= 0) == (mask == 1))[known].all()
    assert min(agree) > 0.97
    assert 5 < turned < 16  # half of them


def test_every_labelled_case_comes_once_in_a_round(sampler):
    source = sampler()
    order = [source._case_index(place, 0) for place in range(9)]
    for start in (0, 3, 6):
        assert sorted(order[start : start + 3]) == [0, 1, 2]


def test_patches_larger_than_the_scan_are_padded_and_padding_is_not_annotated(sampler):
    batch = sampler(shape=(20, 36, 10), patch=(32, 32, 16)).draw(0).labelled
    padding = batch.mask == 255
    assert (padding.flatten(1).float().mean(1) > 0.5).all()
    assert (batch.image[:, 0][padding] == 0).all()
    assert batch.sdm[:, 0][padding].isnan().all()
    assert torch.equal(batch.image[:, 0][~padding] > 5, batch.mask[~padding] == 1)


def test_normalised_within_the_patch(sampler):
    sdm = sampler().draw(2).labelled.sdm
    for channel in sdm[:, 0]:
        assert channel.max() == 1
        assert channel.min() == -1


def in_papers_code(mask, spacing):
    """SASSNet's `compute_sdf`, which DTC and SimCVD use, of one patch; its unit is the voxel, here it is mm."""
    inside, outside = (ndimage.distance_transform_edt(part, spacing) for part in (mask, ~mask))
    result = outside / outside.max() - inside / inside.max()
    result[mask & ndimage.binary_dilation(~mask)] = 0
    return result


@pytest.mark.parametrize(("patch", "dimensions"), [((16, 32, 16), 3), ((16, 32), 2)])
def test_distances_are_those_within_the_patch_as_in_the_papers(sampler, patch, dimensions):
    """What lies beyond the patch, nearer border or not, plays no part; the scans are larger than the patch."""
    source, compared = sampler(shape=(40, 36, 28), patch=patch, dimensions=dimensions, rotate=False), 0
    for iteration in range(6):
        batch = source.draw(iteration).labelled
        for found, mask in zip(batch.sdm[:, 0], batch.mask == 1, strict=True):
            if mask.any() and not mask.all():
                expected = in_papers_code(mask.numpy(), SPACING[:dimensions])
                np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)
                compared += 1
    assert compared > 5


def test_padding_does_not_make_distances_unknown(sampler):
    """Beyond the scan nothing is known, but nothing is hidden there either."""
    batch = sampler(shape=(20, 36, 10), patch=(32, 32, 16)).draw(0).labelled
    assert torch.equal(batch.sdm[:, 0].isnan(), batch.mask == 255)


def unequal(source, spacing):
    """The sampler, its scans with another voxel size."""
    source.cases = tuple([replace(case, spacing=spacing) for case in cases] for cases in source.cases)
    return source


def test_voxels_that_are_longer_than_wide_are_not_turned_by_a_quarter(sampler):
    """A quarter turn would stretch the anatomy; half a turn and mirrors do not."""
    source = unequal(sampler(shape=(32, 32, 16), foreground_fraction=0.0), (1.0, 1.5, 2.0))
    seen = set()
    for iteration in range(12):
        for image in source.draw(iteration).labelled.image[:, 0, :, :, 0]:
            place = image - 8 * (image > 5)
            rows, columns = place[-1, 0] - place[0, 0], place[0, -1] - place[0, 0]
            assert rows.abs() < columns.abs()
            seen.add((bool(rows > 0), bool(columns > 0)))
    assert len(seen) == 4


@pytest.mark.parametrize("aspect", [1.0, 1.5, 0.6])
def test_a_rotation_is_one_of_the_patient_not_of_the_voxels(aspect):
    """A square in mm stays the square that geometry says, whatever the voxels' shape."""
    sides, degrees = (64, 48, 1), 30.0
    size = np.array([1.0, aspect])
    place = (np.stack(np.meshgrid(np.arange(64), np.arange(48), indexing="ij"), -1) + 0.5 - np.array([32, 24])) * size
    square = (np.abs(place) < 12).all(-1)
    found = turned(torch.from_numpy(square[..., None].astype(np.uint8)), Turn(0, (), degrees, aspect), 0)[..., 0]
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    before = place @ np.array([[cosine, -sine], [sine, cosine]]).T
    expected = (np.abs(before) < 12).all(-1)
    assert (found.numpy().astype(bool) != expected).mean() < 0.005
    matrix = turn_matrix(sides, Turn(0, (), degrees, aspect))
    corner = matrix @ np.array([0.75, 0.5, 0.5, 1.0])  # 16 voxels along x from the centre
    np.testing.assert_allclose(corner[:2], [0.5 + 16 * cosine / 64, 0.5 + 16 * sine / aspect / 48])


def test_normalised_by_the_case(sampler):
    source = sampler(normalisation="case", foreground_fraction=0.0)
    sdm = torch.cat([source.draw(i).labelled.sdm for i in range(8)])
    assert sdm.max() <= 1
    assert sdm.min() >= -1
    highest = sdm.flatten(1).max(1).values
    assert (highest < 0.999).any()  # a patch need not reach the farthest voxel of its case


def test_a_patch_without_foreground_has_a_map_of_zeros(sampler):
    source = sampler(shape=(64, 64, 48), patch=(16, 16, 16), foreground_fraction=0.0)
    patches = [source.draw(i).labelled for i in range(20)]
    empty = [p.sdm[j] for p in patches for j in range(2) if not (p.mask[j] == 1).any()]
    assert len(empty) > 3
    assert all((sdm == 0).all() for sdm in empty)


def test_foreground_is_found_in_large_scans(sampler):
    source = sampler(shape=(96, 96, 64), patch=(16, 16, 16), foreground_fraction=1.0)
    assert all((source.draw(i).labelled.mask == 1).flatten(1).any(1).all() for i in range(10))


@pytest.mark.parametrize("dimensions", [2, 3])
def test_in_context_a_box_of_the_patch_stays_and_what_is_around_it_has_its_own_mask(sampler, dimensions):
    patches = sampler(patch=(32, 32, 16)[:dimensions], sdm=False, dimensions=dimensions, labelled_batch=4)
    patches.augmentation = AugmentationSettings(geometry="warp", elastic_probability=0.0)
    whole = [patches.draw(iteration) for iteration in range(12)]
    patches.augmentation = replace(patches.augmentation, context=1.0)
    kinds = set()
    for iteration, before in enumerate(whole):
        after = patches.draw(iteration)
        assert torch.equal(after.unlabelled.image, before.unlabelled.image)
        pairs = zip(before.labelled.image, before.labelled.mask, after.labelled.image, after.labelled.mask, strict=True)
        for image, mask, image_now, mask_now in pairs:
            same = (image_now == image)[0] & (mask_now == mask)
            places = same.nonzero()
            if not len(places):
                continue
            box = tuple(slice(int(a), int(b) + 1) for a, b in zip(places.amin(0), places.amax(0), strict=True))
            around = torch.ones_like(same)
            around[box] = False
            if not around.any():
                kinds.add("whole")
            elif image_now[0][around].unique().numel() == 1:
                kinds.add("air")
                assert image_now[0][around].max() < image.min()
                assert (mask_now[around] == 0).all()
                assert same[box].all()
            else:  # image and mask of another scan: its image tells where its mask is
                kinds.add("scan")
                known = around & (mask_now != 255)
                assert ((image_now[0] > 4) == (mask_now == 1))[known].float().mean() > 0.95
    assert kinds >= {"air", "scan"}


def test_slices_for_2d(sampler):
    batch = sampler(shape=(40, 36, 9), patch=(32, 32), dimensions=2).draw(0)
    assert batch.labelled.image.shape == (2, 1, 32, 32)
    assert batch.labelled.mask.shape == (2, 32, 32)
    assert batch.labelled.sdm.shape == (2, 1, 32, 32)


def test_position_is_the_patch_s_place_in_its_scan(sampler):
    source = sampler(shape=(64, 32, 16), patch=(32, 32, 16), foreground_fraction=0.0)
    patches = [source.draw(i).labelled for i in range(10)]
    position = torch.cat([each.places((1, 1, 1)).reshape(-1, 3) for each in patches])
    assert (position[:, 1:] == 0.5).all()
    assert position[:, 0].min() >= 0.25
    assert position[:, 0].max() <= 0.75
    assert position[:, 0].std() > 0.01


@pytest.mark.parametrize("dimensions", [2, 3])
def test_the_frame_tells_the_place_of_every_voxel(sampler, dimensions):
    """Volumes that hold their own coordinates go through crop, turn and flip as an image does."""
    shape, start = (40, 36, 28), (5, -2, 3)
    source = sampler(patch=(32, 32, 16)[:dimensions], dimensions=dimensions)
    index = np.meshgrid(*map(np.arange, shape), indexing="ij")
    for turn in itertools.starmap(Turn, itertools.product(range(4), [(), (0,), (1,), (0, 1)], [0.0, 17.0])):
        smooth = turn.degrees != 0
        cut = torch.stack([source._cut(axis + 1000.0, start, turn, 0, smooth) for axis in index]) - 1000
        nothing = torch.empty(0)
        patches = Patches(cut[None], nothing, nothing, source._frame(shape, start, turn)[None])
        scale = torch.tensor(shape).reshape(3, *[1] * dimensions)
        found = patches.places(cut.shape[1:])[0] * scale - 0.5
        known = (cut >= 0).all(0)  # not the padding
        assert known.float().mean() > 0.5
        torch.testing.assert_close(found[:, known], cut[:, known].float(), rtol=0, atol=1e-3)


def test_the_cpu_warps_patches_that_a_full_gpu_cannot(sampler, monkeypatch, caplog):
    """The GPU is made up: what is to be warped there runs out of memory, as its real calls would."""
    source = sampler(sdm=False)
    source.augmentation = AugmentationSettings(geometry="warp")
    expected = source.draw(3)
    real = patches.Resampler

    def resampler(warp, sides, device):
        if device.type != "cpu":
            raise torch.cuda.OutOfMemoryError("CUDA out of memory.")
        return real(warp, sides, device)

    monkeypatch.setattr(patches, "Resampler", resampler)
    source.device = torch.device("cuda")
    drawn = next(source.batches(3, 5))
    assert torch.equal(drawn.images, expected.images)
    assert torch.equal(drawn.labelled.mask, expected.labelled.mask)
    assert "the CPU draws them" in caplog.text
