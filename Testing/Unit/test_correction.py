"""What a round of correction brought on the corrected scans, beside `evaluate`'s own scores of the two models."""

import json
import shutil

import pytest

from SemiSegLib.config import Label
from SemiSegLib.data.layouts import find_cases
from SemiSegLib.evaluate import main as evaluate
from SemiSegLib.models import load_model, save_model
from SemiSegLib.predict import main as predict
from SemiSegLib.runs import RunFolder, read_json
from SemiSegLib.train import main as train

TINY = (
    *("--preset", "left-atrium", "--spacing", "4,4,4", "--patch", "32,16,16", "--device", "cpu", "--quiet"),
    *("--method", "supervised", "--set", "training.threads=1", "--set", "training.precision=fp32"),
)


@pytest.fixture(scope="module")
def corrected(tiny_data, tmp_path_factory):
    """(data with two masks of which one is corrected, its name, the model of a training before)"""
    root = tmp_path_factory.mktemp("corrected")
    cases = find_cases(tiny_data).labelled[:2]
    for part in ("images", "labels"):
        (root / "data" / part).mkdir(parents=True)
    for case in cases:
        shutil.copy(case.image, root / "data" / "images")
        shutil.copy(case.label, root / "data" / "labels")
    assert train(["--data", str(root / "data"), "--out", str(root / "first"), "--iterations", "25", *TINY]) == 0
    (root / "data" / "origins.json").write_text(json.dumps({cases[1].name: "corrected"}), encoding="utf-8")
    return root / "data", cases[1].name, root / "first"


def test_a_round_compares_both_models_on_what_was_corrected(corrected, tmp_path):
    data, name, first = corrected
    run = next_round(data, first, tmp_path / "second")
    content = read_json(run.report / "corrected.json")
    expected = {"before": score(first, data, name, tmp_path), "after": score(run.path, data, name, tmp_path)}
    assert content["cases"] == {name: pytest.approx(expected, abs=1e-6)}
    assert content["after"] == pytest.approx(expected["after"], abs=1e-6)


def test_a_round_that_did_harm_is_warned_of(corrected, tmp_path):
    """A learning rate of 10 destroys what the model knew."""
    data, _, first = corrected
    run = next_round(data, first, tmp_path / "spoilt", "--set", "training.learning_rate=10")
    (warning,) = (e["text"] for e in run.history() if e.get("level") == "warning" and "corrected" in e["text"])
    assert str(first / "models" / "last.safetensors") in warning


@pytest.mark.parametrize("why", ["no correction", "from nothing", "the model is gone", "other labels"])
def test_nothing_is_compared_where_there_is_nothing_to_compare(corrected, tmp_path, why):
    from SemiSegLib.compute.devices import choose_compute
    from SemiSegLib.training.correction import compare_on_corrected
    from SemiSegLib.training.intent import cases_from_dict, fingerprint_of

    data, _, first = corrected
    run = next_round(data, first, tmp_path / "again")
    (run.report / "corrected.json").unlink()
    intent, cases = read_json(run.intent_file), read_json(run.cases_file)
    if why == "no correction":
        cases["labelled"] = [case | {"origin": "drawn"} for case in cases["labelled"]]
    elif why == "from nothing":
        intent["init"] = None
    elif why == "the model is gone":
        intent["init"]["model"] = str(tmp_path / "gone.safetensors")
    else:
        before = load_model(first)
        before.card.settings.data.labels = [Label(1, "aorta", (224, 97, 76))]
        save_model(tmp_path / "aorta.safetensors", before.network(), before.card)
        intent["init"] = {
            "model": str(tmp_path / "aorta.safetensors"),
            "sha256": fingerprint_of(tmp_path / "aorta.safetensors"),
        }
    run.intent_file.write_text(json.dumps(intent), encoding="utf-8")
    compare_on_corrected(run, cases_from_dict(cases), choose_compute("cpu", "fp32", 1))
    assert not (run.report / "corrected.json").exists()


def next_round(data, first, out, *more):
    arguments = ["--data", str(data), "--out", str(out), "--iterations", "5", "--init", str(first), *TINY, *more]
    assert train(arguments) == 0
    return RunFolder(out)


def score(model, data, name, folder):
    """By the two commands that people use."""
    scan = next((data / "images").glob(f"{name}*"))
    masks = folder / f"masks-of-{model.name}"
    assert predict(["--model", str(model), "--input", str(scan), "--output", str(masks), "--device", "cpu"]) == 0
    report = folder / f"{model.name}.json"
    references = folder / "references"
    references.mkdir(exist_ok=True)
    shutil.copy(next((data / "labels").glob(f"{name}*")), references)
    assert evaluate(["--predictions", str(masks), "--references", str(references), "--output", str(report)]) == 0
    return read_json(report)["cases"][name]["left atrium"]["dsc"]
