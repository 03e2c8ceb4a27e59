"""Ways to run jobs, by name. To add one: a module with such a class, and its line in `BACKENDS`."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from lawfit.launch.backends.debug import DebugLauncher
from lawfit.launch.backends.local import LocalLauncher
from lawfit.launch.backends.ray import RayLauncher
from lawfit.launch.backends.slurm import SlurmLauncher
from lawfit.launch.launcher import Launcher

BACKENDS: Final[Mapping[str, type[Launcher]]] = MappingProxyType(
    {backend.name: backend for backend in (LocalLauncher, DebugLauncher, SlurmLauncher, RayLauncher)}
)
