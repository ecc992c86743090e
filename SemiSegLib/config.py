"""The settings of a run: typed, complete and readable, put together from presets, methods, files and flags.

>>> settings = build_settings(method="simcvd", preset="left-atrium", overrides={"training.iterations": 3000})
>>> settings.training.iterations, settings.data.labels[0].name
(3000, 'left atrium')
"""

from __future__ import annotations

import dataclasses
import json
import math
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from SemiSegLib.errors import SemiSegError

if TYPE_CHECKING:
    from SemiSegLib.methods import Description


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
        setattr(target, name, _convert(value, hints[name], key))

    def check(self) -> None:
        """Raise SettingsError where values contradict each other or are out of range."""
        _check(self)


# Colours are those of 3D Slicer's GenericAnatomyColors table.
PRESETS: dict[str, dict[str, Any]] = {
    "left-atrium": {
        "data.labels": [Label(1, "left atrium", (152, 55, 13))],
        "data.spacing": (0.625, 0.625, 0.625),
        "training.patch_size": (112, 112, 80),
        "inference.largest_component": True,
    },
    "pancreas": {
        "data.labels": [Label(1, "pancreas", (249, 180, 111))],
        "data.spacing": (1.0, 1.0, 1.0),
        "data.window": (-125.0, 275.0),
        "training.patch_size": (96, 96, 96),
        "inference.largest_component": True,
    },
    "cardiac-cine": {
        "data.labels": [
            Label(1, "right ventricle", (181, 85, 57)),
            Label(2, "myocardium", (192, 104, 88)),
            Label(3, "left ventricle", (152, 55, 13)),
        ],
        "data.dimensions": 2,
        "data.spacing": (1.5, 1.5, 0.0),
        "training.patch_size": (192, 192),
        "training.labelled_batch": 12,
        "training.unlabelled_batch": 12,
        "training.rotation_angle": 20.0,
        "training.schedule": "poly",
        "training.iterations": 30000,
    },
    "custom": {},
}
PRESET_TITLES = {
    "left-atrium": "Left atrium, LGE-MRI",
    "pancreas": "Pancreas, CT",
    "cardiac-cine": "Right ventricle, myocardium and left ventricle, cine MRI (2D slices)",
    "custom": "Anything else: labels, spacing and patch size are taken from the data",
}
_METHOD_TYPES: dict[str, Any] = {  # as methods write them, see SemiSegLib.methods
    **{kind.__name__: kind for kind in (bool, int, float, str)},
    "tuple[float, ...]": tuple[float, ...],
}
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


def build_settings(
    method: str = "simcvd",
    preset: str = "custom",
    file: Path | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Settings:
    """Complete settings. What comes later wins: defaults, preset, the method's own, `file`, `overrides`.

    `overrides` has dotted names, for example {"training.iterations": 3000}; `file` is JSON, nested or dotted.
    Raises SettingsError.
    """
    from SemiSegLib import methods

    from_file = _read_file(file) if file else {}
    overrides = dict(overrides or {})
    preset = overrides.pop("preset", None) or from_file.pop("preset", None) or preset
    method = overrides.pop("method", None) or from_file.pop("method", None) or method
    if preset not in PRESETS:
        raise SettingsError(f"There is no preset '{preset}'; there are: {', '.join(PRESETS)}.")
    description = methods.describe(method)
    settings = Settings(preset=preset, method=method)
    for layer in (PRESETS[preset], description.training_defaults, from_file, overrides):
        for key, value in layer.items():
            settings.set(key, value)
    settings.method_settings = _method_settings(description, settings.method_settings)
    settings.check()
    return settings


def _method_settings(description: Description, given: Mapping[str, Any]) -> dict[str, Any]:
    """All settings of a method in the types it declares; raises SettingsError for a wrong name or value."""
    options = {option.name: option for option in description.options}
    values = {name: option.default for name, option in options.items()}
    for name, value in given.items():
        if name not in options:
            raise SettingsError(
                f"The method '{description.name}' has no setting '{name}'; "
                f"it has: {', '.join(sorted(options)) or 'none'}."
            )
        values[name] = _convert(value, _METHOD_TYPES[options[name].type], f"method_settings.{name}")
    return values


def explain(settings: Settings) -> Iterator[tuple[str, Any, str]]:
    """(dotted name, value, explanation) of every setting, for `--list-settings` and tooltips."""
    for section in ("data", "training", "inference"):
        part = getattr(settings, section)
        for entry in dataclasses.fields(part):
            yield f"{section}.{entry.name}", getattr(part, entry.name), entry.metadata["help"]


def _read_file(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"The settings file {path} cannot be read: {error.strerror}.") from error
    except json.JSONDecodeError as error:
        raise SettingsError(f"The settings file {path} is not valid JSON: {error}.") from error
    if not isinstance(content, dict):
        raise SettingsError(f"The settings file {path} must hold a JSON object.")
    return dict(_flatten(content))


def _flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


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


def _convert(value: Any, hint: Any, key: str) -> Any:
    """`value` (typed or text) as the annotated type."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None or (isinstance(value, str) and value.lower() in ("none", "null", "")):
            return None
        return _convert(value, next(a for a in arguments if a is not type(None)), key)
    try:
        if dataclasses.is_dataclass(hint) and isinstance(hint, type):
            return value if isinstance(value, hint) else _to_dataclass(value, hint, key)
        if origin in (tuple, list):
            items = value.split(",") if isinstance(value, str) else value
            if not isinstance(items, (list, tuple)):
                items = [items]
            if origin is tuple and Ellipsis not in arguments and len(items) != len(arguments):
                raise ValueError(f"{len(arguments)} values are needed")
            return origin(_convert(item, arguments[0], key) for item in items)
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
    converted = {name: _convert(v, hints[name], f"{key}.{name}" if key else name) for name, v in values.items()}
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
