"""Folder trees as the command meets them: ten thousand files, names of any kind, loops, what nobody may read."""

from __future__ import annotations

import json
import os
import pwd
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lawfit.cli.main import run as command
from lawfit.storage import Store
from tests.faults import children
from tests.faults.material import held, logs, table

ODD = (
    *("with space", "new\nline", "-dash", "--database", "🦊", os.fsdecode(b"\xff\xfe"), "a'b\"c", "%2e$HOME;*?[x]"),
    *("x" * 240, "[bold]red", "Bücher", " .. ..", "tab\there"),
)


def whole_tree(folder: Path, count: int) -> None:
    """Tables of one run each, that are one recipe, and as many logs of steps, a hundred in a folder."""
    for number in range(count // 2):
        table(folder / "tables" / f"{number // 100}" / f"t{number}.csv", 1, first=number + 1, note="")
        lines = ({"step": step, "loss": 3 + number / count + 1 / step} for step in (1, 2))
        log = folder / "logs" / f"{number // 100}" / f"l{number}.jsonl"
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    url, out = str(folder / "lawfit.db"), folder / "out"
    assert children.ended(children.ingest("sqlite://", [folder / "nothing"], out)) == 1  # everything is imported
    began, peaks = time.perf_counter(), []
    settings = ("--set", "params=1e8", "--set", "batch_tokens=8192", "--set", "lr=1e-3", "--yes")
    for inner, words in (("tables", ("--recipe", "tables")), ("logs", settings)):
        code = children.ended(children.ingest(url, [folder / inner], out, words=words), 300)
        said = out.read_text()
        assert code == 0, said[-2000:]
        peaks.append(int(re.findall(r"peak memory (\d+) MiB", said)[-1]))
    seconds = time.perf_counter() - began
    with Store.open(url) as store:
        runs = [summary.runs for summary in store.recipes()]
    print(f"\n{count:,} files: {sum(runs):,} runs in {seconds:.1f} s, peak memory {max(peaks)} MiB")
    assert runs == [count // 2, count // 2]
    assert max(peaks) < 700
    assert seconds < 0.05 * count + 30  # on a machine that is busy


def test_a_few_hundred_tiny_files(tmp_path: Path) -> None:
    whole_tree(tmp_path, 300)


@pytest.mark.soak
def test_ten_thousand_tiny_files(tmp_path: Path) -> None:
    whole_tree(tmp_path, 10_000)


@pytest.mark.parametrize("as_json", [False, True], ids=["text", "json"])
def test_odd_names(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes], as_json: bool) -> None:
    tree = tmp_path / "tree"
    for number, name in enumerate(ODD):
        table(tree / name / f"{name[:200]}.csv", 3, first=1 + 3 * number, note="")
        made = logs(tree / name / "logs", 1, steps=5)
        (made.path / "log0.jsonl").rename(made.path / f"{name[:200]}.jsonl")
    url = str(tmp_path / "lawfit.db")
    assert command(["ingest", str(tree), "--database", url, *["--json"] * as_json]) in (0, 3)
    said = capfdbinary.readouterr()
    said.err.decode()
    assert not as_json or len(json.loads(said.out.decode())["files"]) == len(ODD) + 1
    assert b"unexpected" not in said.out + said.err
    with Store.open(url) as store:
        keys = [run.run_key for summary in store.recipes() for run in store.runs(summary.recipe.key)]
    assert len({key for key in keys if re.fullmatch(r"r\d+", key)}) == 3 * len(ODD)
    assert len(keys) == 4 * len(ODD)


@pytest.mark.parametrize("name", ODD, ids=ascii)
def test_an_odd_name_alone(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is typed, in the folder that has it; a name that begins with a dash stands behind two of them."""
    part = table(tmp_path / f"{name}.csv", 3, note="")
    monkeypatch.chdir(tmp_path)
    assert command(["ingest", "--database", "lawfit.db", "--", part.path.name]) == 0
    assert held("lawfit.db", [part]).lost == 0


def test_what_nobody_may_read_is_named_once(tmp_path: Path, read_by_another: Path) -> None:
    """By a user whose rights bind, as root's do not."""
    tree, user = read_by_another, pwd.getpwnam("nobody").pw_uid
    good = [table(tree / f"t{n}.csv", 2, first=1 + 2 * n, note="") for n in range(3)]
    for number in range(2):
        table(tree / f"closed{number}.csv", 2, note="").path.chmod(0)
    table(tree / "secret" / "t.csv", 2, note="")
    (tree / "secret").chmod(0)
    (tree / "loop").symlink_to(tree)
    (tree / "gone.jsonl").symlink_to(tree / "nowhere")
    url, out = str(tree / "lawfit.db"), tmp_path / "out"
    assert children.ended(children.ingest(url, [tree], out, user=user, words=("--json",))) == 3
    said = out.read_text()
    document = json.loads(said[: said.rindex("}") + 1])
    assert document["failed"] == []
    rejected = [(item["file"], item["reason"]) for each in document["files"] for item in each["rejections"]]
    assert rejected == [
        ("closed0.csv", "cannot be read: Permission denied"),
        ("closed1.csv", "cannot be read: Permission denied"),
        ("secret", "this folder cannot be read, and what is in it is missing: Permission denied"),
    ]
    notes = [note for each in document["files"] for note in each["notes"] if "gone.jsonl" in note]
    assert notes == ["1 link passed over, with nothing at the other end: gone.jsonl"]
    assert (held(url, good).lost, held(url, good).doubled) == (0, 0)


@pytest.fixture
def read_by_another() -> Iterator[Path]:
    """A folder of nobody's, which pytest's own is not open to."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user: permissions are not tried")
    folder = Path(tempfile.mkdtemp(prefix="lawfit-"))
    shutil.chown(folder, "nobody")
    yield folder
    shutil.rmtree(folder)
