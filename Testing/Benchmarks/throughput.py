"""Iterations a second and memory of a training, by precision, eager and compiled; each in a process of its own."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

_WARM_UP = 3


def throughput(command: Mapping[str, Any]) -> dict[str, Any]:
    """Measure in a new process; `command` is what `measure` takes. A failure is the result's `error`."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        try:
            return pool.submit(measure, **command).result()
        except Exception as error:  # not enough memory, no compiler, …: said in the table, the others go on
            return {"error": f"{type(error).__name__}: {error}".splitlines()[0][:200]}


def measure(
    data: Path, splits: str, labelled: int, settings: Mapping[str, Any], compiled: bool, iterations: int
) -> dict[str, Any]:
    """Steps of the product's own loop on one batch, after three to warm up; without drawing patches.

    `settings`: as settings.json has them. Of a method with stages the first is measured.
    """
    import torch

    from SemiSegLib.compute.devices import choose_compute, peak_memory, verified
    from SemiSegLib.config import Settings
    from SemiSegLib.data.layouts import find_cases
    from SemiSegLib.data.splits import apply_splits
    from SemiSegLib.runs import RunFolder
    from SemiSegLib.training.planning import complete
    from SemiSegLib.training.session import prepare_cases
    from SemiSegLib.training.trainer import Trainer

    wanted = Settings.from_dict(dict(settings))
    cases = apply_splits(find_cases(data), splits, labelled)
    complete(wanted, cases)
    wanted.training.iterations = max(wanted.training.iterations, _WARM_UP + iterations)
    assert wanted.training.patch_size is not None
    compute = choose_compute(wanted.training.device, wanted.training.precision, wanted.training.threads)
    compute = verified(compute, wanted.training.patch_size)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        run = RunFolder.create(Path(folder) / "run")
        trainer = Trainer(run, wanted, prepare_cases(run, wanted, cases, lambda: False), compute)
        batch = trainer.sampler.draw(0)
        if compiled:
            for part in trainer.method.children():
                part.compile()
        begun = time.perf_counter()
        for _ in range(_WARM_UP):
            trainer.step(batch)
        _wait(compute.device)
        first, begun = time.perf_counter() - begun, time.perf_counter()
        for _ in range(iterations):
            trainer.step(batch)
        _wait(compute.device)
        seconds = time.perf_counter() - begun
    name = torch.cuda.get_device_name(compute.device) if compute.device.type == "cuda" else str(compute.device)
    return {
        "iterations_per_second": iterations / seconds,
        "seconds_to_warm_up": first,
        "device": name,
        "precision": str(compute.dtype).removeprefix("torch."),
        "torch": torch.__version__,
        **{f"{key}_bytes": value for key, value in peak_memory(compute.device).items()},
    }


def _wait(device: Any) -> None:
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)
