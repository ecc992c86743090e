"""Predict masks for scans with a trained model.

python -m SemiSegLib.predict --model RUN --input scan.nii.gz --output DIR
python -m SemiSegLib.predict --model left-atrium-lge --input scan.nii.gz --output DIR
python -m SemiSegLib.predict --model model.safetensors --input DIR --output DIR --sdm --format seg.nrrd
python -m SemiSegLib.predict --model RUN RUN2 RUN3 ...        (the mean of several models)
torchrun --nproc_per_node=4 -m SemiSegLib.predict ...      (every process takes its part of the scans)
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from SemiSegLib.commands import add_computing_options, program, run_command
from SemiSegLib.compute.attached import attached
from SemiSegLib.compute.torchrun import rank_and_world_size
from SemiSegLib.data.formats import extension, is_mask, map_stem, stem
from SemiSegLib.data.frames import frame_count, frame_name, patient_of, series_name
from SemiSegLib.errors import SOME_FAILED, SemiSegError
from SemiSegLib.files import replace, same_file
from SemiSegLib.models import WHICH, WHICH_HELP
from SemiSegLib.runs import read_json, write_json

if TYPE_CHECKING:
    from SemiSegLib.data.box import Box
    from SemiSegLib.data.cases import Case
    from SemiSegLib.inference.predictor import Committee, Prediction, Predictor
    from SemiSegLib.models import Model

ORIGIN = "model.json"  # in the output folder: what made the masks there, and of which scans
SCANS = "scans"  # in it: a hash of each scan by its name
SEVERAL = "more than one"
REPLACED = "replaced"  # in the output folder: masks that --overwrite replaces, until their new ones are there
MAPS = ("sdm", "probabilities")  # folders in the output folder
FORMATS = ("nii.gz", "nrrd", "seg.nrrd", "mha")


@dataclass(frozen=True)
class Predicted:
    """One scan done: its files, the volume of each label (ml) and the seconds it took."""

    name: str
    mask: Path
    volumes_ml: dict[str, float]
    seconds: float


@dataclass(frozen=True)
class Failed:
    """One scan that could not be predicted, and why."""

    name: str
    message: str


class PredictionError(SemiSegError):
    """Some scans could not be predicted, the others are done. `failures`: what was wrong, by the scan's name."""

    exit_code = SOME_FAILED

    def __init__(self, failures: dict[str, str], count: int) -> None:
        self.failures = failures
        lines = "\n".join(f"  {message}" for message in failures.values())
        super().__init__(f"{len(failures)} of {count} scans could not be predicted; the others are done:\n{lines}")


def predict(
    model: Path | Sequence[Path],
    source: Path,
    output: Path,
    format: str = "nii.gz",
    sdm: bool = False,
    probabilities: bool = False,
    device: str = "auto",
    inference: dict[str, Any] | None = None,
    overwrite: bool = False,
    shard: tuple[int, int] = (0, 1),
    skip_existing: bool = False,
    which: str = "last",
    box: Box | None = None,
) -> Iterator[Predicted]:
    """Predict a scan, or all scans of a folder, one after the other; yields each when its files are written.

    Masks are OUTPUT/NAME.FORMAT, distance maps (mm, negative inside) OUTPUT/sdm/NAME_LABEL.FORMAT, probabilities
    OUTPUT/probabilities/NAME_LABEL.FORMAT, label names OUTPUT/labels.json. Every file is on its scan's own grid.
    Each frame of a 4D file is a scan of its own, NAME_frame01 and so on: frames are what masks are compared, corrected
    and trained on by. OUTPUT/4d/NAME.FORMAT (.seq.nrrd for NRRD) holds them all, to be laid over the 4D file.
    `inference` overrides settings of the model's card by name; of a `shard` (i, n) every n-th scan is predicted, from
    the i-th on. Scans whose mask exists are refused, predicted anew (`overwrite`; the earlier masks lie in
    OUTPUT/replaced until their new ones are written) or, where the maps wanted exist, too, left out (`skip_existing`).
    Of a run folder the last model predicts, which the run's report is of, or the best with `which` = "best". Several
    models predict together: the mean of their probabilities, with the settings of the first for the mask.
    With a `box` only that part of each scan is predicted, and the files hold that part alone, in its place.
    Raises SemiSegError before the first scan, and PredictionError after the last one if some were bad.
    """
    from SemiSegLib.models import load_model

    existing = "skip" if skip_existing else "overwrite" if overwrite else "refuse"
    loaded = [load_model(one, which) for one in ([model] if isinstance(model, Path) else model)]
    job = _Job(source, output, format, sdm, probabilities, device, existing, shard, _label_names(loaded), box)
    failures = {}
    for outcome in job.outcomes(loaded, inference or {}):
        if isinstance(outcome, Failed):
            failures[outcome.name] = outcome.message
        else:
            yield outcome
    if failures:
        raise PredictionError(failures, len(job.cases))


@dataclass
class _Job:
    """Scans to predict and how; see `predict`."""

    source: Path
    output: Path
    format: str
    sdm: bool
    probabilities: bool
    device: str
    existing: str  # refuse, overwrite or skip
    shard: tuple[int, int]
    labels: Sequence[str]  # names of the model's classes
    box: Box | None = None

    def __post_init__(self) -> None:
        from SemiSegLib.data.layouts import find_cases

        first, step = self.shard
        self.found = sorted(find_cases(self.source), key=lambda case: case.name)
        found = self.found[first::step]
        taken = self._taken = [case for case in found if self.path(case).exists()]
        written = [(self.path(case), case.image) for case in taken]
        written += [(self._joined(image, series), image) for image, series in self.series.items()]
        if any(same_file(*pair) for pair in written):
            raise SemiSegError(f"The masks in {self.output} would replace the scans there: name another --output.")
        if taken and self.existing == "refuse":
            raise SemiSegError(
                f"{self.path(taken[0])} exists already: name another --output, or add --overwrite or --skip-existing."
            )
        self.cases = [case for case in found if not self._is_done(case)] if self.existing == "skip" else found
        self._earlier_labels = self._labels_before()

    def path(self, case: Case) -> Path:
        """The mask of a case."""
        return self.output / f"{case.name}.{self.format}"

    def _map(self, kind: str, case: Case, label: str) -> Path:
        """A map of a case and label; .seg.nrrd holds masks alone."""
        return self.output / kind / f"{map_stem(case.name, label)}.{self.format.removeprefix('seg.')}"

    def _is_done(self, case: Case) -> bool:
        """Every file that is wanted of the case is there."""
        kinds = [kind for kind, wanted in zip(MAPS, (self.sdm, self.probabilities), strict=True) if wanted]
        wanted = [self.path(case), *(self._map(kind, case, label) for kind in kinds for label in self.labels)]
        return all(path.exists() for path in wanted)

    def _joined(self, image: Path, series: str) -> Path:
        """The masks of all frames of a 4D file as one file."""
        kind = "seq.nrrd" if self.format.endswith("nrrd") else self.format
        return self.output / "4d" / f"{_joined_name(image, series)}.{kind}"

    def outcomes(self, models: Sequence[Model], inference: dict[str, Any]) -> Iterator[Predicted | Failed]:
        """Predict the scans one by one; a bad one does not keep the others from it."""
        from SemiSegLib.data.writing import remove_unfinished
        from SemiSegLib.inference.predictor import predictor_of

        predictor = predictor_of(models, self.device, inference)
        settings = models[0].card.settings
        labels = [{"value": x.value, "name": x.name, "color": list(x.color)} for x in settings.data.labels]
        content = {"labels": labels, "ignore_value": settings.data.ignore_value}
        self._refuse_masks_of_other_labels(content)
        if self.sdm or self.probabilities:
            self._refuse_maps_of_one_name()
        weights = "+".join(model.fingerprint() for model in models)
        origin = {"weights": weights, "inference": asdict(settings.inference), "box": str(self.box)}
        self._refuse_a_mixture(origin)
        self._refuse_masks_of_other_scans()
        if self._origin_before() != _as_stored(origin) and self._kept():
            origin["weights"] = SEVERAL
        scans = self._scans() if self.shard[0] == 0 else {}
        self._set_aside()
        if self.shard[0] == 0:
            for folder in (self.output, *(self.output / part for part in (*MAPS, "4d"))):
                remove_unfinished(folder)
            write_json(self.output / "labels.json", content)
            write_json(self.output / ORIGIN, {**origin, SCANS: scans})
        if not self.cases:
            yield from self._join_frames()
            return
        for case in self.cases:
            try:
                yield self._predict(case, predictor)
            except SemiSegError as error:
                yield Failed(case.name, str(error))
        yield from self._join_frames()

    def _refuse_masks_of_other_labels(self, content: dict[str, Any]) -> None:
        """Masks that stay in the folder mean what its labels.json says; from now on it would say something else."""
        file = self.output / "labels.json"
        if not file.exists() or read_json(file) == content:
            return
        unnamed = [path for path in self._kept() if extension(path) != ".seg.nrrd"]
        if unnamed:
            raise SemiSegError(f"{unnamed[0]} is a mask with other labels than this model's: name another --output.")

    def _refuse_maps_of_one_name(self) -> None:
        """Also where they differ in case alone, which not every file system tells apart."""
        seen: dict[str, str] = {}
        for case, label in ((case.name, label) for case in self.found for label in self.labels):
            what = f"'{label}' in {case}"
            other = seen.setdefault(map_stem(case, label).casefold(), what)
            if other != what:
                raise SemiSegError(f"The maps of {other} and of {what} would have the same name: leave the maps out.")

    def _kept(self) -> list[Path]:
        """Masks in the folder that stay as they are."""
        replaced = set() if self.existing == "skip" else {self.path(case) for case in self.found}
        masks = {path for path in self.output.glob("*") if is_mask(path)}
        return sorted(masks - replaced)

    def _set_aside(self) -> None:
        """What stays in the folder after an interruption or a bad scan is of the model that model.json names: masks to
        be replaced go to REPLACED until their new ones are written, maps without their mask go for good."""
        for case in self.cases:
            mask = self.path(case)
            if self.existing == "overwrite" and mask.exists():
                (self.output / REPLACED).mkdir(exist_ok=True)
                replace(mask, self.output / REPLACED / mask.name)
                if case.frame is not None:
                    self._joined(case.image, self.series[case.image]).unlink(missing_ok=True)
            if not mask.exists():
                for label in {*self.labels, *self._earlier_labels}:
                    for kind in MAPS:
                        self._map(kind, case, label).unlink(missing_ok=True)

    def _forget_replaced(self, mask: Path) -> None:
        """The new mask is there."""
        (self.output / REPLACED / mask.name).unlink(missing_ok=True)
        with suppress(OSError):  # not there, or others are in it
            (self.output / REPLACED).rmdir()

    def _labels_before(self) -> list[str]:
        """Names of the classes of the masks that are in the folder already, after which their maps are called."""
        file = self.output / "labels.json"
        content = read_json(file) if file.exists() else {}
        labels = content.get("labels") if isinstance(content, dict) else None  # a file that others wrote has others
        return [entry["name"] for entry in labels if "name" in entry] if isinstance(labels, list) else []

    def _stored_before(self) -> Any:
        file = self.output / ORIGIN
        return read_json(file) if file.exists() else None

    def _origin_before(self) -> Any:
        stored = self._stored_before()
        return {key: stored[key] for key in stored if key != SCANS} if isinstance(stored, dict) else stored

    def _scans_before(self) -> dict[str, str]:
        """A hash of each scan of which there is a mask; folders of earlier versions have none."""
        stored = self._stored_before()
        return dict(stored.get(SCANS, {})) if isinstance(stored, dict) else {}

    def _scans(self) -> dict[str, str]:
        """The same with the scans that are predicted now, by whatever process."""
        from SemiSegLib.data.cases import scan_prints

        new = [case for case in self.found if self.existing != "skip" or not self.path(case).exists()]
        return self._scans_before() | dict(zip((case.name for case in new), scan_prints(new), strict=True))

    def _refuse_masks_of_other_scans(self) -> None:
        """A mask that is left as it is must be of this very scan: many patients' scans have one name."""
        from SemiSegLib.data.cases import scan_prints

        if self.existing != "skip":
            return
        before = self._scans_before()
        for case, now in zip(self._taken, scan_prints(self._taken), strict=True):
            if before.get(case.name, now) != now:
                raise SemiSegError(
                    f"{self.path(case)} is the mask of another scan than {case.image}, or of this one before it "
                    "changed: name another --output, or replace it with --overwrite."
                )

    def _refuse_a_mixture(self, origin: dict[str, Any]) -> None:
        """Masks that stay beside new ones are of the same model and settings, or nobody could say which are whose."""
        before = self._origin_before()
        if self.existing != "skip" or not self._taken:
            return
        if before != _as_stored(origin):  # there is none beside annotations
            same = before is not None and before.get("weights") == origin["weights"]
            what = "these settings" if same else "this model"
            raise SemiSegError(
                f"Masks in {self.output} were not made with {what}: name another --output, or replace them with "
                "--overwrite."
            )

    @property
    def series(self) -> dict[Path, str]:
        """What the frames of each 4D file are called after; of the files of other processes, too."""
        return {case.image: patient_of(case.name) for case in self.found if case.frame is not None}

    def _join_frames(self) -> Iterator[Failed]:
        """Masks of 4D files of which all frames are done, by whatever process, as 4D files."""
        from SemiSegLib.data.writing import write_series

        done = {case.image for case in self.cases}
        for image, series in self.series.items():
            count = frame_count(image)
            masks = [self.output / f"{frame_name(series, frame, count)}.{self.format}" for frame in range(count)]
            path = self._joined(image, series)
            if all(mask.exists() for mask in masks) and (image in done or not path.exists()):
                try:
                    write_series(masks, path, image)
                except SemiSegError as error:
                    yield Failed(stem(image), str(error))

    def _predict(self, case: Case, predictor: Predictor | Committee) -> Predicted:
        from SemiSegLib.compute.memory import told_of_memory

        with told_of_memory(case.image):
            return self._predicted(case, predictor)

    def _predicted(self, case: Case, predictor: Predictor | Committee) -> Predicted:
        from SemiSegLib.data.cases import read_scan
        from SemiSegLib.data.writing import write_mask

        start = time.monotonic()
        try:
            prediction = predictor(read_scan(case), self.box)
        except SemiSegError as error:
            message = str(error)
            raise SemiSegError(message if str(case.image) in message else f"{case.image}: {message}") from error
        # The mask comes last: where it is, the other files are too.
        if self.sdm:
            self._write_maps(prediction.sdm(), case, "sdm")
        if self.probabilities:
            self._write_maps(prediction.probability_images(), case, "probabilities")
        write_mask(prediction.mask, self.path(case), predictor.data.labels, self._template(case))
        self._forget_replaced(self.path(case))
        return Predicted(case.name, self.path(case), volumes(prediction, predictor), time.monotonic() - start)

    def _write_maps(self, maps: Sequence[Any], case: Case, kind: str) -> None:
        from SemiSegLib.data.writing import write_scalar

        for image, label in zip(maps, self.labels, strict=True):
            write_scalar(image, self._map(kind, case, label), self._template(case))

    def _template(self, case: Case) -> Path | None:
        """The scan whose grid the files have, bit by bit."""
        return case.image if self.box is None else None


def _joined_name(image: Path, series: str) -> str:
    """As the file itself, or as its frames where these are not called after it."""
    return stem(image).removesuffix(".seq") if series == series_name(image) else series


def _label_names(models: Sequence[Model]) -> list[str]:
    """Those of the first; others that predict with it have the same."""
    return [label.name for label in models[0].card.settings.data.labels]


def _as_stored(origin: dict[str, Any]) -> Any:
    return json.loads(json.dumps(origin))


def volumes(prediction: Prediction, predictor: Predictor | Committee) -> dict[str, float]:
    """Volume of each label in ml."""
    from SemiSegLib.data.geometry import volumes_ml

    indices = {label.name: index for index, label in enumerate(predictor.data.labels, start=1)}
    return volumes_ml(prediction.indices, indices, prediction.scan)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(
        prog=program("predict"),
        description="Predict masks for scans with a trained model. Results lie on each scan's own grid.",
    )
    add = result.add_argument
    add(
        "--model",
        type=Path,
        required=True,
        nargs="+",
        metavar="RUN|FILE|NAME",
        help="run folder, file or name; several: the mean of their probabilities",
    )
    add("--which", choices=WHICH, default="last", help=WHICH_HELP)
    add(
        "--input",
        type=Path,
        required=True,
        metavar="FILE|DIR",
        help="a scan, or a folder of scans; 4D files: each frame",
    )
    add("--output", type=Path, required=True, metavar="DIR", help="where the masks go")
    add("--format", choices=FORMATS, default="nii.gz", help="of the masks (default: nii.gz)")
    add("--sdm", action="store_true", help="also write signed distance maps: mm, negative inside")
    add("--probabilities", action="store_true", help="also write the probability of each label")
    add("--stride", metavar="X,Y,Z", help="windows of the training patch's size so many voxels apart, as in papers")
    add("--mirror", action="store_true", help="average over mirrored scans, as models of the strong recipe do anyway")
    add(
        "--largest-component",
        choices=("yes", "no"),
        help="keep only the largest part of each label (default: as the model)",
    )
    add("--box", metavar="I,J,K,NI,NJ,NK", help="only this part of each scan: its first voxel and its size")
    existing = result.add_mutually_exclusive_group()
    existing.add_argument("--overwrite", action="store_true", help="replace masks that exist already, with their maps")
    existing.add_argument("--skip-existing", action="store_true", help="leave out scans whose files exist already")
    add_computing_options(result)
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0 done, 2 wrong input, 3 some scans failed, 130 interrupted."""
    options = parser().parse_args(arguments)

    def work() -> None:
        with attached(options.output) if options.attached else nullcontext():
            _run(options)

    return run_command(work, options.json_progress)


def _run(options: argparse.Namespace) -> None:
    inference: dict[str, Any] = {}
    if options.stride:
        inference["stride"] = options.stride
    if options.mirror:
        inference["mirror"] = True
    if options.largest_component:
        inference["largest_component"] = options.largest_component == "yes"
    from SemiSegLib.compute.distributed import rank_device
    from SemiSegLib.data.box import Box
    from SemiSegLib.models import load_model, model_file

    box = Box.parse(options.box) if options.box else None
    shard = rank_and_world_size()
    device = rank_device(options.device) if shard[1] > 1 else options.device
    existing = "skip" if options.skip_existing else "overwrite" if options.overwrite else "refuse"
    files = [model_file(source, options.which) for source in options.model]
    models = [load_model(file) for file in files]
    if not options.json_progress and shard[0] == 0:
        for file, model in zip(files, models, strict=True):
            print(f"Model: {file} (iteration {model.card.iteration}, {model.card.network})", flush=True)
    job = _Job(
        options.input,
        options.output,
        options.format,
        options.sdm,
        options.probabilities,
        device,
        existing,
        shard,
        _label_names(models),
        box,
    )
    if not options.json_progress and shard[0] == 0:
        for image in job.series:
            print(f"{image} is 4D: each of its {frame_count(image)} frames is predicted as a scan", flush=True)
    failures = {}
    for index, outcome in enumerate(job.outcomes(models, inference), start=1):
        if isinstance(outcome, Failed):
            failures[outcome.name] = outcome.message
        _tell(outcome, index, len(job.cases), options.json_progress)
    if failures:
        raise PredictionError(failures, len(job.cases))
    if not job.cases and not options.json_progress:
        print(f"{options.output} has the files of all scans: nothing is left to do.")


def _tell(outcome: Predicted | Failed, index: int, count: int, as_json: bool) -> None:
    if as_json:
        event = {"event": "failed" if isinstance(outcome, Failed) else "case", "index": index, "count": count}
        values = {k: str(v) if isinstance(v, Path) else v for k, v in asdict(outcome).items()}
        print(json.dumps(event | values), flush=True)
    elif isinstance(outcome, Failed):
        print(f"{index}/{count} {outcome.name}  failed: {outcome.message}", flush=True)
    else:
        amounts = ", ".join(f"{name} {ml:.1f} ml" for name, ml in outcome.volumes_ml.items())
        print(f"{index}/{count} {outcome.mask}  {amounts}  {outcome.seconds:.1f} s", flush=True)


if __name__ == "__main__":
    sys.exit(main())
