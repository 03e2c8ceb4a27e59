"""Small corpora, and what stands beside them."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

SMALL: dict[str, Any] = {"vocab": 300, "validation_share": 0.2, "workers": 1}
WHOLE = ["manifest.json", "rejected.jsonl", "tokenizer.json", "train.bin", "validation.bin"]


def write_sources(folder: Path, order: int = 0) -> None:
    """Forty small modules and one copy, written in a chosen order."""
    texts = {
        f"m{i}.py": f'"""Module {i}."""\n\n\ndef f{i}(x: int) -> int:\n    return x + {i * 7}\n' * 5 for i in range(40)
    }
    texts |= {"copy.py": texts["m3.py"], "empty.py": "\n", "notes.txt": "no Python"}
    names = sorted(texts)
    random.Random(order).shuffle(names)
    (folder / "inner").mkdir(parents=True)
    for i, name in enumerate(names):
        (folder / ("inner" if i % 2 else ".") / name).write_text(texts[name])


def left_beside(corpus: Path) -> list[str]:
    return sorted(path.name for path in corpus.parent.iterdir() if path.name.startswith(corpus.name))


def left_by_a_killed_build(folder: Path) -> None:
    (folder / "making").mkdir(parents=True)
    (folder / "making" / "lock").touch()
    (folder / "making" / "train.bin").write_bytes(b"half")
