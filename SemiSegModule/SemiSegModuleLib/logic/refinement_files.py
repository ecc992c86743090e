"""What the next refinement of a scan begins from: the strokes so far, and the mask that was there before the next ones.

>>> keep_base(study, case)                                              # doctest: +SKIP
>>> strokes, mask = read(study, case)                                   # doctest: +SKIP

They lie in a folder of the study that the case names, on all voxels of the scan.
"""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from SemiSegLib.errors import SemiSegError

from ..scene import volumes
from ..scene.annotations import IGNORE_VALUE
from ..scene.case import Case
from ..scene.segments import grid_shape
from ..scene.strokes import base_of
from .storage import only_if_started
from .study import Study

FOLDERS = "refinements"  # in the study's folder
_DRAWN, _MASK = "drawn.nrrd", "annotation.nrrd"


def read(study: Study, case: Case) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Strokes and mask, (k, j, i); None where no such files are there, or of other voxels than the scan has now."""
    files = [study.folder / FOLDERS / case.refinement / name for name in (_DRAWN, _MASK)]
    if not case.refinement or not all(file.is_file() for file in files):
        return None, None
    strokes, mask = (sitk.GetArrayFromImage(volumes.read_image(file)) for file in files)
    shape = grid_shape(case.volume)
    return (strokes, mask) if strokes.shape == mask.shape == shape else (None, None)


def write(folder: Path, case: Case, strokes: np.ndarray, mask: np.ndarray) -> None:
    """Write both into a folder of a refinement, and let the case name it; raises SemiSegError."""
    volumes.write_image(volumes.world_image(case.volume, mask), folder / _MASK)
    volumes.write_image(volumes.world_image(case.volume, strokes), folder / _DRAWN)
    case.refinement = folder.name


def keep_base(study: Study, case: Case) -> None:
    """Before another prediction comes: keep the one that the annotation began as, or what the two models do not agree
    on would count as drawn. Where it cannot be kept, the annotation cannot be refined; the prediction comes all the
    same."""
    if case.refinement or not case.began_as_this_prediction:
        return
    try:
        base = base_of(case, study.cases.labels)
        folder = study.new_folder(FOLDERS)
        with only_if_started(folder):
            write(folder, case, np.full_like(base, IGNORE_VALUE), base)
    except (SemiSegError, OSError) as error:
        logging.warning("SemiSeg: what %s began as is not kept: %s", case.file_name, error)
