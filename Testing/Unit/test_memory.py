"""Memory that runs out: in validation and prediction as in training, less is computed at a time, then on the CPU."""

import subprocess
import sys

import pytest
import SimpleITK as sitk
import torch
from torch import nn

from SemiSegLib import predict, quality
from SemiSegLib.compute.devices import Compute
from SemiSegLib.compute.memory import out_of_memory
from SemiSegLib.config import InferenceSettings
from SemiSegLib.errors import SemiSegError
from SemiSegLib.inference.windows import predict_probabilities
from SemiSegLib.networks.output import NetworkOutput

CPU = Compute(torch.device("cpu"), torch.float32, "")


class Small(nn.Module):
    """Logits of the voxel alone, on a device whose memory holds so many voxels."""

    def __init__(self, memory):
        super().__init__()
        self.memory = memory
        self.calls = []

    def forward(self, image):
        self.calls.append(image.numel())
        if image.numel() > self.memory:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
        return NetworkOutput(torch.cat([-image, image, 0.5 * image], 1), None, image, [image])


def expected(image):
    return torch.stack([-image, image, 0.5 * image]).softmax(0)


@pytest.mark.parametrize(
    ("settings", "shape", "patch", "memory"),
    [
        (InferenceSettings(), (50, 41, 37), (32, 32, 16), 32 * 32 * 16),
        (InferenceSettings(), (38, 32, 16), (32, 32, 16), 32 * 32 * 16),  # one stretched window becomes two
        (InferenceSettings(stride=(9, 9, 4)), (40, 41, 20), (32, 32, 16), 32 * 32 * 16 * 3),
        (InferenceSettings(window="whole"), (50, 41, 37), (32, 32, 16), 64 * 48 * 48 - 1),
        (InferenceSettings(window="whole", mirror=True), (50, 41, 37), (32, 32, 16), 32 * 32 * 16),
        (InferenceSettings(), (50, 41, 7), (32, 64), 64 * 64),
    ],
    ids=["windows", "stretched", "papers", "whole", "whole, mirrored", "slices"],
)
def test_less_is_computed_at_a_time_until_it_fits(settings, shape, patch, memory, caplog):
    network = Small(memory)
    image = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    found = predict_probabilities(network, image, patch, settings, CPU)
    torch.testing.assert_close(found, expected(image), atol=1e-5, rtol=0)
    assert network.calls[0] > memory >= network.calls[-1]
    assert "memory ran out" in caplog.text


def test_what_fits_nowhere_is_told_with_what_to_do():
    with pytest.raises(SemiSegError, match=r"50 x 41 x 37 voxels.*data\.spacing"):
        predict_probabilities(Small(100), torch.zeros(50, 41, 37), (32, 32, 16), InferenceSettings(), CPU)


def test_other_errors_are_not_taken_for_it():
    class Broken(nn.Module):
        def forward(self, image):
            raise RuntimeError("weights do not fit")

    with pytest.raises(RuntimeError, match="weights do not fit"):
        predict_probabilities(Broken(), torch.zeros(32, 32, 16), (32, 32, 16), InferenceSettings(), CPU)


def test_the_cpu_takes_over_from_a_gpu(monkeypatch, caplog):
    """The GPU is made up: what is to be computed there runs out of memory, as its real calls would."""
    from SemiSegLib.inference import windows

    run = windows.run_network

    def run_network(network, batch, compute):
        if compute.device.type != "cpu":
            raise torch.cuda.OutOfMemoryError("CUDA out of memory.")
        return run(network, batch, compute)

    monkeypatch.setattr(windows, "run_network", run_network)
    image = torch.randn(32, 32, 16, generator=torch.Generator().manual_seed(0))
    gpu = Compute(torch.device("mps"), torch.float32, "")
    found = predict_probabilities(Small(10**9), image, (32, 32, 16), InferenceSettings(window="whole"), gpu)
    torch.testing.assert_close(found, expected(image), atol=1e-5, rtol=0)
    assert "the CPU computes it" in caplog.text


REAL = """
import monai.inferers, resource, torch
from SemiSegLib.compute.devices import Compute
from SemiSegLib.config import InferenceSettings
from SemiSegLib.inference.windows import predict_probabilities
from SemiSegLib.networks import build_network
torch.set_num_threads(1)
network = build_network(3, 2, False).eval()
image = torch.zeros(64, 64, 64)
settings = InferenceSettings(window="whole", window_voxels=10**9)
compute = Compute(torch.device("cpu"), torch.float32, "")
predict_probabilities(network, image[:16, :16, :16], (16, 16, 16), settings, compute)
pages = int(open("/proc/self/statm").read().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 60_000_000, resource.RLIM_INFINITY))
found = predict_probabilities(network, image, (16, 16, 16), settings, compute)
assert found.shape == (2, 64, 64, 64) and torch.isfinite(found).all()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits on memory are kept by Linux")
def test_memory_that_really_runs_out():
    """64 x 64 x 64 voxels at once take V-Net some 180 MB, more than the process may have."""
    result = subprocess.run([sys.executable, "-c", REAL], capture_output=True, encoding="utf-8", check=False)
    assert result.returncode == 0, result.stderr
    assert "memory ran out on cpu" in result.stderr


def test_how_devices_say_it():
    assert out_of_memory(torch.cuda.OutOfMemoryError("CUDA out of memory."))
    assert out_of_memory(RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"))
    assert out_of_memory(MemoryError())
    assert out_of_memory(RuntimeError("itk::ERROR: Failed to allocate memory for image."))
    assert not out_of_memory(RuntimeError("shapes do not fit"))
    assert not out_of_memory(OSError("out of memory"))


@pytest.fixture
def one_too_large(ball, tmp_path, monkeypatch):
    """Two scans, of which the first needs more memory than there is."""
    from SemiSegLib.inference import predictor, quality

    folder, real = tmp_path / "scans", predictor.to_network_grid
    folder.mkdir()
    for name, side in (("a", 40), ("b", 32)):
        sitk.WriteImage(ball((side, side, side), (1, 1, 1), radius=9)[0], folder / f"{name}.nii.gz")

    def to_network_grid(scan, settings):
        if scan.GetSize()[0] == 40:
            raise MemoryError("Unable to allocate 64. GiB for an array")
        return real(scan, settings)

    for module in (predictor, quality):
        monkeypatch.setattr(module, "to_network_grid", to_network_grid)
    return folder


@pytest.mark.parametrize("command", [predict.main, quality.main], ids=["predict", "quality"])
def test_a_scan_that_is_too_large_is_named_and_the_others_are_done(
    command, one_too_large, make_brightness_model, tmp_path, capsys
):
    model, out = make_brightness_model(tmp_path / "model.safetensors"), tmp_path / "out.json"
    options = ["--model", str(model), "--input", str(one_too_large), "--output", str(out), "--device", "cpu"]
    assert command(options) == 3
    said = capsys.readouterr()
    assert f"{one_too_large / 'a.nii.gz'}: memory does not suffice for this scan" in said.err
    assert "2/2 " in said.out
