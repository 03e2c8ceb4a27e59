"""Launches over HTTP: templates of the service alone, begun, cancelled, gone on with."""

from __future__ import annotations

import json
import os
import re
import secrets
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast
from unittest import mock

import pytest
import sqlalchemy as sa

from lawfit import client as lawfit_client
from lawfit import pipeline
from lawfit.ask import Misasked
from lawfit.errors import LawfitError
from lawfit.jobs import runner
from lawfit.launch import LaunchError
from lawfit.launch.devices import visible_gpus
from lawfit.launch.served import at_a_time
from lawfit.settings import Settings
from lawfit.storage import Store, jobs
from lawfit.storage import tables as t
from lawfit.storage.processes import this_process
from lawfit.storage.tokens import create_token
from lawfit.storage.training_jobs import list_training_jobs
from lawfit.words import over_http
from lawfit_api.app import create_app
from tests.api.serving import serving
from tests.api.test_app import problem_of
from tests.api.test_jobs import age, state_of
from tests.client import TestClient
from tests.launch.own_trainer import OwnTrainer
from tests.storage.builders import recipe, run
from tests.storage.test_training_jobs import dead_process

PATH = "/v1/training-jobs"
GRID: dict[str, Any] = {
    "base": {"seq_len": 8},
    "shapes": {"tiny": {"layers": 1, "width": 8, "heads": 1, "hidden": 8}},
    "blocks": [{"shape": "tiny", "tokens": [640], "batch_tokens": [16, 32], "lr": [0.001, 0.01]}],
}


def block(**own: Any) -> dict[str, Any]:
    """The grid with other fields in its block."""
    return {**GRID, "blocks": [{**GRID["blocks"][0], **own}]}


def templates(folder: Path, workers: int = 2, **own: Any) -> Path:
    """A file of one template, of a trainer that writes a table of `step,loss` and a journal."""
    said = {"command": OwnTrainer.written(folder).template(**own), "logs": str(folder / "runs"), "workers": workers}
    path = folder / "templates.toml"
    path.write_text("[tiny]\ncpu = true\n" + "".join(f"{name} = {json.dumps(value)}\n" for name, value in said.items()))
    return path


@pytest.fixture
def queueing(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    """A service that trains, and never begins with it."""
    monkeypatch.setattr("lawfit.jobs.runner.claim", lambda *_: None)
    settings = Settings(database_url=database_url, training_templates=str(templates(tmp_path)))
    with TestClient(create_app(settings), raise_server_exceptions=False) as served:
        yield served


def test_no_more_than_so_many_wait(queueing: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "MOST_WAITING", 2)
    answers = [queueing.post(PATH, json={"template": "tiny", "grid": GRID, "recipe": name}) for name in "aba"]
    assert [answer.status_code for answer in answers] == [202, 202, 202]
    refused = queueing.post(PATH, json={"template": "tiny", "grid": GRID, "recipe": "c"})
    assert (refused.status_code, refused.json()["type"].rpartition("/")[2]) == (503, "TooManyJobs")
    assert refused.json()["detail"].startswith("2 jobs of this kind wait already")


def test_a_template_that_has_changed_is_not_trained(database_url: str, tmp_path: Path) -> None:
    before = pipeline.read_training_templates(templates(tmp_path))
    with Store.open(database_url) as store:
        asked = pipeline.require_launchable(store, before, template="tiny", recipe=None, grid=GRID, plan=None).asked
        places = {"tiny": {**before["tiny"], "at_a_time": 3}}  # which is nothing that it trains with
        assert pipeline.launch_asked(store, places, asked, tell=lambda *_: None, stop=lambda: True) is None
        after = {"tiny": {**before["tiny"], "command": before["tiny"]["command"] + " --more"}}
        with pytest.raises(LawfitError, match="'tiny' has changed since this was asked for"):
            pipeline.launch_asked(store, after, asked, tell=lambda *_: None, stop=lambda: False)


def test_clients_hear_of_no_places_on_the_machine(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    gone = {"tiny": {"command": "/nowhere/ghost.sh {lr} {steps}", "cpu": True}}
    with Store.open(str(tmp_path / "lawfit.db")) as store, pytest.raises(Misasked) as caught:
        pipeline.require_launchable(store, gone, template="tiny", recipe=None, grid=GRID, plan=None)
    assert caught.value.problem == "the template cannot be launched here at the moment; the server's log says why"
    assert "/nowhere/ghost.sh" in caplog.text


@pytest.mark.slow
def test_runs_whose_logs_cannot_be_read_are_a_failure_each_time(tmp_path: Path) -> None:
    path = tmp_path / "templates.toml"
    command = f"{sys.executable} -c 'print(1)' {{lr}} {{steps}}"
    path.write_text(
        f"[tiny]\ncpu = true\nlogs = {json.dumps(str(tmp_path / 'logs'))}\ncommand = {json.dumps(command)}\n"
    )
    tables = pipeline.read_training_templates(path)
    with Store.open(str(tmp_path / "lawfit.db")) as store, over_http():
        for _ in range(2):
            asked = pipeline.require_launchable(store, tables, template="tiny", recipe=None, grid=GRID, plan=None).asked
            with pytest.raises(LawfitError, match=r"no run ended: .*no log of a run was found") as caught:
                pipeline.launch_asked(store, tables, asked, tell=lambda *_: None, stop=lambda: False)
            assert "whoever runs the service has to delete the folder" in str(caught.value)
            assert str(tmp_path) not in str(caught.value)


def test_a_job_has_no_way_into_the_database_but_what_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a trainer inherits it may print."""
    monkeypatch.setenv("LAWFIT_DATABASE_URL", "postgresql://user:secret@host/name")
    with mock.patch("lawfit.jobs.runner.subprocess.Popen") as made, mock.patch("lawfit.jobs.runner.threading.Thread"):
        runner._Child(cast("jobs.Job", mock.Mock(kind="launch", asked={})), "sqlite://", {})
    given = made.call_args.kwargs["env"]
    assert given["PATH"] == os.environ["PATH"]
    assert "secret" not in str(given)


def test_it_is_begun_once(queueing: TestClient, database_url: str) -> None:
    asked = {"template": "tiny", "grid": GRID, "recipe": "mine"}
    answer = queueing.post(PATH, json=asked)
    begun = answer.json()
    assert (answer.status_code, answer.headers["location"]) == (202, f"/v1/jobs/{begun['job']['id']}")
    kept = dict(begun["job"]["asked"])
    trains = kept.pop("trains")
    assert (begun["job"]["kind"], kept, begun["job"]["state"]) == ("launch", asked, "queued")
    assert (len(set(begun["runs"])), begun["known"], begun["caveats"]) == (4, [], [])
    again = queueing.post(PATH, json=asked).json()
    assert again["job"]["id"] == begun["job"]["id"]
    with Store.open(database_url) as store:
        assert jobs.claim(store, "here:1") is None  # it is not for those who fit
        lane = jobs.Lane(launches=True, templates=frozenset({"tiny"}))
        assert jobs.claim(store, "here:1", jobs.Lane(launches=True, templates=frozenset({"other"}))) is None
        claimed = jobs.claim(store, "here:1", lane)
        assert claimed is not None
        assert claimed.id == begun["job"]["id"]
        assert queueing.post(PATH, json=asked).json()["job"]["id"] == claimed.id  # it runs: the same, not another
        other = queueing.post(PATH, json={**asked, "recipe": "other"}).json()["job"]["id"]
        assert jobs.claim(store, "here:2", lane) is None  # a machine does one at a time
        there = jobs.claim(store, "there:1", lane)
        assert there is not None
        assert there.id == other
        assert jobs.cancel_job(store, other).state == "cancelling"
        assert queueing.post(PATH, json={**asked, "recipe": "other"}).json()["job"]["id"] != other
    listed = {job["id"]: job["asked"] for job in queueing.get("/v1/jobs").json()["jobs"]}
    assert listed[begun["job"]["id"]] == {"template": "tiny", "trains": trains, "recipe": "mine"}  # a grid may be long
    keyed = [queueing.post(PATH, json=asked, headers={"Idempotency-Key": "k"}) for _ in range(2)]
    assert keyed[0].content == keyed[1].content
    assert keyed[1].headers["idempotent-replayed"] == "true"


def test_of_many_workers_of_a_machine_one_takes_a_launch(store: Store) -> None:
    lane = jobs.Lane(launches=True, templates=frozenset({"tiny"}))
    for number in range(4):
        jobs.create_job(store, jobs.LAUNCH, {"template": "tiny", "grid": number}, who="")
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda number: jobs.claim(store, f"here::{number}", lane), range(8)))
    assert len([job for job in found if job]) == 1
    assert [job.state for job in jobs.list_jobs(store)].count("running") == 1


def test_a_template_has_as_many_places_on_a_machine_as_it_says(store: Store) -> None:
    """Whoever looks: several processes of a service, and a service on the same machine with other templates."""
    cluster, local = runner._lanes({"tiny": None, "other": None, "cluster": 3})
    for template in ("cluster", "tiny", "other", "cluster", "cluster", "cluster", "tiny"):
        jobs.create_job(store, jobs.LAUNCH, {"template": template, "grid": secrets.token_hex(4)}, who="")
    with ThreadPoolExecutor(8) as pool:
        took = list(pool.map(lambda number: jobs.claim(store, f"here::{number}", cluster), range(8)))
        took += list(pool.map(lambda number: jobs.claim(store, f"here::{number}", local), range(8)))
    assert sorted(job.asked["template"] == "cluster" for job in took if job) == [False, True, True, True]
    stranger = jobs.Lane(launches=True, templates=frozenset({"stranger"}), beside=frozenset())
    jobs.create_job(store, jobs.LAUNCH, {"template": "stranger"}, who="")
    assert jobs.claim(store, "here::9", stranger) is None  # it does not know that the others are elsewhere
    there = [jobs.claim(store, f"there::{number}", lane) for number in range(2) for lane in (cluster, local)]
    assert [job.asked["template"] == "cluster" for job in there if job] == [True, False]


@pytest.mark.parametrize(
    ("table", "count"),
    [
        ({}, None),
        ({"backend": "debug"}, None),
        ({"backend": "slurm"}, 4),
        ({"backend": "slurm", "at_a_time": 1}, 1),
        ({"backend": "ray"}, None),  # it may be one on this machine
        ({"backend": "ray", "ray_address": "10.0.0.5:6379"}, 4),
        ({"at_a_time": 2}, 2),
    ],
)
def test_launches_at_a_time(table: dict[str, Any], count: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert at_a_time(table) == count
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.5:6379")
    assert at_a_time(table) == (4 if table == {"backend": "ray"} else count)


@pytest.mark.slow
@pytest.mark.one_database
def test_launches_go_on_beside_each_other(database_url: str, tmp_path: Path) -> None:
    """Two of a template that has two places, one of all others; each is a process, with its trainers."""
    path = templates(tmp_path, workers=4, sleep=4.0)
    text = path.read_text()
    path.write_text(f"{text}at_a_time = 2\n{text.replace('[tiny]', '[other]')}{text.replace('[tiny]', '[third]')}")
    states: list[dict[str, str]] = []
    with TestClient(create_app(Settings(database_url=database_url, training_templates=str(path)))) as served:
        begun = {
            (template, lr): served.post(PATH, json={"template": template, "grid": block(lr=[lr])}).json()["job"]["id"]
            for template, lr in [("tiny", 0.1), ("tiny", 0.2), ("tiny", 0.3), ("other", 0.4), ("third", 0.5)]
        }
        asked = {job_id: name for (name, _), job_id in begun.items()}
        until = time.monotonic() + 120
        while not states or not {"queued", "running"}.isdisjoint(states[-1].values()):
            assert time.monotonic() < until, states[-1]
            states.append({job["id"]: job["state"] for job in served.get("/v1/jobs").json()["jobs"]})
            time.sleep(0.05)
        seen = [Counter(asked[job_id] for job_id, state in each.items() if state == "running") for each in states]
        assert max(found["tiny"] for found in seen) == 2
        assert max(found["other"] + found["third"] for found in seen) == 1
        assert max(found.total() for found in seen) == 3
        assert set(states[-1].values()) == {"done"}
    assert set(OwnTrainer(tmp_path).counts("end").values()) == {1}
    assert len(OwnTrainer(tmp_path).counts("end")) == 10


@pytest.mark.parametrize(("process", "taken"), [("lives", False), ("gone", True), ("unseen", False)])
def test_a_launch_is_begun_anew_where_its_process_is_gone(store: Store, process: str, taken: bool) -> None:
    """A database that was away for long enough to lose a fit loses no launch."""
    lane = jobs.Lane(launches=True, templates=frozenset({"tiny"}))
    jobs.create_job(store, jobs.LAUNCH, {"template": "tiny", "grid": {}}, who="")
    seen = {"lives": this_process(), "gone": dead_process(), "unseen": "another-boot pid:[1] 1 1"}[process]
    claimed = jobs.claim(store, f"here:{seen}:1", lane)
    assert claimed is not None
    for seconds, expected in ((60.0, taken), (1e3, True)):
        with store.writing() as connection:
            old = {"beat_at": time.time() - seconds}
            connection.execute(sa.update(t.jobs).where(t.jobs.c.id == claimed.id).values(old))
        assert jobs.claim(store, "here:fits") is None  # it may be put back by those
        assert (state_of(store, claimed.id) == "queued") is expected
        if expected:
            assert jobs.claim(store, f"here:{this_process()}:2", lane) is not None
            return


def test_one_whose_launcher_died_waits_for_who_has_its_template(queueing: TestClient, database_url: str) -> None:
    asked = {"template": "tiny", "grid": GRID}
    job_id = queueing.post(PATH, json=asked).json()["job"]["id"]
    lane = jobs.Lane(launches=True, templates=frozenset({"tiny"}))
    with Store.open(database_url) as store:
        for number in range(jobs.MOST_ATTEMPTS):
            assert jobs.claim(store, f"here:{number}", lane) is not None
            age(store, job_id)
            assert jobs.claim(store, "here:fits") is None
            said = "failed" if number == jobs.MOST_ATTEMPTS - 1 else "queued"
            assert state_of(store, job_id) == said
        problem = jobs.read_job(store, job_id).problem
    assert problem == (
        "the processes that worked on it ended 3 times without a word; the same request goes on with what it left"
    )
    assert queueing.post(PATH, json=asked).json()["job"]["id"] != job_id


def test_a_plan_is_trained_by_its_id(queueing: TestClient, database_url: str) -> None:
    plan = queueing.post("/v1/plans/next?params=1B&tokens=20B&budget=9runs").json()
    begun = queueing.post(PATH, json={"template": "tiny", "plan": plan["id"]})
    assert begun.status_code == 202, begun.text
    assert len(begun.json()["runs"]) == plan["budget"]["runs"]
    assert begun.json()["job"]["asked"]["grid"] == plan["grid_file"]
    assert "no plan" in problem_of(queueing.post(PATH, json={"template": "tiny", "plan": "nothing"}), 404)["detail"]


NO_GPU = "there is no GPU {}; this process may use" if visible_gpus() else "no GPU found"


def test_another_command_does_not_join_a_sweep(queueing: TestClient, database_url: str) -> None:
    with Store.open(database_url) as store:
        store.put_runs(recipe(), [run("a")])
        name = recipe().name
    problem = problem_of(queueing.post(PATH, json={"template": "tiny", "grid": GRID, "recipe": name}), 422)
    assert problem["errors"][0] == {
        "field": "recipe",
        "message": f"recipe '{name}' was trained in another way, and the losses of two trainers are not one sweep; "
        "begin a new one, with another recipe",
    }


@pytest.mark.one_database
def test_a_service_without_templates_trains_nothing(database_url: str) -> None:
    with TestClient(create_app(Settings(database_url=database_url))) as served:
        for body in ({"template": "tiny", "grid": GRID}, {}):
            problem = problem_of(served.post(PATH, json=body), 403)
            assert (problem["type"], "this service trains nothing" in problem["detail"]) == ("NotEnabled", True)
        assert served.get(PATH).json() == {"jobs": []}


@pytest.mark.one_database
def test_who_may_begin_and_end_one(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lawfit.jobs.runner.claim", lambda *_: None)
    with Store.open(database_url) as store:
        tokens = {scope: create_token(store, scope, [scope]) for scope in ("read", "ingest", "fit", "launch", "admin")}
        fit = jobs.create_job(store, "fit", {}, who="").id
    asked = {"template": "tiny", "grid": GRID}
    settings = Settings(database_url=database_url, host="0.0.0.0", training_templates=str(templates(tmp_path)))
    with TestClient(create_app(settings)) as served:

        def post(path: str, scope: str, body: Any = None) -> int:
            return served.post(path, json=body, headers={"Authorization": f"Bearer {tokens[scope]}"}).status_code

        assert {scope: post(PATH, scope, asked) for scope in tokens} == {
            "read": 403, "ingest": 403, "fit": 403, "launch": 202, "admin": 202,
        }  # fmt: skip
        launch = served.get("/v1/jobs", headers={"Authorization": f"Bearer {tokens['read']}"}).json()["jobs"]
        launch_id = next(job["id"] for job in launch if job["kind"] == "launch")
        assert [post(f"/v1/jobs/{launch_id}/cancel", scope) for scope in tokens] == [403, 403, 403, 200, 200]
        assert [post(f"/v1/jobs/{fit}/cancel", scope) for scope in tokens] == [403, 403, 200, 403, 200]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("tiny = ", "cannot be read as training templates: "),
        ("", "holds no template; each is a table"),
        ("tiny = 3", "template 'tiny': it is a table"),
        ("[tiny]", "template 'tiny': it takes a command, or trainer"),
        ('[tiny]\ncommand = "true"\ntrainer = "lawfit"', "one of them"),
        ('["../x"]\ncommand = "true"', "template '../x': a name has letters"),
        ('[tiny]\ncommand = "true {hiden}"', "names {hiden}, which is no field of a run; did you mean {hidden}?"),
        ('[tiny]\ncommand = "true {lr"', "the braces of the template do not pair"),
        ('[tiny]\ncommand = "no-such-program {lr}"', "runs no-such-program, which is not on the PATH"),
        ('[tiny]\ncommand = "true {lr}"\ncpu = true\nformat = "csw"', "template 'tiny': there is no log format 'csw'"),
        ('[tiny]\ncommand = "true {lr}"\ncpus = true', "cpus is not known; did you mean cpu?"),
        ('[tiny]\ncommand = "true {lr}"\ncpu = "yes"', "cpu is true or false, got 'yes'"),
        ('[tiny]\ncommand = "true {lr}"\nworkers = 1.5', "workers is a whole number, got 1.5"),
        ('[tiny]\ncommand = "true {lr}"\nmost_runs = 0', "most_runs is a whole number from 1"),
        ('[tiny]\ncommand = "true {lr}"\nbackend = "none"', "there is no backend 'none'"),
        ('[tiny]\ncommand = "true {lr}"\nmost_params = 2e13', "most_params is a number from 1 to 1e+13, got 2"),
        ('[tiny]\ncommand = "true {lr}"\nmost_tokens = nan', "most_tokens is a number from 1 to 1e+15, got nan"),
        (
            '[tiny]\ncommand = "true {lr}"\nwalltime_minutes = inf',
            "walltime_minutes is a number, a finite one, got inf",
        ),
        ('[tiny]\ncommand = "true {lr}"\nhung_minutes = nan', "hung_minutes is a number, a finite one, got nan"),
        ('[tiny]\ncommand = "true {lr}"\ngpus = "97"', NO_GPU.format("97")),
        ('[tiny]\ncommand = "true {lr}"\ngpus = ["a;b"]', NO_GPU.format("a;b")),
        ('[tiny]\ncommand = "true {lr}"\ncpu = true\nlogs = "/proc/no/runs"', "'/proc/no/runs' cannot be written ("),
        ('[tiny]\ncommand = "true {lr}"\ncpu = true\nlogs = "/etc/passwd/x"', "'/etc/passwd/x' cannot be written ("),
        ('[tiny]\ncommand = "true {lr}"\ncpu = true\nlogs = "a\\u0000b"', "logs is a text, got 'a"),
        ('[tiny]\ncommand = "true {lr}"\nbackend = "slurm"', "Slurm is not here: sbatch, squeue, scancel not found"),
        ('[tiny]\ncommand = "true {lr}"\nbackend = "ray"', "backend ray needs the package ray"),
        *(
            (f'[tiny]\ncommand = "true {{lr}}"\ncpu = true\nat_a_time = {wrong}', "at_a_time is a whole number from 1")
            for wrong in ("0", "33", "true", "2.0", '"2"')
        ),
        ('[tiny]\ntrainer = "mine"', 'trainer is "lawfit"'),
        ('[tiny]\ntrainer = "lawfit"\ncorpus = "/no/corpus"', "there is no corpus in /no/corpus"),
    ],
)
def test_a_file_that_cannot_be_used_is_said(
    tmp_path: Path, text: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if '"slurm"' in text:
        monkeypatch.setenv("PATH", str(tmp_path))  # also where Slurm is
    monkeypatch.setitem(sys.modules, "ray", None)  # likewise
    if "/no/corpus" in text and find_spec("torch") is None:
        said = "training needs torch"
    path = tmp_path / "t.toml"
    path.write_text(text)
    with pytest.raises(LaunchError) as caught:
        pipeline.read_training_templates(path)
    assert said in str(caught.value)
    assert str(path) in str(caught.value)
    with pytest.raises(LawfitError):
        create_app(Settings(database_url=str(tmp_path / "x.db"), training_templates=str(path)))


def wait(get: Callable[[str], Any], job_id: str, what: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The job, once it is so."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        job: dict[str, Any] = get(f"/v1/jobs/{job_id}").json()
        if what(job):
            return job
        time.sleep(0.05)
    pytest.fail(f"it is {job} still")


def ended(job: dict[str, Any]) -> bool:
    return job["state"] in ("done", "failed", "cancelled")


@pytest.mark.slow
@pytest.mark.one_database
def test_from_a_request_to_the_store(database_url: str, tmp_path: Path) -> None:
    """Put back by a service that stops, taken up by the next; what was stored is not trained again."""
    settings = Settings(database_url=database_url, training_templates=str(templates(tmp_path, workers=1, sleep=0.8)))
    trainer, asked = OwnTrainer(tmp_path), {"template": "tiny", "grid": GRID, "recipe": "mine"}
    with TestClient(create_app(settings)) as served:
        job_id = served.post(PATH, json=asked).json()["job"]["id"]
        wait(served.get, job_id, lambda _: sum(trainer.counts("end").values()) >= 1)
    assert trainer.running() == []
    with Store.open(database_url) as store:
        assert state_of(store, job_id) == "queued"
        assert {job.state for job in list_training_jobs(store)} == {"ended", "stopped"}
    with TestClient(create_app(settings)) as served:
        done = wait(served.get, job_id, ended)
        assert (done["state"], done["problem"], done["result"]["recipes"]) == ("done", None, ["mine"])
        assert served.get("/v1/runs?recipe=mine").json()["total"] == 4
        again = served.post(PATH, json=asked).json()
        assert sorted(again["known"]) == sorted(again["runs"])
    assert set(trainer.counts("end").values()) == {1}


def signalled(service: int) -> None:
    """The service and all that it began, as a manager of services does that asks it to stop."""
    found, parents = {service}, {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    for process in found:
        os.kill(process, signal.SIGTERM)


@pytest.mark.soak
def test_from_a_client_to_the_store(database_url: str, tmp_path: Path) -> None:
    """Cancelled, gone on with by the same request, put back by a service that stops, taken up by the next."""
    path = templates(tmp_path, workers=1, sleep=0.8)
    trainer = OwnTrainer(tmp_path)
    with serving(tmp_path, "--training-templates", str(path), database=database_url) as served:
        begun = lawfit_client.launch("tiny", grid=GRID, recipe="mine", url=served.address)
        first = begun["job"]["id"]
        wait(served.http.get, first, lambda _: sum(trainer.counts("end").values()) >= 1)
        assert served.http.post(f"/v1/jobs/{first}/cancel").json()["state"] == "cancelling"
        assert wait(served.http.get, first, ended)["state"] == "cancelled"
        assert trainer.running() == []
        second = lawfit_client.launch("tiny", grid=GRID, recipe="mine", url=served.address)
        assert second["job"]["id"] != first
        assert len(second["known"]) == len(trainer.counts("end"))
        wait(
            served.http.get,
            second["job"]["id"],
            lambda job: job["progress"] > 0 or "1 running" in job["doing"] or ended(job),
        )
        signalled(served.process.pid)
        assert served.process.wait(timeout=30) in (0, -signal.SIGTERM)
    assert trainer.running() == []
    with Store.open(database_url) as store:
        assert {job.state for job in list_training_jobs(store)} <= {"ended", "stopped", "cancelled"}
    with serving(tmp_path, "--training-templates", str(path), database=database_url) as served:
        done = wait(served.http.get, second["job"]["id"], ended)
        assert (done["state"], done["problem"]) == ("done", None)
        assert (done["result"]["recipes"], done["result"]["runs"]) == (["mine"], 4)
        assert served.http.get("/v1/runs?recipe=mine").json()["total"] == 4
        third = lawfit_client.launch("tiny", grid=GRID, recipe="mine", url=served.address)
        assert sorted(third["known"]) == sorted(third["runs"])
    assert set(trainer.counts("end").values()) == {1}


def test_runs_that_are_left_out_for_another_recipe_are_said(queueing: TestClient, database_url: str) -> None:
    asked = {"template": "tiny", "grid": GRID, "recipe": "mine"}
    ids = queueing.post(PATH, json=asked).json()["runs"]
    with Store.open(database_url) as store:
        store.put_runs(recipe(), [run(ids[0]), run(ids[1])])
    (said,) = queueing.post(PATH, json=asked).json()["caveats"]
    assert f"under another recipe than 'mine': 2 runs under '{recipe().name}'; what is trained now" in said


@pytest.mark.slow
@pytest.mark.one_database
def test_a_launch_without_its_template_says_what_it_waits_for(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service is started without the template, without any, and with it again; each time as real processes."""
    path, other = templates(tmp_path), tmp_path / "other.toml"
    other.write_text(path.read_text().replace("[tiny]", "[other]"))
    asked = {"template": "tiny", "grid": GRID, "recipe": "mine"}
    with monkeypatch.context() as patched:
        patched.setattr("lawfit.jobs.runner.claim", lambda *_: None)
        with TestClient(create_app(Settings(database_url=database_url, training_templates=str(path)))) as served:
            job = served.post(PATH, json=asked).json()["job"]
            assert served.get(f"/v1/jobs/{job['id']}").json()["doing"] == ""
    said = (
        f"it waits: this service was started without its template 'tiny'. It begins when .*{job['id']}/cancel ends it"
    )
    for options, code in ((["--training-templates", str(other)], 422), ([], 403)):
        with serving(tmp_path, *options, database=database_url) as service:
            shown = service.http.get(f"/v1/jobs/{job['id']}").json()
            assert shown["state"] == "queued"
            assert re.fullmatch(said, shown["doing"])
            assert [each["doing"] for each in service.http.get("/v1/jobs").json()["jobs"]] == [shown["doing"]]
            assert service.http.post(PATH, json=asked).status_code == code
            service.process.terminate()
            _, log = service.process.communicate(timeout=60)
            assert re.search(f"WARNING lawfit.api: job {job['id']} .launch.: {said}", log)
    with serving(tmp_path, "--training-templates", str(path), database=database_url) as service:
        again = service.http.post(PATH, json=asked).json()["job"]
        assert (again["id"], again["doing"]) == (job["id"], "")  # the same launch
        assert wait(service.http.get, job["id"], ended)["state"] == "done"


@pytest.mark.one_database
def test_a_command_that_fails_is_a_failed_job_with_its_words(database_url: str, tmp_path: Path) -> None:
    path = templates(tmp_path, how="fails")
    with TestClient(create_app(Settings(database_url=database_url, training_templates=str(path)))) as served:
        job_id = served.post(PATH, json={"template": "tiny", "grid": GRID}).json()["job"]["id"]
        job = wait(served.get, job_id, ended)
    assert job["state"] == "failed"
    assert job["problem"] == (
        "no run ended: the first jobs all failed alike, and so would the rest: no such option: --how"
    )


@pytest.mark.soak
def test_a_service_that_is_killed(database_url: str, tmp_path: Path) -> None:
    """Nobody is asked to stop: its launch ends by itself, and the next service goes on."""
    path = templates(tmp_path, sleep=3.0)
    trainer = OwnTrainer(tmp_path)
    with serving(tmp_path, "--training-templates", str(path), database=database_url) as served:
        job = lawfit_client.launch("tiny", grid=GRID, url=served.address)["job"]
        wait(served.http.get, job["id"], lambda _: sum(trainer.counts("start").values()) >= 2)
        os.kill(served.process.pid, signal.SIGKILL)
        served.process.wait()
        until = time.monotonic() + 10
        while trainer.running() and time.monotonic() < until:
            time.sleep(0.05)
        assert trainer.running() == []
    with serving(tmp_path, "--training-templates", str(path), database=database_url) as served:
        done = wait(served.http.get, job["id"], ended)
        assert (done["state"], done["attempts"], done["result"]["new"]) == ("done", 2, 4)
    assert set(trainer.counts("end").values()) == {1}
    assert sys.platform != "linux" or sum(trainer.counts("start").values()) >= 5
