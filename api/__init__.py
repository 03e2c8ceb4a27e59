"""The HTTP edge of lawfit: `create_app` in `app.py`. Installed as `lawfit_api`."""

from __future__ import annotations
