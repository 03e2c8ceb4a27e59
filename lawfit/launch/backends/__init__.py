"""Ways to run jobs, by name. To add one: a module with such a class, and its line in `BACKENDS`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from lawfit.launch.backends.debug import DebugLauncher
from lawfit.launch.backends.local import LocalLauncher
from lawfit.launch.launcher import Launcher

# Each takes the GPUs of this machine that may be used (none: the CPU) and `workers`, the processes on each.
BACKENDS: Final[Mapping[str, Callable[..., Launcher]]] = MappingProxyType(
    {backend.name: backend for backend in (LocalLauncher, DebugLauncher)}
)
