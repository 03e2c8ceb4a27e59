"""Recipes, runs, curves, optima, fits and predictions in SQLite or PostgreSQL."""

from __future__ import annotations

from lawfit.storage.store import Store

__all__ = ["Store"]
