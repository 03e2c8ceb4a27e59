"""What is left to train: runs that are there, packs that were begun, cuts; and launches that are refused."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from lawfit.launch import LaunchError, LaunchOptions, folder, make_plan
from lawfit.launch.devices import choose_gpus, visible_gpus
from lawfit.launch.folder import Task, checkpoint_of, log_of, save, saved, task_of
from lawfit.launch.names import recipe_names
from lawfit.launch.plan import MAX_RUNS, cut, tasks
from lawfit.proxy.pack import Pack, PackError, parse_pack
from lawfit.proxy.trunks import halves
from lawfit.proxy.trunks import plan as rows_of
from tests.launch.conftest import make_pack, nothing_stored, write_corpus

LRS = (0.1, 0.2, 0.3, 0.4)


def pack_of(*lrs: float, **own: Any) -> Pack:
    return dataclasses.replace(make_pack(lrs=lrs or LRS, **own), corpus_hash="made-up")


def begin(task: Task, logs: Path, *, ended: int = 0) -> None:
    """What an interrupted pack leaves: a checkpoint, its pack file, and logs, the first of which may have ended."""
    logs.mkdir(exist_ok=True)
    save(task, logs)
    checkpoint_of(task, logs).touch()
    for number, run_id in enumerate(task.ids):
        events = [{"event": "start", "pack": task.pack.name, "neighbours": len(task.ids) - 1}]
        events += [{"event": "end", "status": "finished", "tokens": 1}] if number < ended else []
        log_of(run_id, logs).write_text("".join(json.dumps(event) + "\n" for event in events))


def runs(made: list[Task]) -> list[tuple[float, ...]]:
    return [tuple(run.lr for run in task.pack.runs) for task in made]


def test_runs_that_are_there_are_left_out(tmp_path: Path) -> None:
    pack = pack_of()
    ids = task_of(pack).ids
    assert runs(tasks([pack], {ids[0], ids[2]}, tmp_path, places=1)) == [(0.2, 0.4)]
    assert tasks([pack], set(ids), tmp_path, places=1) == []


def test_a_run_that_two_packs_name_is_trained_once(tmp_path: Path) -> None:
    made = tasks([pack_of(0.1, 0.2), pack_of(0.2, 0.3, name="other")], set(), tmp_path, places=1)
    assert runs(made) == [(0.1, 0.2), (0.3,)]


def test_packs_are_cut_for_their_size_and_so_that_no_gpu_idles(tmp_path: Path) -> None:
    many = pack_of(*(0.001 * n for n in range(1, MAX_RUNS + 2)))
    assert [len(part.runs) for part in cut(many, MAX_RUNS)] == [24, 25]
    assert runs(tasks([pack_of()], set(), tmp_path, places=3)) == [(0.1,), (0.2,), (0.3, 0.4)]
    assert len(tasks([pack_of(0.1)], set(), tmp_path, places=3)) == 1


def test_where_time_is_short_the_packs_with_least_work_go_first(tmp_path: Path) -> None:
    """Three long runs that stand first in a grid would hold every place until the time is up, and none would end."""
    packs = [pack_of(*lrs, name=str(lrs)) for lrs in ((0.1, 0.2, 0.3), (0.4,), (0.5, 0.6))]
    assert runs(tasks(packs, set(), tmp_path, places=1)) == [(0.1, 0.2, 0.3), (0.4,), (0.5, 0.6)]
    hasty = tasks(packs, set(), tmp_path, places=1, shortest_first=True)
    assert runs(hasty) == [(0.4,), (0.5, 0.6), (0.1, 0.2, 0.3)]
    begin(task_of(packs[0]), tmp_path)
    assert runs(tasks(packs, set(), tmp_path, places=1, shortest_first=True))[0] == (0.1, 0.2, 0.3)  # nearest its end


def test_any_name_of_a_pack_gives_a_file_name(tmp_path: Path) -> None:
    task = task_of(pack_of(name="../0.8M [lr] \n" + "x" * 300))
    save(task, tmp_path)
    assert [path.parent for path in tmp_path.rglob("*.json")] == [tmp_path / ".launch"]
    assert [found.ids for found in saved(tmp_path)] == [task.ids]


def test_a_cut_keeps_branches_with_their_trunk() -> None:
    horizons = [
        {"lr": lr, "steps": steps, "schedule": "wsd", "cooldown_fraction": 0.2} for lr in LRS for steps in (100, 200)
    ]
    pack = dataclasses.replace(pack_of(), runs=tuple(parse_pack(pack_of().to_json() | {"runs": horizons}).runs))
    parts = cut(pack, 2)
    assert [len(part.runs) for part in parts] == [4, 4]
    assert [len(rows_of(part).rows) for part in parts] == [2, 2]


def test_a_pack_that_was_begun_goes_on_as_it_is(tmp_path: Path) -> None:
    pack = pack_of()
    begin(task_of(pack), tmp_path, ended=1)
    ids = task_of(pack).ids
    (task,) = tasks([pack], {ids[0]}, tmp_path, places=4)
    assert (task.ids, task.resumes) == (ids, True)


def test_the_half_that_the_trainer_had_begun_goes_on(tmp_path: Path) -> None:
    """Memory was short: the trainer cut the pack itself, and was interrupted in the second half."""
    pack = pack_of()
    first, second = (task_of(part) for part in halves(pack) or ())
    begin(second, tmp_path)
    folder.pack_file(second, tmp_path).unlink()  # the launcher knows of the whole only
    (task,) = tasks([pack], set(first.ids), tmp_path, places=1)
    assert (task.ids, task.resumes) == (second.ids, True)


def test_pieces_that_were_begun_go_on_and_the_rest_is_new(tmp_path: Path) -> None:
    pack = pack_of()
    piece = task_of(dataclasses.replace(pack, runs=pack.runs[1:3], name="pack.1"))
    begin(piece, tmp_path)
    made = tasks([pack], set(), tmp_path, places=1)
    assert runs(made) == [(0.2, 0.3), (0.1, 0.4)]
    assert [task.resumes for task in made] == [True, False]


@pytest.mark.parametrize("case", ["another pack", "another cut", "runs not asked for", "no checkpoint"])
def test_a_checkpoint_that_does_not_fit_is_not_used(tmp_path: Path, case: str) -> None:
    pack = pack_of()
    begun = task_of(pack)
    begin(begun, tmp_path)
    log = log_of(begun.ids[2], tmp_path)
    if case == "another pack":
        log.write_text('{"event": "start", "pack": "other", "neighbours": 3}\n')
    elif case == "another cut":
        log.write_text('{"event": "start", "pack": "pack", "neighbours": 1}\n')
    elif case == "runs not asked for":
        pack = pack_of(0.1, 0.2)
    else:
        checkpoint_of(begun, tmp_path).unlink()
    assert [task.resumes for task in tasks([pack], set(), tmp_path, places=1)] == [False]


class TestRefused:
    def launch(self, *sources: Any, folder: Path, **options: Any) -> Any:
        made = LaunchOptions(**{"cpu": True, "logs": folder / "runs", **options})
        return make_plan([Path(s) if isinstance(s, str) else s for s in sources], nothing_stored, made)

    def test_a_plan_touches_nothing(self, corpus: Path, tmp_path: Path) -> None:
        before = sorted(tmp_path.rglob("*"))
        plan = self.launch(make_pack(corpus), folder=tmp_path)
        assert [(pack.runs, pack.steps, pack.tokens) for pack in plan.packs] == [(2, 20, 1280)]
        assert sorted(tmp_path.rglob("*")) == before

    def test_no_corpus(self, tmp_path: Path) -> None:
        with pytest.raises(LaunchError, match=r"there is no corpus in nowhere; make one with lawfit corpus build"):
            self.launch(make_pack("nowhere"), folder=tmp_path)
        (tmp_path / "manifest.json").write_text("[]")
        with pytest.raises(LaunchError, match="is not the manifest of a corpus"):
            self.launch(make_pack(tmp_path), folder=tmp_path)

    def test_another_corpus_than_the_pack_names(self, corpus: Path, tmp_path: Path) -> None:
        with pytest.raises(LaunchError, match=r"pack pack is for corpus 1234, and .* holds made-up"):
            self.launch(make_pack(corpus, corpus_hash="1234"), folder=tmp_path)

    def test_two_corpora(self, corpus: Path, tmp_path: Path) -> None:
        packs = (make_pack(corpus), make_pack("other"))
        with pytest.raises(LaunchError, match="the packs name several corpora"):
            self.launch(*packs, folder=tmp_path)
        assert len(self.launch(*packs, folder=tmp_path, corpus=str(corpus)).asked) == 2

    def test_logs_on_another_corpus(self, corpus: Path, tmp_path: Path) -> None:
        logs = tmp_path / "runs"
        logs.mkdir()
        (logs / "a.jsonl").write_text('{"event": "start", "corpus": {"hash": "1234"}}\n')
        with pytest.raises(LaunchError, match=r"holds runs on corpus 1234 .* Name another folder with --logs"):
            self.launch(make_pack(corpus), folder=tmp_path)

    def test_more_different_tokens_than_the_corpus_has(self, corpus: Path, tmp_path: Path) -> None:
        """7,000 tokens are 874 sequences of 8 with a token behind each."""
        most, more = (make_pack(corpus, runs=[{"lr": 1, "steps": 300, "unique_tokens": n}]) for n in (6999, 7000))
        assert len(self.launch(most, folder=tmp_path).asked) == 1
        with pytest.raises(LaunchError, match=r"asks for more different tokens .* holds, 6,992 in sequences of 8"):
            self.launch(more, folder=tmp_path)

    def test_a_vocabulary_that_is_too_small(self, corpus: Path, tmp_path: Path) -> None:
        model = dataclasses.replace(make_pack().model, vocab=60)
        with pytest.raises(LaunchError, match=r"has a vocabulary of 60, and the corpus in .* one of 61"):
            self.launch(dataclasses.replace(make_pack(corpus), model=model), folder=tmp_path)

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("{", "cannot be read as a grid or a pack"),
            ('{"blocks": []}', "a grid is .*|shapes"),
            ("{}", "neither a grid, which has .* nor a pack"),
            ('{"shapes": {"x": {"layers": NaN}}, "blocks": []}', "x.json: nan in shapes.x.layers is no number that"),
            ('{"shapes": {"\\ud800": {}}, "blocks": []}', "x.json: half a character .* in a name in shapes"),
            ('{"shapes": {}, "block": []}', "unknown field block; did you mean blocks"),
            ('{"shapes": {}}', 'a grid is .* a list of "blocks"'),
            ("[]", "a pack is a JSON object, not list"),
        ],
    )
    def test_files_that_are_neither(self, tmp_path: Path, content: str, message: str) -> None:
        (tmp_path / "x.json").write_text(content)
        with pytest.raises(PackError, match=message):
            self.launch(str(tmp_path / "x.json"), folder=tmp_path)

    def test_files_that_are_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(PackError, match="there is no such file"):
            self.launch(str(tmp_path / "x.json"), folder=tmp_path)
        with pytest.raises(PackError, match="is a folder; name the grid or pack files in it"):
            self.launch(str(tmp_path), folder=tmp_path)

    def test_no_gpu(self, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))  # no nvidia-smi there
        with pytest.raises(LaunchError, match=r"no GPU found .* --cpu trains on the CPU"):
            self.launch(make_pack(corpus), folder=tmp_path, cpu=False)


class TestGpus:
    @pytest.fixture(autouse=True)
    def two_gpus(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A driver that lists two."""
        (tmp_path / "nvidia-smi").write_text("#!/bin/sh\nprintf '0\\n1\\n'\n")
        (tmp_path / "nvidia-smi").chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    @pytest.mark.parametrize(
        ("allowed", "there"),
        [(None, ("0", "1")), ("1", ("1",)), ("", ()), ("GPU-8f,GPU-9a", ("GPU-8f", "GPU-9a")), ("1,-1,0", ("1",))],
    )
    def test_those_that_the_environment_allows(self, allowed: str | None, there: tuple[str, ...]) -> None:
        assert visible_gpus({} if allowed is None else {"CUDA_VISIBLE_DEVICES": allowed}) == there

    def test_all_unless_asked(self) -> None:
        assert choose_gpus(None) == ("0", "1")
        assert choose_gpus(("1",)) == ("1",)
        with pytest.raises(LaunchError, match="there is no GPU 7; this process may use 0, 1"):
            choose_gpus(("0", "7"))

    def test_packs_are_spread_over_them(self, tmp_path: Path) -> None:
        options = LaunchOptions(logs=tmp_path / "runs")
        plan = make_plan([make_pack(write_corpus(tmp_path / "corpus"))], nothing_stored, options)
        assert (plan.places, [len(task.ids) for task in plan.tasks]) == (("0", "1"), [1, 1])


def test_sweeps_are_called_after_their_files_and_what_tells_them_apart() -> None:
    plain, other = pack_of(0.1, 0.2), pack_of(0.3, name="other")
    muon, wsd = pack_of(0.1, optimizer="muon"), dataclasses.replace(plain.runs[0], schedule="wsd")
    mixed = dataclasses.replace(other, runs=(*other.runs, wsd))
    made = recipe_names([("coarse", plain), ("fine", muon), ("fine", mixed), ("fine", plain)], None)
    ids = {name: task_of(pack).ids for name, pack in (("plain", plain), ("muon", muon), ("mixed", mixed))}
    assert [made[run_id] for run_id in ids["plain"]] == ["coarse", "coarse"]  # of the first file that asks for them
    assert [made[run_id] for run_id in ids["muon"]] == ["fine-muon-linear"]
    assert [made[run_id] for run_id in ids["mixed"]] == ["fine-adamw-linear", "fine-adamw-wsd"]
    assert set(recipe_names([("coarse", plain), ("fine", other)], "mine").values()) == {"mine"}
