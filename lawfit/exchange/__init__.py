"""Files of our own: runs, targets and curves as plain tables that any tool reads and that read back bit for bit."""

from __future__ import annotations

from lawfit.exchange.reading import is_own, read_own
from lawfit.exchange.writing import write_file

__all__ = ["is_own", "read_own", "write_file"]
