"""nnU-Net v2's own code at work: plan, preprocess, train, predict. Started by nnunet.py with nnU-Net's Python.

python nnunet_worker.py TASK.json, where nnunet.py wrote the task and set nnU-Net's three folders in the environment.
Nothing of nnU-Net is in this repository, and nothing of this project is imported here. What is trained is nnU-Net's
own: its patches, augmentation, losses, optimiser, deep supervision and window loop. The trainer below only says how
long: so many iterations, or so many minutes of them, with nnU-Net's schedule stretched to that length.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

DATASET = 1
CONFIGURATION = "3d_fullres"
_BLOCKS = 100  # a training is logged and may be interrupted this many times
_SAVE_SECONDS = 120.0
_clock = time.perf_counter


def main(task_file: Path) -> None:
    """Do what the task says; what is done already is skipped."""
    task = json.loads(task_file.read_text(encoding="utf-8"))
    if Path(task["report"]).exists():
        return
    global _clock
    _clock = time.process_time if task["processor_time"] else time.perf_counter
    torch.set_num_threads(task["threads"])
    plans = prepare(task)
    # Augmentation in processes of its own, but for one in the training's own where there is a single thread.
    os.environ["nnUNet_n_proc_DA"] = str(task["threads"] - 1)  # noqa: SIM112 - nnU-Net's name for it
    torch.manual_seed(task["seed"])
    np.random.seed(task["seed"])  # noqa: NPY002 - what nnU-Net's augmentation draws from
    trainer = trained(task, plans)
    report = {**trainer.summary(), "plan": plan_summary(plans), "environment": environment()}
    report["prediction_seconds"] = predict(task, trainer)
    Path(task["report"]).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def prepare(task: dict[str, Any]) -> dict[str, Any]:
    """nnU-Net's plans for the exported scans, which it then preprocesses."""
    from nnunetv2.experiment_planning import plan_and_preprocess_api as api

    folder = Path(task["preprocessed"])
    plans_file, done = folder / "nnUNetPlans.json", folder / "prepared"
    if not done.exists():
        api.extract_fingerprint_dataset(DATASET, num_processes=1, verbose=False, show_progress_bar=False)
        api.plan_experiment_dataset(DATASET, planner(task["plan"]))
        api.preprocess_dataset(DATASET, configurations=(CONFIGURATION,), num_processes=[1])
        done.touch()
    return {**json.loads(plans_file.read_text(encoding="utf-8")), "continue_training": False}


def planner(wanted: dict[str, Any] | None) -> type:
    """nnU-Net's planner, or the same for given {"spacing", "patch", "batch"}, z, y, x."""
    from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner

    if wanted is None:
        return ExperimentPlanner

    class GivenPatch(ExperimentPlanner):
        """Everything that nnU-Net derives from a patch (levels, strides, kernels, channels) stays its own."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **{**kwargs, "overwrite_target_spacing": wanted["spacing"]})
            self.lowres_creation_threshold = 0.0

        def get_plans_for_configuration(self, spacing: Any, median_shape: Any, *args: Any) -> dict[str, Any]:
            if len(spacing) == 2:
                return super().get_plans_for_configuration(spacing, median_shape, *args)
            plan = super().get_plans_for_configuration(spacing, np.array(wanted["patch"]), *args)
            found = [int(side) for side in plan["patch_size"]]
            if found != wanted["patch"]:
                raise SystemExit(f"nnU-Net makes patches of {found} of the wanted {wanted['patch']}: choose others")
            return {**plan, "median_image_size_in_voxels": median_shape, "batch_size": wanted["batch"]}

    return GivenPatch


def trained(task: dict[str, Any], plans: dict[str, Any]) -> Any:
    """The trainer at the end of its training, resumed from its checkpoint if there is one."""
    dataset = json.loads((Path(task["training_scans"]) / "dataset.json").read_text(encoding="utf-8"))
    trainer = trainer_class(task)(plans, CONFIGURATION, "all", dataset, torch.device(task["device"]))
    folder = Path(trainer.output_folder)
    for name in ("checkpoint_final.pth", "checkpoint_latest.pth"):
        if (folder / name).exists():
            trainer.load_checkpoint(str(folder / name))
            trainer.load_clock()
            break
    trainer.run_to_end()
    return trainer


def trainer_class(task: dict[str, Any]) -> type:
    """nnU-Net's trainer for a length of its own: `iterations`, or `minutes` of training iterations."""
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    class Timed(nnUNetTrainer):
        """An epoch is a hundredth of the training; validation, logs and checkpoints do not count as training time."""

        def __init__(
            self, plans: dict[str, Any], configuration: str, fold: str, dataset_json: dict[str, Any], device: Any
        ) -> None:
            super().__init__(plans, configuration, fold, dataset_json, device)
            self.num_epochs = 10**9  # never reached: `progress` ends the training
            self.done, self.seconds, self.speeds, self.saved = 0, 0.0, [], time.monotonic()
            self.clock_file = Path(self.output_folder) / "clock.json"
            self._best_ema = float("inf")  # no best checkpoint: the last one is measured
            self.logger.plot_progress_png = lambda _: None

        def progress(self) -> float:
            """Share of the training that is done."""
            if task["iterations"]:
                return self.done / task["iterations"]
            return self.seconds / (60 * task["minutes"])

        def block(self) -> int:
            """Iterations up to the next look at the schedule."""
            if task["iterations"]:
                return min(max(1, task["iterations"] // _BLOCKS), task["iterations"] - self.done)
            speed = self.seconds / self.done if self.done else float("inf")
            return max(1, int(60 * task["minutes"] / _BLOCKS / speed))

        def configure_optimizers(self) -> tuple[Any, Any]:
            """nnU-Net's optimiser; its poly schedule over `progress`."""
            optimiser, _ = super().configure_optimizers()
            return optimiser, _Poly(self, optimiser)

        def train_step(self, batch: dict[str, Any]) -> dict[str, Any]:
            """nnU-Net's; in bf16 where that is asked for, which nnU-Net itself does on GPUs only."""
            with half_precision(task):
                return super().train_step(batch)

        def validation_step(self, batch: dict[str, Any]) -> dict[str, Any]:
            """Likewise."""
            with half_precision(task):
                return super().validation_step(batch)

        def run_to_end(self) -> None:
            """The training, block by block."""
            if self.progress() >= 1:
                self.initialize() if not self.was_initialized else None
                return
            self.on_train_start()
            self.saved = time.monotonic()
            while self.progress() < 1:
                self.on_epoch_start()
                self.on_train_epoch_start()
                self.on_train_epoch_end(self._iterations(self.block()))
                with torch.no_grad():
                    self.on_validation_epoch_start()
                    self.on_validation_epoch_end([self.validation_step(next(self.dataloader_val))])
                self.save_every = 1 if time.monotonic() - self.saved > _SAVE_SECONDS else 10**9
                self.on_epoch_end()
            self.on_train_end()

        def _iterations(self, count: int) -> list[dict[str, Any]]:
            outputs = []
            for _ in range(count):
                begun = _clock()
                outputs.append(self.train_step(next(self.dataloader_train)))
                self.speeds.append(_clock() - begun)
                self.seconds += self.speeds[-1]
                self.done += 1
            print(f"iteration {self.done}, {100 * self.progress():.1f} %, {self.seconds:.0f} s of training", flush=True)
            return outputs

        def save_checkpoint(self, filename: str) -> None:
            """The checkpoint, whole, and how far the training is beside it."""
            partial = f"{filename}.part"
            super().save_checkpoint(partial)
            os.replace(partial, filename)
            clock = {"done": self.done, "seconds": self.seconds, "speeds": self.speeds}
            self.clock_file.write_text(json.dumps(clock), encoding="utf-8")
            self.saved = time.monotonic()

        def load_clock(self) -> None:
            """How far the checkpoint is."""
            clock = json.loads(self.clock_file.read_text(encoding="utf-8"))
            self.done, self.seconds, self.speeds = clock["done"], clock["seconds"], clock["speeds"]

        def summary(self) -> dict[str, Any]:
            """What the training took."""
            return {
                "iterations": self.done,
                "training_seconds": self.seconds,
                "median_seconds_per_iteration": float(np.median(self.speeds)),
                "parameters": sum(parameter.numel() for parameter in self.network.parameters()),
                "peak_memory_bytes": peak_memory(),
                "peak_device_memory_bytes": torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None,
            }

    return Timed


class _Poly:
    """nnU-Net's schedule, a power of 0.9 down to zero, over the trainer's `progress`."""

    def __init__(self, trainer: Any, optimiser: Any) -> None:
        self.trainer, self.optimiser = trainer, optimiser

    def step(self, _: int) -> None:
        """Set the rate for the next block."""
        for group in self.optimiser.param_groups:
            group["lr"] = self.trainer.initial_lr * (1 - self.trainer.progress()) ** 0.9


def predict(task: dict[str, Any], trainer: Any) -> dict[str, float]:
    """Seconds of each scan whose mask was not there yet; nnU-Net's windows, half of one overlapping the next."""
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    trainer.set_deep_supervision_enabled(False)
    trainer.network.eval()
    predictor = nnUNetPredictor(use_mirroring=task["mirror"], device=torch.device(task["device"]), allow_tqdm=False)
    predictor.manual_initialization(
        trainer.network,
        trainer.plans_manager,
        trainer.configuration_manager,
        [trainer.network.state_dict()],
        trainer.dataset_json,
        type(trainer).__name__,
        trainer.inference_allowed_mirroring_axes or (0, 1, 2),
    )
    folder, seconds = Path(task["predictions"]), {}
    folder.mkdir(parents=True, exist_ok=True)
    for name, image in task["images"].items():
        if (folder / f"{name}.nii.gz").exists():
            continue
        begun = _clock()
        with half_precision(task):
            predictor.predict_from_files_sequential([[image]], [str(folder / name)])
        seconds[name] = _clock() - begun
        print(f"predicted {name}: {seconds[name]:.1f} s", flush=True)
    return seconds


@contextlib.contextmanager
def half_precision(task: dict[str, Any]) -> Iterator[None]:
    """bf16 on the CPU if the task asks for it."""
    with torch.autocast("cpu", torch.bfloat16, enabled=task["bf16"] and task["device"] == "cpu"):
        yield


def plan_summary(plans: dict[str, Any]) -> dict[str, Any]:
    """What was trained, in nnU-Net's words; axes are z, y, x."""
    found = plans["configurations"][CONFIGURATION]
    architecture = found["architecture"]
    return {
        **{key: found[key] for key in ("spacing", "patch_size", "batch_size", "normalization_schemes")},
        "network": architecture["network_class_name"],
        "features_per_stage": architecture["arch_kwargs"]["features_per_stage"],
    }


def environment() -> dict[str, Any]:
    """Versions and machine, as the results of this project's own trainings have them."""
    from importlib.metadata import version

    return {
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "vector_instructions": torch.backends.cpu.get_cpu_capability(),
        "libraries": {name: version(name) for name in ("nnunetv2", "torch", "numpy", "batchgeneratorsv2")},
    }


def peak_memory() -> int | None:
    """Most bytes that this process has held; None where the system does not tell (Windows)."""
    try:
        import resource
    except ImportError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    main(Path(sys.argv[1]))
