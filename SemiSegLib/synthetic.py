"""A made-up data set to try everything with: left atria with pulmonary veins in something like an LGE-MRI."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from SemiSegLib.data.formats import itk_name
from SemiSegLib.errors import SemiSegError

Point = Sequence[float] | np.ndarray  # x, y, z
LABELS = {"1": "left atrium"}
PARTIAL_VOLUME_MM = 0.7  # softness of every edge, about half a voxel


class SyntheticError(SemiSegError):
    """The data set asked for cannot be made."""


@dataclass(frozen=True)
class Phantom:
    """One made-up scan. Arrays are indexed [x, y, z]; `direction` is row-major as in ITK, LPS, lengths in mm."""

    image: np.ndarray
    mask: np.ndarray
    spacing: tuple[float, float, float]
    direction: tuple[float, ...]
    origin: tuple[float, float, float]


def make_dataset(
    folder: Path,
    cases: int = 10,
    labelled: int = 4,
    validation: int = 2,
    size: Sequence[int] = (96, 96, 48),
    seed: int = 0,
) -> Path:
    """Write `cases` scans as `images/*.nii.gz`, masks of some as `labels/*.nii.gz`, and `splits.json`.

    The first `labelled` cases have masks to train with, the last `validation` ones to validate with. The rest
    are unlabelled: their masks lie in `held_out/`, where training does not look but an evaluation can. The
    split in `splits.json` is named `demo`. The same arguments give the same voxels.

    :param size: voxels along x, y and z; the field of view stays about 120 x 120 x 80 mm
    :return: `folder`
    :raises SyntheticError: impossible numbers, or a folder that already holds something
    """
    if labelled < 1 or validation < 0 or labelled + validation > cases:
        raise SyntheticError(f"{cases} cases cannot be {labelled} labelled (at least 1) and {validation} validation")
    if len(size) != 3 or min(size) < 8:
        raise SyntheticError(f"size needs three numbers of voxels, at least 8 each, not {tuple(size)}")
    folder = Path(folder)
    if folder.exists() and any(folder.iterdir()):
        raise SyntheticError(f"{folder} is not empty: name a new folder for the synthetic data set")
    names = [f"atrium_{number + 1:03d}" for number in range(cases)]
    for number, name in enumerate(names):
        with_label = number < labelled or number >= cases - validation
        phantom = draw_phantom(size, np.random.default_rng([seed, number]), _placement(number))
        _write(folder / "images" / f"{name}.nii.gz", phantom.image, phantom)
        _write(folder / ("labels" if with_label else "held_out") / f"{name}.nii.gz", phantom.mask, phantom)
    _write_splits(folder, names, labelled, validation)
    return folder


def draw_phantom(size: Sequence[int], rng: np.random.Generator, placement: str = "axial") -> Phantom:
    """One scan: anatomy placed and deformed at random, then the scanner's blur, bias field and Rician noise.

    :param placement: "axial" (x, y, z towards left, posterior, superior), "oblique" (tilted by a few degrees),
        "flipped" (x and y run the other way) or "left-handed" (z runs the other way)
    """
    width = rng.uniform(116, 130)
    spacing = tuple(float(mm / n) for mm, n in zip((width, width, rng.uniform(70, 92)), size, strict=True))
    direction = _direction(placement, rng)
    centred = [(np.arange(n) - (n - 1) / 2) * s for n, s in zip(size, spacing, strict=True)]
    grid = np.stack(np.meshgrid(*centred, indexing="ij")).astype(np.float32)
    world = np.tensordot(direction.astype(np.float32), grid, axes=1)
    centre = rng.uniform(-30, 30, 3)
    origin = centre - direction @ [(n - 1) / 2 * s for n, s in zip(size, spacing, strict=True)]
    anatomy = _deform(_pose(world, rng), rng)
    signal, atrium = _draw_anatomy(anatomy, rng)
    return Phantom(
        _scan(signal, grid, rng),
        (atrium < 0).astype(np.uint8),
        (spacing[0], spacing[1], spacing[2]),
        tuple(direction.ravel().tolist()),
        (float(origin[0]), float(origin[1]), float(origin[2])),
    )


def _placement(number: int) -> str:
    return ("axial", "oblique", "flipped", "left-handed")[number % 4]


def _direction(placement: str, rng: np.random.Generator) -> np.ndarray:
    if placement == "oblique":
        return _rotation(np.radians(rng.uniform(-12, 12, 3)))
    return np.diag({"axial": (1.0, 1, 1), "flipped": (-1.0, -1, 1), "left-handed": (1.0, 1, -1)}[placement])


def _rotation(angles: np.ndarray) -> np.ndarray:
    matrix = np.eye(3)
    for axis, angle in enumerate(angles):
        turn = np.eye(3)
        i, j = (axis + 1) % 3, (axis + 2) % 3
        turn[[i, i, j, j], [i, j, i, j]] = np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)
        matrix = turn @ matrix
    return matrix


def _pose(world: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Coordinates in the heart's own frame: moved, turned and scaled."""
    shift = rng.uniform(-6, 6, 3).reshape(3, 1, 1, 1)
    matrix = _rotation(np.radians(rng.uniform(-10, 10, 3))) / rng.uniform(0.88, 1.1)
    return np.tensordot(matrix.astype(np.float32), world - shift.astype(np.float32), axes=1)


def _deform(points: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Bend space smoothly: a few waves of 40 to 90 mm, some 3 mm high in all."""
    deformed = points.copy()
    for _ in range(4):
        wave, height = _wave(points, 40, 90, rng), rng.normal(0, 1.3, 3)
        deformed += height.reshape(3, 1, 1, 1).astype(np.float32) * wave
    return deformed


def _wave(points: np.ndarray, shortest: float, longest: float, rng: np.random.Generator) -> np.ndarray:
    """A plane wave between -1 and 1 of random direction, length (mm) and phase."""
    heading = rng.normal(size=3)
    heading *= 2 * np.pi / (np.linalg.norm(heading) * rng.uniform(shortest, longest))
    return np.sin(np.tensordot(heading.astype(np.float32), points, axes=1) + np.float32(rng.uniform(0, 2 * np.pi)))


def _ellipsoid(points: np.ndarray, centre: Point, radii: Point) -> np.ndarray:
    """Approximate signed distance in mm (exact at the surface), negative inside."""
    axes = np.asarray(radii, dtype=np.float32).reshape(3, 1, 1, 1)
    scaled = (points - np.asarray(centre, dtype=np.float32).reshape(3, 1, 1, 1)) / axes
    length = np.sqrt((scaled**2).sum(0))
    gradient = np.sqrt(((scaled / axes) ** 2).sum(0))
    return length * (length - 1) / np.maximum(gradient, 1e-6)


def _tube(points: np.ndarray, start: Point, end: Point, radius: float, taper: float = 1.0) -> np.ndarray:
    """Signed distance in mm to a round-ended tube whose radius goes from `radius` to `taper * radius`."""
    first = np.asarray(start, dtype=np.float32)
    axis = np.asarray(end, dtype=np.float32) - first
    offset = points - first.reshape(3, 1, 1, 1)
    along = np.clip(np.tensordot(axis, offset, axes=1) / (axis @ axis), 0, 1)
    distance = np.sqrt(((offset - axis.reshape(3, 1, 1, 1) * along) ** 2).sum(0))
    return distance - radius * (1 - (1 - taper) * along)


def _draw_anatomy(points: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """(signal where blood is about 1, signed distance of the left atrium with the first part of its veins)."""
    signal = 0.22 + 0.05 * _wave(points, 12, 30, rng)  # fat and muscle

    def paint(distance: np.ndarray, value: float | np.ndarray) -> None:
        share = 1 / (1 + np.exp(np.clip(distance / (PARTIAL_VOLUME_MM / 2), -30, 30)))
        signal[...] = signal * (1 - share) + share * value

    def blood() -> float:
        return float(np.clip(rng.normal(1, 0.06), 0.85, 1.15))

    for side in (-1, 1):
        paint(_ellipsoid(points, (side * 62, 30, 0), (34, 48, 70)), 0.06)  # lung
    paint(_tube(points, (0, 52, -80), (0, 52, 80), 16), 0.12)  # vertebrae with a brighter rim
    paint(np.abs(_tube(points, (0, 52, -80), (0, 52, 80), 16)) - 1, 0.45)
    jitter = rng.normal(0, 2, (5, 3))
    left_ventricle = _ellipsoid(points, jitter[0] + (20, -38, -26), (23, 31, 25))
    paint(left_ventricle - 9, 0.3)  # myocardium
    paint(left_ventricle, blood())
    paint(_ellipsoid(points, jitter[1] + (-20, -52, -22), (27, 22, 26)), blood())  # right ventricle
    paint(_ellipsoid(points, jitter[2] + (-43, -22, -6), (19, 20, 25)), blood())  # right atrium
    paint(_tube(points, jitter[2] + (-40, -16, 10), jitter[2] + (-36, -14, 70), 8), blood())  # superior vena cava
    paint(_tube(points, jitter[3] + (-4, -32, 2), jitter[3] + (-14, -34, 70), 12.5), blood())  # ascending aorta
    paint(_tube(points, jitter[4] + (24, 34, -80), jitter[4] + (18, 36, 80), 11), blood())  # descending aorta
    paint(_tube(points, (16, -36, 20), (-18, -8, 38), 10.5), blood())  # pulmonary artery
    atrium, lumen = _left_atrium(points, rng)
    value = blood()
    scar = np.clip(_wave(points, 18, 40, rng) + _wave(points, 18, 40, rng) - 0.6, 0, 1)
    paint(lumen - 1.8, 0.32 + 0.9 * value * scar)  # wall, enhanced where scarred
    paint(lumen, value)
    return signal, atrium


def _left_atrium(points: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Signed distances (mm) of what is annotated, and of all blood in atrium, veins and mitral opening.

    The veins go on beyond the place where annotators end them, and the atrium opens into the ventricle: both
    ends have to be learned from examples, no intensity shows them.
    """
    body = _ellipsoid(points, (0, 0, 0), rng.uniform((24, 16, 19), (30, 21, 24)))
    appendage = _tube(points, (18, -10, 6), rng.normal((33, -22, 14), 2), 6.5, 0.6)
    annotated = np.minimum(body, appendage)
    lumen = annotated
    headings = [(-0.85, 0.3, 0.45), (-0.9, 0.45, -0.3), (0.85, 0.35, 0.45), (0.85, 0.55, -0.25)]
    if rng.random() < 0.3:
        headings[2:] = [(0.9, 0.45, 0.1)]  # a common left trunk
    for heading in headings:
        way = rng.normal(heading, 0.08)
        way /= np.linalg.norm(way)
        start, radius, end = way * 12, rng.uniform(4.2, 6.2), rng.uniform(34, 42)
        annotated = np.minimum(annotated, _tube(points, start, way * end, radius, 0.85))
        lumen = np.minimum(lumen, _tube(points, start, way * (end + 26), radius, 0.6))
    valve = rng.normal((0.35, -0.7, -0.6), 0.05)
    opening = _tube(points, (0, 0, 0), valve / np.linalg.norm(valve) * 36, 14)
    return annotated, np.minimum(lumen, opening)


def _scan(signal: np.ndarray, grid: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Bias field of +-35 %, Rician noise and an arbitrary scale; int16."""
    bias = np.exp(0.18 * (_wave(grid, 120, 300, rng) + _wave(grid, 120, 300, rng)))
    noise = rng.normal(0, rng.uniform(0.06, 0.1), (2, *signal.shape)).astype(np.float32)
    magnitude = np.hypot(signal * bias + noise[0], noise[1])
    return (magnitude * rng.uniform(150, 900)).astype(np.int16)


def _write(path: Path, array: np.ndarray, phantom: Phantom) -> None:
    import SimpleITK as sitk

    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(array.transpose())
    image.SetSpacing(phantom.spacing)
    image.SetOrigin(phantom.origin)
    image.SetDirection(phantom.direction)
    sitk.WriteImage(image, itk_name(path))


def _write_splits(folder: Path, names: list[str], labelled: int, validation: int) -> None:
    from SemiSegLib.runs import write_json

    last = len(names) - validation
    demo = {
        f"labeled_{labelled}": names[:labelled],
        "train": names[:last],
        "validation": names[last:],
        "note": "cases of 'train' that are not labelled are unlabelled; their masks are in held_out/",
    }
    write_json(folder / "splits.json", {"dataset": "synthetic left atria", "labels": LABELS, "demo": demo})
