"""How quick the panel is with many cases: python Testing/Gui/measure_many_cases.py [COUNT]

Makes a scene of COUNT scans (64 x 64 x 32 voxels, each with a predicted mask), opens it in the panel, sorts the review
list, steps through it, moves a slider, draws, saves and loads the scene, adds COUNT files twice, and prints what each
takes. Needs PySide6 and slicer-core.

Milliseconds of processor time on an Intel Xeon whose speed changes twofold within minutes, with 200 scans and, right
before, with 50: adding loaded scans 245, 37; opening 173, 40; sorting 59, 8; a step 18, 5; accepting 72, 20; a stroke
5, 2. In other runs: a tick of a slider 4, 1; adding files 3625, 655 (most of it Slicer's), and again 72, 13; loading
the scene 3674, 753 (the same); all small pictures, while the window lives, 1380, 255.
"""

import sys
import tempfile
import types
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [
    str(HERE),
    str(HERE.parent / "Slicer"),
    str(HERE.parent.parent / "SemiSegModule"),
    str(HERE.parent.parent),
]

from clock import Clock  # noqa: E402 (found by the path above)


def start():
    """Slicer's libraries, Qt, and the module."""
    import pythonqt

    qt = pythonqt.install()
    application = qt.QApplication(["measure"])
    qt.QSettings.setDefaultFormat(qt.QSettings.IniFormat)
    qt.QSettings.setPath(qt.QSettings.IniFormat, qt.QSettings.UserScope, tempfile.mkdtemp())
    import stand_in_application
    import stand_in_widgets

    stand_in_widgets.install()
    stand_in_application.install(None)
    from mrml_application import MrmlApplication

    return qt, application, MrmlApplication()


def main(count=200):
    qt, application, mrml = start()
    import slicer

    slicer.app._logic = mrml.logic
    import SemiSegModule

    slicer.modules.semisegmodule = types.SimpleNamespace(path=SemiSegModule.__file__)
    parent = qt.QWidget()
    parent.setLayout(qt.QVBoxLayout())
    parent.__dict__["isEntered"] = True
    widget = SemiSegModule.SemiSegModuleWidget(parent)
    widget.setup()
    widget.enter()
    logic = widget.logic.workbench
    widget._parameterNode.studyFolder = Path(tempfile.mkdtemp())
    from many_cases import add_scans

    add_scans(logic, count)
    with Clock("opening: settings and table of the scene"):
        widget.initializeParameterNode()
        logic.study.cases.refresh()
        widget.panel.data.rows._made.clear()
        widget.panel.data.update()
    with Clock(f"{count} small pictures, made while the window lives"):
        widget.panel.data.rows.draw_pictures()
    with Clock("opening the review, sorted"):
        widget.ui.reviewButton.click()
    widget.panel.review.rows.draw_pictures()
    header = widget.ui.reviewTable.horizontalHeader()
    with Clock("sorting the review, once") as clock:
        clock.times = 4
        for column in (0, 2, 0, 2):
            header.sectionClicked.emit(column)
    with Clock("stepping to the next scan, once") as clock:
        clock.times = 20
        for _ in range(20):
            widget.ui.reviewNextButton.click()
    with Clock("accepting and going on, once") as clock:
        clock.times = 10
        for _ in range(10):
            widget.ui.reviewAcceptButton.click()
    with Clock("one tick of an opacity slider") as clock:
        clock.times = 20
        for number in range(20):
            widget.ui.maskOpacitySlider.value = 0.2 + number / 100
    draw(widget, logic)
    folder = Path(tempfile.mkdtemp())
    mrml.save(folder / "study.mrb")
    with Clock("closing the scene and loading it again"):
        mrml.load(folder / "study.mrb")
    assert len(logic.study.cases) == count
    mrml.scene.Clear(0)
    add(logic, folder / "scans", count)
    widget.cleanup()
    application.processEvents()


def draw(widget, logic):
    """Strokes in the annotation of one scan, which the panel hears of after each."""
    import numpy as np
    from SemiSegModuleLib.scene import segments, volumes

    widget.panel.review.end()
    case, labels = logic.study.case, logic.study.cases.labels
    mask = np.zeros(segments.grid_shape(case.volume), np.uint8)
    with Clock("a stroke, once the editor has made it") as clock:
        clock.times = 20
        for number in range(20):
            mask[number, 20:40, 20:40] = 1
            segments.set_voxels(logic.annotate(case), mask, volumes.ijk_to_ras(case.volume), labels)
            widget.panel.annotate._drawn()


def add(logic, folder, count):
    """Files, and the same files again."""
    import numpy as np
    import SimpleITK as sitk

    folder.mkdir()
    for number in range(count):
        scan = sitk.GetImageFromArray(np.full((16, 16, 16), number, np.int16))
        sitk.WriteImage(scan, str(folder / f"scan_{number}.nrrd"))
    with Clock(f"adding {count} files"):
        logic.add_cases([folder])
    with Clock("adding the same files again"):
        logic.add_cases([folder])
    assert len(logic.study.cases) == count


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
