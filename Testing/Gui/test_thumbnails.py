"""The small picture of a case: seen as in Slicer's axial view whatever the order of the voxels, with its outline."""

import numpy as np
import pytest


@pytest.fixture
def table(mrml):
    from SemiSegModuleLib.scene.case_table import CaseTable

    from SemiSegLib.config import Label

    cases = CaseTable(mrml.scene)
    cases.labels = [Label(1, "left atrium", (255, 0, 0)), Label(4, "aorta", (0, 255, 0))]
    yield cases
    cases.close()


def scan(directions, spacing=(1.0, 1.0, 1.0), shape=(20, 20, 20)):
    """Bright in the quarter that is right and anterior of the middle, wherever that lies in the array."""
    import slicer

    matrix = np.eye(4)
    matrix[:3, :3] = np.asarray(directions, float) * spacing
    index = np.indices(shape[::-1]).reshape(3, -1).T + 0.5 - np.array(shape[::-1]) / 2
    ras = (index @ matrix[:3, :3].T).T.reshape(3, *shape[::-1])
    values = (100 * ((ras[0] > 0) & (ras[1] > 0))).astype(np.int16).T
    return slicer.util.addVolumeFromArray(values, ijkToRAS=slicer.util.vtkMatrixFromArray(matrix), name="scan")


ORDERS = {
    "right, anterior, superior": np.eye(3),
    "left, posterior, superior": np.diag([-1, -1, 1]),
    "sagittal": [[0, 0, 1], [1, 0, 0], [0, -1, 0]],
    "left-handed": np.diag([1, 1, -1]),
}


@pytest.mark.parametrize("order", ORDERS)
def test_right_is_left_and_anterior_is_up(table, order):
    from SemiSegModuleLib.panels.thumbnails import thumbnail

    picture = thumbnail(table.add_volume(scan(ORDERS[order])), table.labels, 40)
    assert picture.shape == (40, 40, 3)
    assert (picture[:19, :19] == 255).all()
    assert not picture[21:].any()
    assert not picture[:, 21:].any()


def test_proportions_are_those_of_the_patient(table):
    from SemiSegModuleLib.panels.thumbnails import thumbnail

    case = table.add_volume(scan(np.eye(3), spacing=(0.5, 1.0, 3.0), shape=(10, 40, 40)))
    assert thumbnail(case, table.labels, 40).shape == (40, 20, 3)


def test_the_slice_with_most_of_the_mask_is_outlined(table):
    from drawing import draw
    from SemiSegModuleLib.panels.thumbnails import thumbnail

    case = table.add_volume(scan(np.eye(3)))
    draw(table, case, 1, np.s_[3, 0:4, 0:4])
    draw(table, case, 4, np.s_[15, 4:12, 2:8])
    picture = thumbnail(case, table.labels, 20)
    green = (picture == (0, 255, 0)).all(axis=2)
    expected = np.zeros((20, 20), bool)
    expected[4:12, 2:8] = True
    expected[5:11, 3:7] = False
    assert np.array_equal(green, expected[::-1, ::-1])
    assert not (picture == (255, 0, 0)).all(axis=2).any()


def test_the_table_shows_it(with_cases):
    with_cases.panel.data.rows.draw_pictures()
    image = with_cases.ui.casesTable.item(0, 0).icon().pixmap(40, 40).toImage()
    assert (image.width(), image.height()) == (40, 40)
    colours = {image.pixelColor(x, y).getRgb()[:3] for x in range(40) for y in range(40)}
    assert tuple(with_cases.work.cases.labels[0].color) in colours
