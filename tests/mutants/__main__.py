"""Faults put into the code one at a time: which of them do the tests notice?

    python -m tests.mutants [--sample N] [--seed S] [--only FOLDER ...] [--touched FILE] [--patience SECONDS] [--skip K]
    python -m tests.mutants --again LOG    # what survived in a campaign that was printed to LOG, with the tests of now

Draws N faults at random (the same for the same seed and code), puts each into a copy of the tree, and runs the tests of
its folder there: first those of the module, then the golden net, those that name it, the rest, until one fails. What no
test notices is listed; docs/mutants.md explains those that are to stay. A fault that makes a test hang counts as
noticed. With `--patience` none of these four is begun after so many seconds.

With `--touched`, made for long campaigns, every test file of these folders is traced once (the FILE keeps what was seen
for the next time), and a fault is shown to those that run its line, the quickest first, and to those that name its
module, which may run it in a process of their own; with `--patience`, beside the module's own tests and the net, to as
many of these as take so long together without a fault. What is left out by impatience counts as not noticing.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate
from pathlib import Path
from queue import SimpleQueue
from typing import Final

from tests.mutants.faults import Fault, faults_of
from tests.mutants.touched import Touched

ROOT: Final = Path(__file__).parents[2]
ROOMS: Final = ("laws", "estimate", "advise", "ingest", "storage", "launch", "train", "proxy", "corpus")
TESTS: Final = {"proxy": ("train", "launch"), "corpus": ("train",)}  # where a room has no folder of its own
KERNELS: Final = ("lawfit/train/kernels.py", "lawfit/train/attention_kernels.py")  # what only a GPU runs
LIMIT_S: Final = 900.0  # of one run of tests: far above what the slowest folder takes


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--sample", type=int, default=12)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--workers", type=int, default=1)
    options.add_argument("--only", nargs="*", default=[f"lawfit/{room}" for room in ROOMS] + ["api"], metavar="FOLDER")
    options.add_argument("--touched", type=Path, metavar="FILE", help="trace tests once, and show faults to few")
    options.add_argument("--patience", type=float, default=float("inf"), metavar="SECONDS", help="of tests per fault")
    options.add_argument("--least", type=float, default=0.0, metavar="SHARE", help="noticed, or the campaign fails")
    options.add_argument("--again", type=Path, metavar="LOG", help="only what survived in what a campaign printed")
    options.add_argument("--skip", type=int, default=0, help="so many of the faults, judged before")
    options.add_argument("--list", action="store_true", help="show what would be put in, and run nothing")
    asked = options.parse_args()
    skipped = out_of_reach()
    drawn = draw(asked.only, asked.sample, asked.seed, tuple(skipped))[asked.skip :]
    if asked.again is not None:
        drawn = survived(asked.again.read_text(encoding="utf-8"))
    print("".join(f"not drawn, as {why}: {path}\n" for path, why in skipped.items()), end="")
    if asked.list:
        print("\n".join(map(str, drawn)))
        return 0
    trees: SimpleQueue[Path] = SimpleQueue()
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(asked.workers) as pool:
        for k in range(asked.workers):
            trees.put(copy_tree(Path(folder) / str(k)))
        touched = None if asked.touched is None else trace(asked.touched, drawn, Path(folder) / "0", asked.workers)

        def judge(fault: Fault) -> str:
            tree = trees.get()
            try:
                return noticed(fault, tree, touched, asked.patience)
            finally:
                trees.put(tree)

        by = []
        for fault, found in zip(drawn, pool.map(judge, drawn), strict=True):
            by.append(found)
            print(f"{'noticed by ' + found if found else 'SURVIVED'}: {fault}", flush=True)
    rooms = Counter(fault.path.rpartition("/")[0] for fault in drawn)
    seen = Counter(fault.path.rpartition("/")[0] for fault, found in zip(drawn, by, strict=True) if found)
    print("; ".join(f"{room} {seen[room]} of {count}" for room, count in sorted(rooms.items())))
    share = sum(map(bool, by)) / max(len(by), 1)
    print(f"faults noticed: {sum(map(bool, by))} of {len(by)} ({share:.0%}), seed {asked.seed}")
    return 0 if share >= asked.least else 1


def out_of_reach() -> dict[str, str]:
    """Beginnings of paths whose tests are skipped on this machine, and why."""
    try:
        import torch
    except ImportError:
        return {"lawfit/train/": "torch is not installed (LAWFIT_TEST_TRAIN=1 make mutants)"}
    return {} if torch.cuda.is_available() else dict.fromkeys(KERNELS, "there is no GPU")


def draw(folders: list[str], sample: int, seed: int, skipped: tuple[str, ...] = ()) -> list[Fault]:
    """Every fault of these folders is equally likely, but for paths that begin with one of `skipped`."""
    paths = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    found = [
        fault
        for path in paths
        if not (name := path.relative_to(ROOT).as_posix()).startswith(skipped)
        for fault in faults_of(name, path.read_bytes())
    ]
    return random.Random(seed).sample(found, min(sample, len(found)))


def survived(printed: str) -> list[Fault]:
    """The faults that a campaign let pass, as far as the code still has their place."""
    lines = [line.removeprefix("SURVIVED: ") for line in printed.splitlines() if line.startswith("SURVIVED: ")]
    paths = [path for path in dict.fromkeys(line.partition(":")[0] for line in lines) if (ROOT / path).is_file()]
    known = {str(fault): fault for path in paths for fault in faults_of(path, (ROOT / path).read_bytes())}
    return [known[line] for line in lines if line in known]


def copy_tree(to: Path) -> Path:
    """The files that git knows, and those it would take up."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in listed.stdout.decode().split("\0"):
        if name and (ROOT / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, to / name)
    for name in ("api", "data", "migrations"):  # as they are called when installed: else the checkout's own are tested
        (to / f"lawfit_{name}").symlink_to(name)
    return to


def trace(file: Path, drawn: list[Fault], tree: Path, workers: int) -> Touched:
    """What the tests of these faults' folders run."""
    touched = Touched.kept(file)
    tests = sorted({test for fault in drawn for test in tests_of(fault.path, tree)})
    touched.see(tests, tree, environment(tree), workers, file)
    return touched


def noticed(fault: Fault, tree: Path, touched: Touched | None, patience_s: float) -> str:
    """The first test that fails with the fault, or what else tells it; empty where nothing does."""
    path = tree / fault.path
    whole = path.read_bytes()
    path.write_bytes(fault.put_into(whole))
    try:
        start = time.monotonic()
        for tests in stages(fault.path, tree) if touched is None else reached(fault, tree, touched, patience_s):
            if touched is None and time.monotonic() - start > patience_s:
                break
            if found := first_failure(tests, tree):
                return found
        return ""
    finally:
        path.write_bytes(whole)


def tests_of(path: str, tree: Path) -> list[str]:
    """Test files of a source's folder."""
    room = path.split("/")[1]
    folders = ("tests/api", "tests/dashboard") if path.startswith("api/") else TESTS.get(room, (room,))
    folders = tuple(folder if "/" in folder else f"tests/{folder}" for folder in folders)
    return sorted(
        file.relative_to(tree).as_posix() for folder in folders for file in (tree / folder).rglob("test_*.py")
    )


def reached(fault: Fault, tree: Path, touched: Touched, patience_s: float) -> list[list[str]]:
    """Test files of the folder that run the line of a fault, one by one; then those that name its module.

    The module's own first, then the net over all numbers, then the quickest: as many of these as take `patience_s`.
    """
    own, near, rest = ordered(fault.path, tree)
    folder = {*own, *near, *rest}
    found = [test for test in touched.reaching(fault.path, fault.line) if test in folder]
    first = [test for test in found if test in own] + [test for test in found if _is_net(test) and test not in own]
    later = [test for test in found if test not in first]
    later += [test for test in (*own, *near) if test not in (*first, *later)]
    spent = accumulate(touched.seconds.get(test, 0.0) for test in later)
    shown = first + [test for test, seconds in zip(later, spent, strict=True) if seconds <= patience_s]
    return [[test] for test in shown or later[:1]]


def stages(path: str, tree: Path) -> list[list[str]]:
    """The module's own tests, the net over all numbers, those that name it, the others; what there is of them."""
    own, near, rest = ordered(path, tree)
    net = [test for test in (*near, *rest) if _is_net(test)]
    parts = (own, net, [test for test in near if test not in net], [test for test in rest if test not in net])
    return [stage for stage in parts if stage]


def _is_net(test: str) -> bool:
    return Path(test).name in ("test_golden_fits.py", "test_golden_answers.py")


def ordered(path: str, tree: Path) -> tuple[list[str], list[str], list[str]]:
    """Test files of the folder: the module's own, those that name it, the others."""
    source, files = Path(path), tests_of(path, tree)
    alike = [file for file in files if Path(file).stem == f"test_{source.stem}"]
    own = [file for file in alike if Path(file).parent.name == source.parent.name] or alike
    near = [file for file in files if file not in own and source.stem in (tree / file).read_text(encoding="utf-8")]
    rest = [file for file in files if file not in own and file not in near]
    return own, near, rest


def environment(tree: Path) -> dict[str, str]:
    """Of the tests: this tree's code, and no database of whoever asks."""
    shared = os.environ.get("LAWFIT_SHARED_DATA", str(ROOT.parent / "shared" / "data"))
    return {
        **os.environ,
        "PYTHONPATH": str(tree),
        "OMP_NUM_THREADS": "1",
        "LAWFIT_SHARED_DATA": shared,
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def first_failure(tests: list[str], tree: Path) -> str:
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "--tb=no", "-p", "no:cacheprovider", *tests]
    start = time.monotonic()
    try:
        done = subprocess.run(command, cwd=tree, env=environment(tree), capture_output=True, text=True, timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        return f"a test that hangs ({time.monotonic() - start:.0f} s)"
    if done.returncode in (0, 5):  # passed, or nothing to run
        return ""
    failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return failed[0].split(" - ")[0].split(" ", 1)[-1] if failed else f"pytest's exit code {done.returncode}"


if __name__ == "__main__":
    sys.exit(main())
