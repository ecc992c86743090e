"""What a person does with the module, done by scripts in the real application, in some minutes.

    Slicer --ignore-slicerrc --additional-module-path SemiSegModule --python-script Testing/Application/walk.py FOLDER
    the same once more: a training that the first start has left running is found again, and stopped

FOLDER, which must not be there yet at the first start, gets report.json and report-second-start.json (each step, and
what went wrong), a picture of the window after each step, and the study. Slicer ends by itself; its exit code is the
number of steps that failed. Steps that train need the packages of the panel's *Check installation*, or
SEMISEG_PYTHON; they are reported as skipped without.
"""

import sys
from pathlib import Path

import slicer
from drawing_steps import DrawingSteps
from hands import Hands
from result_steps import ResultSteps
from second_start import SecondStart
from study_steps import StudySteps

WINDOW = 1280, 900  # of the pictures
REPORT, SECOND_REPORT = "report.json", "report-second-start.json"


class Walk(StudySteps, DrawingSteps, ResultSteps, Hands):
    """The steps of the first start, each named after what must be true."""


def main():
    """In Slicer: open the module, walk, end; also where the module cannot even be opened."""
    folder = Path(sys.argv[-1])
    window = slicer.util.mainWindow()
    second = (folder / REPORT).is_file()
    folder.mkdir(parents=True, exist_ok=second)

    def picture(name):
        slicer.app.processEvents()
        window.grab().save(str(folder / f"{'second-start-' if second else ''}{name}.png"))

    failed = 1
    try:
        window.resize(*WINDOW)
        slicer.app.layoutManager().setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)
        slicer.util.selectModule("SemiSegModule")
        slicer.app.processEvents()
        widget = slicer.modules.semisegmodule.widgetRepresentation().self()
        walk = (SecondStart if second else Walk)(widget, folder)
        failed = walk.run(SECOND_REPORT if second else REPORT, picture)
    finally:
        slicer.util.exit(failed)


if __name__ == "__main__":
    main()
