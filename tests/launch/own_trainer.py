"""A trainer of a user's own that needs no torch: it writes the log of a made-up run, or goes wrong as it is told.

In a journal it writes down each start and end, so that what was trained twice, or never, can be counted.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SOURCE = """
import json, os, sys, time
said = dict(zip(sys.argv[1::2], sys.argv[2::2]))
lr, steps, out, how = float(said["--lr"]), int(said["--steps"]), said["--out"], said.get("--how", "csv")
journal = os.open(said["--journal"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
me = os.path.basename(out)
def note(what):
    os.write(journal, f"{what} {me} {os.getpid()}\\n".encode())
note("start")
if how == "fails":
    sys.exit("no such option: --how")
time.sleep(float(said.get("--sleep", 0)))
losses = [2 + 3 / (step + 1) + lr for step in range(steps)]
if lr > 1:
    losses[-1] = float("nan")
if how == "grows":  # half of it, and the rest when somebody has seen that
    text = "step,loss\\n" + "".join(f"{i},{loss}\\n" for i, loss in enumerate(losses, 1))
    with open(os.path.join(out, "log.csv"), "w") as log:
        log.writelines(text.splitlines(True)[: 1 + steps // 2])
if how == "copies":  # what a tracker wrote, half of it first
    name, half, whole = (open(said["--journal"] + part, "rb").read() for part in (".name", ".half", ".whole"))
    path = os.path.join(out, name.decode())
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as log:
        log.write(half)
if how in ("grows", "copies"):
    until = time.monotonic() + 20
    while not os.path.exists(said["--journal"] + ".seen") and time.monotonic() < until:
        time.sleep(0.02)
if how == "copies":
    with open(path, "wb") as log:
        log.write(whole)
if how == "csv":
    text = "step,loss\\n" + "".join(f"{i},{loss}\\n" for i, loss in enumerate(losses, 1))
elif how == "json":
    rows = [{"step": i, "loss": loss, "val_loss": loss + 1} for i, loss in enumerate(losses, 1)]
    text = "".join(json.dumps(row) + "\\n" for row in rows)
elif how == "no loss":
    text = "step,speed\\n1,2\\n2,3\\n"
elif how == "short":
    text = "step,loss\\n1,3.0\\n2,2.9\\n"
elif how == "garbage":
    text = "step,loss\\n1,3.0\\n###\\n" + "".join(f"{i},2.5\\n" for i in range(2, steps + 1))
    text = "\\x00\\x01\\x02" * 50 if lr < 0.002 else text
if how == "prints":
    for i, loss in enumerate(losses):
        print(f"iter {i}: loss {loss:.4f}, time 10.00ms, mfu 1.00%")
elif how not in ("silent", "copies"):
    with open(os.path.join(out, "log.jsonl" if how == "json" else "log.csv"), "w") as log:
        log.write(text)
sys.stdout.flush()
note("end")
os._exit(0)  # at once: what is written down and what an exit code says are one
"""


@dataclass(frozen=True)
class OwnTrainer:
    """The script and its journal, in a folder."""

    folder: Path

    @classmethod
    def written(cls, folder: Path) -> OwnTrainer:
        (folder / "train.py").write_text(SOURCE)
        return cls(folder)

    def template(self, *, how: str = "csv", sleep: float = 0.0) -> str:
        words = [sys.executable, "-IS", str(self.folder / "train.py"), "--journal", str(self.folder / "journal")]
        words += ["--how", how, "--sleep", str(sleep)]
        return f"{shlex.join(words)} --lr {{lr}} --batch {{batch_sequences}} --steps {{steps}} --out {{folder}}"

    def grid(self, **block: Any) -> Path:
        """A file of a grid, by default of two batches and three rates, of which one diverges."""
        content = {
            "base": {"seq_len": 8},
            "shapes": {"tiny": {"layers": 1, "width": 8, "heads": 1, "hidden": 8}},
            "blocks": [
                {"shape": "tiny", "tokens": [640], "batch_tokens": [16, 32], "lr": [0.001, 0.01, 10.0], **block}
            ],
        }
        path = self.folder / "grid.json"
        path.write_text(json.dumps(content))
        return path

    def counts(self, what: str) -> Counter[str]:
        """How often each run started, or ended."""
        try:
            lines = (self.folder / "journal").read_text().splitlines()
        except FileNotFoundError:
            return Counter()
        return Counter(line.split()[1] for line in lines if line.startswith(what))

    def running(self) -> list[int]:
        """Process ids of what has started and not ended."""
        lines = [line.split() for line in (self.folder / "journal").read_text().splitlines()]
        over = {words[2] for words in lines if words[0] == "end"}
        return [int(words[2]) for words in lines if words[2] not in over and Path(f"/proc/{words[2]}").exists()]
