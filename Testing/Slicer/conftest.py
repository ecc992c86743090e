"""Fixtures for tests on Slicer's real scene; without slicer-core they skip."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

HERE = Path(__file__).resolve().parent
for folder in (HERE, HERE.parent.parent, HERE.parent.parent / "SemiSegModule"):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))

# Turned about all three axes, x and y and z spacings different: nothing can be right by chance.
OBLIQUE = np.array([[0.866, -0.354, 0.354], [0.5, 0.612, -0.612], [0.0, 0.707, 0.707]])
SPACING = (0.9, 1.3, 2.5)
ORIGIN = (-31.0, 17.5, 42.0)


def pytest_collection_modifyitems(items):
    try:
        import slicer  # noqa: F401
    except ImportError:
        skip = pytest.mark.skip(reason="needs Slicer's libraries: pip install slicer-core==5.12.4.0")
        for item in items:
            if HERE in Path(item.fspath).parents:
                item.add_marker(skip)


@pytest.fixture
def application():
    """A fresh scene with Slicer's logics."""
    from mrml_application import MrmlApplication

    running = MrmlApplication()
    yield running
    running.close()


@pytest.fixture
def scene(application):
    """A fresh MRML scene, also `slicer.mrmlScene`."""
    return application.scene


@pytest.fixture
def table(scene):
    """An empty case table with two labels."""
    from SemiSegModuleLib.scene.case_table import CaseTable

    from SemiSegLib.config import Label

    cases = CaseTable(scene)
    cases.labels = [Label(1, "left atrium", (152, 55, 13)), Label(3, "aorta", (224, 97, 76))]
    yield cases
    cases.close()


@pytest.fixture
def add_volume(scene):
    """Make a volume of random voxels: add_volume(name, directions=3x3, spacing, origin, shape_kji) -> node."""
    import slicer

    def add(name="scan", directions=None, spacing=SPACING, origin=ORIGIN, shape=(9, 12, 15)):
        values = np.random.default_rng(len(name)).integers(-1000, 1000, shape).astype(np.int16)
        matrix = np.eye(4)
        matrix[:3, :3] = (np.eye(3) if directions is None else np.asarray(directions)) * np.asarray(spacing)
        matrix[:3, 3] = origin
        return slicer.util.addVolumeFromArray(values, ijkToRAS=slicer.util.vtkMatrixFromArray(matrix), name=name)

    return add


@pytest.fixture
def a_volume(add_volume):
    """A scan with axes along the patient's."""
    return add_volume("scan")


@pytest.fixture
def tilted():
    """Directions of axes along none of the patient's, 3 x 3."""
    u, _, v = np.linalg.svd(OBLIQUE)
    return u @ v


@pytest.fixture
def an_oblique_volume(add_volume, tilted):
    """A tilted, anisotropic scan."""
    return add_volume("oblique scan", tilted)


@pytest.fixture
def a_left_handed_volume(add_volume):
    """A tilted scan whose third axis runs the other way (determinant -1)."""
    u, _, v = np.linalg.svd(OBLIQUE)
    return add_volume("left-handed scan", (u @ v) @ np.diag([1.0, 1.0, -1.0]))
