"""Scores against medpy, against hand-made cases, and against what must hold for any table."""

import math

import nibabel
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from medpy.metric import binary as medpy
from scipy import ndimage

from SemiSegLib.metrics import (
    METRICS,
    MetricsError,
    asd_voxel,
    assd,
    case_metrics,
    dice,
    hd95,
    hd95_voxel,
    inconsistency,
    jaccard,
    summarise,
)

shapes = hnp.array_shapes(min_dims=2, max_dims=3, min_side=1, max_side=9)
pairs = shapes.flatmap(lambda s: st.tuples(hnp.arrays(bool, s), hnp.arrays(bool, s)))
sizes = st.floats(0.2, 8.0)


def medpy_metrics(prediction, reference, spacing):
    return {
        "dsc": medpy.dc(prediction, reference),
        "jaccard": medpy.jc(prediction, reference),
        "hd95_mm": medpy.hd95(prediction, reference, spacing),
        "assd_mm": medpy.assd(prediction, reference, spacing),
        "hd95_voxel": medpy.hd95(prediction, reference),
        "asd_voxel": medpy.asd(prediction, reference),
    }


def assert_equals_medpy(prediction, reference, spacing):
    ours = case_metrics(prediction.astype(int), reference.astype(int), spacing, {"organ": 1})["organ"]
    assert list(ours) == list(METRICS)
    assert ours == pytest.approx(medpy_metrics(prediction, reference, spacing), rel=1e-6, abs=1e-6)


@settings(max_examples=100, deadline=None)
@given(pair=pairs, spacing=st.tuples(sizes, sizes, sizes))
def test_equals_medpy_on_random_masks(pair, spacing):
    assume(pair[0].any() and pair[1].any())
    assert_equals_medpy(*pair, spacing[: pair[0].ndim])


@pytest.mark.parametrize("spacing", [(1.25, 1.25, 1.25), (1.25, 1.0, 2.5)])
def test_equals_medpy_on_real_masks(shared_data, spacing):
    files = sorted((shared_data / "la" / "labels").glob("*.nii.gz"))[:2]
    masks = [np.asarray(nibabel.load(file).dataobj)[:180:2, :134:2, ::2] > 0 for file in files]
    assert_equals_medpy(masks[0], masks[1], spacing)  # another patient's atrium: a poor prediction
    smoothed = ndimage.gaussian_filter(masks[0].astype(float), 2) > 0.5  # a good one
    assert_equals_medpy(smoothed, masks[0], spacing)


def test_single_functions_equal_medpy():
    rng = np.random.default_rng(3)
    prediction, reference = rng.random((2, 14, 12, 10)) < 0.4
    spacing = (0.8, 1.0, 3.0)
    expected = medpy_metrics(prediction, reference, spacing)
    assert dice(prediction, reference) == pytest.approx(expected["dsc"])
    assert jaccard(prediction, reference) == pytest.approx(expected["jaccard"])
    assert hd95(prediction, reference, spacing) == pytest.approx(expected["hd95_mm"])
    assert assd(prediction, reference, spacing) == pytest.approx(expected["assd_mm"])
    assert hd95_voxel(prediction, reference) == pytest.approx(expected["hd95_voxel"])
    assert asd_voxel(prediction, reference) == pytest.approx(expected["asd_voxel"])


def test_shifted_slab_by_hand():
    reference = np.zeros((6, 6, 12), dtype=np.uint8)
    reference[:, :, 2:4] = 1
    prediction = np.roll(reference, 1, axis=2)
    scores = case_metrics(prediction, reference, (1, 1, 5), {"slab": 1})["slab"]
    # Two layers each, both surface, one shared: half of the distances are 0, the others one voxel of 5 mm.
    expected = dict.fromkeys(METRICS, 0.5) | {"jaccard": 1 / 3, "hd95_voxel": 1, "hd95_mm": 5, "assd_mm": 2.5}
    assert scores == pytest.approx(expected)


def test_direction_matters_for_asd_alone():
    small, large = np.zeros((2, 9, 9), dtype=bool)
    small[4, 4] = True
    large[4, 4] = large[4, 8] = True
    assert asd_voxel(small, large) == 0
    assert asd_voxel(large, small) == 2
    assert assd(small, large, (1, 1)) == assd(large, small, (1, 1)) == pytest.approx(4 / 3)


def masks_with(prediction, reference):
    pair = np.zeros((2, 6, 6, 6), dtype=np.uint8)
    pair[0, 2:4] = prediction
    pair[1, 2:4] = reference
    return pair


@pytest.mark.parametrize(
    ("prediction", "reference", "literature", "overlap", "distance"),
    [
        (0, 0, False, 1, 0),
        (0, 1, False, 0, math.nan),
        (1, 0, False, 0, math.nan),
        (0, 0, True, 0, 0),
        (0, 1, True, 0, 0),
        (1, 0, True, 1, 0),
    ],
)
def test_empty_masks(prediction, reference, literature, overlap, distance):
    masks = masks_with(prediction, reference)
    scores = case_metrics(*masks, (1, 1, 2), {"organ": 1}, literature=literature)["organ"]
    expected = {m: overlap if m in ("dsc", "jaccard") else distance for m in METRICS}
    assert scores == pytest.approx(expected, nan_ok=True)


def test_literature_option_changes_nothing_else():
    masks = masks_with(1, 1)
    masks[0, 2] = 0
    plain = case_metrics(*masks, (1, 1, 2), {"organ": 1})
    assert case_metrics(*masks, (1, 1, 2), {"organ": 1}, literature=True) == plain


def test_ignored_voxels_count_for_nobody():
    rng = np.random.default_rng(4)
    prediction, reference = rng.integers(0, 3, (2, 10, 10, 10))
    reference[:, :, 6:] = 255
    labels = {"a": 1, "b": 2}
    whole = case_metrics(prediction, reference, (1, 1, 2), labels, ignore_value=255)
    cut = case_metrics(prediction[:, :, :6], reference[:, :, :6], (1, 1, 2), labels)
    other = case_metrics(np.where(reference == 255, 1, prediction), reference, (1, 1, 2), labels, ignore_value=255)
    for name in labels:
        assert [whole[name][overlap] for overlap in ("dsc", "jaccard")] == [cut[name]["dsc"], cut[name]["jaccard"]]
    assert other == whole


def test_a_structure_has_no_border_to_what_nobody_annotated():
    """Of a few annotated slices, distances are those within the slices: their insides are no surface."""
    x, y = np.mgrid[:80, :80]
    discs = [(np.hypot((x - 40) * 0.8, y - 40) <= radius)[..., None] for radius in (30, 25)]
    prediction, reference = (np.repeat(disc, 60, axis=2).astype(np.uint8) for disc in discs)
    annotated = np.isin(np.arange(60), (2, 30, 57))
    reference[:, :, ~annotated] = 255
    scores = case_metrics(prediction, reference, (0.8, 1.0, 1.0), {"organ": 1}, ignore_value=255)["organ"]
    in_plane = medpy_metrics(discs[0][..., 0], discs[1][..., 0], (0.8, 1.0))
    assert scores == pytest.approx(in_plane)


@pytest.mark.parametrize("spacing", [(1, 1, 1), (1, 1, 3)])
def test_distances_are_undefined_where_no_border_was_annotated(spacing):
    prediction, reference = np.zeros((2, 9, 9, 9), np.uint8)
    prediction[2:6, 2:6, 2:6] = 1
    reference[...] = 255
    reference[4, 4, 3:6], reference[7, 7, 3:6] = 1, 0  # two strokes
    scores = case_metrics(prediction, reference, spacing, {"organ": 1}, ignore_value=255)["organ"]
    assert (scores["dsc"], scores["jaccard"]) == (1, 1)
    assert all(math.isnan(scores[m]) for m in METRICS if m not in ("dsc", "jaccard"))


def test_classes_are_scored_by_their_own_value():
    rng = np.random.default_rng(5)
    prediction, reference = rng.integers(0, 4, (2, 9, 9, 9))
    scores = case_metrics(prediction, reference, (1, 2, 3), {"three": 3, "one": 1})
    assert list(scores) == ["three", "one"]
    for name, value in (("three", 3), ("one", 1)):
        assert scores[name] == pytest.approx(medpy_metrics(prediction == value, reference == value, (1, 2, 3)))


def test_summary_leaves_undefined_values_out_and_counts_them():
    def scores(value):
        return dict.fromkeys(METRICS, value)

    cases = [
        {"a": scores(1.0), "b": scores(3.0)},
        {"a": scores(2.0), "b": scores(math.nan)},
        {"a": scores(6.0), "b": scores(5.0)},
    ]
    summary = summarise(cases)
    assert summary["a"]["dsc"] == pytest.approx({"mean": 3, "sd": np.std([1, 2, 6], ddof=1), "n": 3, "undefined": 0})
    assert summary["b"]["hd95_mm"] == pytest.approx({"mean": 4, "sd": np.sqrt(2), "n": 2, "undefined": 1})
    over_all = summary["all classes"]["hd95_mm"]
    assert over_all == pytest.approx(
        {"mean": np.mean([2, 2, 5.5]), "sd": np.std([2, 2, 5.5], ddof=1), "n": 3, "undefined": 1}
    )


def test_summary_of_one_class_and_one_case():
    summary = summarise([{"a": dict.fromkeys(METRICS, math.nan)}])
    assert list(summary) == ["a"]
    assert summary["a"]["dsc"] == pytest.approx({"mean": math.nan, "sd": math.nan, "n": 0, "undefined": 1}, nan_ok=True)
    assert summarise([]) == {}


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_means_of_real_cases_are_consistent(dices):
    jaccards = [d / (2 - d) for d in dices]
    assert inconsistency(float(np.mean(dices)), float(np.mean(jaccards))) is None


def test_swapped_or_invented_table_rows_are_noticed():
    assert inconsistency(0.9085, 0.8380) is None  # SimCVD, 16 labelled
    assert "0.8" in inconsistency(0.9085, 0.8080)
    assert inconsistency(0.80, 0.89) is not None


def test_grids_that_differ_are_refused():
    with pytest.raises(MetricsError, match=r"\(4, 4, 4\).*\(4, 4, 5\)"):
        case_metrics(np.zeros((4, 4, 4)), np.zeros((4, 4, 5)), (1, 1, 1), {"a": 1})
    with pytest.raises(MetricsError, match="different shape"):
        hd95_voxel(np.ones((4, 4), dtype=bool), np.ones((4, 5), dtype=bool))
    with pytest.raises(MetricsError, match="spacing"):
        case_metrics(np.zeros((4, 4, 4)), np.zeros((4, 4, 4)), (1, 1), {"a": 1})
