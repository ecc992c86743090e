"""Pictures of Slicer's views for the README, from synthetic scans and what a trained model predicts for them.

    python -m SemiSegLib.train --demo --out DEMO                       (where torch is)
    python -m SemiSegLib.predict --model DEMO/run --input DEMO/data/images --output PREDICTIONS \\
        --format seg.nrrd --sdm
    python Testing/Slicer/make_screenshots.py DEMO/data PREDICTIONS    (where slicer-core is)
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent.parent), str(HERE.parent.parent / "SemiSegModule")]

import slicer  # noqa: E402
from mrml_application import MrmlApplication  # noqa: E402
from offscreen_views import SliceView, ThreeDView  # noqa: E402
from PIL import Image  # noqa: E402
from SemiSegModuleLib.scene.annotations import add_region  # noqa: E402
from SemiSegModuleLib.scene.case_table import CaseTable  # noqa: E402
from SemiSegModuleLib.scene.loading import add_files  # noqa: E402
from SemiSegModuleLib.scene.overlays import Overlays  # noqa: E402
from SemiSegModuleLib.scene.predictions import find_prediction, load_prediction  # noqa: E402

from SemiSegLib.presets import PRESETS  # noqa: E402

GAP = 4  # pixels between views
SIZE = (420, 350)


class FourUp:
    """Axial, 3D, coronal and sagittal views, arranged as in Slicer's four-up layout."""

    def __init__(self, application: MrmlApplication) -> None:
        self.axial = SliceView(application, "Red", "Axial", SIZE)
        self.coronal = SliceView(application, "Green", "Coronal", SIZE)
        self.sagittal = SliceView(application, "Yellow", "Sagittal", SIZE)
        self.three_d = ThreeDView(application, size=SIZE)

    def look_at(self, segmentation_node, zoom: float = 1.3) -> None:
        """Bring the scan into view, slices through the middle of the segments."""
        bounds = np.zeros(6)
        segmentation_node.GetRASBounds(bounds)
        for view in (self.axial, self.coronal, self.sagittal):
            view.fit(1.02)
            view.move_to((bounds[::2] + bounds[1::2]) / 2)
        self.three_d.look_from(zoom=zoom)

    def array(self) -> np.ndarray:
        """One picture, uint8, shape (height, width, 3)."""
        upper = self._row(self.axial, self.three_d)
        lower = self._row(self.coronal, self.sagittal)
        return np.concatenate([upper, np.full((GAP, upper.shape[1], 3), 60, np.uint8), lower])

    @staticmethod
    def _row(left, right) -> np.ndarray:
        first, second = left.array(), right.array()
        return np.concatenate([first, np.full((first.shape[0], GAP, 3), 60, np.uint8), second], axis=1)


def save_png(picture: np.ndarray, path: Path) -> None:
    """Write an RGB array (height, width, 3); the two lowest bits, which nobody sees, go for a smaller file."""
    Image.fromarray(picture & 0xFC).save(path, optimize=True)


def main() -> None:
    """Draw views-region.png, and with predictions views-mask.png and views-distance.png."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("predictions", type=Path, nargs="?", help="without it only views-region.png is drawn")
    parser.add_argument("--case", help="file name without extension (default: the first unlabelled one)")
    parser.add_argument("--out", type=Path, default=HERE.parent.parent / "Resources" / "Screenshots")
    options = parser.parse_args()
    application = MrmlApplication()
    table = CaseTable(slicer.mrmlScene)
    table.labels = PRESETS["left-atrium"]["data.labels"]
    add_files(table, [options.data])
    options.out.mkdir(parents=True, exist_ok=True)
    views = FourUp(application)
    draw_region(views, table, next(case for case in table if case.done), options.out)
    if options.predictions:
        case = next(case for case in table if (case.name == options.case if options.case else not case.done))
        files = find_prediction(options.predictions, case.name)
        load_prediction(table, case, files.mask, files.sdms, files.probabilities)
        draw(views, table, case, options.out)
    table.close()
    application.close()


def draw_region(views: FourUp, table: CaseTable, case, out: Path) -> None:
    """An annotated case that is limited to a box."""
    add_region(table, case)
    Overlays(table).show(case)
    views.look_at(case.annotation, zoom=1.0)
    save_png(views.array(), out / "views-region.png")


def draw(views: FourUp, table: CaseTable, case, out: Path) -> None:
    """Mask and distance of one case."""
    overlays = Overlays(table)
    overlays.show(case)
    views.look_at(case.prediction)
    save_png(views.array(), out / "views-mask.png")
    overlays.settings.map = "sdm"
    overlays.update()
    save_png(views.array(), out / "views-distance.png")


if __name__ == "__main__":
    main()
