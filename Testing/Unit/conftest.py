"""Small scans and data sets for the tests of the library."""

import importlib.util
import os
import signal
import sys
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from SemiSegLib.config import Label
from SemiSegLib.methods import method_class
from SemiSegLib.methods.base import Plan
from SemiSegLib.models import Card, save_model
from SemiSegLib.networks import build_network
from SemiSegLib.presets import build_settings
from SemiSegLib.schedules import step_at
from SemiSegLib.synthetic import make_dataset

OBLIQUE = (0.96, -0.28, 0.0, 0.28, 0.96, 0.0, 0.0, 0.0, 1.0)


@pytest.fixture(scope="session", autouse=True)
def signals_as_in_a_terminal():
    """Children hear Ctrl-C, however the tests were started: under `nohup … &` they would inherit that it is ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def no_room():
    """A context in which no file can grow beyond a megabyte, as on a disk that is full."""
    resource = pytest.importorskip("resource", reason="this system has no limit for files")

    @contextmanager
    def limited():
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return limited


@pytest.fixture(scope="session")
def benchmark_script():
    """A function that loads a script of Testing/Benchmarks, which is no package, as a module."""

    def load(name):
        file = Path(__file__).resolve().parents[1] / "Benchmarks" / f"{name}.py"
        spec = importlib.util.spec_from_file_location(name, file)
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # dataclasses look their module up
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory):
    """Six synthetic scans of 32 x 32 x 16 voxels: two annotated, three not, one to validate with."""
    return make_dataset(tmp_path_factory.mktemp("tiny") / "data", cases=6, labelled=2, validation=1, size=(32, 32, 16))


@pytest.fixture(scope="session")
def tiny_settings():
    """Settings under which an iteration takes a fraction of a second; every iteration is logged."""

    def make(method="simcvd", recipe="strong", **overrides):
        values = {
            "training.iterations": 6,
            "training.patch_size": (32, 16, 16),
            "training.precision": "fp32",
            "training.device": "cpu",
            "training.log_every": 1,
            "training.threads": 1,
            "training.validation_every": 3,
            "data.spacing": (3.75, 3.75, 5.0),
            "data.labels": [Label(1, "left atrium", (152, 55, 13))],
        }
        return build_settings(method, "custom", overrides={**values, **overrides}, recipe=recipe)

    return make


@pytest.fixture
def held_for_a_moment(monkeypatch):
    """Renaming fails twice, as on Windows while a virus scanner reads the new file."""
    failures, rename = [PermissionError("held"), PermissionError("held")], os.replace

    def replace(source, target):
        if failures:
            raise failures.pop()
        rename(source, target)

    monkeypatch.setattr(os, "replace", replace)


@pytest.fixture
def refused_for_a_moment(monkeypatch):
    """Opening a file fails twice, as on Windows while another process replaces it or a virus scanner has it alone."""
    failures, opened = [PermissionError(13, "refused"), PermissionError(13, "refused")], Path.open

    def open_it(self, *arguments, **options):
        if failures:
            raise failures.pop()
        return opened(self, *arguments, **options)

    monkeypatch.setattr(Path, "open", open_it)
    return failures


@pytest.fixture
def ball():
    """A function that makes a scan and mask of a ball given in world coordinates, on any grid."""

    def make(size, spacing, direction=(1, 0, 0, 0, 1, 0, 0, 0, 1), centre=(3.0, -4.0, 5.0), radius=12.0):
        grid = sitk.Image(list(size), sitk.sitkUInt8)
        grid.SetSpacing(spacing)
        grid.SetDirection(direction)
        middle = np.array(grid.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in size]))
        grid.SetOrigin((np.array(centre) - middle).tolist())
        index = np.stack(np.meshgrid(*map(np.arange, size), indexing="ij"), -1)
        frame = np.array(direction).reshape(3, 3) * np.array(spacing)
        world = index @ frame.T + np.array(grid.GetOrigin())
        inside = np.linalg.norm(world - np.array(centre), axis=-1) <= radius
        noise = np.random.default_rng(0).normal(0, 5, inside.shape)
        scan = sitk.GetImageFromArray((100.0 * inside + noise).astype(np.float32).T)
        mask = sitk.GetImageFromArray(inside.astype(np.uint8).T)
        scan.CopyInformation(grid)
        mask.CopyInformation(grid)
        return scan, mask

    return make


@pytest.fixture(scope="session")
def make_brightness_model():
    """A function that writes a V-Net whose foreground logit is (nearly) the normalised intensity one voxel away along x
    (`offset` -1 or 1) or in place (0), so that the right answer is known.

    Only the finest level passes the image on; every deeper path is cut by zero weights.
    """

    def make(path, offset=0, **overrides):
        network = build_network(3, 2).eval()
        with torch.no_grad():
            for name, parameter in network.named_parameters():
                parameter.fill_(1.0 if name.endswith("1.weight") and parameter.dim() == 1 else 0.0)
            network.encoder[0][0].weight[0, 0, 1 + offset, 1, 1] = 1
            network.decoder[0][0].weight[0, 0, 1, 1, 1] = 1
            network.mask_head.weight[1, 0] = 20
            network.mask_head.bias[1] = -20
        values = {
            "data.labels": [Label(4, "Ball of Light", (10, 200, 30))],
            "data.spacing": "1,1,1",
            "training.patch_size": "32,32,32",
            "training.precision": "fp32",
            "network.normalisation": "batch",
            "network.deep_supervision": False,
        }
        save_model(path, network, Card(build_settings("supervised", overrides=values | overrides), False, 0))
        return path

    return make


@pytest.fixture
def make_batch():
    """A function that makes a batch of patches with one bright block per class, in 2D or 3D."""
    from SemiSegLib.data.batch import Batch, Patches
    from SemiSegLib.data.distance import label_distances, normalise

    def patches(sides, classes, count, random):
        images, masks, maps = [], [], []
        for _ in range(count):
            mask = np.zeros(sides, np.int64)
            width = sides[0] // (classes + 1)
            first = int(random.integers(sides[0] - width * (classes - 1)))
            middle = tuple(slice(side // 4, side - side // 4) for side in sides[1:])
            for index in range(1, classes):
                mask[(slice(first + (index - 1) * width, first + index * width), *middle)] = index
            images.append(1.5 * mask / (classes - 1) + random.normal(0, 0.3, sides))
            masks.append(mask)
            maps.append(normalise(label_distances(mask, range(1, classes), (1.0,) * len(sides)), len(sides)))
        image = torch.tensor(np.stack(images), dtype=torch.float32).unsqueeze(1)
        frame = torch.eye(4)[:3].repeat(count, 1, 1)  # each patch is its whole scan, neither turned nor mirrored
        return Patches(image, torch.tensor(np.stack(masks)), torch.tensor(np.stack(maps)), frame)

    def make(sides=(32, 32), classes=2, labelled=2, unlabelled=2, seed=0, labels=False):
        random = np.random.default_rng(seed)
        annotated = patches(sides, classes, labelled, random)
        rest = patches(sides, classes, max(unlabelled, 1), random)[slice(unlabelled)]
        nothing = torch.empty(unlabelled, 0)
        views = torch.stack([rest.image + 0.1, 0.9 * rest.image], 1)
        return Batch(annotated, Patches(rest.image, rest.mask if labels else nothing, nothing, rest.frame, views))

    return make


@pytest.fixture
def make_method():
    """A function that builds a method by name with fresh weights; named values are its settings.

    Where nothing is named, heads and samples are small: the tests are about what is computed, not how much of it.
    """
    small = {
        "simcvd": {"pool": 32, "hidden": 64},
        "action": {"queries": 32, "negatives": 64, "keys": 32, "bank": 8},
        "ua-mt": {"passes": 2},
        "ad-mt": {"weight": 0.5},  # in so few steps the teachers know nothing yet
    }

    def make(name, sides=(32, 32), classes=2, iterations=8, seed=0, **settings):
        cls = method_class(name)
        values = import_module(cls.__module__).MethodSettings(**(settings or small.get(name, {})))
        torch.manual_seed(seed)
        return cls(values, Plan(len(sides), classes, tuple(sides), iterations)).train()

    return make


@pytest.fixture
def train_steps():
    """A function that trains a method on one batch as the loop does; returns its terms of every iteration."""

    def sgd(method, rate):
        return torch.optim.SGD(method.trained_parameters(), rate, momentum=0.9)

    def train(method, batch, first=0, last=None, rate=0.02, optimiser=None):
        iterations, history = method.plan.iterations, []
        for iteration in range(first, iterations if last is None else last):
            step = step_at(iteration, iterations, method.stages)
            if step.iteration == 0:
                method.enter_stage(step.stage, True)
                optimiser = sgd(method, rate)
            torch.manual_seed(iteration)
            optimiser.zero_grad(set_to_none=True)
            terms = method.losses(batch, step)
            torch.stack([term.weight * term.value for term in terms.values()]).sum().backward()
            optimiser.step()
            method.after_step(step)
            history.append({name: term.value.item() for name, term in terms.items()})
        return history, optimiser

    return train
