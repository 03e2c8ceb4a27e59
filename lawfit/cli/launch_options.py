"""How runs are trained, as options: the same for every command that trains some."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Final

import typer

from lawfit.cli.options import quantity, whole_quantity


def _option(kind: Any, words: str, metavar: str, option: str = "", **more: Any) -> Any:
    names = (option,) if option else ()
    return Annotated[kind | None, typer.Option(*names, metavar=metavar, help=words, show_default=False, **more)]


# Named as the fields of `launch.LaunchOptions` and `launch.Resources`, which check what they may hold.
_OPTIONS: Final[Mapping[str, Any]] = MappingProxyType(
    {
        "logs": _option(Path, "Folder for the log of each run. [default: runs]", "DIR"),
        "corpus": _option(str, "Folder of the corpus. [default: as the files say; corpus]", "DIR"),
        "gpus": _option(str, "GPUs to use. [default: all of this machine]", "0,1"),
        "cpu": Annotated[
            bool | None, typer.Option("--cpu", help="Train on the CPU: for tiny models.", show_default=False)
        ],
        "workers": _option(
            int,
            "Packs that train at a time on each GPU (or on the CPU). Small models do not fill a GPU: try 2 to 8 there. "
            "[default: 1]",
            "K",
            "--workers-per-gpu",
            min=1,
        ),
        "max_runs": _option(
            int,
            "Cut packs with more runs than this. [default: 48; and so that no GPU stands idle]",
            "K",
            "--runs-per-pack",
            parser=whole_quantity,
        ),
        "deadline_seconds": _option(
            float,
            "Stop then, with checkpoints; the same command goes on. The packs with least work go first.",
            "SECONDS",
            "--deadline",
            parser=quantity,
        ),
        "checkpoint_seconds": _option(
            float, "Time between two checkpoints of a pack. [default: 120]", "SECONDS", parser=quantity
        ),
        "backend": _option(
            str,
            "How packs are run: local, as many at a time as there is room for; debug, one at a time with its command "
            "line and all that it says shown; slurm or ray, on a cluster whose machines see the same folders. "
            "[default: local]",
            "NAME",
        ),
        "gpus_per_job": _option(int, "Of each pack. [default: 1; with --cpu none]", "K"),
        "cpus_per_job": _option(
            int, "Of each pack. [default: 1 on a cluster; here, those that are idle for packs on the CPU]", "K"
        ),
        "memory_gb": _option(float, "Main memory of each pack (slurm, ray).", "GB"),
        "walltime_minutes": _option(
            float,
            "Of one attempt at a pack: shortly before, it leaves a checkpoint, and the next attempt goes on.",
            "MINUTES",
        ),
        "jobs_at_a_time": _option(int, "No more packs than that at a time.", "K"),
        "hung_minutes": _option(
            float,
            "A pack none of whose logs grew for so long is ended and tried again; 0: never. [default: 30]",
            "MINUTES",
        ),
        "partition": _option(str, "Of Slurm.", "NAME"),
        "account": _option(str, "Of Slurm.", "NAME"),
        "qos": _option(str, "Of Slurm.", "NAME"),
        "slurm": _option(list[str], "Any other option of sbatch, as constraint=a100.", "KEY=VALUE"),
        "ray_address": _option(
            str,
            "Of Ray's head. [default: RAY_ADDRESS, a Ray on this machine, or one that is started for the launch]",
            "HOST:PORT",
        ),
    }
)


def launches(command: Callable[..., None]) -> Callable[..., None]:
    """A command with these options in place of its parameter `given`, which holds what was said of them.

    Raises
    ------
    TypeError
        The command has no such parameter, or one of an option's name.
    """
    own = inspect.signature(command, eval_str=True).parameters

    @wraps(command)
    def made(*args: Any, **said: Any) -> None:
        given = {name: value for name in _OPTIONS if (value := said.pop(name, None)) not in (None, [])}
        command(*args, given=given, **said)

    keyword = inspect.Parameter.KEYWORD_ONLY
    before = [each for each in own.values() if each.name != "given" and each.default is each.empty]
    after = [each.replace(kind=keyword) for each in own.values() if each.name != "given" and each not in before]
    options = [inspect.Parameter(name, keyword, annotation=kind, default=None) for name, kind in _OPTIONS.items()]
    if "given" not in own or not _OPTIONS.keys().isdisjoint(own):
        raise TypeError(f"{command.__name__} needs a parameter `given`, and none of an option's name")
    shown: Any = made
    shown.__signature__ = inspect.Signature([*before, *options, *after])
    shown.__annotations__ = {each.name: each.annotation for each in shown.__signature__.parameters.values()}
    return made
