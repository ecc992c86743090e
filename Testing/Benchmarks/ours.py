"""This project's side of the speed benchmark: functions that run in a worker process which `start` prepares."""

from __future__ import annotations

import itertools
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from SemiSegLib.compute.devices import choose_compute
from SemiSegLib.config import InferenceSettings
from SemiSegLib.data.batch import Batch
from SemiSegLib.data.distance import label_distances
from SemiSegLib.data.geometry import to_array
from SemiSegLib.data.grid import to_network_grid
from SemiSegLib.data.images import read_image, read_mask
from SemiSegLib.data.layouts import find_cases
from SemiSegLib.data.patches import PatchSampler
from SemiSegLib.data.preprocess import Prepared, prepare
from SemiSegLib.data.splits import apply_splits
from SemiSegLib.inference.predictor import Predictor
from SemiSegLib.metrics import case_metrics, dice
from SemiSegLib.models import Card, Model, load_model
from SemiSegLib.networks import build_network
from SemiSegLib.presets import build_settings
from SemiSegLib.runs import RunFolder
from SemiSegLib.training.trainer import PreparedCases, Trainer

_state: dict[str, Any] = {}
_clock = time.perf_counter


def start(data: Path, work: Path, device: str, threads: int, processor_time: bool) -> None:
    """Choose device and precision as a training does; called once in the process."""
    global _clock
    _clock = time.process_time if processor_time else time.perf_counter
    compute = choose_compute(device, "auto", threads)
    _state.update(data=data, work=work, compute=compute, trainers={})


def reason() -> str:
    """Device and precision in words."""
    return str(_state["compute"].reason)


def prepared(count: int, sdm: bool = True) -> tuple[list[Prepared], list[Prepared]]:
    """(labelled, unlabelled) of the first `count` cases, a fifth of them labelled, preprocessed in the work folder."""
    cases = apply_splits(find_cases(_state["data"]), None, None).labelled[:count]
    settings = build_settings("supervised", "left-atrium").data
    labelled = max(1, count // 5)
    cache = _state["work"] / "cache"
    first = [prepare(case, settings, cache, sdm) for case in cases[:labelled]]
    return first, [prepare(replace(case, label=None), settings, cache, False) for case in cases[labelled:]]


def batch(method: str, labelled: int, unlabelled: int) -> tuple[np.ndarray, np.ndarray]:
    """(images, masks) of the first batch of a method's training, for the peer to train on the same voxels."""
    drawn = _trainer(method, labelled, unlabelled)[1]
    return drawn.images.numpy(), drawn.labelled.mask.numpy()


def iteration(method: str, labelled: int, unlabelled: int) -> float:
    """Seconds of one iteration of the product's own loop (`Trainer.step`) on full left-atrium patches."""
    trainer, drawn = _trainer(method, labelled, unlabelled)
    _wait()
    begun = _clock()
    trainer.step(drawn)
    _wait()
    return _clock() - begun


def _trainer(method: str, labelled: int, unlabelled: int) -> tuple[Trainer, Batch]:
    key = (method, labelled, unlabelled)
    if key not in _state["trainers"]:
        overrides = {"training.labelled_batch": labelled, "training.unlabelled_batch": unlabelled}
        settings = build_settings(method, "left-atrium", overrides=overrides)
        run = RunFolder.create(Path(tempfile.mkdtemp(dir=_state["work"])) / "run")
        trainer = Trainer(run, settings, PreparedCases(*prepared(8), []), _state["compute"])
        _state["trainers"][key] = (trainer, trainer.sampler.draw(0))
    return _state["trainers"][key]


def profile(method: str, labelled: int, unlabelled: int) -> list[tuple[str, float]]:
    """(operation, share of the time) of one iteration, the largest first."""
    trainer, drawn = _trainer(method, labelled, unlabelled)
    return _shares(lambda: trainer.step(drawn))


def profile_prediction(index: int) -> list[tuple[str, float]]:
    """The same of the prediction of a scan."""
    predictor, scan = _predictor(None), _scan(index)[0]
    return _shares(lambda: predictor(scan))


def _shares(work: Any) -> list[tuple[str, float]]:
    from torch.profiler import profile as recorded

    work()
    with recorded() as record:
        work()
    averages = record.key_averages()
    own = {a.key: max(a.self_cpu_time_total, a.self_device_time_total) for a in averages if a.key.startswith("aten::")}
    total = sum(own.values())
    return sorted(((name, value / total) for name, value in own.items()), key=lambda pair: -pair[1])[:6]


def weights(model: Path | None) -> dict[str, np.ndarray]:
    """The network's weights without the distance-map head, which the peer's has not."""
    state = _model(model).network().state_dict()
    return {name: value.numpy() for name, value in state.items() if not name.startswith("sdm_head")}


def case_on_grid(index: int) -> np.ndarray:
    """(x, y, z) normalised scan on the networks' grid, what both predict."""
    return to_array(to_network_grid(_scan(index)[0], build_settings("supervised", "left-atrium").data))


def predict(index: int, model: Path | None, inference: InferenceSettings | None = None) -> tuple[float, np.ndarray]:
    """(seconds, mask): everything from the scan in memory to its mask in memory, resampling included."""
    predictor = _predictor(model)
    predictor.settings = inference or replace(build_settings("supervised", "left-atrium").inference)
    predictor.settings.largest_component = False  # the peer has no such step
    scan = _scan(index)[0]
    begun = _clock()
    found = predictor(scan).mask
    return _clock() - begun, to_array(found).astype(np.uint8)


def predict_windows(index: int) -> tuple[float, float]:
    """(seconds of all windows of a scan with the default settings, their voxels as multiples of 112 x 112 x 80)."""
    predictor, image, voxels = _predictor(None), case_on_grid(index), []
    predictor.settings = build_settings("supervised", "left-atrium").inference
    hook = predictor.network.register_forward_pre_hook(lambda _, inputs: voxels.append(inputs[0].numel()))
    begun = _clock()
    predictor.probabilities(image)
    seconds = _clock() - begun
    hook.remove()
    return seconds, sum(voxels) / (112 * 112 * 80)


def score(index: int, mask: np.ndarray) -> float:
    """DSC in percent against the annotation."""
    return 100 * dice(mask == 1, _scan(index)[1] == 1)


def _predictor(model: Path | None) -> Predictor:
    key = f"predictor {model}"
    if key not in _state:
        _state[key] = Predictor(_model(model), _state["compute"])
    return _state[key]


def _model(source: Path | None) -> Model:
    """A trained model, or one with random weights, at the left atrium's full resolution."""
    if source is not None:
        model = load_model(source)
        model.card.settings.data.spacing = (0.625,) * 3
        model.card.settings.training.patch_size = (112, 112, 80)
        return model
    torch.manual_seed(0)
    card = Card(build_settings("supervised", "left-atrium", recipe="published"), sdm=False, iteration=0)
    return Model(card, dict(build_network(3, 2).state_dict()))


def _scan(index: int) -> tuple[Any, np.ndarray]:
    case = apply_splits(find_cases(_state["data"]), None, None).labelled[index]
    assert case.label is not None
    return read_image(case.image), to_array(read_mask(case.label).image)


def operations() -> float:
    """Floating-point operations of one 112 x 112 x 80 forward pass."""
    from torch.utils.flop_counter import FlopCounterMode

    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        build_network(3, 2).eval()(torch.zeros(1, 1, 112, 112, 80))
    return float(counter.get_total_flops())


def matrix_rate() -> float:
    """Operations a second of torch's matrix product in the networks' precision: the best of three sizes."""
    compute, best = _state["compute"], 0.0
    for side in (1024, 2048, 4096):
        left, right = torch.randn(2, side, side, device=compute.device).to(compute.dtype)
        seconds = []
        for _ in range(5):
            begun = _clock()
            left @ right
            _wait()
            seconds.append(_clock() - begun)
        best = max(best, 2 * side**3 / min(seconds))
    return best


def forward_seconds(count: int = 5) -> float:
    """Seconds of a bare forward pass over one window, as the prediction runs it; the best of `count`."""
    from SemiSegLib.inference.folding import for_inference
    from SemiSegLib.inference.windows import run_network

    compute = _state["compute"]
    network = for_inference(_model(None).network(), compute)
    window, seconds = torch.randn(1, 1, 112, 112, 80), []
    with torch.inference_mode():
        for _ in range(count):
            begun = _clock()
            run_network(network, window, compute)
            _wait()
            seconds.append(_clock() - begun)
    return min(seconds)


def waiting(method: str, iterations: int) -> dict[str, float]:
    """Seconds a training waits for patches, over the first iterations with all cases and over drawing a whole epoch.

    The files are read for the first time where the system lets a program drop them from its cache (Linux).
    """
    settings = build_settings(method, "left-atrium")
    labelled, unlabelled = prepared(80)
    _forget_files(itertools.chain(labelled, unlabelled))
    run = RunFolder.create(Path(tempfile.mkdtemp(dir=_state["work"])) / "run")
    trainer = Trainer(run, settings, PreparedCases(labelled, unlabelled, []), _state["compute"])
    waited, computed = [], []
    batches = trainer.sampler.batches(0, iterations)
    for _ in range(iterations):
        begun = _clock()
        drawn = next(batches)
        waited.append(_clock() - begun)
        trainer.step(drawn)
        _wait()
        computed.append(_clock() - begun - waited[-1])
    batches.close()
    _forget_files(itertools.chain(labelled, unlabelled))
    sampler = PatchSampler(labelled, unlabelled, settings.data, settings.training, trainer.method.needs_sdm)
    begun = _clock()
    epoch = len(unlabelled) // settings.training.unlabelled_batch
    for number in range(epoch):
        sampler.draw(number)
    drawing = (_clock() - begun) / epoch
    return {
        "waiting": sum(waited[1:]),
        "computing": sum(computed[1:]),
        "first": waited[0],
        "drawing": drawing,
        "iteration": statistics.median(computed),
    }


def metrics(index: int, repeats: int) -> dict[str, Any]:
    """Seconds of surface distances (ours, medpy) and of a distance map (sdm, scipy), in turn, and how they agree.

    `made`: distance maps computed while batches are drawn.
    """
    from medpy.metric import binary
    from scipy import ndimage

    reference = _scan(index)[1] == 1
    moved = ndimage.binary_dilation(np.roll(reference, (3, 1, 2), (0, 1, 2)), iterations=2)
    spacing = (0.625,) * 3

    def mine() -> list[float]:
        scores = case_metrics(moved.astype(np.uint8), reference.astype(np.uint8), spacing, {"atrium": 1})["atrium"]
        return [scores["hd95_mm"], scores["assd_mm"]]

    def medpys() -> list[float]:
        return [binary.hd95(moved, reference, spacing), binary.assd(moved, reference, spacing)]

    def scipys() -> np.ndarray:
        outside, inside = (ndimage.distance_transform_edt(m, spacing) for m in (~reference, reference))
        return (outside - inside).astype(np.float32)

    functions = {
        "ours": mine,
        "medpy": medpys,
        "sdm": lambda: label_distances(reference.astype(np.uint8), [1], spacing),
        "scipy": scipys,
    }
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(repeats):
        for name, function in functions.items():
            begun = _clock()
            function()
            seconds[name].append(_clock() - begun)
    difference = float(np.abs(np.subtract(mine(), medpys())).max())
    return {**seconds, "difference": difference, "made": _distance_maps_made_by_drawing()}


def _distance_maps_made_by_drawing() -> int:
    from SemiSegLib.data import distance

    settings, calls, original = build_settings("simcvd", "left-atrium"), [], distance.distance_to

    def counted(*arguments: Any) -> np.ndarray:
        calls.append(arguments)
        return original(*arguments)

    labelled, unlabelled = prepared(8)
    distance.distance_to = counted
    sampler = PatchSampler(labelled, unlabelled, settings.data, settings.training, sdm=True)
    for number in range(20):
        sampler.draw(number)
    distance.distance_to = original
    return len(calls)


def _forget_files(cases: Any) -> None:
    """Ask the system to drop its copies of the cases' files (Linux), so that they are read from the disk again."""
    import os

    if not hasattr(os, "posix_fadvise"):
        return
    os.sync()
    for case in cases:
        for file in case.folder.glob("*.np?"):
            with file.open("rb") as opened:
                os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
