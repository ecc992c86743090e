"""report/index.html: one file that needs nothing else, says what happened, and stays small with many cases."""

import base64
import io
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from SemiSegLib.data.cases import Case
from SemiSegLib.report import curves_figure, strip_picture
from SemiSegLib.runs import RunFolder, read_json, write_json
from SemiSegLib.summarise import main
from SemiSegLib.train import train
from SemiSegLib.training.summary import spread


class Page(HTMLParser):
    """What a browser would see of it."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.sources, self.text = [], [], []
        self.feed(path.read_text(encoding="utf-8"))
        self.words = " ".join(" ".join(self.text).split())

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.sources += [value for name, value in attributes if name in ("src", "href", "srcset", "data", "action")]

    def handle_data(self, data):
        self.text.append(data)

    def pictures(self):
        found = [re.fullmatch(r"data:image/(\w+);base64,(.*)", source) for source in self.sources]
        assert all(found), "a page that opens offline refers to nothing outside"
        return [(kind, Image.open(io.BytesIO(base64.b64decode(data)))) for kind, data in (m.groups() for m in found)]


@pytest.fixture(scope="module")
def run(tiny_data, tiny_settings, tmp_path_factory):
    """A short training with one validation case, three unlabelled ones and a warning."""
    settings = tiny_settings("supervised", **{"training.iterations": 2})
    out = tmp_path_factory.mktemp("page") / "<b>run</b>"
    finished = train(tiny_data, out, settings, f"{tiny_data / 'splits.json'}:demo", quiet=True)
    return RunFolder.open(finished.path)


def test_the_page_tells_the_run_and_refers_to_nothing_outside(run):
    page = Page(run.report / "index.html")
    assert not {"script", "link", "iframe", "b"} & set(page.tags)
    assert "url(" not in (run.report / "index.html").read_text(encoding="utf-8")
    kinds = [kind for kind, _ in page.pictures()]
    assert kinds == ["png", "webp", "webp", "webp", "webp"]
    for name in ("atrium_003", "atrium_004", "atrium_005", "atrium_006"):
        assert page.words.count(name) >= 1
    scores = read_json(run.report / "validation.json")["cases"]["atrium_006"]["left atrium"]
    assert f"atrium_006 DSC {100 * scores['dsc']:.1f} %" in page.words
    assert re.search(r"atrium_003 left atrium \d+\.\d ml", page.words)
    assert "method supervised task left atrium" in page.words
    assert "2 labelled, 3 unlabelled, 1 validation" in page.words
    assert "training.learning_rate 0.05 at the start" in page.words
    assert "<b>run</b>" in page.words  # as text: a name is never markup


def test_settings_other_than_the_usual_are_marked(run):
    text = (run.report / "index.html").read_text(encoding="utf-8")
    marked = set(re.findall(r'<tr class="changed"><td>([\w.]+)</td>', text))
    assert {"training.iterations", "training.patch_size", "data.spacing"} <= marked
    assert not {"training.momentum", "training.learning_rate", "inference.overlap"} & marked


def test_the_report_can_be_written_anew_with_fewer_or_all_cases(run, capsys):
    run.event("message", level="warning", text="2.5 % of the voxels lie <outside>")
    assert main([str(run.path), "--strips", "1"]) == 0
    assert capsys.readouterr().out.strip() == str(run.report / "index.html")
    page = Page(run.report / "index.html")
    assert len(page.pictures()) == 1 + 1 + 1
    assert "1 of 3, spread over the list" in page.words
    assert page.words.count("2.5 % of the voxels lie <outside>") == 1
    assert main([str(run.path), "--strips", "all"]) == 0
    assert len(Page(run.report / "index.html").pictures()) == 1 + 1 + 3


def test_an_unlabelled_scan_that_cannot_be_read_is_a_warning(run, tmp_path, tiny_data):
    cases = read_json(run.cases_file)
    broken = tmp_path / "broken.nii.gz"
    broken.write_bytes(b"nothing")
    before = cases["unlabelled"][0]["image"]
    cases["unlabelled"][0]["image"] = str(broken)
    write_json(run.cases_file, cases)
    assert main([str(run.path)]) == 0
    page = Page(run.report / "index.html")
    assert len(page.pictures()) == 1 + 1 + 2
    assert "no picture of atrium_003" in page.words
    cases["unlabelled"][0]["image"] = before
    write_json(run.cases_file, cases)


@pytest.fixture(scope="module")
def without_validation(tiny_data, tiny_settings, tmp_path_factory):
    """A training of the recipe of the papers with one annotated case and one without mask, which is called curves."""
    data = tmp_path_factory.mktemp("data")
    for source, target in (("images/atrium_001", "images/a"), ("labels/atrium_001", "labels/a")):
        (data / target).parent.mkdir(exist_ok=True)
        shutil.copy(tiny_data / f"{source}.nii.gz", data / f"{target}.nii.gz")
    shutil.copy(tiny_data / "images" / "atrium_003.nii.gz", data / "images" / "curves.nii.gz")
    settings = tiny_settings("mean-teacher", recipe="published", **{"training.iterations": 1})
    settings.method_settings["consistency"] = 0.3
    return train(data, data / "run", settings, quiet=True)


def test_a_picture_of_a_case_never_replaces_the_curves(without_validation):
    report = without_validation.report
    page = Page(report / "index.html")
    assert page.pictures()[0][1].size == Image.open(report / "curves.png").size
    assert (report / "curves.png").read_bytes() != (report / "cases" / "curves.png").read_bytes()
    curves_figure(without_validation.history(), report / "again.png")
    assert (report / "curves.png").read_bytes() == (report / "again.png").read_bytes()


def test_only_cases_with_a_reference_are_said_to_have_one(run, without_validation):
    assert Page(run.report / "index.html").words.count("reference. The worst case comes first.") == 1
    assert "reference." not in Page(without_validation.report / "index.html").words


def test_settings_of_the_run_s_own_recipe_are_not_marked(without_validation):
    text = (without_validation.report / "index.html").read_text(encoding="utf-8")
    marked = set(re.findall(r'<tr class="changed"><td>([\w.]+)</td>', text))
    assert {"training.iterations", "method_settings.consistency"} <= marked
    assert (
        not {
            "recipe",
            "method_settings.ema_decay",
            "augmentation.geometry",
            "training.learning_rate",
            "inference.mirror",
        }
        & marked
    )


def test_wrong_input_is_explained(run, tmp_path, capsys):
    assert main([str(tmp_path)]) == 2
    assert "not a run folder" in capsys.readouterr().err
    assert main([str(run.path), "--strips", "many"]) == 2
    assert "a number of cases, or all" in capsys.readouterr().err
    empty = RunFolder.create(tmp_path / "new")
    assert main([str(empty.path)]) == 2
    assert "no model yet" in capsys.readouterr().err


def test_a_few_of_many_cases_are_spread_over_the_list():
    cases = [Case(str(index), None) for index in range(300)]
    assert [case.name for case in spread(cases, 4)] == ["0", "75", "150", "225"]
    assert [case.name for case in spread(cases[:3], 12)] == ["0", "1", "2"]
    assert len(spread(cases, None)) == 300


def colours(content):
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).reshape(-1, 3).astype(int)


@pytest.mark.parametrize("spacing", [(1, 1, 1), (1, 1, 8), (0.5, 0.5, 20)])
def test_a_strip_is_small_and_shows_both_outlines(spacing):
    reference = np.zeros((40, 40, 20), np.uint8)
    reference[10:30, 10:30, 5:15] = 1
    image = np.random.default_rng(0).random(reference.shape)
    prediction = np.roll(reference, 4, axis=0)
    both = strip_picture(image, reference, prediction, spacing, {"a": 1})
    only = strip_picture(image, None, prediction, spacing, {"a": 1})
    empty = strip_picture(image, None, 0 * prediction, spacing, {"a": 1})
    orange, blue = (lambda rgb: (rgb[:, 0] - rgb[:, 2] > 90).sum()), (lambda rgb: (rgb[:, 2] - rgb[:, 0] > 90).sum())
    assert orange(colours(both)) > 50
    assert blue(colours(both)) > 50
    assert orange(colours(only)) == 0
    assert blue(colours(only)) > 50
    assert blue(colours(empty)) == 0
    assert max(map(len, (both, only, empty))) < 40_000
    assert Image.open(io.BytesIO(both)).size[1] == 240
