"""The walk through the module in the real application, where SEMISEG_SLICER names one; else skipped.

SEMISEG_SLICER=/opt/Slicer-5.12/Slicer python -m pytest Testing/Application
"""

import json
import os
import subprocess
from pathlib import Path

import pytest

VARIABLE = "SEMISEG_SLICER"
REPOSITORY = Path(__file__).resolve().parent.parent.parent
MINUTES = 30


@pytest.fixture
def walk(tmp_path):
    """The folder of the walk; a training that is still at work when something failed is told to stop."""
    folder = tmp_path / "walk"
    yield folder
    for status in folder.glob("**/status.json"):
        (status.parent / "stop.request").touch()


def test_every_step_of_the_walk_passes(walk):
    """Slicer is started twice: the second finds the training again that the first has left running."""
    application = os.environ.get(VARIABLE)
    if not application:
        pytest.skip(f"{VARIABLE} names no Slicer")
    command = [application, "--ignore-slicerrc", "--no-splash"]
    command += ["--additional-module-path", str(REPOSITORY / "SemiSegModule")]
    command += ["--python-script", str(Path(__file__).with_name("walk.py")), str(walk)]
    for name in ("report.json", "report-second-start.json"):
        ended = subprocess.run(command, timeout=60 * MINUTES, check=False)
        report = walk / name
        assert report.is_file(), "the module could not be opened: see what Slicer printed"
        entries = json.loads(report.read_text(encoding="utf-8"))
        assert {entry["step"]: entry["words"] for entry in entries if entry["outcome"] == "failed"} == {}
        assert ended.returncode == 0
