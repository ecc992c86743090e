"""The script for the real application, walked through the stand-ins: so that it is right when somebody has Slicer."""

import sys
from pathlib import Path

import pytest


@pytest.fixture
def walk(opened, mrml, tmp_path, monkeypatch):
    import slicer

    sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "Application"))
    monkeypatch.setattr(slicer.util, "saveScene", lambda path: mrml.save(Path(path)) or True)

    def load(path):
        mrml.load(Path(path))
        opened.widget.onSceneEndImport(None, None)

    monkeypatch.setattr(slicer.util, "loadScene", load)
    monkeypatch.setattr(opened.logic.installation, "missing", lambda: ["no training in this test"])
    opened.parent.resize(360, 700)
    opened.parent.show()
    from walk import Walk

    (tmp_path / "walk").mkdir()
    return Walk(opened.widget, tmp_path / "walk")


def test_every_step_that_trains_nothing_passes(walk):
    if "torch" in sys.modules:
        pytest.skip("other tests of this process have imported torch")
    walk.run("report.json")
    assert {entry["step"]: entry["words"] for entry in walk.report if entry["outcome"] == "failed"} == {}
    skipped = {entry["step"][:2] for entry in walk.report if entry["outcome"] == "skipped"}
    need_a_window = {"08", "12", "14", "15", "17", "19", "31"}
    need_a_training = {"20", "21", "22", "23", "24", "25", "26", "27", "28", "29", "32"}
    assert skipped == need_a_window | need_a_training
