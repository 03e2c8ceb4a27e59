"""How much energy GPUs of this machine have taken, asked of the driver's own library."""

from __future__ import annotations

import ctypes
from typing import Any, Final

_LIBRARY: Final = "libnvidia-ml.so.1"
JOULES_PER_KWH: Final = 3.6e6


class EnergyMeter:
    """Reads the counters of the GPUs that places name; None wherever something is missing."""

    def __init__(self, library: str = _LIBRARY) -> None:
        self._nvml: Any = None
        try:
            nvml = ctypes.CDLL(library)
            self._nvml = nvml if nvml.nvmlInit_v2() == 0 else None
        except (OSError, AttributeError):
            return

    def joules(self, place: str) -> float | None:
        """Of the GPU at ``gpu 0`` (or ``gpu GPU-<uuid>``), since its driver was loaded."""
        kind, _, name = place.partition(" ")
        if self._nvml is None or kind != "gpu" or not name:
            return None
        handle, millijoules = ctypes.c_void_p(), ctypes.c_ulonglong()
        if name.isdigit():
            failed = self._nvml.nvmlDeviceGetHandleByIndex_v2(ctypes.c_uint(int(name)), ctypes.byref(handle))
        else:
            failed = self._nvml.nvmlDeviceGetHandleByUUID(name.encode(), ctypes.byref(handle))
        if failed or self._nvml.nvmlDeviceGetTotalEnergyConsumption(handle, ctypes.byref(millijoules)):
            return None
        return millijoules.value / 1000
