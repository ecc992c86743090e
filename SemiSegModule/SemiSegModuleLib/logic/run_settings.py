"""From what the panel says to the settings of a run, checked before anything is started."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

from SemiSegLib import methods
from SemiSegLib.config import DEFAULT_METHOD, Label, Settings, SettingsError
from SemiSegLib.presets import CORRECTION_MINUTES, CORRECTION_RATE, build_settings

from ..i18n import _

RECOMMENDED = "recommended"  # the method that the library takes by itself
MINUTES = {"correction": CORRECTION_MINUTES, "quarter": 15.0, "hour": 60.0, "night": 480.0}


def uses_unlabelled(parameters: Any) -> bool:
    """The chosen method learns from scans without a mask, too."""
    name = parameters.method.value
    return methods.describe(DEFAULT_METHOD if name == RECOMMENDED else name).needs_unlabelled


def run_settings(parameters: Any, labels: Sequence[Label], more: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Dotted names and values for a `--config` file; raises SettingsError when they do not make a valid run.

    :param parameters: the module's parameter node; 0 and empty text mean: as task and method suggest
    :param more: settings by their names, which win
    """
    values: dict[str, Any] = {
        "preset": parameters.task.value,
        "data.labels": [dataclasses.asdict(label) for label in labels],
        "training.device": parameters.device.value,
    }
    if parameters.method.value != RECOMMENDED:
        values["method"] = parameters.method.value
    if parameters.iterations:
        values["training.iterations"] = parameters.iterations
    if parameters.learningRate:
        values["training.learning_rate"] = parameters.learningRate
    if parameters.spacing.strip():
        values["data.spacing"] = _numbers(parameters.spacing, float, _("Voxel spacing"))
    if parameters.patchSize.strip():
        values["training.patch_size"] = _numbers(parameters.patchSize, int, _("Patch size"))
    values.update(parse_lines(parameters.extraSettings))
    values.update(more or {})
    if not values.keys() & {"training.iterations", "training.minutes"}:
        values["training.minutes"] = MINUTES[parameters.trainingTime.value]
        if parameters.trainingTime.value == "correction" and "training.learning_rate" not in values:
            values["training.learning_rate"] = CORRECTION_RATE * complete_settings(values).training.learning_rate
    complete_settings(values)
    return values


def complete_settings(values: dict[str, Any]) -> Settings:
    """All settings of a run with these values; raises SettingsError."""
    return build_settings(overrides=values)


def parse_lines(text: str) -> dict[str, str]:
    """`key=value` lines; empty ones and comments (#) are left out. Raises SettingsError naming a wrong line."""
    values = {}
    for line in text.splitlines():
        line = line.partition("#")[0].strip()
        if not line:
            continue
        key, equals, value = (part.strip() for part in line.partition("="))
        if not equals or not key:
            raise SettingsError(
                _("More settings: '{line}' is not of the form name=value, such as training.seed=1.").format(line=line)
            )
        values[key] = value
    return values


def _numbers(text: str, kind: type, name: str) -> list[Any]:
    """One number stands for all three axes."""
    try:
        numbers = [kind(part) for part in re.split(r"[\s,;x×]+", text.strip()) if part]
    except ValueError:
        raise SettingsError(
            _("{name}: '{text}' should be one to three numbers, such as 1 1 1.").format(name=name, text=text)
        ) from None
    return numbers * 3 if len(numbers) == 1 else numbers
