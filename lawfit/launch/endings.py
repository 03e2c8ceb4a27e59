"""Why a job ended before its runs did, and what follows from it: tried again, in halves, or not at all."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from lawfit.launch.launcher import Ending, JobState


class Reason(StrEnum):
    """How an attempt ended, as it is kept and shown."""

    DONE = "done"
    MEMORY = "out_of_memory"
    PREEMPTED = "preempted"
    KILLED = "killed"
    NODE = "bad_node"
    WALLTIME = "walltime"
    HUNG = "hung"
    CLAIMED = "claimed"  # another process trains its runs
    OWN = "own_error"  # the command says itself what is wrong: trying again gives the same
    DIED = "died"
    STOPPED = "stopped"  # with its launch
    CANCELLED = "cancelled"
    LOST = "launcher_lost"  # nobody saw its end


NO_FAULT: Final = (Reason.PREEMPTED, Reason.NODE, Reason.WALLTIME)  # of the pack: a smaller one would fare alike
_OWN_ERROR: Final = re.compile(r"^error: (.*)", re.MULTILINE)  # the trainer's
_MEMORY: Final = re.compile(r"out of memory|OutOfMemoryError|^MemoryError|oom-kill", re.IGNORECASE | re.MULTILINE)
_TERMINATED: Final = (-15, 143)  # ended by SIGTERM, or by what a shell makes of it
_OF_LAUNCHER: Final = {
    Ending.WALLTIME: (Reason.WALLTIME, "its walltime was over"),
    Ending.PREEMPTED: (Reason.PREEMPTED, "it had to make room for another job"),
    Ending.NODE: (Reason.NODE, "its machine was lost"),
    Ending.MEMORY: (Reason.MEMORY, "it took more memory than it was given"),
    Ending.HUNG: (Reason.HUNG, "no log of it grew for too long"),
    Ending.CLAIMED: (Reason.CLAIMED, "its runs are being trained by another process"),
}


@dataclass(frozen=True, kw_only=True)
class Ended:
    """Why an attempt ended."""

    reason: Reason
    said: str  # in words, for a sentence


def why(state: JobState, tail: str) -> Ended:
    """Why a job ended although runs of it have not.

    Parameters
    ----------
    tail : of its stderr
    """
    code = state.exit_code
    own = _OWN_ERROR.findall(tail)
    if state.ending in _OF_LAUNCHER:
        reason, said = _OF_LAUNCHER[state.ending]
    elif code == 1 and own:
        reason, said = Reason.OWN, own[-1]
    elif code == 0 or code in _TERMINATED:  # as a trainer ends that somebody asked to stop
        reason, said = Reason.PREEMPTED, "ended before its runs did" if code == 0 else "ended by signal 15"
    elif _MEMORY.search(tail):
        reason, said = Reason.MEMORY, _last_line(tail)
    elif code is not None and code < 0:
        hint = "; the system may have run out of memory" if code == -9 else ""
        reason, said = Reason.KILLED, f"ended by signal {-code}{hint}"
    else:
        reason, said = Reason.DIED, _last_line(tail) or f"exit code {code}"
    return Ended(reason=reason, said=said)


def _last_line(tail: str) -> str:
    return tail.splitlines()[-1].strip()[:200] if tail else ""
