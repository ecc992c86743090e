"""Steps between a scan and its mask that MONAI has no equal transform for. Needs MONAI, SciPy and SimpleITK.

Written by SemiSeg, a part of this bundle: see configs/inference.json.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.data import Dataset, MetaTensor
from monai.inferers import Inferer, SlidingWindowInferer
from monai.transforms import MapTransform, Orientation, Transform
from torch.nn import functional

SURE = 0.9  # probability; see SemiSegLib.data.components


class NormaliseTissued(MapTransform):
    """Zero mean and unit sd of the voxels brighter than the darkest by 5 % of the range up to the 99.5th percentile."""

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The items, normalised."""
        result = dict(data)
        for key in self.key_iterator(result):
            values = np.asarray(result[key])
            lowest, high = float(values.min()), float(np.percentile(values, 99.5))
            brighter = values[values > lowest + 0.05 * (high - lowest)]
            counted = brighter if brighter.size > 1 else values
            centre, scale = float(counted.mean(dtype=np.float64)), float(counted.std(dtype=np.float64))
            result[key] = (result[key] - centre) / scale
        return result


class ToSpacing(Transform):
    """A scan (1, x, y, z) with axes to left, posterior, superior, resampled linearly to `spacing` (mm; 0: as it is).

    The new grid has the old one's centre and covers it; axes that lose resolution are smoothed before.
    """

    def __init__(self, spacing: Sequence[float] | None) -> None:
        self.spacing = spacing

    def __call__(self, image: MetaTensor) -> MetaTensor:
        """The scan on the networks' grid."""
        old = _spacing(image)
        wanted = self.spacing or [0.0] * 3
        new = [o if n == 0 or abs(n - o) <= 0.01 * o else n for n, o in zip(wanted, old, strict=True)]
        values = image.as_tensor()
        sides = [max(1, math.ceil(n * o / w - 0.01)) for n, o, w in zip(values.shape[1:], old, new, strict=True)]
        for axis, (o, w) in enumerate(zip(old, new, strict=True)):
            if w > 1.2 * o and values.shape[1 + axis] >= 4:
                values = _smoothed(values, axis, 0.4 * math.sqrt(w**2 - o**2), o)
        for axis, side in enumerate(sides):
            values = _interpolated(values, 1 + axis, side, new[axis] / old[axis])
        return MetaTensor(values, affine=_centred_affine(image, new, sides), meta=dict(image.meta))


class ToSpacingd(MapTransform):
    """`ToSpacing` of the items that `keys` name."""

    def __init__(self, keys: Sequence[Hashable], spacing: Sequence[float] | None) -> None:
        super().__init__(keys)
        self.step = ToSpacing(spacing)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The items on the networks' grid."""
        return {**data, **{key: self.step(data[key]) for key in self.key_iterator(dict(data))}}


class BackToScand(MapTransform):
    """Maps (C, x, y, z) on the networks' grid, brought linearly onto the grid of the scan under `scan`."""

    def __init__(self, keys: Sequence[Hashable], scan: Hashable) -> None:
        super().__init__(keys)
        self.scan = scan

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The items on the scan's own grid, with its affine."""
        import nibabel

        scan = data[self.scan]
        upright = Orientation(axcodes="LPS")(scan)
        own = Orientation(axcodes="".join(nibabel.orientations.aff2axcodes(np.asarray(scan.affine))))
        result = dict(data)
        for key in self.key_iterator(result):
            maps = result[key]
            ratios = [a / b for a, b in zip(_spacing(upright), _spacing(maps), strict=True)]
            values = maps.as_tensor()
            for axis, side in enumerate(upright.shape[1:]):
                values = _interpolated(values, 1 + axis, side, ratios[axis])
            turned = own(MetaTensor(values, affine=upright.affine))
            result[key] = MetaTensor(turned.as_tensor(), affine=scan.affine, meta=dict(scan.meta))
        return result


class SurestPartd(MapTransform):
    """Probability maps (C, x, y, z), background first: of all other classes together one face-connected part is left.

    It is the part with most voxels of SURE probability, the larger one of equals.
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The items with background outside that part."""
        result = dict(data)
        for key in self.key_iterator(result):
            maps = result[key].as_tensor().cpu()
            sure = (maps[1:].sum(0) >= SURE).numpy()
            part = torch.from_numpy(_part_with_most((maps.argmax(0) > 0).numpy(), sure))
            background = torch.zeros_like(maps)
            background[0] = 1
            left = torch.where(part, maps, background)
            result[key] = MetaTensor(left, affine=result[key].affine, meta=result[key].meta)
        return result


class LargestPartd(MapTransform):
    """Of a mask (1, x, y, z) the largest face-connected part of each class."""

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The items without smaller parts."""
        result = dict(data)
        for key in self.key_iterator(result):
            mask = result[key].as_tensor().cpu().numpy()[0]
            kept = np.zeros_like(mask)
            for index in np.unique(mask[mask > 0]):
                kept[_part_with_most(mask == index, mask == index)] = index
            result[key] = MetaTensor(torch.from_numpy(kept)[None], affine=result[key].affine, meta=result[key].meta)
        return result


class Windows(Inferer):
    """The network over a whole scan (B, 1, x, y, z): overlapping windows, blended; slice by slice with two sides.

    patch     sides that the network was trained with
    overlap   of windows blended with Gaussian weights
    stride    instead: voxels between windows of the patch's size, blended evenly
    whole     instead: the scan in one piece
    mirror    axes (0 is x): average over the scan mirrored along all combinations of them
    """

    def __init__(
        self,
        patch: Sequence[int],
        overlap: float = 0.5,
        stride: Sequence[int] | None = None,
        whole: bool = False,
        mirror: Sequence[int] = (),
        multiple: int = 16,
    ) -> None:
        super().__init__()
        self.patch, self.overlap, self.stride = patch, overlap, stride
        self.whole, self.mirror, self.multiple = whole, mirror, multiple

    @torch.inference_mode()
    def __call__(self, inputs: torch.Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> torch.Tensor:
        """Probabilities (B, C, x, y, z)."""
        image = inputs.as_tensor() if isinstance(inputs, MetaTensor) else inputs
        axes = [2 + axis for axis in self.mirror]
        mirrored = [some for count in range(len(axes) + 1) for some in itertools.combinations(axes, count)]
        found = [self._predicted(image.flip(some), network).flip(some) for some in mirrored]
        return torch.stack(found).mean(0)

    def _predicted(self, image: torch.Tensor, network: Callable[..., Any]) -> torch.Tensor:
        if len(self.patch) == 2:
            slices = image.movedim(-1, 0)
            found = [self._in_one_piece(part, network) for part in slices.flatten(0, 1).split(16)]
            return torch.cat(found).unflatten(0, slices.shape[:2]).movedim(0, -1)
        if self.stride:
            overlap = [max(0.0, 1 - (s + 0.5) / p) for s, p in zip(self.stride, self.patch, strict=True)]
            return SlidingWindowInferer(self.patch, overlap=overlap, mode="constant")(image, network)
        if self.whole:
            return self._in_one_piece(image, network)
        window = [self._covering(n, p) for n, p in zip(image.shape[2:], self.patch, strict=True)]
        return SlidingWindowInferer(window, overlap=self.overlap, mode="gaussian")(image, network)

    def _covering(self, length: int, side: int) -> int:
        """The patch's side, or up to a quarter more where one window then covers the scan."""
        whole = self._rounded(length)
        return whole if side < whole <= 1.25 * side else side

    def _in_one_piece(self, image: torch.Tensor, network: Callable[..., Any]) -> torch.Tensor:
        sides = [self._rounded(max(n, p)) for n, p in zip(image.shape[2:], self.patch, strict=True)]
        before = [(side - n) // 2 for side, n in zip(sides, image.shape[2:], strict=True)]
        margins = [(b, side - n - b) for b, side, n in zip(before, sides, image.shape[2:], strict=True)]
        padded = functional.pad(image, [margin for pair in reversed(margins) for margin in pair])
        crop = (Ellipsis, *(slice(b, b + n) for b, n in zip(before, image.shape[2:], strict=True)))
        return network(padded)[crop]

    def _rounded(self, length: int) -> int:
        return -(-length // self.multiple) * self.multiple


def predict_all(
    dataset: Dataset, network: torch.nn.Module, inferer: Inferer, postprocessing: Transform, device: torch.device
) -> list[dict[str, Any]]:
    """`predict` of every item. A scan that fails stops no other: RuntimeError names them all, once the rest is done."""
    found, failed = [], []
    for number, source in enumerate(dataset.data):
        try:
            found.append(predict(dataset[number], network, inferer, postprocessing, device))
        except (RuntimeError, OSError, ValueError) as error:
            cause = error.__cause__ or error  # MONAI's own error is of many lines about the transform
            failed.append(f"{source['scan']}: {' '.join(str(cause).split())[:300]}")
    if failed:
        advice = "Export or copy them again, or take them out of the folder."
        raise RuntimeError("\n".join([f"{len(failed)} of {len(dataset)} scans got no mask. {advice}", *failed]))
    return found


def predict(
    item: Mapping[str, Any], network: torch.nn.Module, inferer: Inferer, postprocessing: Transform, device: torch.device
) -> dict[str, Any]:
    """A preprocessed item with its mask under "pred", written where the post-processing writes it."""
    image = item["image"]
    maps = inferer(image.as_tensor()[None].to(device), network)[0].cpu()
    return postprocessing({**item, "pred": MetaTensor(maps, affine=image.affine)})


def _part_with_most(mask: np.ndarray, voxels: np.ndarray) -> np.ndarray:
    from scipy import ndimage

    parts, count = ndimage.label(mask)
    if not count:
        return mask
    sizes = np.bincount(parts.ravel())[1:]
    held = np.bincount(parts[voxels], minlength=count + 1)[1:]
    return np.asarray(parts == 1 + np.lexsort((sizes, held))[-1])


def _spacing(image: MetaTensor) -> list[float]:
    return [float(side) for side in torch.linalg.norm(image.affine[:3, :3].double(), dim=0)]


def _smoothed(values: torch.Tensor, axis: int, sigma: float, spacing: float) -> torch.Tensor:
    """ITK's recursive Gaussian along one axis; `sigma` and `spacing` in mm."""
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(np.ascontiguousarray(values[0].cpu().numpy().T))
    image.SetSpacing([spacing] * 3)
    smooth = sitk.GetArrayFromImage(sitk.RecursiveGaussian(image, sigma=sigma, direction=axis)).T
    return torch.from_numpy(np.ascontiguousarray(smooth))[None].to(values.device)


def _interpolated(values: torch.Tensor, axis: int, side: int, step: float) -> torch.Tensor:
    """Linear interpolation along one axis at `side` places, `step` voxels apart, about the same centre."""
    length = values.shape[axis]
    if side == length and step == 1:
        return values
    places = (torch.arange(side, dtype=torch.float64) - (side - 1) / 2) * step + (length - 1) / 2
    places = places.clamp(0, length - 1)
    low = places.floor().long().clamp(max=max(length - 2, 0))
    share = (places - low).to(values).reshape([-1 if a == axis else 1 for a in range(values.ndim)])
    low = low.to(values.device)
    high = (low + 1).clamp(max=length - 1)
    return values.index_select(axis, low) * (1 - share) + values.index_select(axis, high) * share


def _centred_affine(image: MetaTensor, spacing: Sequence[float], sides: Sequence[int]) -> torch.Tensor:
    """Of a grid with this spacing and these sides whose centre is that of the image."""
    old = image.affine.double()
    affine = old.clone()
    affine[:3, :3] = old[:3, :3] * (torch.tensor(spacing) / torch.tensor(_spacing(image), dtype=torch.float64))
    middle = (torch.tensor(image.shape[1:], dtype=torch.float64) - 1) / 2
    offset = affine[:3, :3] @ ((torch.tensor(sides, dtype=torch.float64) - 1) / 2)
    affine[:3, 3] = old[:3, :3] @ middle + old[:3, 3] - offset
    return affine
