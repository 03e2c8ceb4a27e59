"""Between the socket and the routes: who may ask, how much, how often the same; each an ASGI middleware of its own."""

from __future__ import annotations
