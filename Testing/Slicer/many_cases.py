"""Many small scans with predictions, for the scripts that measure the panel with them."""

import numpy as np
import slicer
from clock import Clock


def add_scans(workbench, count):
    """Scans of 64 x 64 x 32 voxels of noise, each with a block as its prediction; prints what adding them takes."""
    from SemiSegModuleLib.scene import segments, volumes
    from SemiSegModuleLib.scene.annotations import make_annotation

    noise = np.random.default_rng(1).normal(100, 20, (32, 64, 64)).astype(np.int16)
    mask = np.zeros(noise.shape, np.uint8)
    mask[8:24, 16:48, 16:48] = 1
    nodes = [slicer.util.addVolumeFromArray(noise + number, name=f"scan {number}") for number in range(count)]
    with Clock(f"adding {count} loaded scans"):
        cases = workbench.add_cases(nodes)
        slicer.app.processEvents()
    table = workbench.study.cases
    for number, case in enumerate(cases):
        with table.paused():
            node = make_annotation(table, case)
            segments.set_voxels(node, mask, volumes.ijk_to_ras(case.volume), table.labels)
            case.annotation = None
            case.prediction = node
            case.confidence = (number * 37 % count) / count
