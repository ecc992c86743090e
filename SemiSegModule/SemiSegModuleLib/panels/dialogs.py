"""The questions that the panel asks in windows of their own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import qt
import slicer

from ..i18n import _
from ..scene.case import Case

_MOST_NAMES = 10
SCANS = "*.nii *.nii.gz *.nrrd *.nhdr *.mha *.mhd"


def choose_files(title: str) -> list[Path]:
    """Scans on disk; empty when cancelled."""
    names = qt.QFileDialog.getOpenFileNames(
        slicer.util.mainWindow(), title, "", _("Scans ({patterns})").format(patterns=SCANS)
    )
    return [Path(name) for name in names]


def choose_folder(title: str, start: Path | None = None) -> Path | None:
    """A folder; None when cancelled."""
    name = qt.QFileDialog.getExistingDirectory(slicer.util.mainWindow(), title, str(start or ""))
    return Path(name) if name else None


def choose_model() -> Path | None:
    """A model file to read; None when cancelled."""
    name = qt.QFileDialog.getOpenFileName(
        slicer.util.mainWindow(), _("Load a model"), "", _("SemiSeg models (*.safetensors)")
    )
    return Path(name) if name else None


def choose_model_to_write(start: Path) -> Path | None:
    """Where a model file goes; None when cancelled."""
    name = qt.QFileDialog.getSaveFileName(
        slicer.util.mainWindow(), _("Export the model"), str(start), _("SemiSeg models (*.safetensors)")
    )
    return Path(name) if name else None


def choose_color(current: tuple[int, int, int]) -> tuple[int, int, int] | None:
    """An RGB colour; None when cancelled."""
    color = qt.QColorDialog.getColor(qt.QColor(*current), slicer.util.mainWindow())
    return (color.red(), color.green(), color.blue()) if color.isValid() else None


def names(cases: Sequence[Case]) -> str:
    """The first names of some cases, one a line, to stand in a question."""
    more = _("and {count} more").format(count=len(cases) - _MOST_NAMES)
    return "\n".join([case.name for case in cases[:_MOST_NAMES]] + ([more] if len(cases) > _MOST_NAMES else []))


def may_replace(case: Case) -> bool:
    """A drawing in the annotation of the case may be replaced by its prediction, or there is none."""
    question = _("{name} has an annotation already. Replace it by the prediction?").format(name=case.name)
    return not case.has_drawing or confirm(question)


def confirm(text: str) -> bool:
    """A question that can be declined; nobody is asked while tests run."""
    return bool(slicer.util.confirmOkCancelDisplay(text, _("SemiSeg")))
