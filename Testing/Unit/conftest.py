"""Small scans and data sets for the tests of the library."""

import numpy as np
import pytest
import SimpleITK as sitk

from SemiSegLib.config import Label, build_settings
from SemiSegLib.synthetic import make_dataset

OBLIQUE = (0.96, -0.28, 0.0, 0.28, 0.96, 0.0, 0.0, 0.0, 1.0)


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory):
    """Six synthetic scans of 32 x 32 x 16 voxels: two annotated, three not, one to validate with."""
    return make_dataset(tmp_path_factory.mktemp("tiny") / "data", cases=6, labelled=2, validation=1, size=(32, 32, 16))


@pytest.fixture
def tiny_settings():
    """Settings under which an iteration takes a fraction of a second; every iteration is logged."""

    def make(method="simcvd", **overrides):
        values = {
            "training.iterations": 6,
            "training.patch_size": (16, 16, 16),
            "training.precision": "fp32",
            "training.device": "cpu",
            "training.log_every": 1,
            "training.threads": 1,
            "training.validation_every": 3,
            "data.spacing": (3.75, 3.75, 5.0),
            "data.labels": [Label(1, "left atrium", (152, 55, 13))],
        }
        return build_settings(method, "custom", overrides={**values, **overrides})

    return make


@pytest.fixture
def ball():
    """A function that makes a scan and mask of a ball given in world coordinates, on any grid."""

    def make(size, spacing, direction=(1, 0, 0, 0, 1, 0, 0, 0, 1), centre=(3.0, -4.0, 5.0), radius=12.0):
        grid = sitk.Image(list(size), sitk.sitkUInt8)
        grid.SetSpacing(spacing)
        grid.SetDirection(direction)
        middle = np.array(grid.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in size]))
        grid.SetOrigin((np.array(centre) - middle).tolist())
        index = np.stack(np.meshgrid(*map(np.arange, size), indexing="ij"), -1)
        frame = np.array(direction).reshape(3, 3) * np.array(spacing)
        world = index @ frame.T + np.array(grid.GetOrigin())
        inside = np.linalg.norm(world - np.array(centre), axis=-1) <= radius
        noise = np.random.default_rng(0).normal(0, 5, inside.shape)
        scan = sitk.GetImageFromArray((100.0 * inside + noise).astype(np.float32).T)
        mask = sitk.GetImageFromArray(inside.astype(np.uint8).T)
        scan.CopyInformation(grid)
        mask.CopyInformation(grid)
        return scan, mask

    return make
