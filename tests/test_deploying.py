"""The Dockerfile, the compose file and the unit: looked at by rules, and their commands run as they stand.

No engine is needed: what the image would do is done in a folder. Rules are those of hadolint and of Compose that matter
here.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import time
import tomllib
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.api.serving import serving

ROOT: Final = Path(__file__).resolve().parent.parent
DEPLOY: Final = ROOT / "docs" / "deploy"
INSTRUCTIONS: Final = {
    "FROM", "COPY", "RUN", "USER", "WORKDIR", "EXPOSE", "HEALTHCHECK", "CMD", "ENV", "ARG", "LABEL",
}  # fmt: skip


def instructions() -> list[tuple[str, str]]:
    """Of the Dockerfile, lines that go on joined."""
    text = re.sub(r"\\\n", " ", (ROOT / "Dockerfile").read_text(encoding="utf-8"))
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in lines)]


def compose() -> dict[str, Any]:
    return dict(yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8")))


def of(word: str) -> list[str]:
    return [rest for name, rest in instructions() if name == word]


def command_line(rest: str) -> list[str]:
    """An exec form: a shell form would be PID 1 itself, and hear no signal."""
    found = json.loads(rest)
    assert isinstance(found, list)
    return [str(word) for word in found]


class TestDockerfile:
    def test_rules(self) -> None:
        assert {name for name, _ in instructions()} <= INSTRUCTIONS
        (base,) = of("FROM")
        assert re.fullmatch(r"[a-z]+:\d+\.\d+[a-z-]*", base)  # a version, and not the latest
        wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
        assert tuple(map(int, re.findall(r"\d+", base)[:2])) >= tuple(map(int, re.findall(r"\d+", wanted)))
        assert of("USER")[-1] not in ("root", "0")
        names = [name for name, _ in instructions()]
        assert names.index("USER") > max(place for place, name in enumerate(names) if name == "RUN")
        assert all(path.startswith("/") for path in of("WORKDIR"))
        (run,) = of("RUN")
        assert "--no-cache-dir" in run
        assert "sudo" not in run
        for part in run.split("&&"):  # what a shell would make of it
            assert shlex.split(part)
        assert "postgres" in run.split("'")[1]  # the driver that compose.yaml needs
        extras = set(re.search(r"\[(.*)\]", run)[1].split(","))  # type: ignore[index]
        assert extras <= set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])
        user = of("USER")[0]
        assert f"useradd --create-home {user}" in run
        assert f"-o {user} {of('WORKDIR')[0]}" in run  # where the database is made may be written

    def test_it_listens_where_it_says(self) -> None:
        words = command_line(of("CMD")[0])
        assert words[:2] == ["lawfit", "serve"]
        assert words[words.index("--host") + 1] == "0.0.0.0"
        health = command_line(of("HEALTHCHECK")[0].removeprefix("CMD ").strip())
        assert f":{of('EXPOSE')[0]}/readyz" in health[-1]


class TestCompose:
    def test_rules(self) -> None:
        services = compose()["services"]
        allowed = {
            "image",
            "build",
            "restart",
            "environment",
            "volumes",
            "healthcheck",
            "command",
            "depends_on",
            "ports",
        }
        for name, service in services.items():
            assert set(service) <= allowed, name
            assert ("image" in service) != ("build" in service)
            assert service["restart"] == "unless-stopped"
            assert service["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL")
            for port in service.get("ports", ()):
                assert port.startswith("127.0.0.1:"), "the database or an open service must not be shown to all"
        assert re.fullmatch(r"postgres:\d+", services["database"]["image"])
        assert (DEPLOY / services["service"]["build"] / "Dockerfile").resolve() == ROOT / "Dockerfile"
        (needed,) = services["service"]["depends_on"]
        assert needed in services
        assert services["service"]["depends_on"][needed]["condition"] == "service_healthy"
        named = {volume.partition(":")[0] for service in services.values() for volume in service.get("volumes", ())}
        assert named == set(compose()["volumes"])

    def test_both_have_the_same_database_and_password(self) -> None:
        services = compose()["services"]
        said, url = services["database"]["environment"], services["service"]["environment"]["LAWFIT_DATABASE_URL"]
        user, password, name = said["POSTGRES_USER"], said["POSTGRES_PASSWORD"], said["POSTGRES_DB"]
        assert url == f"postgresql://{user}:{'${LAWFIT_POSTGRES_PASSWORD}'}@database/{name}"
        assert password.startswith("${LAWFIT_POSTGRES_PASSWORD:?")  # there is none by default
        settings = {field for field in services["service"]["environment"] if field.startswith("LAWFIT_")}
        assert settings <= {"LAWFIT_DATABASE_URL", "LAWFIT_ALLOWED_HOSTS", "LAWFIT_ROOT_PATH"}


class TestUnit:
    def test_rules(self) -> None:
        section, found = "", dict[str, dict[str, str]]()
        for line in (DEPLOY / "lawfit.service").read_text(encoding="utf-8").splitlines():
            if line.startswith("["):
                section = line.strip("[]")
                found[section] = {}
            elif line and not line.startswith("#"):
                key, sign, value = line.partition("=")
                assert sign, line
                found[section][key] = value
        assert set(found) == {"Unit", "Service", "Install"}
        service = found["Service"]
        assert service["User"] != "root"
        assert service["WorkingDirectory"] == f"/var/lib/{service['StateDirectory']}"
        assert f"={service['WorkingDirectory']}/" in service["Environment"]  # ProtectSystem leaves no other place
        words = shlex.split(service["ExecStart"])
        assert (Path(words[0]).name, words[1]) == ("lawfit", "serve")


@pytest.fixture(params=["dockerfile", "compose"])
def started(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The service as the image or the compose file starts it, in a folder, on PostgreSQL where that says so."""
    words = command_line(of("CMD")[0])
    database = "lawfit.db"
    if request.param == "compose":
        words = compose()["services"]["service"]["command"]
        database = request.getfixturevalue("postgres_url")
    with serving(tmp_path, *words[2:], database=database) as served:
        yield served, database, tmp_path


@pytest.mark.slow
def test_what_they_start_is_healthy_and_takes_the_token_that_is_made_beside_it(started: Any) -> None:
    served, database, folder = started
    for words in (
        command_line(of("HEALTHCHECK")[0].removeprefix("CMD ").strip()),
        compose()["services"]["service"]["healthcheck"]["test"][1:],
    ):
        said = [word.replace("http://127.0.0.1:8765", served.address) for word in words]
        until = time.monotonic() + 60  # an engine asks again, too, until it has started
        while subprocess.run(
            [sys.executable, *said[1:]], check=False, timeout=30, stderr=subprocess.DEVNULL
        ).returncode:
            assert time.monotonic() < until, said
    assert served.http.get("/v1/recipes").status_code == 401  # it listens beyond the container
    environment = {**os.environ, "LAWFIT_DATABASE_URL": database}
    made = re.search(r"exec \S+ (lawfit token create .*)", (ROOT / "Dockerfile").read_text(encoding="utf-8"))
    assert made
    words = [sys.executable, "-m", *shlex.split(made[1])]
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=True)
    token = re.search(r"lawfit_\S+", done.stdout)
    assert token
    request = urllib.request.Request(f"{served.address}/v1/recipes", headers={"Authorization": f"Bearer {token[0]}"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert json.load(answer) == {"recipes": []}
