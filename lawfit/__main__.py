"""`python -m lawfit` is `lawfit`."""

from __future__ import annotations

from lawfit.cli.main import main

if __name__ == "__main__":
    main()
