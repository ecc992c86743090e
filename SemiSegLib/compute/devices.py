"""Which device and which precision are used, and why: said before training starts."""

from __future__ import annotations

import ctypes
import math
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import torch

from SemiSegLib.errors import SemiSegError


class DeviceError(SemiSegError):
    """The device that was asked for is not there."""


@dataclass(frozen=True)
class Compute:
    """A device, the precision networks run in, and the reasons for both in words."""

    device: torch.device
    dtype: torch.dtype
    reason: str

    def autocast(self) -> AbstractContextManager[None]:
        """The context that networks run in."""
        enabled = self.dtype != torch.float32
        return torch.autocast(self.device.type, self.dtype if enabled else None, enabled=enabled)

    def memory_format(self, dimensions: int) -> torch.memory_format:
        """Channels last is what convolutions in half precision want, on CPUs and on GPUs."""
        return torch.channels_last_3d if dimensions == 3 else torch.channels_last


def choose_compute(device_setting: str = "auto", precision: str = "auto", threads: int = 0) -> Compute:
    """Device and precision for the settings; raises DeviceError."""
    if threads:
        torch.set_num_threads(threads)
    device, device_reason = choose_device(device_setting)
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = True
        torch.set_float32_matmul_precision("high")
    elif device.type == "cpu":
        _keep_freed_memory()
    dtype, precision_reason = _choose_precision(device, precision)
    return Compute(device, dtype, f"{device_reason}; {precision_reason}")


def compute_to_predict(device_setting: str, trained_in: str, threads: int = 0) -> Compute:
    """Device for the setting, and the precision that a model was trained in; raises DeviceError.

    What was trained in fp16 on a GPU predicts without one, too.
    """
    if trained_in == "fp16" and choose_device(device_setting)[0].type != "cuda":
        trained_in = "auto"
    return choose_compute(device_setting, trained_in, threads)


def device_memory(device: torch.device) -> dict[str, int]:
    """Bytes in use and in all on a GPU, `device_memory` and `device_memory_total`; empty for the CPU.

    On CUDA those of the whole card, other programs counted in: what is left decides whether the next batch fits. On
    MPS, where memory is shared with the system, this process's and what the system recommends at most.
    """
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        return {"device_memory": total - free, "device_memory_total": total}
    if device.type == "mps":
        used, most = torch.mps.driver_allocated_memory(), torch.mps.recommended_max_memory()
        return {"device_memory": used, "device_memory_total": most}
    return {}


def peak_memory(device: torch.device) -> dict[str, int]:
    """Most bytes that this process has held so far: `peak_memory` in main memory, `peak_device_memory` on CUDA.

    On CUDA it is what tensors took (`max_memory_allocated`), without PyTorch's reserve. An earlier process's memory
    is not counted, as Linux's `ru_maxrss` does for a child of a large parent.
    """
    peak = {"peak_memory": _peak_resident()}
    if device.type == "cuda":
        peak["peak_device_memory"] = torch.cuda.max_memory_allocated(device)
    return peak


def _peak_resident() -> int:
    status = Path("/proc/self/status")
    if status.exists():  # Linux
        line = next(line for line in status.read_text(encoding="utf-8").splitlines() if line.startswith("VmHWM"))
        return 1024 * int(line.split()[1])
    if sys.platform == "win32":
        import psutil

        return psutil.Process().memory_info().peak_wset
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # macOS counts bytes


def verified(compute: Compute, patch_size: Sequence[int]) -> Compute:
    """`compute`, or fp32 on the same device where half precision gives wrong gradients on feature maps so small.

    PyTorch 2.13's bf16 convolutions on CPUs with AVX-512 BF16 return NaN or leftovers of memory as weight gradients
    of 3x3x3 kernels on 2x2x2 maps, the bottleneck of a 32x32x32 patch. So the sizes of this training are tried.
    """
    if compute.device.type != "cpu" or compute.dtype == torch.float32:
        return compute
    for level in (8, 16):
        if not _gradients_agree([max(1, side // level) for side in patch_size], compute.dtype):
            reason = "fp32, since this CPU's bf16 gradients are wrong for patches this small"
            return Compute(compute.device, torch.float32, f"{compute.reason.split('; ')[0]}; {reason}")
    return compute


def _gradients_agree(sides: Sequence[int], dtype: torch.dtype) -> bool:
    """Whether a convolution's gradients on maps with these sides are those of fp32, up to rounding."""
    convolution = torch.nn.functional.conv3d if len(sides) == 3 else torch.nn.functional.conv2d
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(2, 64, *sides, generator=generator)
    kernel = torch.randn(64, 64, *[3] * len(sides), generator=generator)
    upstream = torch.randn(2, 64, *sides, generator=generator)

    def gradients(kind: torch.dtype) -> torch.Tensor:
        leaves = [tensor.to(kind).requires_grad_() for tensor in (image, kernel)]
        output = convolution(leaves[0], leaves[1], padding=1)
        torch.full((4_000_000,), math.nan)  # freed at once: what reads memory it did not write meets NaN
        found = torch.autograd.grad(output, leaves, upstream.to(kind))
        return torch.cat([part.flatten().float() for part in found])

    exact = gradients(torch.float32)
    return bool((gradients(dtype) - exact).norm() < 0.05 * exact.norm())


def _keep_freed_memory() -> None:
    """Tell glibc (Linux) to use freed memory again instead of handing it back to the system.

    Every activation of a volume is tens of megabytes: by default each comes as fresh pages that the kernel clears
    one by one, a quarter of the time of a training iteration. Elsewhere nothing is done.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        trim_threshold, mmap_max = -1, -4  # M_TRIM_THRESHOLD and M_MMAP_MAX of malloc.h
        mallopt(trim_threshold, -1)
        mallopt(mmap_max, 0)


def choose_device(setting: str = "auto") -> tuple[torch.device, str]:
    """(device, why) for auto, cuda, cuda:N, mps or cpu; raises DeviceError saying what is there instead."""
    if setting == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda"), f"{torch.cuda.get_device_name()}: a CUDA GPU was found"
        if torch.backends.mps.is_available():
            return torch.device("mps"), "Apple GPU (MPS): found, and there is no CUDA GPU"
        threads = torch.get_num_threads()
        return torch.device("cpu"), f"CPU, {threads} thread{'s' if threads > 1 else ''}: {_why_no_gpu()}"
    try:
        device = torch.device(setting)
    except RuntimeError as error:
        raise DeviceError(f"There is no device '{setting}': use auto, cuda, cuda:1, mps or cpu.") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise DeviceError(
            f"The device '{setting}' was asked for, but {torch.cuda.device_count()} CUDA GPUs were found "
            f"({_why_no_gpu()}). Use --device auto or cpu."
        )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise DeviceError("The device 'mps' was asked for, but no Apple GPU was found. Use --device auto or cpu.")
    if device.type not in ("cuda", "mps", "cpu"):
        raise DeviceError(f"The device '{setting}' is not supported: use auto, cuda, cuda:1, mps or cpu.")
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else str(device).upper()
    return device, f"{name}: as asked for"


def _why_no_gpu() -> str:
    if torch.version.cuda is None and torch.version.hip is None:
        return "this PyTorch was built without GPU support"
    return "PyTorch supports CUDA, but no usable GPU or driver was found"


def _choose_precision(device: torch.device, setting: str) -> tuple[torch.dtype, str]:
    if setting == "fp32":
        return torch.float32, "fp32 as asked for"
    if setting == "bf16":
        return torch.bfloat16, "bf16 as asked for"
    if setting == "fp16":
        if device.type != "cuda":
            raise DeviceError("Precision fp16 needs a CUDA GPU; use auto, bf16 or fp32.")
        return torch.float16, "fp16 as asked for"
    if device.type == "cuda":
        if torch.cuda.get_device_capability(device) >= (8, 0):
            return torch.bfloat16, "bf16, which this GPU computes natively"
        return torch.float16, "fp16 with loss scaling, since this GPU has no native bf16"
    if device.type == "cpu" and _cpu_has_bf16():
        return torch.bfloat16, "bf16, which this CPU computes natively"
    return torch.float32, "fp32, since this device has no fast half precision"


def _cpu_has_bf16() -> bool:
    """AVX-512 BF16 or AMX; without them bf16 is emulated and slower than fp32."""
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
