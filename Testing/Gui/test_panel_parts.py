"""Parts of the panel that need neither widgets nor children."""

import json
import tarfile
import threading
import types
from functools import partial
from http.server import HTTPServer, SimpleHTTPRequestHandler

import pytest
from SemiSegModuleLib import sample_data
from SemiSegModuleLib.logic import run_settings as rs
from SemiSegModuleLib.logic.model_card import read_card
from SemiSegModuleLib.paths import library_folder, resource_path

from SemiSegLib.config import Label, Settings, SettingsError
from SemiSegLib.models import ModelError

LABELS = [Label(1, "left atrium", (152, 55, 13))]


def parameters(**changes):
    """A parameter node's values."""
    values = {"iterations": 0, "learningRate": 0.0, "spacing": "", "patchSize": "", "extraSettings": ""}
    choices = {"task": "left-atrium", "method": "recommended", "device": "auto", "trainingTime": "hour"}
    values |= {name: types.SimpleNamespace(value=value) for name, value in choices.items()}
    return types.SimpleNamespace(**values | changes)


# ---- settings of a run ---------------------------------------------------------------------------------------


def test_untouched_settings_are_those_of_task_and_method():
    values = rs.run_settings(parameters(), LABELS)
    assert set(values) == {"preset", "data.labels", "training.device", "training.minutes"}
    assert rs.complete_settings(values).data.spacing == (0.625, 0.625, 0.625)


def test_the_time_is_that_of_the_panel_unless_the_length_is_given():
    night = types.SimpleNamespace(value="night")
    assert rs.run_settings(parameters(trainingTime=night), LABELS)["training.minutes"] == 480
    for given in (parameters(iterations=7), parameters(extraSettings="training.iterations=7")):
        settings = rs.complete_settings(rs.run_settings(given, LABELS))
        assert (settings.training.iterations, settings.training.minutes) == (7, 0)
    assert rs.run_settings(parameters(), LABELS, {"training.minutes": 15})["training.minutes"] == 15


def test_the_minutes_after_corrections_have_a_smaller_learning_rate_than_a_training_has():
    correction = types.SimpleNamespace(value="correction")
    whole = rs.complete_settings(rs.run_settings(parameters(), LABELS)).training.learning_rate
    values = rs.run_settings(parameters(trainingTime=correction), LABELS)
    assert (values["training.minutes"], values["training.learning_rate"]) == (5, pytest.approx(0.4 * whole))
    chosen = rs.run_settings(parameters(trainingTime=correction, learningRate=0.03), LABELS)
    assert chosen["training.learning_rate"] == 0.03
    assert "training.learning_rate" not in rs.run_settings(parameters(trainingTime=correction, iterations=7), LABELS)


def test_settings_survive_the_file_between():
    values = rs.run_settings(parameters(iterations=7, spacing="1", patchSize="32 32 16"), LABELS)
    settings = rs.complete_settings(json.loads(json.dumps(values)))
    assert settings.training.iterations == 7
    assert settings.data.spacing == (1.0, 1.0, 1.0)
    assert settings.training.patch_size == (32, 32, 16)
    assert settings.data.labels == LABELS


def test_lines_win_over_fields():
    text = "# comment\n\n training.iterations = 9  # why\n"
    values = rs.run_settings(parameters(iterations=7, extraSettings=text), LABELS)
    assert rs.complete_settings(values).training.iterations == 9


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"spacing": "a b"}, "Voxel spacing: 'a b'"),
        ({"patchSize": "32 32 17"}, "multiple of 16"),
        ({"extraSettings": "nonsense"}, "'nonsense' is not of the form name=value"),
        ({"extraSettings": "training.iteration=3"}, "Did you mean training.iterations"),
    ],
)
def test_wrong_settings_are_refused_before_anything_starts(changes, words):
    with pytest.raises(SettingsError, match=words.replace("(", "\\(")):
        rs.run_settings(parameters(**changes), LABELS)


# ---- model card ----------------------------------------------------------------------------------------------


def write_model(path, card):
    """A safetensors file by its published layout: length, JSON header, data."""
    header = {"__metadata__": {"format": "semiseg-model-1", "card": json.dumps(card)}}
    header["weight"] = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"\0\0\0\0")
    return path


def test_card_is_read_from_the_header(tmp_path):
    settings = Settings(method="simcvd").to_dict()
    settings["data"]["labels"] = [{"value": 1, "name": "left atrium", "color": [1, 2, 3]}]
    path = write_model(tmp_path / "m.safetensors", {"settings": settings, "iteration": 60, "scores": {"dsc": 0.8768}})
    assert read_card(path).text == "left atrium; simcvd, 60 iterations, validation DSC 0.877"


@pytest.mark.parametrize("content", [b"", b"\x10\0\0\0\0\0\0\0{}", b"not a model at all, but long enough"])
def test_foreign_files_are_refused_by_name(tmp_path, content):
    path = tmp_path / "foreign.safetensors"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"foreign\.safetensors is not a model"):
        read_card(path)


def test_a_model_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ModelError, match="cannot be read"):
        read_card(tmp_path / "none.safetensors")


# ---- paths ---------------------------------------------------------------------------------------------------


def test_installed_files_win_over_those_of_a_checkout(tmp_path):
    for root in (tmp_path, tmp_path / "module"):
        (root / "Resources").mkdir(parents=True)
        (root / "Resources" / "a.txt").touch()
        (root / "SemiSegLib").mkdir()
        (root / "SemiSegLib" / "__init__.py").touch()
    installed = tmp_path / "module"
    assert resource_path("a.txt", installed) == installed / "Resources" / "a.txt"
    assert library_folder(installed) == installed


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"Resources/b\.txt"):
        resource_path("b.txt", tmp_path)
    with pytest.raises(FileNotFoundError, match="SemiSegLib"):
        library_folder(tmp_path)


# ---- sample data ---------------------------------------------------------------------------------------------


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A web server on this computer that offers a small Task02_Heart.tar."""
    source = tmp_path / "served"
    (source / "Task02_Heart").mkdir(parents=True)
    (source / "Task02_Heart" / "dataset.json").write_text("{}")
    (source / "Task02_Heart" / "._dataset.json").write_text("rubbish of macOS")
    archive = source / "Task02_Heart.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(source / "Task02_Heart", "Task02_Heart")

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    served = HTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(source)))
    threading.Thread(target=served.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{served.server_port}/Task02_Heart.tar"
    offered = sample_data.PublicData(url, sample_data._md5(archive), 1)
    monkeypatch.setitem(sample_data.PUBLIC, "Task02_Heart", offered)
    yield offered
    served.shutdown()


def test_public_data_is_downloaded_once_and_unpacked(server, tmp_path):
    reports = []
    folder = sample_data.download("Task02_Heart", tmp_path / "public", lambda *report: reports.append(report))
    assert [path.name for path in folder.iterdir()] == ["dataset.json"]
    assert reports
    assert not (tmp_path / "public" / "Task02_Heart.tar").exists()
    reports.clear()
    sample_data.download("Task02_Heart", tmp_path / "public", lambda *report: reports.append(report))
    assert not reports


def test_unpacking_that_was_cancelled_is_begun_anew(server, tmp_path):
    """Half of the scans would be taken for all of them."""
    from SemiSegModuleLib.panels.busy import Cancelled

    public, cancelled = tmp_path / "public", []

    def progress(done, count, name):
        if name == "Task02_Heart/dataset.json" and not cancelled:
            cancelled.append(name)
            raise Cancelled

    with pytest.raises(Cancelled):
        sample_data.download("Task02_Heart", public, progress)
    assert [path.name for path in public.iterdir()] == ["Task02_Heart.tar"]
    (public / "Task02_Heart").mkdir()
    (public / "Task02_Heart" / "dataset.json").touch()  # as an earlier version left it
    folder = sample_data.download("Task02_Heart", public, progress)
    assert (folder / "dataset.json").read_text() == "{}"
    assert list(public.iterdir()) == [folder]


def test_a_damaged_download_is_refused(server, tmp_path, monkeypatch):
    damaged = sample_data.PublicData(server.url, "0" * 32, 1)
    monkeypatch.setitem(sample_data.PUBLIC, "Task02_Heart", damaged)
    with pytest.raises(sample_data.SampleDataError, match="not received whole"):
        sample_data.download("Task02_Heart", tmp_path / "public", lambda *report: None)
    assert not list((tmp_path / "public").iterdir())


def test_no_internet_is_told(tmp_path, monkeypatch):
    nowhere = sample_data.PublicData("http://127.0.0.1:9/x.tar", "0" * 32, 1)
    monkeypatch.setitem(sample_data.PUBLIC, "Task02_Heart", nowhere)
    with pytest.raises(sample_data.SampleDataError, match="needs no internet"):
        sample_data.download("Task02_Heart", tmp_path / "public", lambda *report: None)
