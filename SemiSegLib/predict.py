"""Predict masks for scans with a trained model.

python -m SemiSegLib.predict --model RUN --input scan.nii.gz --output DIR
python -m SemiSegLib.predict --model left-atrium-lge --input scan.nii.gz --output DIR
python -m SemiSegLib.predict --model model.safetensors --input DIR --output DIR --sdm --format seg.nrrd
torchrun --nproc_per_node=4 -m SemiSegLib.predict ...      (every process takes its part of the scans)
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from SemiSegLib.commands import program
from SemiSegLib.compute.torchrun import rank_and_world_size
from SemiSegLib.errors import SemiSegError
from SemiSegLib.runs import write_json

if TYPE_CHECKING:
    from SemiSegLib.data.cases import Case
    from SemiSegLib.inference.predictor import Prediction, Predictor

FORMATS = ("nii.gz", "nrrd", "seg.nrrd", "mha")


@dataclass(frozen=True)
class Predicted:
    """One scan done: its files, the volume of each label (ml) and the seconds it took."""

    name: str
    mask: Path
    volumes_ml: dict[str, float]
    seconds: float


def predict(
    model: Path,
    source: Path,
    output: Path,
    format: str = "nii.gz",
    sdm: bool = False,
    probabilities: bool = False,
    device: str = "auto",
    inference: dict[str, Any] | None = None,
    overwrite: bool = False,
    shard: tuple[int, int] = (0, 1),
) -> Iterator[Predicted]:
    """Predict a scan, or all scans of a folder, one after the other; yields each when its files are written.

    Masks are OUTPUT/NAME.FORMAT, distance maps (mm, negative inside) OUTPUT/sdm/NAME_LABEL.FORMAT, probabilities
    OUTPUT/probabilities/NAME_LABEL.FORMAT, label names OUTPUT/labels.json. Every file is on its scan's own grid.
    `inference` overrides settings of the model's card by name; of a `shard` (i, n) every n-th scan is predicted, from
    the i-th on. Raises SemiSegError, also for files that exist already unless `overwrite`.
    """
    from SemiSegLib.compute.devices import choose_compute
    from SemiSegLib.data.cases import find_cases
    from SemiSegLib.inference.predictor import Predictor
    from SemiSegLib.models import load_model

    loaded = load_model(model)
    cases = sorted(find_cases(source), key=lambda case: case.name)[shard[0] :: shard[1]]
    taken = [path for case in cases if (path := output / f"{case.name}.{format}").exists()]
    if taken and not overwrite:
        raise SemiSegError(f"{taken[0]} exists already: name another --output, or add --overwrite.")
    settings = replace(loaded.card.settings.inference, **(inference or {}))
    predictor = Predictor(loaded, choose_compute(device, loaded.card.settings.training.precision), settings)
    labels = [{"value": x.value, "name": x.name, "color": list(x.color)} for x in predictor.data.labels]
    if shard[0] == 0:
        write_json(output / "labels.json", {"labels": labels})
    for case in cases:
        yield _predict_case(case, predictor, output, format, sdm, probabilities)


def _predict_case(
    case: Case, predictor: Predictor, output: Path, format: str, sdm: bool, probabilities: bool
) -> Predicted:
    from SemiSegLib.data.images import read_image, write_mask

    start = time.monotonic()
    try:
        prediction = predictor(read_image(case.image))
    except SemiSegError as error:
        message = str(error)
        raise SemiSegError(message if str(case.image) in message else f"{case.image}: {message}") from error
    # The mask comes last: where it is, the other files are too.
    if sdm:
        _write_maps(prediction.sdm(), case, predictor, output / "sdm", format)
    if probabilities:
        _write_maps(prediction.probability_images(), case, predictor, output / "probabilities", format)
    path = output / f"{case.name}.{format}"
    write_mask(prediction.mask, path, predictor.data.labels, case.image)
    return Predicted(case.name, path, volumes(prediction, predictor), time.monotonic() - start)


def _write_maps(maps: Sequence[Any], case: Case, predictor: Predictor, folder: Path, format: str) -> None:
    from SemiSegLib.data.images import write_scalar

    folder.mkdir(parents=True, exist_ok=True)
    for image, label in zip(maps, predictor.data.labels, strict=True):
        name = f"{case.name}_{label.name.replace(' ', '_')}.{format.removeprefix('seg.')}"
        write_scalar(image, folder / name, case.image)


def volumes(prediction: Prediction, predictor: Predictor) -> dict[str, float]:
    """Volume of each label in ml."""
    import math

    voxel_ml = math.prod(prediction.scan.GetSpacing()) / 1000
    return {
        label.name: float((prediction.indices == index).sum() * voxel_ml)
        for index, label in enumerate(predictor.data.labels, start=1)
    }


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(
        prog=program("predict"),
        description="Predict masks for scans with a trained model. Results lie on each scan's own grid.",
    )
    add = result.add_argument
    add("--model", type=Path, required=True, metavar="RUN|FILE|NAME", help="run folder, file or name")
    add("--input", type=Path, required=True, metavar="FILE|DIR", help="a scan, or a folder of scans")
    add("--output", type=Path, required=True, metavar="DIR", help="where the masks go")
    add("--format", choices=FORMATS, default="nii.gz", help="of the masks (default: nii.gz)")
    add("--sdm", action="store_true", help="also write signed distance maps: mm, negative inside")
    add("--probabilities", action="store_true", help="also write the probability of each label")
    add("--device", default="auto", metavar="auto|cuda|mps|cpu", help="where to compute (default: auto)")
    add("--stride", metavar="X,Y,Z", help="windows of the training patch's size so many voxels apart, as in papers")
    add("--mirror", action="store_true", help="average over mirrored scans: slower, a little better")
    add("--largest-component", choices=("yes", "no"), help="keep only the largest part of each label")
    add("--overwrite", action="store_true", help="replace masks that exist already")
    add("--json-progress", action="store_true", help="print one JSON object a line, for programs")
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0 done, 2 wrong input."""
    options = parser().parse_args(arguments)
    try:
        _run(options)
    except SemiSegError as error:
        if options.json_progress:
            print(json.dumps({"event": "error", "message": str(error)}), flush=True)
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _run(options: argparse.Namespace) -> None:
    inference: dict[str, Any] = {}
    if options.stride:
        inference["stride"] = tuple(int(side) for side in options.stride.split(","))
    if options.mirror:
        inference["mirror"] = True
    if options.largest_component:
        inference["largest_component"] = options.largest_component == "yes"
    from SemiSegLib.compute.distributed import rank_device
    from SemiSegLib.data.cases import find_cases

    rank, ranks = rank_and_world_size()
    count = len(range(rank, len(find_cases(options.input)), ranks))
    done = predict(
        options.model,
        options.input,
        options.output,
        options.format,
        options.sdm,
        options.probabilities,
        rank_device(options.device) if ranks > 1 else options.device,
        inference,
        options.overwrite,
        (rank, ranks),
    )
    for index, case in enumerate(done, start=1):
        if options.json_progress:
            line = {"event": "case", "index": index, "count": count, "name": case.name, "mask": str(case.mask)}
            print(json.dumps(line | {"volumes_ml": case.volumes_ml, "seconds": case.seconds}), flush=True)
        else:
            amounts = ", ".join(f"{name} {ml:.1f} ml" for name, ml in case.volumes_ml.items())
            print(f"{index}/{count} {case.mask}  {amounts}  {case.seconds:.1f} s", flush=True)


if __name__ == "__main__":
    sys.exit(main())
