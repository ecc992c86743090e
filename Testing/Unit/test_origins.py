"""Masks by how they came about: read with the data, kept with the run, trained on as often as they deserve."""

import json
from collections import Counter

import pytest

from SemiSegLib.data.cases import CasesError
from SemiSegLib.data.layouts import find_cases
from SemiSegLib.data.origins import turns
from SemiSegLib.data.splits import apply_splits
from SemiSegLib.training.intent import cases_from_dict, cases_to_dict


@pytest.fixture
def data(tmp_path):
    for part, names in (("images", "abcd"), ("labels", "abc")):
        (tmp_path / part).mkdir()
        for name in names:
            (tmp_path / part / f"{name}.nii.gz").write_bytes(b"")
    return tmp_path


def test_origins_come_with_the_data_and_stay_with_the_run(data):
    (data / "origins.json").write_text(json.dumps({"b": "accepted", "c": "corrected", "d": "accepted"}))
    cases = find_cases(data)
    assert {case.name: case.origin for case in cases.labelled} == {"a": "drawn", "b": "accepted", "c": "corrected"}
    chosen = apply_splits(cases, None, None)
    again = cases_from_dict(json.loads(json.dumps(cases_to_dict(chosen))))
    assert [case.origin for case in again.labelled] == ["drawn", "accepted", "corrected"]


def test_runs_from_before_there_were_origins_have_drawn_masks(data):
    content = cases_to_dict(find_cases(data))
    for case in content["labelled"]:
        del case["origin"]
    assert {case.origin for case in cases_from_dict(content).labelled} == {"drawn"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"x": "drawn"}', "not there: x"),
        ('{"a": "guessed"}', "not so: a"),
        ("[1]", "one of drawn"),
        ('{"a": ["drawn"]}', "one of drawn"),
        ("{", "JSON"),
    ],
)
def test_origins_that_mean_nothing_are_refused_with_their_file(text, words, data):
    (data / "origins.json").write_text(text)
    with pytest.raises(CasesError, match=words) as raised:
        find_cases(data)
    assert "origins.json" in str(raised.value)


def test_accepted_masks_have_half_the_turns_and_equal_ones_one_each():
    assert turns(["drawn", "accepted", "corrected"]) == [0, 0, 1, 2, 2]
    for origin in ("drawn", "accepted"):
        assert turns([origin] * 3) == [0, 1, 2]
    assert turns([]) == []


def test_patches_are_drawn_by_turns(tiny_data, tiny_settings, tmp_path):
    from dataclasses import replace

    from SemiSegLib.data.patches import PatchSampler
    from SemiSegLib.data.preprocess import prepare

    settings = tiny_settings("supervised")
    cases = find_cases(tiny_data).labelled[:2]
    prepared = [prepare(case, settings.data, tmp_path, sdm=False) for case in cases]
    prepared[1] = replace(prepared[1], origin="accepted")
    sampler = PatchSampler(prepared, [], settings.data, settings.training, sdm=False)
    seen = Counter(sampler._case_index(place, 0) for place in range(30))
    assert seen == {0: 20, 1: 10}
