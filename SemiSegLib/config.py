"""The settings of a run: typed, each with its explanation, range and choices; nothing here imports torch."""

from __future__ import annotations

import dataclasses
import json
import math
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from SemiSegLib.constants import SPARE_COLORS
from SemiSegLib.values import Allowed, SettingsError, convert, setting, to_dataclass


@dataclass(frozen=True)
class Label:
    """One foreground class: its value in mask files (>= 1), its name and its RGB colour (0 to 255)."""

    value: int
    name: str
    color: tuple[int, int, int]


RECIPES = ("strong", "published")
DEFAULT_METHOD = "unimatch"  # the best that was measured under the strong recipe: Testing/Benchmarks
MOST_LABELS = 254  # class indices have 8 bits, and 255 marks what nobody annotated
LARGEST_VALUE = 65535  # masks have 16 bits at most
TRACKERS = ("mlflow", "wandb")


@dataclass
class DataSettings:
    """How scans are brought to the form that networks see. Axes are x, y, z in the patient's LPS order."""

    labels: list[Label] = setting(
        [], "foreground classes, as 1:liver,2:tumour where text is wanted; empty: taken from the data set"
    )
    ignore_value: int = setting(
        255, "mask value of voxels that nobody annotated; they take part in no loss", at_least=0
    )
    dimensions: int = setting(3, "3: patches of volumes; 2: slices perpendicular to z", choices=(2, 3))
    spacing: tuple[float, ...] | None = setting(
        None,
        "voxel size to resample to, mm (x, y, z; 0 keeps an axis as it is); none: median of the scans",
        lengths=(3,),
        at_least=0,
    )
    window: tuple[float, float] | None = setting(
        None, "intensities are clipped to this range first (HU for CT)", ascending=True
    )
    normalisation: str = setting(
        "z-score",
        "z-score: zero mean, unit sd of the volume; tissue: the same of its voxels that are brighter than air, so that "
        "the field of view does not matter; unit: scaled to [0, 1]",
        choices=("z-score", "tissue", "unit"),
    )
    sdm_normalisation: str = setting(
        "patch",
        "patch: distances within the patch alone, each side divided by its maximum there, as in the papers' code, but "
        "in mm (the same where voxels are cubes); case: distances in the whole scan, divided by their maximum in it",
        choices=("patch", "case"),
    )
    cache: str | None = setting(
        None,
        "folder of preprocessed volumes, for many runs (a relative one: from the run folder); none: in the run folder",
    )


@dataclass
class NetworkSettings:
    """The network, and what of it may differ from the papers."""

    architecture: str = setting(
        "papers",
        "papers: V-Net for volumes, U-Net for slices; dynunet: nnU-Net's plain network, MONAI's, as wide as those",
        choices=("papers", "dynunet"),
    )
    normalisation: str = setting(
        "batch",
        "batch: as the papers; instance: every patch by itself, as nnU-Net",
        choices=("batch", "instance"),
    )
    dropout: float = setting(1.0, "times the papers' rates of dropout; 0: none", at_least=0, at_most=1)
    deep_supervision: bool = setting(
        False, "the two next coarser resolutions of the decoder are trained to segment, too, as in nnU-Net"
    )


@dataclass
class TrainingSettings:
    """The training loop. Lengths are in iterations (optimiser steps).

    Iterations, batch, optimiser with its rate, momentum, decay and steps, and the seed are those of UA-MT's left-atrium
    code; the other defaults are choices.
    """

    iterations: int = setting(6000, "optimiser steps over all stages", at_least=1)
    minutes: float = setting(
        0.0,
        "time for the training: resolution, patch and iterations follow from this device's speed; 0: as set",
        at_least=0,
    )
    patch_size: tuple[int, ...] | None = setting(
        None,
        "voxels (x, y, z), or (x, y) in 2D, multiples of 16; none: chosen from the size of the scans",
        lengths=(2, 3),
        multiple_of=16,
        at_least=16,
    )
    labelled_batch: int = setting(2, "labelled patches in a batch, of all processes together", at_least=1)
    unlabelled_batch: int = setting(2, "unlabelled patches in a batch, of all processes together", at_least=0)
    sync_batchnorm: bool = setting(
        True, "training on several processes: batch statistics of all their patches together, as in one process"
    )
    accumulation: int = setting(
        0,
        "parts a network goes through a batch in, to save memory: each is computed once more going backward; losses "
        "are the whole batch's, batch statistics those of a part; 0: one part, more when memory runs out",
        at_least=0,
    )
    foreground_fraction: float = setting(
        0.5,
        "share of patches centred on foreground: labelled ones on their own mask, unlabelled ones where labelled "
        "scans have foreground; 0: uniform crops, as the papers do on scans cropped around the organ",
        at_least=0,
        at_most=1,
    )
    rotate: bool = setting(True, "random quarter turns in the x-y plane")
    rotation_angle: float = setting(
        0.0,
        "half of the patches are also rotated in the x-y plane by up to so many degrees (SSL4MIS, 2D: 20)",
        at_least=0,
        at_most=180,
    )
    flip: str = setting(
        "each",
        "each: along x and along y with probability 1/2; one: always along x or y, as in UA-MT's code (with the "
        "turns, every patch is then a mirror image, and the upright scan is never trained on); none",
        choices=("one", "each", "none"),
    )
    optimiser: str = setting("sgd", "sgd or adamw", choices=("sgd", "adamw"))
    learning_rate: float = setting(0.01, "at the start", above=0)
    momentum: float = setting(0.9, "of SGD", at_least=0, below=1)
    nesterov: bool = setting(False, "Nesterov's form of the momentum, as nnU-Net")
    ema_decay: float = setting(
        0.0, "decay of a moving average of the student's weights that may predict; 0: none", at_least=0, below=1
    )
    weight_decay: float = setting(1e-4, "L2 penalty", at_least=0)
    schedule: str = setting(
        "step", "step: times 0.1 at each milestone; poly: (1 - t/T)^0.9; constant", choices=("step", "poly", "constant")
    )
    milestones: tuple[float, ...] = setting(
        (2500 / 6000, 5000 / 6000), "of the step schedule, as fractions of T", above=0, at_most=1, ascending=True
    )
    seed: int = setting(1337, "of weights, patches, augmentation, noise and dropout", at_least=0, at_most=2**32 - 1)
    device: str = setting("auto", "auto, cuda, cuda:1, mps or cpu")
    precision: str = setting("auto", "auto, bf16, fp16 (CUDA only) or fp32", choices=("auto", "bf16", "fp16", "fp32"))
    validation_every: int = setting(0, "iterations between validations; 0: ten times in a run", at_least=0)
    checkpoint_minutes: float = setting(
        5.0, "minutes between checkpoints; one is also written at every stop", at_least=0
    )
    log_every: int = setting(10, "iterations between two lines in events.jsonl", at_least=1)
    threads: int = setting(0, "CPU threads; 0: all physical cores", at_least=0)
    trackers: tuple[str, ...] = setting(
        (), "experiment trackers to write to beside TensorBoard, in the run folder and offline", choices=TRACKERS
    )


@dataclass
class AugmentationSettings:
    """How patches are changed at random, so that a few scans stand for many.

    The recipe `published` turns and flips (`geometry=turns`), `strong` resamples (`geometry=warp`). The ranges are
    choices, near nnU-Net's.
    """

    geometry: str = setting(
        "turns",
        "warp: turned by any angle within turn and tilt, scaled, mirrored and deformed in one resampling; turns: "
        "quarter turns and flips alone (training.rotate, training.flip), as the papers do",
        choices=("warp", "turns"),
    )
    mirror_axes: tuple[int, ...] = setting(
        (),
        "axes (0 x, 1 y, 2 z) along which this task's anatomy may be mirrored; none where left and right differ",
        choices=(0, 1, 2),
    )
    turn: float = setting(25.0, "largest turn in the x-y plane, degrees", at_least=0, at_most=180)
    tilt: float = setting(
        15.0, "largest turn about the x and the y axis, degrees; slices are not tilted", at_least=0, at_most=90
    )
    scale: float = setting(0.25, "largest logarithm of the size's factor: 0.25 is 0.78 to 1.28", at_least=0, at_most=1)
    stretch: float = setting(0.1, "the same of each axis by itself", at_least=0, at_most=1)
    elastic: float = setting(1.5, "sd of the elastic displacement, voxels; 0: none", at_least=0)
    elastic_spacing: float = setting(12.0, "voxels between its control points", at_least=2)
    elastic_probability: float = setting(0.5, "share of patches that are deformed", at_least=0, at_most=1)
    intensity: float = setting(
        0.0, "how often intensities are changed, times nnU-Net's probabilities; 0: never", at_least=0
    )
    context: float = setting(
        0.0,
        "share of annotated patches of which only a part stays, beside air or the same part of another annotated scan "
        "(geometry=warp): where scans to predict show more around the heart or organ than those learnt from",
        at_least=0,
        at_most=1,
    )


@dataclass
class InferenceSettings:
    """How a trained network is applied to a whole scan; defaults are choices, the overlap is nnU-Net's."""

    network: str = setting(
        "student",
        "student, teacher (of methods that have one) or average (of the student: training.ema_decay)",
        choices=("student", "teacher", "average"),
    )
    window: str = setting(
        "patch",
        "patch: overlapping windows of the training patch's size or up to a quarter more, blended; whole: the scan in "
        "one piece where memory allows, faster, but networks do better on the size they were trained with",
        choices=("patch", "whole"),
    )
    window_voxels: int = setting(
        0, "most voxels a piece may have with window=whole; 0: what half the free memory holds", at_least=0
    )
    overlap: float = setting(0.5, "share of a window that overlaps with the next", at_least=0, below=1)
    stride: tuple[int, ...] | None = setting(
        None,
        "voxels between windows of the training patch's size, as the papers do: (18, 18, 4); overrides overlap",
        lengths=(2, 3),
        at_least=1,
    )
    largest_component: bool = setting(False, "keep only the largest connected part of each class")
    touching: bool = setting(
        False,
        "with largest_component: structures touch, as ventricles and myocardium do, and all but one connected part of "
        "all classes together is left out first: that with most voxels of 0.9 probability or more",
    )
    mirror: bool = setting(
        False,
        "average over mirrored inputs, along augmentation.mirror_axes: better by about half a point of DSC, and as "
        "many times slower as there are mirrorings (4 for two axes)",
    )


@dataclass
class Settings:
    """Everything that a run is determined by, besides the scans themselves."""

    preset: str = setting("custom", "the task the other settings start from")
    method: str = setting(DEFAULT_METHOD, "name of the training method")
    recipe: str = setting(
        "published",  # which runs of before there were recipes are; `build_settings` has strong
        "published: as the papers train; strong: ours, see SemiSegLib.presets",
        choices=("strong", "published"),
    )
    data: DataSettings = field(default_factory=DataSettings)
    network: NetworkSettings = field(default_factory=NetworkSettings)
    training: TrainingSettings = field(default_factory=TrainingSettings)
    augmentation: AugmentationSettings = field(default_factory=AugmentationSettings)
    inference: InferenceSettings = field(default_factory=InferenceSettings)
    method_settings: dict[str, Any] = setting({}, "settings of the method itself")

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, dicts and numbers, ready for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Settings:
        """The reverse of `to_dict`; raises SettingsError for what does not fit."""
        return to_dataclass(values, cls, "")

    def set(self, key: str, value: Any) -> None:
        """Set one value by its dotted name; text is converted. Raises SettingsError for a wrong name or value."""
        section, _, name = key.partition(".")
        if section == "method_settings":
            self.method_settings[name] = _parse_text(value)
            return
        target = getattr(self, section, None) if name else self
        name = name or section
        hints = typing.get_type_hints(type(target)) if dataclasses.is_dataclass(target) else {}
        if name not in hints:
            raise SettingsError(f"There is no setting '{key}'. {_close_names(key)}")
        if key == "data.labels" and isinstance(value, str):
            value = _labels_from_text(value)
        converted = convert(value, hints[name], key)
        fields = {entry.name: entry for entry in dataclasses.fields(target)}  # type: ignore[arg-type]
        if "allowed" in fields[name].metadata:
            fields[name].metadata["allowed"].check(key, converted)
        setattr(target, name, converted)

    def change_inference(self, changes: Mapping[str, Any]) -> None:
        """Set settings of inference by name, for a prediction; raises SettingsError for what does not fit."""
        for name, value in changes.items():
            self.set(f"inference.{name}", value)
        self.check()

    def check(self) -> None:
        """Raise SettingsError where values are out of range or contradict each other."""
        for found in explain(self):
            found.allowed.check(found.name, found.value)
        if self.recipe not in RECIPES:
            raise SettingsError(f"There is no recipe '{self.recipe}'; there are: {', '.join(RECIPES)}.")
        if self.inference.network == "average" and self.training.ema_decay <= 0:
            raise SettingsError("The setting 'inference.network' is average, which needs 'training.ema_decay' above 0.")
        _check_sizes(self)
        _check_labels(self.data)


class Explained(NamedTuple):
    """One setting for people: its dotted name, its value, what it means, what it may be and that in words."""

    name: str
    value: Any
    help: str
    allowed: Allowed
    kind: str


def explain(settings: Settings) -> Iterator[Explained]:
    """Every setting but the method's own, for `--list-settings`, tooltips and the checks."""
    for section in dataclasses.fields(settings):
        part = getattr(settings, section.name)
        if not dataclasses.is_dataclass(part):
            continue
        hints = typing.get_type_hints(type(part))
        for entry in dataclasses.fields(part):
            allowed, value = entry.metadata["allowed"], getattr(part, entry.name)
            name, kind = f"{section.name}.{entry.name}", allowed.of_kind(hints[entry.name])
            yield Explained(name, value, entry.metadata["help"], allowed, kind)


def _close_names(key: str) -> str:
    import difflib

    names = [found.name for found in explain(Settings())]
    near = difflib.get_close_matches(key, names, 3, 0.5)
    return f"Did you mean {' or '.join(near)}?" if near else "`--list-settings` prints all of them."


def _labels_from_text(text: str) -> list[dict[str, Any]]:
    """Labels written as 1:liver,2:tumour or as JSON; one without a colour gets one. Raises SettingsError."""
    wanted = "write VALUE:NAME, for example 1:liver,2:tumour, or a JSON list of objects with value, name and color"
    if text.lstrip().startswith("["):
        entries = _parse_text(text)
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise SettingsError(f"The setting 'data.labels' cannot be {text!r}: {wanted}.")
    else:
        pairs = [item.partition(":") for item in text.split(",") if item.strip()]
        if not all(value.strip().isdigit() and name.strip() for value, _, name in pairs):
            raise SettingsError(f"The setting 'data.labels' cannot be {text!r}: {wanted}.")
        entries = [{"value": int(value), "name": name.strip()} for value, _, name in pairs]
    return [{"color": SPARE_COLORS[i % len(SPARE_COLORS)], **entry} for i, entry in enumerate(entries)]


def _parse_text(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except json.JSONDecodeError:
        return value


def _check_sizes(settings: Settings) -> None:
    """What the numbers of dimensions, the patch and the batch say about each other."""
    dimensions, patch, stride = settings.data.dimensions, settings.training.patch_size, settings.inference.stride
    for key, sides in (("training.patch_size", patch), ("inference.stride", stride)):
        if sides is not None and len(sides) != dimensions:
            raise SettingsError(
                f"The setting '{key}' needs {dimensions} values where 'data.dimensions' is {dimensions}, not {sides}."
            )
    if patch is None:
        return
    if stride is not None and any(step > side for step, side in zip(stride, patch, strict=True)):
        raise SettingsError(
            f"The setting 'inference.stride' is {stride}, which leaves gaps between windows of the patch's size: "
            f"it must be at most the patch, {patch}."
        )
    if settings.network.normalisation == "instance" and max(patch) < 32:
        raise SettingsError(
            f"A patch of {patch} voxels is one voxel at the coarsest resolution, which 'network.normalisation' "
            "instance cannot normalise: choose a larger 'training.patch_size', or batch."
        )
    if math.prod(side // 16 for side in patch) * settings.training.labelled_batch < 2:
        raise SettingsError(
            f"A batch of one patch of {patch} voxels is too small for batch statistics: choose a larger "
            "'training.patch_size' or 'training.labelled_batch'."
        )


def _check_labels(data: DataSettings) -> None:
    values, names = [label.value for label in data.labels], [label.name for label in data.labels]
    if len(set(values)) < len(values) or len(set(names)) < len(names):
        raise SettingsError(f"Labels must differ in value and in name: {', '.join(names)}.")
    if len(values) > MOST_LABELS or max(values, default=0) > LARGEST_VALUE:
        raise SettingsError(f"There may be {MOST_LABELS} labels, with values of at most {LARGEST_VALUE}.")
    if any(value < 1 or value == data.ignore_value for value in values):
        raise SettingsError(f"Label values must be at least 1 and not the ignore value {data.ignore_value}.")
