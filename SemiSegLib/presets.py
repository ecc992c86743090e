"""Complete settings, put together from presets, methods, files and flags.

>>> settings = build_settings(method="simcvd", preset="left-atrium", overrides={"training.iterations": 3000})
>>> settings.training.iterations, settings.data.labels[0].name
(3000, 'left atrium')
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from SemiSegLib import methods
from SemiSegLib.config import DEFAULT_METHOD, Explained, Label, Settings, SettingsError, convert, explain
from SemiSegLib.methods import Description

# Colours are those of 3D Slicer's GenericAnatomyColors table.
PRESETS: dict[str, dict[str, Any]] = {
    "left-atrium": {
        "data.labels": [Label(1, "left atrium", (152, 55, 13))],
        "data.spacing": (0.625, 0.625, 0.625),
        "training.patch_size": (112, 112, 80),
        "augmentation.mirror_axes": (0, 1),
        "inference.largest_component": True,
    },
    "pancreas": {
        "data.labels": [Label(1, "pancreas", (249, 180, 111))],
        "data.spacing": (1.0, 1.0, 1.0),
        "data.window": (-125.0, 275.0),
        "training.patch_size": (96, 96, 96),
        "augmentation.mirror_axes": (0, 1),
        "inference.largest_component": True,
    },
    # A patch holds most organs at once: with smaller ones, in which most classes are absent, five of eight organs were
    # not learnt (Testing/Benchmarks; voxel size and patch are choices). Left and right organs: no mirroring.
    "abdomen-ct": {
        "data.labels": [
            Label(1, "spleen", (157, 108, 162)),
            Label(2, "right kidney", (185, 102, 83)),
            Label(3, "left kidney", (185, 102, 83)),
            Label(4, "gallbladder", (139, 150, 98)),
            Label(5, "liver", (221, 130, 101)),
            Label(6, "stomach", (216, 132, 105)),
            Label(7, "aorta", (224, 97, 76)),
            Label(8, "pancreas", (249, 180, 111)),
        ],
        "data.spacing": (2.0, 2.0, 3.0),
        "data.window": (-125.0, 275.0),
        "training.patch_size": (128, 128, 64),
        "training.flip": "none",
        "training.rotate": False,
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
        "augmentation.mirror_axes": (0, 1),
        "training.labelled_batch": 12,
        "training.unlabelled_batch": 12,
        "training.rotation_angle": 20.0,
        "training.schedule": "poly",
        "training.iterations": 30000,
    },
    # Whole bodies and paired organs must not be mirrored or turned over: left and right would be mixed up.
    "custom": {"training.flip": "none", "training.rotate": False},
}
# Optimisation, augmentation and network of our own recipe, for every method and task; much of it nnU-Net's.
# Normalisation, deep supervision and rate go together: with the papers' a few classes and small batches are learnt
# slowly or not at all (abdomen, cardiac cine). `supervised` and `unimatch` have batch normalisation (their files say
# why); with the other methods it was not measured.
STRONG: dict[str, Any] = {
    "data.normalisation": "tissue",
    "network.normalisation": "instance",
    "network.dropout": 0.0,
    "network.deep_supervision": True,
    "training.learning_rate": 0.05,
    "augmentation.geometry": "warp",
    "augmentation.intensity": 1.0,
    "training.schedule": "poly",
    "training.nesterov": True,
    "training.weight_decay": 3e-5,
    "training.ema_decay": 0.99,
    "inference.network": "average",
    "inference.mirror": True,
}
# What a task needs besides: ventricles are one part each, and slices seen one by one find them elsewhere, too. A heart
# fits into 192 mm; patches and batch are those that were measured (Testing/Benchmarks).
STRONG_TASKS: dict[str, dict[str, Any]] = {
    "cardiac-cine": {
        "inference.largest_component": True,
        "inference.touching": True,
        "training.patch_size": (128, 128),
        "training.labelled_batch": 6,
        "training.unlabelled_batch": 6,
    },
    # Nine classes in batches of two or three patches: batch statistics cost the pancreas half of its DSC.
    "abdomen-ct": {"network.normalisation": "instance"},
}
# A round after corrections goes on from a model for a few minutes: at the whole rate it forgets first, and so short a
# training hardly wins that back (Testing/Benchmarks, correction rounds).
CORRECTION_MINUTES = 5.0
CORRECTION_RATE = 0.4  # share of the learning rate
PRESET_TITLES = {
    "left-atrium": "Left atrium, LGE-MRI",
    "pancreas": "Pancreas, CT",
    "cardiac-cine": "Right ventricle, myocardium and left ventricle, cine MRI (2D slices)",
    "abdomen-ct": "Eight abdominal organs, CT",
    "custom": "Anything else: labels, spacing and patch size are taken from the data",
}
_PLANNED = ("training.iterations", "data.spacing", "training.patch_size")  # follow from a time
_METHOD_TYPES: dict[str, Any] = {  # as methods write them, see SemiSegLib.methods
    **{kind.__name__: kind for kind in (bool, int, float, str)},
    "tuple[float, ...]": tuple[float, ...],
}


def build_settings(
    method: str = DEFAULT_METHOD,
    preset: str = "custom",
    file: Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    recipe: str = "strong",
) -> Settings:
    """Complete settings. What comes later wins: defaults, preset, recipe, `file`, `overrides`.

    The recipe `published` trains as the method's paper does; `strong` in our own way, with the method's losses.

    `overrides` has dotted names, for example {"training.iterations": 3000}; `file` is JSON, nested or dotted.
    Iterations that are given later than a time count instead of it. Raises SettingsError, also where `overrides` give
    both.
    """
    from_file = _read_file(file) if file else {}
    overrides = dict(overrides or {})
    preset = overrides.pop("preset", None) or from_file.pop("preset", None) or preset
    recipe = overrides.pop("recipe", None) or from_file.pop("recipe", None) or recipe
    method = overrides.pop("method", None) or from_file.pop("method", None) or method
    if preset not in PRESETS:
        raise SettingsError(f"There is no preset '{preset}'; there are: {', '.join(PRESETS)}.")
    description = methods.describe(method)
    settings = Settings(preset=preset, method=method, recipe=recipe)
    own = (
        STRONG | description.strong_defaults | STRONG_TASKS.get(preset, {})
        if recipe == "strong"
        else description.training_defaults
    )
    for layer in (PRESETS[preset], own, from_file, overrides):
        for key, value in layer.items():
            settings.set(key, value)
    if _iterations_count(settings, from_file, overrides):
        settings.training.minutes = 0.0
    settings.method_settings = _method_settings(description, settings.method_settings)
    settings.check()
    return settings


def _iterations_count(settings: Settings, file: Mapping[str, Any], overrides: Mapping[str, Any]) -> bool:
    """Whether the number of iterations says how long to train, whatever time was given before it; raises SettingsError
    for a time and iterations at once."""
    if "training.minutes" in overrides:
        if "training.iterations" in overrides and settings.training.minutes > 0:
            raise SettingsError(
                f"A time ({settings.training.minutes:g} minutes) and a number of iterations "
                f"({settings.training.iterations}) cannot both be given: leave out one."
            )
        return False
    planned = all(file.get(key) for key in _PLANNED)  # settings.json of a run: this is what its time came to
    return planned or "training.iterations" in overrides


def at_preset(settings: Settings) -> bool:
    """Whether voxel and patch size are still the preset's, so that the plan of the time may choose others."""
    preset = PRESETS[settings.preset]
    return (settings.data.spacing, settings.training.patch_size) == (
        preset.get("data.spacing"),
        preset.get("training.patch_size"),
    )


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
        key = f"method_settings.{name}"
        values[name] = convert(value, _METHOD_TYPES[options[name].type], key)
        options[name].allowed.check(key, values[name])
    return values


def all_settings(settings: Settings) -> Iterator[Explained]:
    """Every setting, the method's own at the end, for `--list-settings` and tooltips."""
    yield from explain(settings)
    for option in methods.describe(settings.method).options:
        name, kind = f"method_settings.{option.name}", option.allowed.of_kind(_METHOD_TYPES[option.type])
        yield Explained(name, settings.method_settings[option.name], option.help, option.allowed, kind)


def _read_file(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise SettingsError(f"The settings file {path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
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
