"""The training loop: one function to read from top to bottom; it knows no method by name."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from SemiSegLib.compute import distributed
from SemiSegLib.compute.batch_statistics import average_statistics, synchronised
from SemiSegLib.compute.devices import Compute, device_memory, peak_memory
from SemiSegLib.compute.memory import give_back, out_of_memory
from SemiSegLib.config import Settings, TrainingSettings
from SemiSegLib.data.batch import Batch
from SemiSegLib.data.cases import listed
from SemiSegLib.data.patches import PatchSampler
from SemiSegLib.data.preprocess import Prepared
from SemiSegLib.errors import TrainingError
from SemiSegLib.inference.folding import for_inference
from SemiSegLib.methods import method_class
from SemiSegLib.methods.base import Method, Plan
from SemiSegLib.models import Card, load_model, save_model
from SemiSegLib.networks.ema import make_teacher, update_average
from SemiSegLib.networks.parts import compute_in
from SemiSegLib.runs import RunFolder
from SemiSegLib.schedules import Step, learning_rate, step_at
from SemiSegLib.training.checkpoints import load_checkpoint, save_checkpoint
from SemiSegLib.training.initial import differences, load_initial, take_weights
from SemiSegLib.training.labelling import label_cases, never_found
from SemiSegLib.training.log import Log
from SemiSegLib.training.validation import mean_of_existing, validation_dice


@dataclass
class PreparedCases:
    """Preprocessed cases of a run and what is known of their files."""

    labelled: list[Prepared]
    unlabelled: list[Prepared]
    validation: list[Prepared]
    fingerprint: dict[str, Any] = field(default_factory=dict)


class Trainer:
    """A method in training: its optimiser, its place in the schedule, its log."""

    def __init__(self, run: RunFolder, settings: Settings, cases: PreparedCases, compute: Compute) -> None:
        self.run, self.settings, self.cases, self.compute = run, settings, cases, compute
        training = settings.training
        torch.manual_seed(training.seed)
        self.method = build_method(settings)
        _check_parts(settings, self.method)
        if training.sync_batchnorm:
            synchronised(self.method, compute.device)
        self.method.to(compute.device)
        self.method.to(memory_format=compute.memory_format(settings.data.dimensions))  # type: ignore[call-overload]
        self.average = make_teacher(self.method.student) if training.ema_decay > 0 else None
        self.predicting()  # a network that is not there is said now, not after hours
        self.losses: nn.Module = _Losses(self.method)
        self.optimiser = _optimiser(self.method, training)
        self.scaler = torch.amp.GradScaler(compute.device.type, enabled=compute.dtype == torch.float16)
        unlabelled = cases.unlabelled if self.method.needs_unlabelled else []
        self.sampler = PatchSampler(
            cases.labelled,
            unlabelled,
            settings.data,
            training,
            self.method.needs_sdm,
            settings.augmentation,
            self.method.unlabelled_views,
            compute.device,
        )
        self.sampler.counts_at = self._patches_at
        self.iteration = 0
        self._compute_in(max(1, training.accumulation))
        self.best = -math.inf
        self.scores: dict[str, Any] = {}
        self.inherited: list[str] = []  # hashes of the scans whose masks the model learnt from that training began with
        self.log = Log(run, training, compute.device)

    def run_to_end(self, stop: Callable[[], bool]) -> str:
        """The loop: to the last iteration or until `stop` says so; returns "finished" or "stopped"."""
        training = self.settings.training
        validate_every = training.validation_every or max(1, training.iterations // 10)
        saved = time.monotonic()
        self.status("training")
        for batch in self.sampler.batches(self.iteration, training.iterations):
            self.step(batch)
            done = self.iteration == training.iterations
            if self.cases.validation and (self.iteration % validate_every == 0 or done):
                self.validate()
            stopped, due = distributed.any_rank(stop(), time.monotonic() - saved > 60 * training.checkpoint_minutes)
            stopped = stopped and not done
            if done or stopped or due:
                self.save()
                saved = time.monotonic()
            if stopped:
                self.status("stopped", "stopped as asked; the checkpoint is written")
                return "stopped"
        return "finished"

    def step(self, batch: Batch) -> None:
        """One optimiser step; split into more parts when memory does not suffice."""
        training = self.settings.training
        step = step_at(self.iteration, training.iterations, self.method.stages)
        if step.iteration == 0:
            self._enter_stage(step.stage, first=True)
            if step.stage in self.method.labelling:
                batch = self.sampler.draw(self.iteration)  # with the labels just made
        rate = learning_rate(step, training, self.method.constant_rate)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        before = [buffer.clone() for buffer in self.method.buffers()]  # banks and batch statistics
        while True:
            try:
                terms = self._forward_backward(batch, step)
                break
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
                self._use_less_memory(batch, error)
                for buffer, value in zip(self.method.buffers(), before, strict=True):
                    buffer.copy_(value)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        average_statistics(self.method)
        self.method.after_step(step)
        if self.average is not None:
            update_average(self.average, self.method.student, training.ema_decay, self.iteration)
        self.iteration += 1
        if self.log.add(self.iteration, terms, rate):
            self.status("training")

    def _enter_stage(self, stage: str, first: bool) -> None:
        """Let the method prepare for a stage; each has its own optimiser, as in a training of its own."""
        if first:  # new weights, if a stage begins with some, are the same after a resume
            distributed.seed(self.settings.training.seed * 1_000_003 + self.iteration)
        if first and len(self.method.stages) > 1:
            self.run.event("stage", stage=stage, iteration=self.iteration)
        if first and (stage in self.method.fresh or stage in self.method.labelling):
            with distributed.agreement():  # which all processes wait for, and then load it
                self._save_model(self._network_before(stage))
        if stage in self.method.labelling:
            self._label(stage)
        self.method.enter_stage(stage, first)
        if first and stage in self.method.fresh and self.average is not None:
            self.average.load_state_dict(self.method.student.state_dict())
        idle = self.method.idle_parameters or (self.method.needs_unlabelled and self.sampler.counts[1] == 0)
        self.losses = distributed.parallel(_Losses(self.method), idle)
        self.optimiser = _optimiser(self.method, self.settings.training)

    def _network_before(self, stage: str) -> Path:
        """Where the network stays that the training had when this stage began."""
        return self.run.labels / "networks" / f"{stage.replace(' ', '-')}.safetensors"

    def _label(self, stage: str) -> None:
        """Let the network that predicts, with those kept for it, label the unlabelled scans, or take the labels made
        before an interruption."""
        self.status("labelling")
        earlier = (load_model(self._network_before(fresh)).network() for fresh in self.method.fresh)
        networks = [self.predicting(), *(network.to(self.compute.device) for network in earlier)]
        folder = self.run.labels / stage.replace(" ", "-")
        unlabelled = self.sampler.all_unlabelled
        kept = label_cases(networks, unlabelled, folder, self.method.labelling[stage], self.settings, self.compute)
        missing = never_found(folder, self.sampler.usual_classes()) if unlabelled else []
        self.sampler.use_labels(folder, [] if missing else kept)
        if missing:
            names = listed(self.settings.data.labels[index - 1].name for index in missing)
            text = (
                f"The network finds {names} in none of {len(unlabelled)} unlabelled scans. Its labels would teach that "
                "there is no such thing, so the round trains with the annotated scans alone: train longer."
            )
        else:
            text = f"labelled {len(unlabelled)} scans, {len(kept)} of them stable enough to train with"
        self.run.event("message", level="warning" if missing else "info", text=text)
        self.status("training")
        self.log.since = time.monotonic()

    def _patches_at(self, iteration: int) -> tuple[int, int]:
        stage = step_at(iteration, self.settings.training.iterations, self.method.stages).stage
        training = self.settings.training
        labelled, unlabelled = self.method.patches(stage, training.labelled_batch, training.unlabelled_batch)
        if self.sampler.cases[1]:
            return labelled, unlabelled
        # Where there is nothing unlabelled, or no label came of it, annotated patches take those places.
        return (labelled + unlabelled if self.method.needs_unlabelled else labelled), 0

    def uses_unlabelled(self) -> bool:
        """Whether the batches of some stage have unlabelled patches (where there are unlabelled scans)."""
        training = self.settings.training
        counts = (training.labelled_batch, training.unlabelled_batch)
        return any(self.method.patches(stage, *counts)[1] for stage in self.method.stages)

    def predictors(self) -> dict[str, nn.Module]:
        """Networks that can predict, by name: the method's and the average of the student's weights."""
        networks = self.method.predictors()
        return networks if self.average is None else {**networks, "average": self.average}

    def predicting(self) -> nn.Module:
        """The one that the settings choose, in eval() mode; raises TrainingError if the method has no such network."""
        name, networks = self.settings.inference.network, self.predictors()
        if name not in networks:
            raise TrainingError(
                f"The setting 'inference.network' is {name}; the method {self.settings.method} has "
                f"{' and '.join(networks)}."
            )
        return networks[name].eval()

    def _forward_backward(self, batch: Batch, step: Step) -> dict[str, torch.Tensor]:
        # Each iteration seeds itself: dropout and noise after a resume are those of an uninterrupted run.
        distributed.seed(self.settings.training.seed * 1_000_003 + self.iteration)
        self.method.train()
        self.optimiser.zero_grad(set_to_none=True)
        with self.compute.autocast():
            total, values = self.losses(batch.to(self.compute.device), step)
        self.scaler.scale(distributed.share_of_loss(total)).backward()
        return {**values, "total": total.detach()}

    def _compute_in(self, parts: int) -> None:
        """From now on networks go through a batch in so many parts."""
        self.parts = parts
        compute_in(self.method, parts)

    def _use_less_memory(self, batch: Batch, error: Exception) -> None:
        if distributed.size() > 1:
            raise TrainingError(
                f"The memory of process {distributed.rank()} does not suffice, and the processes cannot change their "
                f"course now: set training.accumulation to {2 * self.parts} or more, or use more processes."
            ) from error
        most = most_parts(self.method, len(batch.labelled), len(batch.unlabelled))
        if self.parts >= most:
            raise TrainingError(
                "The device's memory does not suffice even for one patch at a time: choose a smaller "
                f"training.patch_size than {self.settings.training.patch_size}, a coarser data.spacing or --device cpu."
            ) from error
        self._compute_in(min(most, self.parts * 2))
        self.optimiser.zero_grad(set_to_none=True)
        give_back(self.compute.device)
        self.run.event(
            "message", level="warning", text=f"memory ran out: batches are now computed in {self.parts} parts"
        )

    def validate(self) -> None:
        """Score the network that will predict on the validation cases, on the networks' grid; keep the best."""
        self.log.flush(self.iteration)
        self.status("validating")
        network = for_inference(self.predicting(), self.compute)
        cases = self.cases.validation
        mine = cases[distributed.rank() :: distributed.size()]
        found = [(case.name, validation_dice(network, case, self.settings, self.compute)) for case in mine]
        known = dict(score for part in distributed.from_all(found) for score in part)
        scores = {case.name: known[case.name] for case in cases}
        per_class = {
            label.name: mean_of_existing([score[index] for score in scores.values()])
            for index, label in enumerate(self.settings.data.labels)
        }
        mean = mean_of_existing(list(per_class.values()))
        self.scores = {"dsc": mean, "dsc_per_class": per_class, "iteration": self.iteration}
        self.run.event("validation", iteration=self.iteration, dsc=mean, per_class=per_class, cases=scores)
        if mean > self.best:  # never where there is no score
            self.best = mean
            self._save_model(self.run.best_model)
        self.status("training")
        self.log.since = time.monotonic()

    def save(self) -> None:
        """Write checkpoint and model, each whole; raises TrainingError instead of saving a broken network."""
        self.log.flush(self.iteration)
        if not all(bool(value.isfinite().all()) for value in self.method.state_dict().values()):
            raise TrainingError(
                f"The network's weights are no longer numbers after iteration {self.iteration}: lower "
                "training.learning_rate, or choose training.precision=fp32. The last checkpoint is still good."
            )
        content = {
            "method": self.method.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "scaler": self.scaler.state_dict(),
            "iteration": self.iteration,
            "parts": self.parts,
            "best": self.best,
            "scores": self.scores,
            "inherited": self.inherited,
            "computed": self._computed(),
        }
        # The checkpoint comes last: a run that ends before it makes this model once more, never the other way round.
        self._save_model(self.run.last_model)
        if distributed.rank() == 0:
            save_checkpoint(self.run.checkpoint, content)
        self.run.event("checkpoint", iteration=self.iteration, **peak_memory(self.compute.device))

    def load(self) -> None:
        """Go on from the run's checkpoint, which may be of another device and precision; an event says what changed."""
        content = load_checkpoint(self.run.checkpoint)
        self.method.load_state_dict(content["method"])
        if self.average is not None:
            self.average.load_state_dict(content["average"])
        self.iteration, self.best = content["iteration"], content["best"]
        self._compute_in(content["parts"])
        self.scores, self.inherited = content.get("scores", {}), content.get("inherited", [])
        # The stage of the last iteration done: a stage that begins now is entered by its first step.
        last = step_at(self.iteration - 1, self.settings.training.iterations, self.method.stages)
        self._enter_stage(last.stage, first=False)
        self.optimiser.load_state_dict(content["optimiser"])
        if content["scaler"] and self.scaler.is_enabled():  # else fp16 finds its scale anew, others need none
            self.scaler.load_state_dict(content["scaler"])
        self.run.event("resumed", iteration=self.iteration)
        before, now = content.get("computed", {}), self._computed()
        changes = [f"{key} {now[key]} instead of {before[key]}" for key in now if before.get(key, now[key]) != now[key]]
        if changes:
            text = f"Going on with {', '.join(changes)}: the numbers may differ in their last digits from now on."
            self.run.event("message", level="info", text=text)

    def start_from(self, source: Path) -> None:
        """Take the weights of a trained model, and say what does not fit; raises ModelError if that is too much."""
        model = load_initial(source, self.settings)
        self.inherited = list(model.card.data.get("annotated", []))
        notes = take_weights({**self.predictors(), **self.method.further_networks()}, model)
        self.run.event("message", level="info", text="; ".join([f"Starting from {source}", *notes]))
        if found := differences(model.card, self.settings):
            text = f"The model that training starts from was made for other data: {'; '.join(found)}"
            self.run.event("message", level="warning", text=text)

    def status(self, state: str, message: str = "") -> None:
        """Refresh status.json."""
        self.run.set_status(
            state,
            message=message,
            iteration=self.iteration,
            iterations=self.settings.training.iterations,
            eta_seconds=self.log.eta(self.iteration),
            seconds_per_iteration=self.log.speed,
            best_dsc=self.best if self.best > -math.inf else None,
            **device_memory(self.compute.device),
        )

    def _computed(self) -> dict[str, str]:
        """On what, in which precision and by how many processes."""
        return {
            "device": self.compute.device.type,
            "precision": str(self.compute.dtype).removeprefix("torch."),
            "processes": str(distributed.size()),
        }

    def _save_model(self, path: Path) -> None:
        if distributed.rank() != 0:
            return
        name = self.settings.inference.network
        network = self.predicting()
        annotated = dict.fromkeys([*self.inherited, *self.cases.fingerprint.get("annotated", [])])
        known = {**self.cases.fingerprint, "annotated": list(annotated)}
        card = Card(self.settings, self.method.needs_sdm, self.iteration, name, self.scores, known)
        save_model(path, network, card)


def build_method(settings: Settings, patch: tuple[int, ...] | None = None) -> Method:
    """The method that the settings name, with fresh networks on the CPU, for patches of other sides than the settings'
    where given; raises SettingsError."""
    import importlib

    cls = method_class(settings.method)
    module = importlib.import_module(cls.__module__)
    patch = patch or settings.training.patch_size
    assert patch is not None
    plan = Plan(
        settings.data.dimensions, len(settings.data.labels) + 1, patch, settings.training.iterations, settings.network
    )
    return cls(module.MethodSettings(**settings.method_settings), plan)


class _Losses(nn.Module):
    """A method's losses as a forward pass, which is what DistributedDataParallel knows how to wrap."""

    def __init__(self, method: Method) -> None:
        super().__init__()
        self.method = method

    def forward(self, batch: Batch, step: Step) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """(total, the value of each term)."""
        terms = self.method.losses(batch, step)
        total = torch.stack([term.weight * term.value for term in terms.values()]).sum()
        return total, {name: term.value.detach() for name, term in terms.items()}


def most_parts(method: Method, labelled: int, unlabelled: int) -> int:
    """Patches that a network may go through at once: more parts than these there cannot be."""
    return labelled + unlabelled * max(1, len(method.unlabelled_views))


def _check_parts(settings: Settings, method: Method) -> None:
    """Raise where this many processes cannot share the batch; each must have enough for its batch statistics."""
    training, ranks = settings.training, distributed.size()
    given = training.labelled_batch, training.unlabelled_batch if method.needs_unlabelled else 0
    distributed.check_batch(*given)
    batches = (method.patches(stage, training.labelled_batch, training.unlabelled_batch) for stage in method.stages)
    patches = max(most_parts(method, *counts) for counts in batches) // ranks
    if training.accumulation > patches:
        raise TrainingError(
            f"The setting 'training.accumulation' is {training.accumulation}, but a batch of the method "
            f"{settings.method} has {patches} patches{' on each process' if ranks > 1 else ''}, views included: it "
            "cannot be computed in more parts than that."
        )
    assert training.patch_size is not None
    bottleneck = math.prod(side // 16 for side in training.patch_size)
    if ranks > 1 and not training.sync_batchnorm and bottleneck * training.labelled_batch // ranks < 2:
        raise TrainingError(
            f"A part of one patch of {training.patch_size} voxels is too small for batch statistics of its own: set "
            "training.sync_batchnorm=true, or choose a larger training.labelled_batch."
        )


def _optimiser(method: Method, training: TrainingSettings) -> torch.optim.Optimizer:
    parameters = list(method.trained_parameters())
    if training.optimiser == "adamw":
        return torch.optim.AdamW(parameters, training.learning_rate, weight_decay=training.weight_decay)
    return torch.optim.SGD(
        parameters,
        training.learning_rate,
        momentum=training.momentum,
        weight_decay=training.weight_decay,
        nesterov=training.nesterov,
    )
