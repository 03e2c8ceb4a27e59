"""What a pack is trained on: device, versions, peak speed, memory."""

from __future__ import annotations

import platform
import resource
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType

import torch

from lawfit import __version__
from lawfit.records import Json

# Dense bf16 FLOP/s with fp32 accumulation, from the data sheets, by the name that the driver gives. A device that is
# not here has no MFU: it is never guessed from a similar name (H100 PCIe has three quarters of an H100 SXM).
PEAK_BF16_FLOPS: Mapping[str, float] = MappingProxyType(
    {
        "NVIDIA A100-SXM4-40GB": 312e12,
        "NVIDIA A100-SXM4-80GB": 312e12,
        "NVIDIA A100 80GB PCIe": 312e12,
        "NVIDIA H100 PCIe": 756e12,
        "NVIDIA H100 80GB HBM3": 989e12,
        "NVIDIA H200": 989e12,
    }
)


def device_name(device: torch.device) -> str:
    return str(torch.cuda.get_device_name(device)) if device.type == "cuda" else "cpu"


def peak_flops(device: torch.device, precision: str) -> float | None:
    """FLOP/s that matrix products can reach at best; None where it is not known."""
    return PEAK_BF16_FLOPS.get(device_name(device)) if precision == "bf16" else None


def versions() -> dict[str, Json]:
    """Of everything that may change a loss or a speed."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "lawfit": __version__,
        "lawfit_commit": commit_of(Path(__file__).resolve().parents[2]),
    }


@cache
def commit_of(folder: Path) -> str | None:
    """The commit that the code in `folder` was checked out from; with "-dirty" if it was changed; None for a copy."""
    if not (folder / ".git").exists():  # installed, or below a checkout of something else
        return None
    commit = _git(folder, "rev-parse", "--short=12", "HEAD")
    # no lock: somebody may be committing
    changes = _git(folder, "--no-optional-locks", "status", "--porcelain", "--untracked-files=no", "--", "lawfit")
    return commit and (f"{commit}-dirty" if changes else commit)


def _git(folder: Path, *arguments: str) -> str | None:
    """Output; None where git is not there, or does not like the folder."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def forget_peak_memory(device: torch.device) -> None:
    """Count anew from here; the memory of a process on a CPU has one peak only."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory_bytes(device: torch.device) -> int:
    """The most that this process held: of the GPU's memory, or of the machine's where it trains on a CPU."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_reserved(device))
    unit = 1 if sys.platform == "darwin" else 1024  # getrusage(2) counts in kibibytes elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
