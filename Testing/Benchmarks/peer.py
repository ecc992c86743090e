"""The literature's own code in a process of its own, timed: github.com/yulequan/UA-MT, from a checkout beside ours.

Nothing of it is in this repository. The functions below run in a worker process that `start` prepares: its network,
losses and sliding window are imported, its training step, which is inline in a script, is repeated with them
(train_LA_meanteacher_certainty_unlabel.py). On a machine without CUDA its `.cuda()` calls do nothing.
"""

from __future__ import annotations

import contextlib
import io
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

PATCH = (112, 112, 80)
_BLOCKS = ("one", "two", "three", "four", "five")
_UP_BLOCKS = ("eight", "seven", "six", "five")
_DECODER_BLOCKS = ("nine", "eight", "seven", "six")
_state: dict[str, Any] = {}
_clock = time.perf_counter


def start(checkout: Path, device: str, threads: int, processor_time: bool) -> None:
    """Import the peer's code; called once in its process."""
    global _clock
    _clock = time.process_time if processor_time else time.perf_counter
    if threads:
        torch.set_num_threads(threads)
    if device == "cpu":
        for kind in (torch.Tensor, torch.nn.Module):
            kind.cuda = lambda self, *_, **__: self
    sys.path.insert(0, str(checkout / "code"))
    import test_util
    from networks.vnet import VNet
    from utils import losses, ramps

    def network(dropout: bool) -> torch.nn.Module:
        return VNet(n_channels=1, n_classes=2, normalization="batchnorm", has_dropout=dropout).cuda()

    torch.manual_seed(0)
    student, teacher = network(True).train(), network(True).train()
    for parameter in teacher.parameters():
        parameter.detach_()
    optimiser = torch.optim.SGD(student.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
    _state.update(student=student, teacher=teacher, optimiser=optimiser, losses=losses, ramps=ramps, iteration=0)
    _state.update(network=network, window_loop=test_util.test_single_case)


def iteration(images: np.ndarray, masks: np.ndarray) -> float:
    """Seconds of one UA-MT iteration: images (4, 1, *PATCH), masks (2, *PATCH) of the first two."""
    batch, target = torch.from_numpy(images).cuda(), torch.from_numpy(masks).long().cuda()
    _wait()
    begun = _clock()
    student, losses, step = _state["student"], _state["losses"], _state["iteration"]
    labelled, unlabelled = len(target), batch[len(target) :]
    output = student(batch)
    with torch.no_grad():
        taught = _state["teacher"](_noisy(unlabelled))
        uncertainty = _uncertainty(unlabelled)
    entropy = torch.nn.functional.cross_entropy(output[:labelled], target)
    dice = losses.dice_loss(output.softmax(1)[:labelled, 1], target == 1)
    distance = losses.softmax_mse_loss(output[labelled:], taught)
    limit = (0.75 + 0.25 * _state["ramps"].sigmoid_rampup(step, 6000)) * np.log(2)
    certain = (uncertainty < limit).float()
    consistency = (certain * distance).sum() / (2 * certain.sum() + 1e-16)
    loss = 0.5 * (entropy + dice) + 0.1 * _state["ramps"].sigmoid_rampup(step // 150, 40.0) * consistency
    _state["optimiser"].zero_grad()
    loss.backward()
    _state["optimiser"].step()
    decay = min(1 - 1 / (step + 1), 0.99)
    with torch.no_grad():
        for slow, fast in zip(_state["teacher"].parameters(), student.parameters(), strict=True):
            slow.mul_(decay).add_(fast, alpha=1 - decay)
    _state["iteration"] += 1
    loss.item()  # the script logs it at every iteration
    _wait()
    return _clock() - begun


def predict(image: np.ndarray, weights: dict[str, np.ndarray] | None) -> tuple[float, np.ndarray]:
    """(seconds, mask) of its window loop, 18 x 18 x 4 voxels between windows, over one scan on the networks' grid.

    `weights`: a state dict of this project's V-Net.
    """
    network = _state["network"](False).eval()
    if weights is not None:
        network.load_state_dict({_peers_name(name): torch.from_numpy(value) for name, value in weights.items()})
    _wait()
    begun = _clock()
    with contextlib.redirect_stdout(io.StringIO()):
        mask, _ = _state["window_loop"](network, image, 18, 4, PATCH, num_classes=2)
    return _clock() - begun, mask.astype(np.uint8)


def _noisy(images: torch.Tensor) -> torch.Tensor:
    return images + torch.clamp(torch.randn_like(images) * 0.1, -0.2, 0.2)


def _uncertainty(unlabelled: torch.Tensor) -> torch.Tensor:
    """Entropy of the mean of eight passes, two of them at a time."""
    doubled, passes = unlabelled.repeat(2, 1, 1, 1, 1), []
    for _ in range(4):
        passes.append(_state["teacher"](_noisy(doubled)))
    probabilities = torch.cat(passes).softmax(1)
    mean = probabilities.reshape(8, len(unlabelled), *probabilities.shape[1:]).mean(0)
    return -(mean * torch.log(mean + 1e-6)).sum(1, keepdim=True)


def _peers_name(name: str) -> str:
    """What the peer's V-Net calls a weight of ours: encoder.0.1.bias is block_one.conv.1.bias."""
    part, _, rest = name.partition(".")
    if part == "mask_head":
        return f"out_conv.{rest}"
    level, _, layer = rest.partition(".")
    blocks = {
        "encoder": [f"block_{block}" for block in _BLOCKS],
        "down": [f"block_{block}_dw" for block in _BLOCKS],
        "up": [f"block_{block}_up" for block in _UP_BLOCKS],
        "decoder": [f"block_{block}" for block in _DECODER_BLOCKS],
    }
    return f"{blocks[part][int(level)]}.conv.{layer}"


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
