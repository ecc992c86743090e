"""How quick the panel is with many scans, in the real application; for hand use, prints times.

    Slicer --ignore-slicerrc --additional-module-path SemiSegModule \
        --python-script Testing/Application/measure_many_cases.py 200

Scans of 64 x 64 x 32 voxels of noise, each with a block as its prediction. `Testing/Gui/measure_many_cases.py` measures
the same without Slicer.
"""

import sys
import tempfile
import traceback
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent / "Slicer"))

import slicer
from clock import Clock
from many_cases import add_scans


def press(what, button, times):
    """Click a button so often."""
    with Clock(what) as clock:
        clock.times = times
        for _ in range(times):
            button.click()
            slicer.app.processEvents()


def main():
    """In Slicer: make the study, review, save and load it."""
    slicer.util.selectModule("SemiSegModule")
    widget = slicer.modules.semisegmodule.widgetRepresentation().self()
    folder = Path(tempfile.mkdtemp())
    widget._parameterNode.studyFolder = folder / "study"
    add_scans(widget.logic.workbench, int(sys.argv[-1]))
    slicer.app.processEvents()
    press("opening the review", widget.ui.reviewButton, 1)
    press("a step", widget.ui.reviewNextButton, 20)
    press("accept", widget.ui.reviewAcceptButton, 10)
    widget.panel.review.end()
    path = str(folder / "scene.mrb")
    with Clock("saving the scene"):
        slicer.util.saveScene(path)
    slicer.mrmlScene.Clear(0)
    with Clock("loading it"):
        slicer.util.loadScene(path)
        slicer.app.processEvents()


if __name__ == "__main__":
    try:
        main()
    except Exception:
        traceback.print_exc()
    finally:
        slicer.util.exit(0)
