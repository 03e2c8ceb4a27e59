"""Who may import whom: reads the source, so that an import inside a function counts as well."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
GROUND = ("findings", "declared", "packed", "units", "errors", "ask", "documents", "records", "settings", "factors")
ANALYSIS = frozenset({"numpy", "scipy", "statsmodels", "pandas"})


@dataclass(frozen=True, kw_only=True)
class Room:
    """What one room of the house may import."""

    rooms: frozenset[str]
    third_party: frozenset[str] = frozenset()


def _room(*rooms: str, third_party: frozenset[str] | set[str] = frozenset()) -> Room:
    return Room(rooms=frozenset(rooms), third_party=frozenset(third_party))


EDGE = ("pipeline", "storage", "plots", "report", "configs", "simulate", "words", *GROUND)
ROOMS = {
    # The ground floor: each may use those to its left.
    "findings": _room(),
    "declared": _room(),
    "packed": _room(third_party={"numpy"}),
    "units": _room("findings", third_party={"numpy"}),
    "errors": _room("findings", "units"),
    "ask": _room("declared", "units"),
    "documents": _room(third_party={"typing_extensions"}),
    "records": _room("findings", "packed", "units", "errors", "documents", third_party={"numpy"}),
    "settings": _room("findings", "units", "errors", "records"),
    "factors": _room("findings", "units", "errors", "records", "settings"),
    "words": _room("findings", "units", "documents", "kinds"),  # of which it asks labels, when something is shown
    "laws": _room(*GROUND, third_party={"numpy"}),
    "estimate": _room(*GROUND, "laws", third_party=ANALYSIS),
    "kinds": _room(*GROUND, "laws", "estimate", third_party={"numpy"}),
    "advise": _room(*GROUND, "laws", "estimate", "kinds", third_party=ANALYSIS),
    "planner": _room(*GROUND, "laws", "estimate", "kinds", "advise", third_party=ANALYSIS),
    "ingest": _room(
        *GROUND, "proxy", third_party={"numpy", "pandas", "pyarrow", "openpyxl", "yaml", "sqlalchemy", "wandb"}
    ),
    "storage": _room(*GROUND, third_party={"numpy", "pandas", "sqlalchemy", "alembic"}),
    "exchange": _room(*GROUND, third_party={"numpy", "pyarrow"}),  # files of our own
    "corpus": _room(*GROUND, third_party={"numpy", "tokenizers"}),
    "proxy": _room(*GROUND, "laws", "corpus", third_party={"numpy"}),
    "launch": _room(*GROUND, "proxy", third_party={"ray"}),
    "train": _room(*GROUND, "laws", "proxy", "corpus", third_party={"numpy", "torch", "triton"}),  # nobody imports it
    "plots": _room(*GROUND, "words", "laws", "estimate", "kinds", "advise", third_party={"numpy", "plotly"}),
    "configs": _room(*GROUND, "words"),
    "report": _room(*GROUND, "words", "laws", "estimate", "kinds", "advise", "plots", third_party={"plotly"}),
    "pipeline": _room(
        *GROUND,
        "laws",
        "estimate",
        "kinds",
        "advise",
        "planner",
        "ingest",
        "storage",
        "exchange",
        "proxy",
        "launch",
        "simulate",
    ),
    "simulate": _room(*GROUND, "laws", third_party={"numpy"}),
    "jobs": _room(*GROUND, "words", "storage", "pipeline"),  # threads and processes of the service
    "cli": _room(*EDGE, third_party={"typer", "rich", "uvicorn"}),
    "api": _room(
        *EDGE,
        "jobs",
        third_party={"fastapi", "starlette", "pydantic", "jinja2", "typing_extensions", "prometheus_client", "uvicorn"},
    ),
    "migrations": _room(*EDGE, third_party={"alembic", "sqlalchemy"}),
    "data": _room(),
    # The public names, loaded lazily.
    "__init__": _room("notebook", *EDGE),
    # An edge like cli and api, without a store: DataFrames in, answers and figures out.
    "agents": _room(*EDGE, third_party={"mcp", "anyio", "pydantic"}),  # another edge, over the same pipeline
    "notebook": _room(*EDGE, "laws", "estimate", "advise", "planner", "ingest", third_party={"pandas", "plotly"}),
    "client": _room(),  # what a training loop imports: the standard library alone
    "__main__": _room("cli"),
}
# Inside estimate: each quantity stands on these; what joins them all lies beside them.
QUANTITIES = {
    "numerics": frozenset[str](),
    "weight_decay": frozenset({"numerics"}),  # below observe, as it advises which level of weight decay is held
    "observe": frozenset({"numerics", "weight_decay"}),
    "lr_batch": frozenset({"numerics", "observe"}),
    "loss": frozenset({"numerics", "observe"}),
    "critical": frozenset({"numerics", "observe", "lr_batch", "loss"}),
    "transfer": frozenset({"numerics", "observe", "lr_batch"}),
    "schedules": frozenset[str](),
}
# What else a module may do, and why.
EXCEPTIONS = {
    "api/bodies.py": {"ingest"},  # what a file that was sent is called
    "lawfit/cli/convert.py": {"laws", "numpy"},  # exact rules on typed numbers: no store, nothing for the pipeline
    "lawfit/cli/conventions.py": {"laws"},  # the same
    "lawfit/cli/corpus.py": {"corpus"},  # makes corpora, lazily
    "lawfit/cli/ingest.py": {"ingest"},  # the options of an ingest
    "lawfit/cli/watch.py": {"ingest", "launch"},  # answers to questions, and the signals that end a launch
    "lawfit/cli/questions.py": {"ingest"},  # the same, as answers to questions
    "lawfit/cli/mcp.py": {"agents"},  # started by it, lazily
    "lawfit/cli/launch.py": {"launch"},  # the options of a launch
    "lawfit/cli/study.py": {"launch"},  # how far its launches are
    "lawfit/cli/simulate.py": {"numpy"},  # makes the random generator
}
SOURCES = sorted(
    path.relative_to(ROOT).as_posix()
    for folder in ("lawfit", "api", "migrations", "data")
    for path in (ROOT / folder).rglob("*.py")
)


def room_of(source: str) -> str:
    """``lawfit/cli/main.py`` -> ``cli``; ``api/app.py`` -> ``api``."""
    parts = source.removesuffix(".py").split("/")
    return parts[1] if parts[0] == "lawfit" else parts[0]


def imported_modules(tree: ast.AST) -> Iterator[str]:
    """Absolute names of all imports, wherever they stand; relative ones stay inside their own package."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            if node.module == "lawfit":
                yield from (f"lawfit.{alias.name}" for alias in node.names)
            else:
                yield node.module


def quantity_of(source: str) -> str:
    """``lawfit/estimate/loss/law.py`` -> ``loss``; empty outside them."""
    parts = source.split("/")
    return parts[2] if parts[:2] == ["lawfit", "estimate"] and len(parts) > 3 else ""


def violations(source: str, tree: ast.AST) -> list[str]:
    """Each import of a module that its room may not make."""
    here = room_of(source)
    room = ROOMS[here]
    extra = EXCEPTIONS.get(source, set())
    found, quantity = [], quantity_of(source)
    for name in imported_modules(tree):
        top, _, rest = name.partition(".")
        if top == "lawfit":
            target, _, inside = rest.partition(".")
            below = inside.split(".")[0]
            if quantity and target == "estimate" and below not in QUANTITIES[quantity] | {quantity}:
                found.append(f"estimate.{quantity} may not import estimate.{below}")
            if target in {"", here, "__version__"} or target in room.rooms | extra:
                continue
            if here == "__init__" or target in ROOMS:
                found.append(f"{here} may not import lawfit.{target}")
        elif top in {"lawfit_api", "lawfit_migrations", "lawfit_data"}:
            found.append(f"{name} is found through settings or named by string, never imported")
        elif top not in sys.stdlib_module_names and top not in room.third_party | extra:
            found.append(f"{here} may not import {top}")
    return found


@pytest.mark.parametrize("source", SOURCES)
def test_imports_only_what_its_room_may(source: str) -> None:
    assert room_of(source) in ROOMS, f"{source} is a new room: say in ROOMS what it may import"
    assert violations(source, ast.parse((ROOT / source).read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    ("source", "line"),
    [
        pytest.param("lawfit/laws/power.py", "import scipy", id="third party"),
        pytest.param("lawfit/laws/power.py", "from lawfit.estimate.lr_batch import surface", id="upstairs"),
        pytest.param("lawfit/laws/power.py", "from lawfit import pipeline", id="from the package"),
        pytest.param("lawfit/units.py", "from lawfit.records import Run", id="to the right on the ground floor"),
        pytest.param("lawfit/cli/fit.py", "def f():\n    import lawfit.train.loop", id="train, lazily, by another"),
        pytest.param("lawfit/pipeline.py", "from lawfit.plots import surface", id="pipeline draws"),
        pytest.param("api/app.py", "from lawfit.estimate.lr_batch import surface", id="edge skips the pipeline"),
        pytest.param("api/app.py", "import lawfit_api", id="own installed name"),
        pytest.param("lawfit/estimate/loss/law.py", "from lawfit.estimate.critical import batch", id="quantity above"),
        pytest.param("lawfit/estimate/numerics/newton.py", "from lawfit.estimate import evidence", id="all quantities"),
    ],
)
def test_a_forbidden_import_is_found(source: str, line: str) -> None:
    assert violations(source, ast.parse(line))


@pytest.mark.parametrize("module", ["lawfit.launch", "lawfit.ingest"])
def test_what_launches_and_reads_logs_needs_no_torch(module: str) -> None:
    code = f"import sys, {module}; print(sorted({{'torch', 'tokenizers', 'triton'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_import_lawfit_is_light() -> None:
    heavy = {"pandas", "scipy", "torch", "fastapi", "plotly", "statsmodels", "alembic", "sqlalchemy", "numpy"}
    code = f"import sys, lawfit; print(sorted({heavy!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
