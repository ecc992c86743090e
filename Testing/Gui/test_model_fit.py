"""A model that does not suit the scans says so before it predicts; a process that cannot be watched says so once."""

import numpy as np
import pytest


@pytest.fixture
def add(opened):
    """Add a scan of noise to the study: add(name, spacing in mm, voxels (k, j, i), offset of the values)."""
    import slicer

    def add_scan(name, spacing=1.0, shape=(80, 96, 96), offset=0):
        values = (np.random.default_rng(1).integers(0, 500, shape) + offset).astype(np.int16)
        matrix = np.diag([spacing, spacing, spacing, 1.0])
        node = slicer.util.addVolumeFromArray(values, ijkToRAS=slicer.util.vtkMatrixFromArray(matrix), name=name)
        return opened.work.cases.add_volume(node)

    return add_scan


def test_a_model_that_fits_says_nothing(opened, add):
    add("MR", spacing=1.6)
    opened.work.use_model("left-atrium-lge")
    assert opened.ui.fitLabel.text == ""
    assert opened.ui.predictAllButton.enabled


@pytest.mark.parametrize(
    ("scan", "words"),
    [
        ({"spacing": 4.0}, "voxels more than twice as large as those the model learnt from (1.6 × 1.6 × 1.6 mm)"),
        ({"shape": (12, 14, 16)}, "shows less than half of what the model looks at in one piece"),
        ({"offset": -1024}, "looks like CT, the model learnt from other scans"),
    ],
)
def test_a_scan_that_does_not_suit_the_model_is_named(opened, add, scan, words):
    add("fine", spacing=1.6)
    opened.work.use_model("left-atrium-lge")
    add("odd", **scan)
    assert f"odd: {words}" in opened.ui.fitLabel.text
    assert "fine" not in opened.ui.fitLabel.text


def test_a_model_of_other_labels_says_so(opened, add):
    add("MR", spacing=1.6)
    opened.work.use_model("left-atrium-lge")
    opened.parameters.task = opened.module.Task.CARDIAC_CINE
    opened.work.use_labels_of_task()
    assert "The model segments left atrium; this study wants right ventricle" in opened.ui.fitLabel.text


def test_an_error_while_watching_is_told_once(opened):
    """A timer that opens a window at every tick buries the application."""
    from SemiSegModuleLib.logic.poller import PATIENCE, Poller

    told, looks = [], []

    def look():
        looks.append(1)
        raise OSError("the network drive is gone")

    poller = Poller(look)
    poller.failed.connect(lambda error: told.append(str(error)))
    poller._timer.setInterval(1)
    poller.start()
    assert poller.running
    opened.wait_until(lambda: not poller.running, 10)
    assert (told, len(looks)) == (["the network drive is gone"], PATIENCE)
