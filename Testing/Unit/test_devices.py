"""Devices and precision: said with reasons, and never at the price of wrong gradients."""

import subprocess
import sys

import pytest
import torch

from SemiSegLib.compute.devices import (
    DeviceError,
    choose_compute,
    choose_device,
    compute_to_predict,
    device_memory,
    verified,
)
from SemiSegLib.networks import build_network


@pytest.mark.parametrize("patch", [(32, 32, 32), (48, 48, 32), (32, 16, 16), (64, 64)])
def test_gradients_are_finite_and_those_of_single_precision(patch):
    """Whatever precision is chosen for this machine, V-Net's deepest gradients agree with fp32."""
    compute = verified(choose_compute("cpu"), patch)
    torch.manual_seed(0)
    network = build_network(len(patch), 2).train()
    for module in network.modules():
        if isinstance(module, (torch.nn.Dropout2d, torch.nn.Dropout3d, torch.nn.Dropout)):
            module.p = 0.0
    # Of two images the smallest bottleneck has batch statistics of four values: rounding alone turns gradients then.
    image = torch.randn(8, 1, *patch)
    found = []
    for context in (torch.autocast("cpu", enabled=False), compute.autocast()):
        network.zero_grad()
        with context:
            output = network(image)
        features = output.bottleneck.float()
        (features * torch.randn(features.shape, generator=torch.Generator().manual_seed(1))).sum().backward()
        deepest = [p.grad for p in network.parameters() if p.grad is not None and p.dim() > 2][-1]
        found.append(deepest.clone())
    assert found[1].isfinite().all()
    # Rounding moves them a little after so many layers; wrong ones are NaN or point anywhere.
    assert torch.cosine_similarity(found[0].flatten(), found[1].flatten(), 0) > 0.85


def test_a_cpu_has_no_memory_of_its_own():
    assert device_memory(torch.device("cpu")) == {}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_memory_in_use_on_a_gpu_follows_what_is_allocated():
    device = torch.device("cuda")
    torch.zeros(1, device=device)
    before = device_memory(device)
    block = torch.zeros(256 * 2**20, dtype=torch.uint8, device=device)
    during = device_memory(device)
    assert during["device_memory"] - before["device_memory"] >= block.numel() // 2  # other programs may free some
    assert during["device_memory"] < during["device_memory_total"]
    assert during["device_memory_total"] == torch.cuda.get_device_properties(device).total_memory


def test_the_reason_is_said():
    assert "as asked for" in choose_compute("cpu", "fp32").reason
    device, reason = choose_device("auto")
    assert device.type in ("cuda", "mps", "cpu")
    assert len(reason) > 10


@pytest.mark.parametrize("setting", ["cuda:99", "tpu", "xla"])
def test_devices_that_are_not_there_are_refused(setting):
    with pytest.raises(DeviceError, match=setting):
        choose_device(setting)


def test_fp16_needs_cuda():
    with pytest.raises(DeviceError, match="fp16"):
        choose_compute("cpu", "fp16")


def test_what_was_trained_in_fp16_on_a_gpu_predicts_without_one():
    assert compute_to_predict("cpu", "fp16") == choose_compute("cpu", "auto")
    assert compute_to_predict("cpu", "fp32").dtype == torch.float32
    assert compute_to_predict("cpu", "bf16").dtype == torch.bfloat16


IN_A_NEW_PROCESS = """
import numpy as np, torch
from SemiSegLib.compute.devices import peak_memory
before = peak_memory(torch.device("cpu"))["peak_memory"]
size = before + 64 * 2**20  # more than was ever held at once
block = np.ones(size, np.uint8)
del block
print(before, size, peak_memory(torch.device("cpu"))["peak_memory"])
"""


def test_the_peak_of_memory_stays_after_memory_is_given_back():
    """In a new process: here, where others were tested before, the block would be gigabytes."""
    shown = subprocess.run([sys.executable, "-c", IN_A_NEW_PROCESS], capture_output=True, encoding="utf-8", check=True)
    before, size, peak = map(int, shown.stdout.split())
    assert 0.95 * size < peak < 1.05 * (before + size)
