"""A network alone, as TorchScript or ONNX: a batch of normalised patches in, probabilities out."""

from __future__ import annotations

import importlib.util
import json
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn

from SemiSegLib.compute.devices import choose_compute
from SemiSegLib.errors import SemiSegError
from SemiSegLib.files import whole
from SemiSegLib.inference.folding import for_inference
from SemiSegLib.models import Card, Model

MULTIPLE = 16  # the networks halve sides four times
DESCRIPTION = "semiseg.json"  # in TorchScript files


class ExportError(SemiSegError):
    """A model cannot be written for other programs; the message says why and what to do."""


class Probabilities(nn.Module):
    """(B, 1, *S) normalised intensities to (B, classes, *S) probabilities, background first."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.network = for_inference(model.network(), choose_compute("cpu", "fp32"))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Softmax of the network's logits."""
        return self.network(image).probabilities


def describe(card: Card) -> dict[str, Any]:
    """What a program must know to use the network alone: how scans are prepared and what the channels are."""
    data = card.settings.data
    return {
        "axes": "x, y, z nearest to the patient's left, posterior, superior (LPS)",
        "spacing_mm": data.spacing and list(data.spacing),
        "window": data.window and list(data.window),
        "normalisation": data.normalisation,
        "input": "(batch, 1, sides) float32, sides multiples of 16",
        "output": "(batch, 1 + labels, sides) float32 probabilities, background first",
        "patch_size": list(card.settings.training.patch_size or ()),
        "labels": [{"name": label.name, "value": label.value} for label in data.labels],
        "method": card.settings.method,
        "notes": card.notes,
        "semiseg_version": card.semiseg_version,
    }


def save_torchscript(model: Model, path: Path) -> None:
    """Write TorchScript, whole, with `describe` as its extra file semiseg.json. Raises SemiSegError."""
    network, example = _network_and_example(model)
    with warnings.catch_warnings(), torch.no_grad():
        # PyTorch advises newer formats, which other programs do not read yet; and a batch is one part when predicting.
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        traced = torch.jit.trace(network, example)
        extra = {DESCRIPTION: json.dumps(describe(model.card), indent=1)}
        # Through Python's file: PyTorch's own takes no name with other letters than ASCII on Windows.
        with whole(path) as file, file.open("wb") as stream:
            torch.jit.save(traced, stream, _extra_files=extra)


def save_onnx(model: Model, path: Path) -> None:
    """Write ONNX with free batch size and sides, whole, `describe` in its metadata. Raises SemiSegError."""
    missing = [name for name in ("onnx", "onnxscript") if importlib.util.find_spec(name) is None]
    if missing:
        raise ExportError(f"ONNX needs the packages {' and '.join(missing)}: pip install onnx onnxscript")
    import onnx

    network, example = _network_and_example(model)
    axes = {0: "batch"} | {axis: f"side{axis - 1}" for axis in range(2, example.ndim)}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        names: dict[str, Any] = {"input_names": ["image"], "output_names": ["probabilities"]}
        free = {"image": axes, "probabilities": axes}
        with whole(path) as file:
            torch.onnx.export(network, (example,), str(file), dynamo=False, dynamic_axes=free, **names)
            written = onnx.load(str(file))
            onnx.helper.set_model_props(written, {"semiseg": json.dumps(describe(model.card))})
            onnx.save(written, str(file))


def _network_and_example(model: Model) -> tuple[nn.Module, torch.Tensor]:
    sides = [MULTIPLE * 2] * model.card.settings.data.dimensions
    return Probabilities(model).eval(), torch.zeros(1, 1, *sides)
