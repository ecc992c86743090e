"""Weights & Biases: offline, in RUN/trackers/wandb, unless WANDB_MODE says otherwise (`wandb sync` sends it)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from SemiSegLib.runs import RunFolder, read_json, write_json
from SemiSegLib.tracking.tracker import flat, settings_of

PROJECT = "semiseg"


class WandB:
    """A run of the project "semiseg" (or WANDB_PROJECT); a resumed training goes on under the same id."""

    def __init__(self, run: RunFolder) -> None:
        import wandb

        run.trackers.mkdir(exist_ok=True)
        known = run.trackers / "wandb.json"
        before = read_json(known)["id"] if known.exists() else None
        mode: Any = os.environ.get("WANDB_MODE", "offline")  # its type is a list of words
        self.run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=run.path.resolve().name,
            dir=str(run.trackers.resolve()),
            id=before,
            resume="allow",
            mode=mode,
            config=flat(settings_of(run)),
            settings=wandb.Settings(silent=True, console="off"),
        )
        write_json(known, {"id": self.run.id})

    def log(self, values: Mapping[str, float], step: int) -> None:
        """See Tracker."""
        self.run.log(dict(values), step=step)

    def close(self, state: str) -> None:
        """See Tracker."""
        self.run.finish(exit_code=1 if state == "failed" else 0)
