"""`lawfit ingest --watch`: looks again and again, a line for each change, until a signal ends it."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lawfit.cli.output import note, plain, print_json, show
from lawfit.errors import LawfitError, LogFormatError
from lawfit.findings import Finding, finding
from lawfit.words import tell

if TYPE_CHECKING:
    from lawfit.ingest.options import IngestOptions
    from lawfit.pipeline.watching import Watched
    from lawfit.storage import Store

_NAP_SECONDS: Final = 0.2  # after which a signal is heard


def follow(
    store: Store, places: Sequence[str], options: IngestOptions, mapping: Path | None, interval: float, *, as_json: bool
) -> None:
    """Look at places every `interval` seconds; nobody is asked, as a question would stop all that comes behind it.

    Raises
    ------
    LogFormatError
        A place is not there at the start.
    """
    from lawfit.ingest.formats import is_address
    from lawfit.launch.interrupt import stop_on_signal
    from lawfit.pipeline.watching import Watch

    for place in places:
        if not is_address(place) and not Path(place).exists():
            raise LogFormatError(finding("ingest.watch_nowhere", place=place))
    begun = time.monotonic()
    watch = Watch(store, places, options, interval)
    answers = _Answers(mapping, options)
    note(f"watching {', '.join(places)}, every {interval:g} s; Ctrl-C ends it")
    with stop_on_signal() as asked_to_stop:
        while not asked_to_stop():
            if (answered := answers.given()) is not None:
                watch.answer(answered)
            for found in watch.look():
                _say(found, as_json=as_json)
                if asked_to_stop():
                    break
            answers.ask(watch.so_far)
            until = time.monotonic() + interval
            while not asked_to_stop() and (left := until - time.monotonic()) > 0:
                time.sleep(min(left, _NAP_SECONDS))
    _summary(watch.so_far, time.monotonic() - begun, as_json=as_json)


class _Answers:
    """The mapping file: open questions go into it, and when somebody has changed it its answers count."""

    def __init__(self, path: Path | None, options: IngestOptions) -> None:
        self._path = path
        self._options = self._latest = options
        self._open: list[object] = []
        self._seen = self._time()

    def given(self) -> IngestOptions | None:
        """Options with the answers that were given since it was written or read last."""
        from lawfit.ingest.options import read_mapping

        if self._path is None or self._time() in (None, self._seen):
            return None
        self._seen = self._time()
        try:
            self._latest = read_mapping(self._path, self._options)
        except LawfitError as error:
            note(str(error))
            return None
        return self._latest

    def ask(self, so_far: Watched) -> None:
        from lawfit.ingest.options import write_mapping

        questions = [question for questions in so_far.waiting.values() for question in questions]
        if self._path is not None and questions != self._open:
            self._open = list(questions)
            write_mapping(self._path, self._latest, questions)
            self._seen = self._time()

    def _time(self) -> int | None:
        try:
            return None if self._path is None else self._path.stat().st_mtime_ns
        except OSError:
            return None


def _say(found: Finding, *, as_json: bool) -> None:
    belongs_to_the_line_above = found.code == "ingest.watched_note"
    line = f"{' ' * 8 if belongs_to_the_line_above else time.strftime('%H:%M:%S')}  {tell(found)}"
    if as_json:
        sys.stderr.write(line + "\n")
    else:
        show(plain(line))


def _summary(so_far: Watched, seconds: float, *, as_json: bool) -> None:
    counts = {"inserted": so_far.inserted, "updated": so_far.updated, "points": so_far.points}
    all_of_it = finding("ingest.watched_all", seconds=seconds, waiting=list(so_far.waiting), **counts)
    if as_json:
        waiting = [{"file": file, "questions": list(asked)} for file, asked in so_far.waiting.items()]
        print_json(
            {"schema": "lawfit.watch/1", "seconds": seconds, "looks": so_far.looks, **counts, "waiting": waiting}
        )
    else:
        show(plain(tell(all_of_it)))
