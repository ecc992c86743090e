"""What is known of a model file, read from its header alone: neither torch nor safetensors is needed."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from SemiSegLib.config import Settings
from SemiSegLib.files import patiently
from SemiSegLib.inference.conformal import LEAST_CASES
from SemiSegLib.models import ModelError

from ..i18n import _

_LARGEST_HEADER = 50_000_000  # bytes; safetensors itself allows 100 MB


@dataclass(frozen=True)
class ModelCard:
    """The part of a model's card that the panel shows and uses."""

    settings: Settings
    iteration: int
    scores: dict[str, Any]
    quality: dict[str, Any] = field(default_factory=dict)

    @property
    def calibrated(self) -> bool:
        """The card holds what an expected DSC with an interval is estimated from."""
        return any(len(pairs["dsc"]) >= LEAST_CASES for pairs in self.quality.get("classes", {}).values())

    @property
    def text(self) -> str:
        """One line: method, labels, iterations, DSC where known."""
        labels = ", ".join(label.name for label in self.settings.data.labels)
        words = _("{labels}; {method}, {count} iterations").format(
            labels=labels, method=self.settings.method, count=self.iteration
        )
        dsc = self.scores.get("dsc")
        return words if dsc is None else _("{words}, validation DSC {dsc:.3f}").format(words=words, dsc=dsc)


def which(path: Path) -> str:
    """A model as it is now, wherever its study was moved: a training that goes on changes its file, which keeps its
    name. Raises ModelError."""
    return f"{'/'.join(Path(path).parts[-3:])}, {read_card(path).iteration} iterations"


def read_card(path: Path) -> ModelCard:
    """The card of a .safetensors file; raises ModelError naming the file when it is none of SemiSeg's."""
    try:
        status = Path(path).stat()
        return _read(Path(path), status.st_mtime_ns, status.st_size)
    except OSError as error:
        raise ModelError(_("{path} cannot be read: {reason}.").format(path=path, reason=error.strerror)) from error
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(
            _("{path} is not a model of SemiSeg: choose a .safetensors file that SemiSeg wrote.").format(path=path)
        ) from error


@lru_cache(maxsize=8)
def _read(path: Path, _changed: int, _size: int) -> ModelCard:
    """Once for each state of the file: the panel asks at every change of every case."""
    with patiently(lambda: path.open("rb")) as stream:
        size = int.from_bytes(stream.read(8), "little")
        header = stream.read(min(size, _LARGEST_HEADER))
    card = json.loads(json.loads(header)["__metadata__"]["card"])
    return ModelCard(
        Settings.from_dict(card["settings"]), card["iteration"], card.get("scores") or {}, card.get("quality") or {}
    )
