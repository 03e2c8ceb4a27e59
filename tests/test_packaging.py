"""What gets installed: the right names in a wheel and in an editable install, with everything they need."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
import urllib.request
import venv
import zipfile
from pathlib import Path

import pytest

from tests.cli.serving import served

ROOT = Path(__file__).resolve().parent.parent
OURS = {"lawfit", "lawfit_api", "lawfit_migrations", "lawfit_data"}
FOLDERS = {"lawfit": "lawfit", "api": "lawfit_api", "migrations": "lawfit_migrations", "data": "lawfit_data"}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def run(*words: str | Path, cwd: Path, **environ: str) -> str:
    """Run a program away from the checkout and give back what it printed."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("LAWFIT_", "PYTHON"))}
    done = subprocess.run([*map(str, words)], cwd=cwd, capture_output=True, text=True, env={**clean, **environ})
    assert done.returncode == 0, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_every_package_of_the_checkout_is_installed() -> None:
    found = set()
    for folder, name in FOLDERS.items():
        for init in (ROOT / folder).rglob("__init__.py"):
            found.add(".".join([name, *init.parent.relative_to(ROOT / folder).parts]))
    listed = set(PROJECT["tool"]["setuptools"]["packages"])
    assert found - listed == set(), "a new package: list it under [tool.setuptools] packages"
    for name in listed:
        top, *rest = name.split(".")
        folder = next(folder for folder, installed in FOLDERS.items() if installed == top)
        assert (ROOT / folder).joinpath(*rest).is_dir(), f"{name} is listed, and is not there"


def test_version_is_said_once() -> None:
    from lawfit import __version__

    assert PROJECT["project"]["version"] == __version__


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel, built from what git would hand out, so that build leftovers of the checkout cannot help."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    words = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    for name in names:
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    run(sys.executable, "-m", "build", "--wheel", "--outdir", folder, source, cwd=folder)
    return next(folder.glob("*.whl"))


@pytest.mark.soak
@pytest.mark.slow
def test_wheel_claims_only_our_names(wheel: Path) -> None:
    source = wheel.parent / "source"
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == OURS
    for folder, installed in FOLDERS.items():
        shipped = {name.removeprefix(f"{installed}/") for name in names if name.startswith(f"{installed}/")}
        wanted = {
            path.relative_to(source / folder).as_posix() for path in (source / folder).rglob("*") if path.is_file()
        }
        assert wanted - shipped == set(), f"files of {folder}/ that the wheel lacks"
    assert any(name.endswith("licenses/LICENSE") for name in names)


@pytest.mark.soak
@pytest.mark.slow
@pytest.mark.parametrize("how", ["wheel", "editable"])
def test_an_install_works_away_from_the_checkout(how: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    environment = tmp_path / "env"
    venv.create(environment)
    python = environment / "bin" / "python"
    what = [request.getfixturevalue("wheel")] if how == "wheel" else ["-e", ROOT]
    # Our own files come through pip; the dependencies are taken from this environment, which has them already.
    pip = [sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check"]  # one less to be made
    run(*pip, "install", "--quiet", "--no-deps", *what, cwd=tmp_path)
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=tmp_path).strip())
    assert {name for name in FOLDERS if name != "lawfit" and (site / name).exists()} == set()
    here = Path(
        run(sys.executable, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=tmp_path).strip()
    )
    (site / "dependencies.py").write_text(f"import sys; sys.path.append({str(here)!r})\n")
    (site / "dependencies.pth").write_text("import dependencies\n")

    where = run(python, "-c", "import lawfit; print(lawfit.__file__)", cwd=tmp_path)
    assert where.startswith(str(site if how == "wheel" else ROOT))
    lawfit = environment / "bin" / "lawfit"
    assert "predict" in run(lawfit, "--help", cwd=tmp_path)
    run(lawfit, "simulate", "sweep.csv", "--lr-steps", "4", "--batch-steps", "3", cwd=tmp_path)
    run(lawfit, "ingest", "sweep.csv", cwd=tmp_path)
    assert "runs: 108" in run(lawfit, "db", "check", cwd=tmp_path)
    with served([str(lawfit)], tmp_path) as address, urllib.request.urlopen(f"{address}/v1/recipes") as answer:
        assert json.load(answer)["recipes"][0]["runs"] == 108
    code = (
        "from lawfit_api.app import create_app; from lawfit.settings import Settings, data_folder, migrations_folder;"
        "create_app(Settings()); print(*sorted(p.name for p in data_folder().iterdir() if p.suffix != '.pyc'));"
        "assert (migrations_folder() / 'env.py').is_file()"
    )
    assert re.search(r"\blaws\.toml\b", run(python, "-c", code, cwd=tmp_path))


@pytest.mark.soak
def test_without_the_trainers_packages_its_tests_are_skipped_and_all_others_collected() -> None:
    """What `make test` meets on a newcomer's machine: no torch, no tokenizers."""
    code = (
        "import sys\n"
        "class Without:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] in ('torch', 'tokenizers', 'triton'):\n"
        "            raise ModuleNotFoundError(f'no module named {name}', name=name)\n"
        "sys.meta_path.insert(0, Without())\n"
        "import pytest; sys.exit(pytest.main(['--collect-only', '-q', '-p', 'no:cacheprovider', 'tests']))"
    )
    environment = {name: value for name, value in os.environ.items() if name not in ("CI", "PYTEST_ADDOPTS")}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:]
    assert "tests/estimate/" in done.stdout
    assert "tests/train/test_pack.py" in done.stdout  # what is asked of a trainer is checked without one
    assert "tests/train/test_loop.py" not in done.stdout
