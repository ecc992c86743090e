"""What every experiment tracker answers, and the numbers and settings of a run as trackers name them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from SemiSegLib.runs import RunFolder, read_json


class Tracker(Protocol):
    """Where numbers go."""

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Numbers of one iteration by name."""

    def close(self, state: str) -> None:
        """The process that trains ends; `state` is one of FINAL_STATES."""


def scalars(event: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of an event as trackers name them; what is undefined is left out."""
    found: dict[str, float | None] = {}
    if event["event"] == "iteration":
        found = {f"loss/{name}": value for name, value in event["losses"].items()}
        found |= {"loss/total": event["total"], "learning_rate": event["learning_rate"]}
    elif event["event"] == "validation":
        found = {f"validation/dsc/{name}": value for name, value in event["per_class"].items()}
        found |= {"validation/dsc": event["dsc"]}
    return {name: value for name, value in found.items() if value is not None}


def settings_of(run: RunFolder) -> dict[str, Any]:
    """The run's settings as JSON has them: complete ones, else those that were asked for."""
    if run.settings_file.exists():
        return read_json(run.settings_file)
    return read_json(run.intent_file).get("settings", {}) if run.intent_file.exists() else {}


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings under dotted names."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return found
