"""Models that are loaded by name: exported from a real training in half precision, predicting what the run predicts."""

import shutil
import subprocess
import sys

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from SemiSegLib import models
from SemiSegLib.models import ModelError, export_model, load_model, model_file, named_models, save_model
from SemiSegLib.predict import main as predict
from SemiSegLib.runs import read_json
from SemiSegLib.train import main as train
from SemiSegLib.train import train as start


@pytest.fixture(scope="module")
def run(tiny_data, tmp_path_factory):
    """A training of a few iterations."""
    out = tmp_path_factory.mktemp("named") / "run"
    settings = ["data.spacing=3.75,3.75,5", "training.patch_size=32,16,16", "training.iterations=4"]
    settings += ["training.precision=fp32", "training.threads=1", f"data.cache={out.parent / 'cache'}"]
    arguments = ["--data", str(tiny_data), "--out", str(out), "--splits", f"{tiny_data / 'splits.json'}:demo"]
    arguments += ["--method", "supervised", "--preset", "left-atrium", "--device", "cpu", "--quiet"]
    assert train([*arguments, *(part for text in settings for part in ("--set", text))]) == 0
    return out


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of models of one's own."""
    monkeypatch.setenv(models.MODELS_VARIABLE, str(tmp_path / "models"))
    return tmp_path / "models"


def test_a_model_by_name_predicts_what_its_run_predicts(run, folder, tiny_data, tmp_path, capsys):
    exported = ["export", str(run), str(folder / "tiny-atrium.safetensors"), "--notes", "four iterations"]
    assert models.main(exported) == 0
    assert (folder / "tiny-atrium.safetensors").stat().st_size <= 20e6
    scan = tiny_data / "images" / "atrium_004.nii.gz"
    for model, output in ((str(run), "a"), ("tiny-atrium", "b")):
        where = ["--input", str(scan), "--output", str(tmp_path / output)]
        assert predict(["--model", model, *where, "--probabilities", "--device", "cpu"]) == 0
    one, other = (
        sitk.GetArrayFromImage(sitk.ReadImage(next((tmp_path / x / "probabilities").iterdir()))) for x in "ab"
    )
    assert 0 < np.abs(one - other).max() < 5e-3  # rounded to 11 bits, 16 layers deep
    assert one.std() > 0
    assert models.main([]) == 0
    assert "tiny-atrium" in capsys.readouterr().out


def test_weights_are_halved_and_load_as_single_precision(run, folder):
    export_model(run, folder / "tiny.safetensors")
    weights = load_model("tiny").weights
    assert {w.dtype for w in weights.values() if w.is_floating_point()} == {torch.float16}
    network = load_model("tiny").network()
    assert {w.dtype for w in network.state_dict().values() if w.is_floating_point()} == {torch.float32}
    for name, weight in load_model(run).network().state_dict().items():
        torch.testing.assert_close(network.state_dict()[name], weight, rtol=1e-3, atol=1e-6)


def test_a_training_starts_from_a_name(run, folder, tiny_data, tiny_settings, tmp_path):
    export_model(run, folder / "tiny.safetensors")
    settings = tiny_settings(
        "supervised",
        **{"training.iterations": 1, "training.learning_rate": 1e-12, "training.weight_decay": 0.0},
    )
    started = start(tiny_data, tmp_path / "run", settings, f"{tiny_data / 'splits.json'}:demo", init="tiny", quiet=True)
    before, after = (load_model(source).weights for source in ("tiny", started.last_model))
    torch.testing.assert_close(after["encoder.0.0.weight"], before["encoder.0.0.weight"].float())


def test_a_shared_card_tells_what_it_was_trained_on_but_not_where(run, folder):
    trained = load_model(run).card
    assert trained.settings.data.cache
    last = export_model(run, folder / "shared.safetensors", "notes")
    assert load_model("shared").card == last
    assert last.settings.data.cache is None
    known = trained.data["annotated"]  # two scans, by hashes: who they are stays at home
    assert len(known) == 2
    assert last.data == {"labelled": 2, "unlabelled": 3, "validation": 1, "annotated": known}
    assert b"atrium_" not in (folder / "shared.safetensors").read_bytes()
    report = read_json(run / "report" / "validation.json")["summary"]
    assert (last.notes, last.scores) == ("notes", trained.scores | {"report": report})
    best = export_model(run, folder / "best.safetensors", which="best")
    assert "report" not in best.scores  # its scores are the last model's


@pytest.fixture
def two_models(run, tmp_path):
    """The run with a best model that differs from the last: of iteration 2, and without an opinion."""
    copy = shutil.copytree(run, tmp_path / "run")
    model = load_model(run / "models" / "best.safetensors")
    network, model.card.iteration = model.network(), 2
    for parameter in network.parameters():
        parameter.data.zero_()
    save_model(copy / "models" / "best.safetensors", network, model.card)
    return copy


def test_everything_uses_the_model_that_the_report_is_of(two_models, tiny_data, tmp_path, capsys):
    """Nothing is chosen by the cases that it is scored on, unless asked for."""
    report = two_models / "report"
    assert read_json(report / "validation.json")["model"] == {"which": "last", "iteration": 4, "network": "average"}
    assert (report / "validation.txt").read_text(encoding="utf-8").startswith("The last model (iteration 4, average)")
    assert load_model(two_models).card.iteration == 4
    assert load_model(two_models, "best").card.iteration == 2
    assert export_model(two_models, tmp_path / "shared.safetensors").iteration == 4
    where = ["--model", str(two_models), "--input", str(tiny_data / "images" / "atrium_004.nii.gz"), "--device", "cpu"]
    for which, model in (
        ((), "last.safetensors (iteration 4, "),
        (("--which", "best"), "best.safetensors (iteration 2"),
    ):
        output = tmp_path / f"out{len(which)}"
        assert predict([*where, "--output", str(output), "--probabilities", *which]) == 0
        assert model in capsys.readouterr().out
        probability = sitk.GetArrayFromImage(sitk.ReadImage(next((output / "probabilities").iterdir())))
        assert (probability.std() < 1e-6) == bool(which)
    assert models.main(["export", str(two_models), str(tmp_path / "b.safetensors"), "--which", "best"]) == 0
    assert load_model(tmp_path / "b.safetensors").card.iteration == 2


def test_a_model_that_a_run_does_not_have_is_said(two_models, tmp_path):
    (two_models / "models" / "last.safetensors").unlink()
    with pytest.raises(ModelError, match=r"no last model yet.*--which best"):
        load_model(two_models)
    (two_models / "models" / "best.safetensors").unlink()
    with pytest.raises(ModelError, match=r"no best model.*validation"):
        load_model(two_models, "best")
    with pytest.raises(ModelError, match="no model yet: train"):
        load_model(two_models)


def test_one_file_has_no_choice_of_models(run):
    with pytest.raises(ModelError, match=r"--which best.*run folder"):
        load_model(run / "models" / "last.safetensors", "best")


def test_an_unknown_name_is_answered_with_the_known_ones(run, folder, tiny_data, tmp_path, capsys):
    folder.mkdir()
    shutil.copy(run / "models" / "last.safetensors", folder / "mine.safetensors")
    with pytest.raises(ModelError, match=r"no model mien.*knows by name \(.*mine"):
        model_file("mien")
    arguments = ["--data", str(tiny_data), "--out", str(tmp_path / "run"), "--init", "mien"]
    assert train([*arguments, "--splits", f"{tiny_data / 'splits.json'}:demo"]) == 2
    assert "mine" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_file_or_run_folder_wins_over_a_name(run, folder, tmp_path, monkeypatch):
    folder.mkdir()
    shutil.copy(run / "models" / "last.safetensors", folder / "atrium.safetensors")
    assert model_file("atrium") == folder / "atrium.safetensors"
    shutil.copytree(run, tmp_path / "atrium")
    monkeypatch.chdir(tmp_path)
    assert model_file("atrium").parent.parent.name == "atrium"


def test_models_beside_the_package_are_found(run, tmp_path):
    """As they lie in a checkout, in Slicer's folder of modules and (in the package) in a wheel."""
    code = "from SemiSegLib.models import named_models; print(*named_models().values(), sep='\\n')"
    package = models.Path(models.__file__).parent
    for place in ("Resources/Models", "SemiSegLib/Resources/Models"):
        root = tmp_path / place.replace("/", "-")
        shutil.copytree(package, root / "SemiSegLib", ignore=shutil.ignore_patterns("__pycache__", "Resources"))
        (root / place).mkdir(parents=True)
        shutil.copy(run / "models" / "last.safetensors", root / place / "shipped.safetensors")
        printed = subprocess.run(
            [sys.executable, "-c", code], cwd=root, capture_output=True, encoding="utf-8", check=True
        )
        assert printed.stdout.split() == [str((root / place / "shipped.safetensors").resolve())]


def test_every_shipped_model_is_small_and_has_a_card():
    for name, file in named_models().items():
        model = load_model(file)
        assert file.stat().st_size <= 20e6, name
        assert model.card.notes, name
        assert model.card.settings.data.cache is None, name
        calibrated = model.card.quality.get("classes", {}).values()
        assert all(len(pairs["dsc"]) >= 9 for pairs in calibrated), name  # intervals of 90 %
        assert calibrated or "not calibrated" in model.card.notes, name
        model.network()


def test_weights_too_large_for_16_bits_keep_32(run, tmp_path):
    model = load_model(run)
    network = model.network()
    with torch.no_grad():
        network.encoder[0][1].weight[0] = 1e6
    save_model(tmp_path / "large.safetensors", network, model.card, half=True)
    weights = load_model(tmp_path / "large.safetensors").weights
    assert weights["encoder.0.1.weight"][0] == 1e6
    assert weights["encoder.0.0.weight"].dtype == torch.float16
