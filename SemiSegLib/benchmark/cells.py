"""A cell of the comparison: which method, on what, from which seed; its settings and the training that measures it."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from SemiSegLib import methods
from SemiSegLib.benchmark.budgets import budget_settings
from SemiSegLib.config import Settings, SettingsError
from SemiSegLib.presets import build_settings

# What may differ between two measurements of the same thing: where, how fast and how often looked at.
INCIDENTAL = (
    "data.cache",
    "training.seed",
    "training.device",
    "training.threads",
    "training.accumulation",
    "training.validation_every",
    "training.checkpoint_minutes",
    "training.log_every",
)


@dataclass(frozen=True)
class Variant:
    """A method, as it is or with settings of its own.

    >>> variant = Variant.parse("secl:sampling=region")
    >>> variant.name, variant.slug, variant.overrides()
    ('secl (sampling=region)', 'secl-sampling-region', {'method_settings.sampling': 'region'})
    """

    method: str
    settings: tuple[tuple[str, str], ...] = ()

    @classmethod
    def parse(cls, text: str) -> Variant:
        """METHOD or METHOD:KEY=VALUE:…; a key without a dot is a setting of the method. Raises SettingsError."""
        method, *assignments = text.split(":")
        methods.describe(method)
        pairs = [assignment.partition("=") for assignment in assignments]
        if any(not equals or not key for key, equals, _ in pairs):
            raise SettingsError(f"--methods {text}: write METHOD:KEY=VALUE, for example secl:sampling=region.")
        return cls(method, tuple((key.removeprefix("method_settings."), value) for key, _, value in pairs))

    @property
    def text(self) -> str:
        """As `parse` reads it."""
        return ":".join([self.method, *(f"{key}={value}" for key, value in self.settings)])

    @property
    def name(self) -> str:
        """As tables show it."""
        settings = ", ".join(f"{key}={value}" for key, value in self.settings)
        return f"{self.method} ({settings})" if settings else self.method

    @property
    def slug(self) -> str:
        """As files are named."""
        return re.sub(r"[^A-Za-z0-9.]+", "-", self.text).strip("-")

    def overrides(self) -> dict[str, str]:
        """Its settings under their dotted names."""
        return {key if "." in key else f"method_settings.{key}": value for key, value in self.settings}


@dataclass(frozen=True)
class Study:
    """What all cells of a comparison share. `overrides` are dotted settings for all of them."""

    data: Path
    dataset: str
    splits: str | None
    budget: str
    overrides: Mapping[str, str]
    device: str
    threads: int
    cache: Path | None

    @property
    def split(self) -> str:
        """Name of the section of the splits file; '' when the file has but one."""
        from SemiSegLib.data.splits import parse

        return (parse(self.splits)[1] or "") if self.splits else ""


@dataclass(frozen=True)
class Cell:
    """One training."""

    study: Study
    labelled: int
    variant: Variant
    seed: int

    @property
    def name(self) -> str:
        """Of its run folder and of its file of results."""
        budget = "" if self.study.budget == "lite" else f"-{self.study.budget}"
        return f"{self.study.dataset}-{self.variant.slug}-{self.labelled}-seed{self.seed}{budget}"

    def overrides(self) -> dict[str, str]:
        """Dotted settings; what comes later wins: budget, those of all cells, the variant's, the machine's."""
        study = self.study
        settings = budget_settings(study.budget, study.dataset, self.variant.method)
        settings |= {**study.overrides, **self.variant.overrides(), "training.threads": str(study.threads)}
        return settings | ({"data.cache": str(study.cache.resolve())} if study.cache else {})

    def settings(self) -> Settings:
        """Complete settings but for what training takes from the scans; raises SettingsError."""
        seed = {"training.seed": self.seed, "training.device": self.study.device}
        return build_settings(self.variant.method, self.study.dataset, overrides={**self.overrides(), **seed})

    def start_command(self, run: Path) -> list[str]:
        """The training from its beginning."""
        study = self.study
        command = [sys.executable, "-m", "SemiSegLib.train", "--data", str(study.data), "--out", str(run)]
        command += ["--preset", study.dataset, "--method", self.variant.method]
        command += ["--splits", study.splits] if study.splits else []
        command += ["--labelled", str(self.labelled), "--seed", str(self.seed), "--device", study.device]
        return command + [part for key, value in self.overrides().items() for part in ("--set", f"{key}={value}")]

    def resume_command(self, run: Path) -> list[str]:
        """The same training after an interruption."""
        command = [sys.executable, "-m", "SemiSegLib.train", "--resume", "--out", str(run)]
        return [*command, "--data", str(self.study.data), "--device", self.study.device]


def comparable(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings, as settings.json has them, that a measurement depends on; dotted, the method's defaults filled in.

    Settings that this version does not know are left out, and those that an earlier version did not know have
    their defaults.
    """
    known = Settings().to_dict()
    values = {
        f"{section}.{key}": settings.get(section, {}).get(key, default)
        for section in ("data", "network", "training", "augmentation", "inference")
        for key, default in known[section].items()
    }
    values["recipe"] = settings.get("recipe", known["recipe"])
    if values["augmentation.geometry"] == "turns":  # the ranges are not used, the axes only to predict with mirroring
        used = ("augmentation.geometry", "augmentation.intensity")
        values = {key: value for key, value in values.items() if key in used or not key.startswith("augmentation.")}
    for option in methods.describe(settings["method"]).options:
        values[f"method_settings.{option.name}"] = settings["method_settings"].get(option.name, option.default)
    return {key: _plain(value) for key, value in values.items() if key not in INCIDENTAL}


def differences(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> Iterator[str]:
    """Names of the settings that `wanted` fixes and `found` has otherwise; both as settings.json has them."""
    if wanted["method"] != found["method"]:
        yield "method"
        return
    expected, actual = comparable(wanted), comparable(found)
    open_until_training = ("data.labels", "data.spacing", "training.patch_size")
    for key, value in expected.items():
        if value != actual[key] and not (key in open_until_training and not value):
            yield key


def _plain(value: Any) -> Any:
    """Tuples as JSON gives them back."""
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    return [_plain(entry) for entry in value] if isinstance(value, (list, tuple)) else value
