"""What the settings leave open, taken from scans."""

import numpy as np
import pytest
import SimpleITK as sitk
from scipy.spatial.transform import Rotation

from SemiSegLib.config import Label
from SemiSegLib.data.cases import Case, CaseList
from SemiSegLib.data.geometry import canonical
from SemiSegLib.presets import build_settings
from SemiSegLib.training.planning import complete


@pytest.mark.parametrize("mirrored", [False, True])
def test_the_voxel_size_is_that_along_the_axes_of_the_networks_grid(mirrored, tmp_path):
    """Short-axis slices of a heart are turned about two axes: one of theirs may be nearest to two of the patient's."""
    short_axis = next(
        matrix
        for matrix in (Rotation.random(random_state=seed).as_matrix() for seed in range(1000))
        if len(set(np.abs(matrix).argmax(1))) < 3
    )
    scan = sitk.GetImageFromArray(np.zeros((10, 80, 90), np.float32))
    scan.SetSpacing((1.25, 1.5, 8.0))
    scan.SetDirection((short_axis * ([1, 1, -1] if mirrored else [1, 1, 1])).ravel().tolist())
    sitk.WriteImage(scan, tmp_path / "scan.mha")
    settings = build_settings("supervised", overrides={"data.labels": [Label(1, "x", (1, 2, 3))]})
    complete(settings, CaseList((Case("scan", tmp_path / "scan.mha", tmp_path / "scan.mha"),), ()))
    assert settings.data.spacing == pytest.approx(canonical(scan).GetSpacing())
