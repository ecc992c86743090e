"""A trained network in one file: weights as safetensors, its card (task, settings, scores) in the file's metadata."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from SemiSegLib import __version__
from SemiSegLib.config import Settings
from SemiSegLib.errors import SemiSegError
from SemiSegLib.runs import RunFolder, replace

if TYPE_CHECKING:
    import torch
    from torch import nn

_FORMAT = "semiseg-model-1"


class ModelError(SemiSegError):
    """A model file is missing, damaged, foreign or made for something else."""


@dataclass
class Card:
    """What is known of a model: how it was made, what it segments, how well."""

    settings: Settings
    sdm: bool  # the network has a distance-map head
    iteration: int
    network: str = "student"
    scores: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    semiseg_version: str = __version__
    notes: str = ""


@dataclass
class Model:
    """A network's weights and card."""

    card: Card
    weights: dict[str, torch.Tensor]

    def network(self) -> nn.Module:
        """The network with its weights, in eval() mode on the CPU; raises ModelError if they do not fit."""
        from SemiSegLib.networks import build_network

        data = self.card.settings.data
        network = build_network(data.dimensions, len(data.labels) + 1, self.card.sdm)
        try:
            network.load_state_dict({name: weight.float() for name, weight in self.weights.items()})
        except RuntimeError as error:
            raise ModelError(f"The weights do not fit the network that the card describes: {error}.") from error
        return network.eval()


def save_model(path: Path, network: nn.Module, card: Card, half: bool = False) -> None:
    """Write a network and its card whole; `half` stores floating-point weights in 16 bits."""
    import torch
    from safetensors.torch import save_file

    weights = {}
    for name, weight in network.state_dict().items():
        weight = weight.detach().to("cpu", copy=True).contiguous(memory_format=torch.contiguous_format)
        weights[name] = weight.half() if half and weight.is_floating_point() else weight
    content = asdict(card) | {"settings": card.settings.to_dict()}
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        save_file(weights, temporary, metadata={"format": _FORMAT, "card": json.dumps(content)})
        replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def load_model(source: Path) -> Model:
    """The model in a file, or a run folder's best (else last) one; raises ModelError."""
    from safetensors import SafetensorError, safe_open

    path = model_file(source)
    try:
        with safe_open(path, framework="pt") as stored:
            metadata = stored.metadata() or {}
            weights = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 (not a dict)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path} cannot be read as a model: {error}.") from error
    if metadata.get("format") != _FORMAT:
        raise ModelError(f"{path} is not a SemiSeg model of this version (it says {metadata.get('format')!r}).")
    content = json.loads(metadata["card"])
    content["settings"] = Settings.from_dict(content["settings"])
    return Model(Card(**content), weights)


def model_file(source: Path) -> Path:
    """The model file that `source` (a file or a run folder) stands for; raises ModelError."""
    source = Path(source)
    if source.is_file():
        return source
    if not source.is_dir():
        raise ModelError(f"There is no model {source}: name a model file (.safetensors) or a run folder.")
    run = RunFolder(source)
    for path in (run.best_model, run.last_model):
        if path.exists():
            return path
    raise ModelError(f"The run {source} has no model yet: train first, or wait for its first checkpoint.")
