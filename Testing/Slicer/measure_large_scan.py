"""How quick one large scan with many structures is: python Testing/Slicer/measure_large_scan.py

An abdominal CT of 512 x 512 x 300 voxels with fourteen structures, predicted and accepted; what each step takes is
printed. Needs slicer-core.

Milliseconds of processor time on an Intel Xeon, and before only the part of the grid that is drawn in was looked at:
the middle of the mask, to which a step of the review jumps, 2, 3495; remembering a prediction 244, 3104; accepting it
897, 4020; the mask on the voxels of the scan 143, 6791; which slices are drawn in 709, 4314.
"""

import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent.parent / "SemiSegModule"), str(HERE.parent.parent)]

SHAPE = (300, 512, 512)
STRUCTURES = 14


def measure(what, work):
    """Print processor time of this process, which others on the machine do not lengthen, and the time on the wall."""
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    cpu, wall = (1000 * (now - then) for now, then in ((time.process_time(), cpu), (time.perf_counter(), wall)))
    print(f"{what:<52}{cpu:9.1f} ms of processor time {wall:9.1f} ms", flush=True)


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
    measure("all voxels, counted for the first time", lambda: segments.counts_by_segment(case.prediction))
    measure("the middle of the mask", lambda: overlays.middle_of(case))
    measure("remembering the prediction", case.remember_prediction)
    measure("accepting it", lambda: accept_prediction(table, case))
    measure(
        "the mask on the voxels of the scan",
        lambda: segments.voxels_on_grid(case.annotation, case.volume, table.labels),
    )
    measure("which slices are drawn in", lambda: marked_slices(case.annotation, case.volume, table.labels, 2))
    table.close()
    application.close()


if __name__ == "__main__":
    main()
