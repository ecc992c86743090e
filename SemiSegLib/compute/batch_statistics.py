"""Batch normalisation on several processes: with the statistics of the global batch, or with their own averaged."""

from __future__ import annotations

from typing import Any

import torch
from torch import distributed, nn

from SemiSegLib.compute.distributed import HALF, reduced, size


def synchronised(module: nn.Module, device: torch.device) -> nn.Module:
    """`module` with batch statistics of the global batch."""
    if size() == 1:
        return module
    if device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(module)
    for name, child in module.named_children():
        setattr(module, name, synchronised(child, device))
    return GlobalBatchNorm.like(module) if isinstance(module, nn.modules.batchnorm._BatchNorm) else module


def average_statistics(module: nn.Module) -> None:
    """Give all ranks the mean of their running batch statistics, so that they hold the same network."""
    norms = [each for each in module.modules() if isinstance(each, nn.modules.batchnorm._BatchNorm)]
    statistics = [buffer for norm in norms for buffer in (norm.running_mean, norm.running_var) if buffer is not None]
    if size() == 1 or not statistics:
        return
    flat = torch.cat(statistics)
    distributed.all_reduce(flat)
    for buffer, mean in zip(statistics, (flat / size()).split([len(each) for each in statistics]), strict=True):
        buffer.copy_(mean)


class GlobalBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch normalisation with the statistics of all ranks on CPUs: nn.SyncBatchNorm (PyTorch 2.13) needs a GPU."""

    @classmethod
    def like(cls, norm: nn.modules.batchnorm._BatchNorm) -> GlobalBatchNorm:
        """With the same parameters and statistics."""
        result = cls(norm.num_features, norm.eps, norm.momentum)
        result.load_state_dict(norm.state_dict())
        for ours, theirs in zip(result.parameters(), norm.parameters(), strict=True):
            ours.requires_grad_(theirs.requires_grad)
        return result

    def _check_input_dim(self, input: torch.Tensor) -> None:
        pass  # any number of dimensions

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(B, C, *S) to the same shape."""
        if not self.training:
            return super().forward(input)
        axes, shape = [0, *range(2, input.dim())], [1, -1] + [1] * (input.dim() - 2)
        values = input.float() if input.dtype in HALF else input
        count = values.numel() // values.shape[1] * size()
        mean = _SumOfMany.apply(values.sum(axes)) / count
        centred = values - mean.reshape(shape)
        variance = _SumOfMany.apply(centred.square().sum(axes)) / count
        self._remember(mean.detach(), variance.detach() * count / (count - 1))
        scale = self.weight * (variance + self.eps).rsqrt()
        return (centred * scale.reshape(shape) + self.bias.reshape(shape)).to(input.dtype)

    @torch.no_grad()
    def _remember(self, mean: torch.Tensor, variance: torch.Tensor) -> None:
        for kept, new in ((self.running_mean, mean), (self.running_var, variance)):
            if kept is not None and self.momentum is not None:
                kept.lerp_(new, self.momentum)
        if self.num_batches_tracked is not None:
            self.num_batches_tracked += 1


class _SumOfMany(torch.autograd.Function):
    """The sum where each rank goes on with it in its own way: going backward, their gradients add up, too."""

    @staticmethod
    def forward(context: Any, value: torch.Tensor) -> torch.Tensor:
        return reduced(value)

    @staticmethod
    def backward(context: Any, gradient: torch.Tensor) -> torch.Tensor:
        return reduced(gradient)
