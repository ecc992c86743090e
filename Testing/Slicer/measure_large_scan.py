"""How quick one large scan with many structures is: python Testing/Slicer/measure_large_scan.py

An abdominal CT of 512 x 512 x 300 voxels with fourteen structures, predicted and accepted; what each step takes is
printed. Needs slicer-core.

Milliseconds of processor time on an Intel Xeon, and before only the part of the grid that is drawn in was looked at,
both in turn: the middle of the mask, to which a step of the review jumps, 18, 3473; remembering a prediction 341, 4048;
accepting it 1209, 5171; the mask on the voxels of the scan 66, 9544; which slices are drawn in 586, 5491; counting all
voxels for the first time, which finds that part, 725, 475.
"""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent.parent / "SemiSegModule"), str(HERE.parent.parent)]

from clock import Clock  # noqa: E402 (found by the path above)

SHAPE = (300, 512, 512)
STRUCTURES = 14


def predicted(table):
    """A case with fourteen structures, each of some hundred thousand voxels, as a prediction brings them."""
    import numpy as np
    import slicer
    from SemiSegModuleLib.scene import segments, volumes
    from SemiSegModuleLib.scene.annotations import make_annotation

    noise = np.random.default_rng(1).integers(-1000, 1000, SHAPE, dtype=np.int16)
    case = table.add_volume(slicer.util.addVolumeFromArray(noise, name="abdomen"))
    mask = np.zeros(SHAPE, np.uint8)
    for value in range(1, STRUCTURES + 1):
        mask[10 * value : 10 * value + 100, 20 * value : 20 * value + 100, 20 * value : 20 * value + 60] = value
    node = make_annotation(table, case)
    segments.set_voxels(node, mask, volumes.ijk_to_ras(case.volume), table.labels)
    case.annotation, case.prediction = None, node
    return case


def main():
    from mrml_application import MrmlApplication

    application = MrmlApplication()
    from SemiSegModuleLib.scene import overlays, segments
    from SemiSegModuleLib.scene.annotations import accept_prediction
    from SemiSegModuleLib.scene.case_table import CaseTable
    from SemiSegModuleLib.scene.region import marked_slices

    from SemiSegLib.config import Label

    table = CaseTable(application.scene)
    table.labels = [Label(value, f"structure {value}", (10 * value, 50, 60)) for value in range(1, STRUCTURES + 1)]
    case = predicted(table)
    with Clock("all voxels, counted for the first time"):
        segments.counts_by_segment(case.prediction)
    with Clock("the middle of the mask"):
        overlays.middle_of(case)
    with Clock("remembering the prediction"):
        case.remember_prediction()
    with Clock("accepting it"):
        accept_prediction(table, case)
    with Clock("the mask on the voxels of the scan"):
        segments.voxels_on_grid(case.annotation, case.volume, table.labels)
    with Clock("which slices are drawn in"):
        marked_slices(case.annotation, case.volume, table.labels, 2)
    table.close()
    application.close()


if __name__ == "__main__":
    main()
