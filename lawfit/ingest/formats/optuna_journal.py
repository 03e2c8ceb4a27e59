"""Optuna's journal: a JSON line for each operation on a study (`JournalFileBackend`)."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from lawfit.errors import LogFormatError
from lawfit.ingest.formats.optuna import INTERMEDIATE, STATES, external, trial_run, value_name
from lawfit.ingest.run_log import LoggedRun, RunLogs, place
from lawfit.ingest.source import whole_lines

_STATES: Final = ("RUNNING", "COMPLETE", "PRUNED", "FAIL", "WAITING")  # optuna.trial.TrialState, by number
# optuna.storages.journal.JournalOperation
_CREATE_STUDY, _CREATE_TRIAL, _SET_PARAM, _SET_STATE, _INTERMEDIATE, _USER_ATTR = 0, 4, 5, 6, 7, 8
_MAXIMIZE: Final = 2


class OptunaJournal(RunLogs):
    """Trials as the operations made them. The last line may have been cut off in writing."""

    name = "optuna-journal"

    def sniff(self, path: Path, head: bytes) -> bool:  # noqa: ARG002 - known by its content
        return head.startswith(b'{"op_code":') and b'"worker_id"' in head[:300]

    def runs(self, path: Path, root: Path) -> Iterable[LoggedRun]:
        journal = _Journal(place(path, root))
        for number, line, last in whole_lines(path):
            try:
                journal.take(json.loads(line))
            except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
                if last and not line.endswith("}"):
                    break
                raise LogFormatError(f"{path}: line {number} is no operation of a journal ({error})") from None
        return [run for run in journal.trials if run.state != STATES["WAITING"]]


class _Journal:
    def __init__(self, file: str) -> None:
        self.file = file
        self.studies: list[tuple[str, bool]] = []
        self.trials: list[LoggedRun] = []
        self._count: dict[int, int] = {}
        self._maximised: list[bool] = []

    def take(self, operation: dict[str, Any]) -> None:
        code = operation["op_code"]
        if code == _CREATE_STUDY:
            self.studies.append((str(operation["study_name"]), _MAXIMIZE in operation["directions"]))
        elif code == _CREATE_TRIAL:
            self._create(operation)
        elif code in (_SET_PARAM, _SET_STATE, _INTERMEDIATE, _USER_ATTR):
            place_in_file = int(operation["trial_id"])
            if place_in_file < 0:
                raise ValueError("a trial of a negative number")
            self._change(code, operation, place_in_file)

    def _create(self, operation: dict[str, Any]) -> None:
        study = int(operation["study_id"])
        name, maximised = self.studies[study]
        number = self._count[study] = self._count.get(study, -1) + 1
        state = STATES[_STATES[operation.get("state", 0)]]
        self.trials.append(trial_run(name, number, self.file, state))
        self._maximised.append(maximised)

    def _change(self, code: int, operation: dict[str, Any], trial: int) -> None:
        run = self.trials[trial]
        if code == _SET_PARAM:
            value = external(operation["param_value_internal"], operation["distribution"], self.file)
            run.config[str(operation["param_name"])] = value
        elif code == _SET_STATE:
            run.state = STATES[_STATES[operation["state"]]]
            for objective, value in enumerate(operation["values"] or ()):
                run.facts[value_name(objective, maximised=self._maximised[trial])] = float(value)
        elif code == _INTERMEDIATE:
            value = operation["intermediate_value"]
            run.log(INTERMEDIATE, int(operation["step"]), math.nan if value is None else float(value))
        else:
            run.facts.setdefault("user_attrs", {}).update(operation["user_attr"])


OPTUNA_JOURNAL: Final = OptunaJournal()
