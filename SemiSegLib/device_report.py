"""Say as one line of JSON which device would be used, and why: `python -m SemiSegLib.device_report --device auto`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

from SemiSegLib.commands import program, run_command


def report(setting: str = "auto") -> dict[str, Any]:
    """device, name, reason, torch_version, memory (bytes; None unless CUDA); raises DeviceError."""
    import torch

    from SemiSegLib.compute.devices import choose_device

    device, reason = choose_device(setting)
    cuda = device.type == "cuda"
    return {
        "device": str(device),
        "name": torch.cuda.get_device_name(device) if cuda else device.type.upper(),
        "reason": reason,
        "torch_version": torch.__version__,
        "memory": torch.cuda.get_device_properties(device).total_memory if cuda else None,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; 2 when the device that was asked for is not there."""
    parser = argparse.ArgumentParser(
        prog=program("devices"), description="Say as one line of JSON which device would be used, and why."
    )
    parser.add_argument(
        "--device", default="auto", metavar="auto|cuda|mps|cpu", help="the one asked for (default: auto)"
    )
    options = parser.parse_args(arguments)
    return run_command(lambda: print(json.dumps(report(options.device))))


if __name__ == "__main__":
    sys.exit(main())
