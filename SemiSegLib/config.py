"""The settings of a run: typed, each with its explanation; nothing here imports torch."""

from __future__ import annotations

import dataclasses
import json
import math
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from SemiSegLib.errors import SemiSegError


class SettingsError(SemiSegError):
    """A setting has an unknown name or a value that does not fit; the message names both."""


def setting(default: Any, help: str) -> Any:
    """A dataclass field with its explanation; lists and dicts are copied for each instance."""
    if isinstance(default, (list, dict)):
        return field(default_factory=lambda: type(default)(default), metadata={"help": help})
    return field(default=default, metadata={"help": help})


@dataclass(frozen=True)
class Label:
    """One foreground class: its value in mask files (>= 1), its name and its RGB colour (0 to 255)."""

    value: int
    name: str
    color: tuple[int, int, int]


@dataclass
class DataSettings:
    """How scans are brought to the form that networks see. Axes are x, y, z in the patient's LPS order."""

    labels: list[Label] = setting([], "foreground classes; empty: taken from the data set")
    ignore_value: int = setting(255, "mask value of voxels that nobody annotated; they take part in no loss")
    dimensions: int = setting(3, "3: patches of volumes; 2: slices perpendicular to z")
    spacing: tuple[float, ...] | None = setting(
        None, "voxel size to resample to, mm (x, y, z; 0 keeps an axis as it is); none: median of the scans"
    )
    window: tuple[float, float] | None = setting(None, "intensities are clipped to this range first (HU for CT)")
    normalisation: str = setting("z-score", "z-score: zero mean, unit sd of the volume; unit: scaled to [0, 1]")
    sdm_normalisation: str = setting(
        "patch",
        "patch: each side divided by its maximum within the patch (the papers); case: by that of the case",
    )
    cache: str | None = setting(None, "folder of preprocessed volumes; none: inside the run folder")


@dataclass
class TrainingSettings:
    """The training loop. Lengths are in iterations (optimiser steps)."""

    iterations: int = setting(6000, "optimiser steps over all stages")
    patch_size: tuple[int, ...] | None = setting(
        None, "voxels (x, y, z), or (x, y) in 2D, multiples of 16; none: chosen from the size of the scans"
    )
    labelled_batch: int = setting(2, "labelled patches in a batch, of all processes together")
    unlabelled_batch: int = setting(2, "unlabelled patches in a batch, of all processes together")
    sync_batchnorm: bool = setting(
        True, "training on several processes: batch statistics of all their patches together, as in one process"
    )
    accumulation: int = setting(0, "parts a batch is computed in, to save memory; 0: one, more when memory runs out")
    foreground_fraction: float = setting(
        0.5,
        "share of patches centred on foreground: labelled ones on their own mask, unlabelled ones where labelled "
        "scans have foreground; 0: uniform crops, as the papers do on scans cropped around the organ",
    )
    rotate: bool = setting(True, "random quarter turns in the x-y plane")
    rotation_angle: float = setting(
        0.0, "half of the patches are also rotated in the x-y plane by up to so many degrees (SSL4MIS, 2D: 20)"
    )
    flip: str = setting(
        "each",
        "each: along x and along y with probability 1/2; one: always along x or y, as in UA-MT's code (with the "
        "turns, every patch is then a mirror image, and the upright scan is never trained on); none",
    )
    optimiser: str = setting("sgd", "sgd or adamw")
    learning_rate: float = setting(0.01, "at the start")
    momentum: float = setting(0.9, "of SGD")
    weight_decay: float = setting(1e-4, "L2 penalty")
    schedule: str = setting("step", "step: times 0.1 at each milestone; poly: (1 - t/T)^0.9; constant")
    milestones: tuple[float, ...] = setting((2500 / 6000, 5000 / 6000), "of the step schedule, as fractions of T")
    seed: int = setting(1337, "of weights, patches, augmentation, noise and dropout")
    device: str = setting("auto", "auto, cuda, cuda:1, mps or cpu")
    precision: str = setting("auto", "auto, bf16, fp16 (CUDA only) or fp32")
    validation_every: int = setting(0, "iterations between validations; 0: ten times in a run")
    checkpoint_minutes: float = setting(5.0, "minutes between checkpoints; one is also written at every stop")
    log_every: int = setting(10, "iterations between two lines in events.jsonl")
    threads: int = setting(0, "CPU threads; 0: all physical cores")


@dataclass
class InferenceSettings:
    """How a trained network is applied to a whole scan."""

    network: str = setting("student", "student or teacher (methods without a teacher have one network)")
    window: str = setting(
        "patch",
        "patch: overlapping windows of the training patch's size or up to a quarter more, blended; whole: the scan in "
        "one piece where memory allows, faster, but networks do better on the size they were trained with",
    )
    window_voxels: int = setting(
        0, "most voxels a piece may have with window=whole; 0: what half the free memory holds"
    )
    overlap: float = setting(0.5, "share of a window that overlaps with the next")
    stride: tuple[int, ...] | None = setting(
        None,
        "voxels between windows of the training patch's size, as the papers do: (18, 18, 4); overrides overlap",
    )
    largest_component: bool = setting(False, "keep only the largest connected part of each class")
    mirror: bool = setting(False, "average over mirrored inputs (slower, slightly better)")


@dataclass
class Settings:
    """Everything that a run is determined by, besides the scans themselves."""

    preset: str = setting("custom", "the task the other settings start from")
    method: str = setting("simcvd", "name of the training method")
    data: DataSettings = field(default_factory=DataSettings)
    training: TrainingSettings = field(default_factory=TrainingSettings)
    inference: InferenceSettings = field(default_factory=InferenceSettings)
    method_settings: dict[str, Any] = setting({}, "settings of the method itself")

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, dicts and numbers, ready for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Settings:
        """The reverse of `to_dict`; raises SettingsError for what does not fit."""
        return _to_dataclass(values, cls, "")

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
        setattr(target, name, convert(value, hints[name], key))

    def check(self) -> None:
        """Raise SettingsError where values contradict each other or are out of range."""
        _check(self)


_CHOICES = {
    "data.dimensions": (2, 3),
    "data.normalisation": ("z-score", "unit"),
    "data.sdm_normalisation": ("patch", "case"),
    "training.flip": ("one", "each", "none"),
    "training.optimiser": ("sgd", "adamw"),
    "training.schedule": ("step", "poly", "constant"),
    "training.precision": ("auto", "bf16", "fp16", "fp32"),
    "inference.window": ("patch", "whole"),
    "inference.network": ("student", "teacher"),
}


def explain(settings: Settings) -> Iterator[tuple[str, Any, str]]:
    """(dotted name, value, explanation) of every setting, for `--list-settings` and tooltips."""
    for section in ("data", "training", "inference"):
        part = getattr(settings, section)
        for entry in dataclasses.fields(part):
            yield f"{section}.{entry.name}", getattr(part, entry.name), entry.metadata["help"]


def _close_names(key: str) -> str:
    import difflib

    names = [name for name, _, _ in explain(Settings())]
    near = difflib.get_close_matches(key, names, 3, 0.5)
    return f"Did you mean {' or '.join(near)}?" if near else "`--list-settings` prints all of them."


def _parse_text(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except json.JSONDecodeError:
        return value


def convert(value: Any, hint: Any, key: str) -> Any:
    """`value` (typed or text) as the annotated type; raises SettingsError naming `key`."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None or (isinstance(value, str) and value.lower() in ("none", "null", "")):
            return None
        return convert(value, next(a for a in arguments if a is not type(None)), key)
    try:
        if dataclasses.is_dataclass(hint) and isinstance(hint, type):
            return value if isinstance(value, hint) else _to_dataclass(value, hint, key)
        if origin in (tuple, list):
            items = value.split(",") if isinstance(value, str) else value
            if not isinstance(items, (list, tuple)):
                items = [items]
            if origin is tuple and Ellipsis not in arguments and len(items) != len(arguments):
                raise ValueError(f"{len(arguments)} values are needed")
            return origin(convert(item, arguments[0], key) for item in items)
        if hint is bool:
            return _to_bool(value)
        if hint is int and isinstance(value, float) and value != int(value):
            raise ValueError("a whole number is needed")
        return value if hint is Any else (dict(value) if origin is dict else hint(value))
    except (TypeError, ValueError, KeyError) as error:
        if isinstance(error, SettingsError):
            raise
        raise SettingsError(f"The setting '{key}' cannot be {value!r}: {error}.") from error


def _to_bool(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    text = str(value).lower()
    if text not in ("true", "false", "1", "0", "yes", "no"):
        raise ValueError("true or false is needed")
    return text in ("true", "1", "yes")


def _to_dataclass(values: Any, cls: Any, key: str) -> Any:
    if not isinstance(values, Mapping):
        raise SettingsError(f"'{key or 'settings'}' must be a group of named values, not {values!r}.")
    hints = typing.get_type_hints(cls)
    unknown = set(values) - set(hints)
    if unknown:
        raise SettingsError(f"There is no setting '{key + '.' if key else ''}{sorted(unknown)[0]}'.")
    converted = {name: convert(v, hints[name], f"{key}.{name}" if key else name) for name, v in values.items()}
    try:
        return cls(**converted)
    except TypeError as error:
        raise SettingsError(f"'{key}' is incomplete: {error}.") from error


def _check(settings: Settings) -> None:
    data, training = settings.data, settings.training
    for key, allowed in _CHOICES.items():
        section, name = key.split(".")
        value = getattr(getattr(settings, section), name)
        if value not in allowed:
            raise SettingsError(f"The setting '{key}' is {value!r}; it must be one of {', '.join(map(str, allowed))}.")
    for name in ("iterations", "labelled_batch", "log_every"):
        if getattr(training, name) < 1:
            raise SettingsError(f"The setting 'training.{name}' must be at least 1.")
    for name in ("unlabelled_batch", "accumulation", "validation_every", "threads", "checkpoint_minutes"):
        if getattr(training, name) < 0:
            raise SettingsError(f"The setting 'training.{name}' must not be negative.")
    if not 0 <= training.foreground_fraction <= 1:
        raise SettingsError("The setting 'training.foreground_fraction' must lie between 0 and 1.")
    if not 0 <= training.rotation_angle <= 180:
        raise SettingsError("The setting 'training.rotation_angle' must lie between 0 and 180 degrees.")
    if not 0 <= settings.inference.overlap < 1:
        raise SettingsError("The setting 'inference.overlap' must lie between 0 and 1 (1 excluded).")
    if data.spacing is not None and (len(data.spacing) != 3 or min(data.spacing) < 0):
        raise SettingsError(f"The setting 'data.spacing' needs three sizes in mm, not {data.spacing}.")
    if data.window is not None and data.window[0] >= data.window[1]:
        raise SettingsError(f"The setting 'data.window' must go from low to high, not {data.window}.")
    patch = training.patch_size
    if patch is not None and (len(patch) != data.dimensions or any(side < 16 or side % 16 for side in patch)):
        raise SettingsError(
            f"The setting 'training.patch_size' needs {data.dimensions} multiples of 16 voxels, not {patch}."
        )
    if patch is not None and math.prod(side // 16 for side in patch) * training.labelled_batch < 2:
        raise SettingsError(
            f"A batch of one patch of {patch} voxels is too small for batch statistics: choose a larger "
            "'training.patch_size' or 'training.labelled_batch'."
        )
    _check_labels(data)


def _check_labels(data: DataSettings) -> None:
    values, names = [label.value for label in data.labels], [label.name for label in data.labels]
    if len(set(values)) < len(values) or len(set(names)) < len(names):
        raise SettingsError(f"Labels must differ in value and in name: {', '.join(names)}.")
    if any(value < 1 or value == data.ignore_value for value in values):
        raise SettingsError(f"Label values must be at least 1 and not the ignore value {data.ignore_value}.")
