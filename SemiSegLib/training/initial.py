"""Starting from a trained model: which of its weights fit, what stays as it was, how its task differs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from SemiSegLib.config import Settings
from SemiSegLib.data.cases import listed
from SemiSegLib.models import Card, Model, ModelError, load_model
from SemiSegLib.presets import build_settings

_OF_WEIGHTS = ("architecture", "normalisation")  # settings of the network that its weights are learnt for
_COMPARED = ("spacing", "normalisation", "window")  # settings of the data that a network is used to


def load_initial(source: Path, settings: Settings) -> Model:
    """The model to start from; raises ModelError where one of slices meets a training on volumes, or the reverse."""
    model = load_model(source)
    theirs, ours = model.card.settings.data.dimensions, settings.data.dimensions
    if theirs != ours:
        raise ModelError(
            f"{source} is {theirs}D and this training is {ours}D: start from a model of the same dimensions, or set "
            f"data.dimensions={theirs}."
        )
    return model


def learnt_at(source: Path, settings: Settings) -> tuple[tuple[float, ...], tuple[int, ...]] | None:
    """Voxel size (mm) and patch (voxels) with which a model was trained; None where its card does not say."""
    card = load_initial(source, settings).card.settings
    if card.data.spacing is None or card.training.patch_size is None:
        return None
    return tuple(card.data.spacing), tuple(card.training.patch_size)


def follow_network(source: Path, settings: Settings) -> str:
    """Let a training that starts from a model have its kind of network, without which weights mean nothing.

    The learning rate goes with it where it is still the recipe's. Returns what changed, for people; "" if nothing did.
    """
    theirs, ours = load_initial(source, settings).card.settings, settings
    changed = [name for name in _OF_WEIGHTS if getattr(theirs.network, name) != getattr(ours.network, name)]
    if not changed:
        return ""
    for name in changed:
        setattr(ours.network, name, getattr(theirs.network, name))
    usual = build_settings(ours.method, ours.preset, recipe=ours.recipe).training.learning_rate
    if ours.training.learning_rate == usual:
        ours.training.learning_rate = theirs.training.learning_rate
    ours.check()
    values = " and ".join(f"{name} ({getattr(ours.network, name)})" for name in changed)
    return (
        f"The training goes on with the {values} of the model it starts from, at a learning rate of "
        f"{ours.training.learning_rate:g}."
    )


def differences(card: Card, settings: Settings) -> list[str]:
    """How the model's task differs from this one, a line for each setting that matters to its weights."""
    theirs, ours = card.settings.data, settings.data
    pairs: dict[str, tuple[Any, Any]] = {"labels": ([x.name for x in theirs.labels], [x.name for x in ours.labels])}
    pairs |= {name: (getattr(theirs, name), getattr(ours, name)) for name in _COMPARED}
    return [f"{name}: {_shown(a)} (here {_shown(b)})" for name, (a, b) in pairs.items() if a != b]


def take_weights(networks: Mapping[str, nn.Module], model: Model) -> list[str]:
    """Give the networks the model's weights by name and shape; returns what was not taken over, for people.

    Raises ModelError if nothing fits.
    """
    new: set[str] = set()
    used: set[str] = set()
    for network in networks.values():
        state = network.state_dict()
        fitting = {
            n: w.to(state[n].dtype) for n, w in model.weights.items() if n in state and state[n].shape == w.shape
        }
        network.load_state_dict(state | fitting)
        new |= state.keys() - fitting.keys()
        used |= fitting.keys()
    if not used:
        raise ModelError("None of the model's weights fit: it is another kind of network.")
    unused = model.weights.keys() - used
    notes = {"new here, as initialised": new, "of the model, not used": unused}
    return [f"{what}: {listed(sorted(names))}" for what, names in notes.items() if names]


def _shown(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    return "none" if value is None else str(value)
