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
from SemiSegLib.config import Explained, Label, Settings, SettingsError, convert, explain
from SemiSegLib.methods import Description

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
