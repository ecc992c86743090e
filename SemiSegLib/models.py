"""A trained network in one file: weights as safetensors, its card (task, settings, scores) in the file's metadata.

Models that come with SemiSeg lie in Resources/Models (NAME.safetensors) and are loaded by NAME, as are those in the
folder that the environment variable SEMISEG_MODELS names.

python -m SemiSegLib.models                                   # the names, and what each model is
python -m SemiSegLib.models export RUN FILE.safetensors       # a run's model in half precision, to share
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from SemiSegLib import __version__
from SemiSegLib.commands import program, run_command
from SemiSegLib.config import Settings, SettingsError
from SemiSegLib.data.formats import results_to_write
from SemiSegLib.errors import SemiSegError
from SemiSegLib.files import same_file, whole
from SemiSegLib.runs import RunFolder, finite, read_json

if TYPE_CHECKING:
    import torch
    from torch import nn

MODELS_VARIABLE = "SEMISEG_MODELS"
WHICH = ("last", "best")  # models of a run
WHICH_HELP = (
    "of a run folder: last, which the run's report is of (default), or best, chosen by the validation cases, so that "
    "scores on these say too much"
)
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
    quality: dict[str, Any] = field(default_factory=dict)  # what its expected DSC is estimated from: SemiSegLib.quality


@dataclass
class Model:
    """A network's weights and card."""

    card: Card
    weights: dict[str, torch.Tensor]

    def fingerprint(self) -> str:
        """SHA-256 of the weights, in hexadecimal: the same for copies of a file, wherever they lie."""
        import torch

        digest = hashlib.sha256()
        for name in sorted(self.weights):
            digest.update(name.encode())
            digest.update(self.weights[name].contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    def network(self) -> nn.Module:
        """The network with its weights, in eval() mode on the CPU; raises ModelError if they do not fit."""
        from SemiSegLib.networks import build_network

        data = self.card.settings.data
        network = build_network(data.dimensions, len(data.labels) + 1, self.card.sdm, self.card.settings.network)
        try:
            network.load_state_dict({name: weight.float() for name, weight in self.weights.items()})
        except RuntimeError as error:
            raise ModelError(f"The weights do not fit the network that the card describes: {error}.") from error
        return network.eval()


def save_model(path: Path, network: nn.Module, card: Card, half: bool = False) -> None:
    """Write a network and its card whole; `half` stores floating-point weights in 16 bits where they fit."""
    import torch

    weights = {}
    for name, weight in network.state_dict().items():
        weight = weight.detach().to("cpu", copy=True).contiguous(memory_format=torch.contiguous_format)
        weights[name] = _halved(weight) if half else weight
    _write(path, weights, card)


def rewrite_card(path: Path, model: Model) -> None:
    """Give a model's file another card, whole; the weights stay bit by bit as they are."""
    _write(path, model.weights, model.card)


def _write(path: Path, weights: dict[str, torch.Tensor], card: Card) -> None:
    from safetensors.torch import save

    content = asdict(card) | {"settings": card.settings.to_dict()}
    card_text = json.dumps(finite(content), allow_nan=False)
    with whole(path) as temporary:
        temporary.write_bytes(_ordered(save(weights, metadata={"format": _FORMAT, "card": card_text})))


def export_model(source: Path, target: Path, notes: str = "", which: str = "last") -> Card:
    """Write the model of a run (or file) in half precision to `target`, to be shared; returns its card.

    The card of a run's last model also has the scores of the run's report, which are that model's. It names no folder
    of this machine. Raises ModelError.
    """
    run = RunFolder(Path(source))
    refuse_to_replace(model_file(source, which), Path(target))
    model = load_model(source, which)
    card = model.card
    card.settings.data.cache = None
    card.notes = notes or card.notes
    if run.cases_file.exists():
        cases = read_json(run.cases_file)
        counts = {part: len(cases[part]) for part in ("labelled", "unlabelled", "validation")}
        card.data = {**counts, "annotated": card.data.get("annotated", [])}
    report = run.report / "validation.json"
    if which == "last" and report.exists():
        card.scores = {**card.scores, "report": read_json(report)["summary"]}
    save_model(Path(target), model.network(), card, half=True)
    return card


def refuse_to_replace(model: Path, target: Path) -> None:
    """Raise ModelError where what is made of a model file would be written over it."""
    if same_file(target, model):
        raise ModelError(f"{target} is the model itself, which would be replaced: name another file.")


def load_model(source: Path, which: str = "last") -> Model:
    """The model that `model_file` finds; raises ModelError."""
    from safetensors import SafetensorError, safe_open

    path = model_file(source, which)
    try:
        with safe_open(path, framework="pt") as stored:
            metadata = stored.metadata() or {}
            # Copies: the tensors themselves are the file, mapped into memory, which Windows then lets nobody replace.
            weights = {name: stored.get_tensor(name).clone() for name in stored.keys()}  # noqa: SIM118 (not a dict)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path} cannot be read as a model: {error}.") from error
    if metadata.get("format") != _FORMAT:
        raise ModelError(f"{path} is not a SemiSeg model of this version (it says {metadata.get('format')!r}).")
    try:
        return Model(_card(json.loads(metadata["card"])), weights)
    except (SettingsError, TypeError, KeyError, ValueError) as error:
        raise ModelError(
            f"The card of {path} cannot be read by SemiSeg {__version__} ({error}): if a newer one made the model, "
            "update SemiSeg; else the file is damaged."
        ) from error


def _card(content: dict[str, Any]) -> Card:
    older = "augmentation" not in content["settings"]  # its axes were mirrored as the task allows
    settings = Settings.from_dict(content["settings"])
    if older:
        settings.augmentation.mirror_axes = () if settings.preset == "custom" else (0, 1)
    return Card(**{**content, "settings": settings})


def named_models() -> dict[str, Path]:
    """Models that can be loaded by name: those that come with SemiSeg and those in $SEMISEG_MODELS, which win.

    Resources/ lies beside the package in a checkout and in Slicer's folder of modules, in the package in a wheel.
    """
    package = Path(__file__).resolve().parent
    folders = [root / "Resources" / "Models" for root in (package, package.parent)]
    if os.environ.get(MODELS_VARIABLE):
        folders.append(Path(os.environ[MODELS_VARIABLE]))
    return {file.stem: file for folder in folders for file in sorted(folder.glob("*.safetensors"))}


def model_file(source: Path, which: str = "last") -> Path:
    """The model file that `source` (a file, a run folder or a model's name) stands for; raises ModelError.

    Of a run folder it is the last model, which the run's report is of, everywhere; or the best on the validation
    cases, if `which` is "best": scores on these cases are then too good, for they chose it.
    """
    source = Path(source)
    if source.is_dir():
        return _model_of_run(RunFolder(source), which)
    named = {} if source.is_file() else named_models()
    if not source.is_file() and str(source) not in named:
        raise ModelError(
            f"There is no model {source}: name a model file (.safetensors), a run folder or a model that SemiSeg "
            f"knows by name ({', '.join(named) or 'there is none'})."
        )
    if which != "last":
        raise ModelError(f"--which {which} chooses between the models of a run folder; {source} is one model.")
    return named.get(str(source), source)


def _model_of_run(run: RunFolder, which: str) -> Path:
    if which not in WHICH:
        raise ModelError(f"A run has no '{which}' model: choose {' or '.join(WHICH)}.")
    path = run.best_model if which == "best" else run.last_model
    if path.exists():
        return path
    if which == "best":
        raise ModelError(f"The run {run.path} has no best model: it has not been scored on validation cases.")
    if run.best_model.exists():
        raise ModelError(f"The run {run.path} has no last model yet: wait for its first checkpoint, or --which best.")
    raise ModelError(f"The run {run.path} has no model yet: train first, or wait for its first checkpoint.")


def _ordered(content: bytes) -> bytes:
    """A safetensors file with its metadata in one order, so that equal models are equal files (the library has none).

    8 bytes length of the header, little endian; the header, JSON, padded to multiples of 8 bytes; the tensors.
    """
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + content[end:]


def _halved(weight: torch.Tensor) -> torch.Tensor:
    """16 bits, unless a value is too large for them (variances of a batch normalisation may be)."""
    halved = weight.half() if weight.is_floating_point() else weight
    return halved if bool(halved.isfinite().all()) else weight


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(
        prog=program("models"),
        description="Models that can be named in --model and --init; without a command they are listed.",
    )
    export = result.add_subparsers(dest="command").add_parser("export", help="a run's model in half precision")
    export.add_argument("source", type=Path, metavar="RUN|FILE|NAME", help="run folder, file or name")
    export.add_argument("target", type=results_to_write, metavar="FILE", help="the .safetensors file to write")
    export.add_argument("--which", choices=WHICH, default="last", help=WHICH_HELP)
    export.add_argument("--notes", default="", metavar="TEXT", help="for the card: data, protocol, limits")
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0 done, 2 wrong input."""
    options = parser().parse_args(arguments)

    def work() -> None:
        if options.command == "export":
            export_model(options.source, options.target, options.notes, options.which)
            print(f"{options.target}  {options.target.stat().st_size / 1e6:.1f} MB")
        else:
            for name, file in named_models().items():
                print(f"{name}  {file}\n  {load_model(file).card.notes}")

    return run_command(work)


if __name__ == "__main__":
    sys.exit(main())
