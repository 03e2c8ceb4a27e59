"""Logs and tables of finished runs -> sweeps. To add a log format: one module, and one line in `formats.FORMATS`."""

from __future__ import annotations

from lawfit.ingest.formats import FORMATS, read_table
from lawfit.ingest.options import IngestOptions
from lawfit.ingest.read import Ingested, interpret, read_file
from lawfit.ingest.table import LogFormat, Table

__all__ = ["FORMATS", "IngestOptions", "Ingested", "LogFormat", "Table", "interpret", "read_file", "read_table"]
