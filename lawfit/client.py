"""Log a training run to a service of lawfit, and ask it for settings: with the standard library alone.

Three lines in a training loop::

    run = lawfit.client.start("my-sweep", {"params": 1.2e8, "tokens": 2.4e9, "batch_tokens": 65536, "lr": 1e-3})
    run.log(step, loss=loss, lr=rate)  # in the loop
    run.finish(loss=validation_loss)

and one for the settings of a run::

    lr = lawfit.client.ask(params=1.2e8, tokens=2.4e9)["recommendation"]["lr"]["value"]

Where the service is stands in LAWFIT_URL, the token in LAWFIT_TOKEN. Logging never stops or breaks the loop: points are
sent by a thread; what cannot be sent goes to a file (in LAWFIT_SPOOL, or ~/.lawfit/spool), which the next `start` or
`flush` sends. What went wrong is told to the logger ``lawfit.client``.
"""

from __future__ import annotations

import atexit
import json
import logging
import math
import os
import queue
import secrets
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, Self

__all__ = ["ClientError", "Run", "ask", "flush", "launch", "plan_next", "start"]

log = logging.getLogger("lawfit.client")

DEFAULT_URL: Final = "http://127.0.0.1:8765"
SEND_SECONDS: Final = 1.0  # points of so long go out together
_TIMEOUT_SECONDS: Final = 10.0
_FINISH_SECONDS: Final = 60.0  # for the service to store a run
_PLAN_SECONDS: Final = 60.0
_BACK_OFF_SECONDS: Final = (1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
_MOST_POINTS: Final = 20_000  # in a request
_MOST_WAITING: Final = 1_000_000  # points in memory; a loop that logs more is told so
_FOR_GOOD: Final = frozenset({400, 409, 413, 422})  # answers after which the same would be refused again


class ClientError(Exception):
    """The service refused, or is not there: the sentence says why.

    `status` is 0 where nobody answered, `kind` the type of the problem, `questions` what is open about a run.
    """

    def __init__(
        self, detail: str, *, status: int = 0, kind: str = "", questions: Iterable[Mapping[str, Any]] = ()
    ) -> None:
        super().__init__(detail)
        self.status, self.kind, self.questions = status, kind, tuple(questions)

    @property
    def passes(self) -> bool:
        """Whether the same request may go well later: the service comes back, or a token or an address is put right."""
        return self.status not in _FOR_GOOD and self.kind != "NoRun"


class _Service:
    """Where requests go."""

    def __init__(self, url: str | None, token: str | None) -> None:
        self.url = (url or os.environ.get("LAWFIT_URL") or DEFAULT_URL).rstrip("/")
        self._token = token or os.environ.get("LAWFIT_TOKEN") or ""
        if urllib.parse.urlsplit(self.url).scheme not in ("http", "https"):
            raise ValueError(f"the address of a service begins with http:// or https://, got '{self.url}'")

    def call(self, path: str, body: Any = None, *, seconds: float = _TIMEOUT_SECONDS) -> Any:
        """The document that answers a GET, or with a body a POST.

        Raises
        ------
        ClientError
            It is refused, or nobody answers.
        """
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data=data, headers=headers)  # noqa: S310 - http, see above
        try:
            with urllib.request.urlopen(request, timeout=seconds) as answer:  # noqa: S310
                return json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                raise _refusal(error.code, error.read()) from None
        except (OSError, ValueError, urllib.error.URLError) as error:
            raise ClientError(f"{self.url} does not answer: {error}") from None


def _refusal(status: int, body: bytes) -> ClientError:
    try:
        said = json.loads(body)
        questions = said.get("questions", ())
        return ClientError(str(said["detail"]), status=status, kind=str(said.get("type")), questions=questions)
    except (ValueError, KeyError, TypeError):
        return ClientError(f"HTTP status {status}", status=status)


def ask(
    *, params: float, tokens: float, url: str | None = None, token: str | None = None, **more: Any
) -> dict[str, Any]:
    """The recommended settings of a run: the document of GET /v1/predictions.

    Parameters
    ----------
    params, tokens : of the run; texts such as "7B" do as well
    more : anything else that can be asked: recipe, batch_tokens, seq_len, level, ...

    Raises
    ------
    ClientError
        There is no answer; its sentence says why.
    """
    asked = {"params": params, "tokens": tokens, **{name: value for name, value in more.items() if value is not None}}
    found: dict[str, Any] = _Service(url, token).call(f"/v1/predictions?{urllib.parse.urlencode(asked, doseq=True)}")
    return found


def plan_next(
    *, params: float, tokens: float, budget: str, url: str | None = None, token: str | None = None, **more: Any
) -> dict[str, Any]:
    """Which runs to make next for a target: the document of POST /v1/plans/next, kept under its ``id``.

    Parameters
    ----------
    params, tokens : of the target; texts such as "7B" do as well
    budget : "1e19flops", "20gpu-hours", "64runs" or "$200"
    more : anything else that can be asked: recipe, flops_per_second, price, max_params, seq_len, level, ...

    Raises
    ------
    ClientError
        There is no plan; its sentence says why.
    """
    asked = {"params": params, "tokens": tokens, "budget": budget}
    asked |= {name: value for name, value in more.items() if value is not None}
    query = urllib.parse.urlencode(asked, doseq=True)
    found: dict[str, Any] = _Service(url, token).call(f"/v1/plans/next?{query}", {}, seconds=_PLAN_SECONDS)
    return found


def launch(
    template: str,
    *,
    plan: str | None = None,
    grid: Mapping[str, Any] | None = None,
    recipe: str | None = None,
    url: str | None = None,
    token: str | None = None,
) -> dict[str, Any]:
    """Have runs trained by the service: the document of POST /v1/training-jobs, with its ``job``.

    The same call goes on with what an earlier one left; runs that are there are not trained again.

    Parameters
    ----------
    template : of the service, by name
    plan, grid : one of them: the ``id`` of a plan of `plan_next`, or a grid, such as its ``grid_file``
    recipe : what to call the sweep where it is a new one

    Raises
    ------
    ClientError
        Nothing was begun; its sentence says why.
    """
    said = {"template": template, "plan": plan, "grid": None if grid is None else dict(grid), "recipe": recipe}
    body = {name: value for name, value in said.items() if value is not None}
    found: dict[str, Any] = _Service(url, token).call("/v1/training-jobs", body, seconds=_PLAN_SECONDS)
    return found


def start(
    project: str,
    config: Any = None,
    *,
    run_key: str | None = None,
    url: str | None = None,
    token: str | None = None,
) -> Run:
    """Begin to log a run. It returns at once, whether the service is there or not.

    Parameters
    ----------
    project : runs of one sweep have one; it becomes the recipe's name
    config : settings: params, tokens, batch_tokens, lr, weight_decay, seq_len, optimizer, schedule, ...; or an object
        that has them, as `argparse` gives
    run_key : its name in the project, the same again to go on with it after a crash; left out: one is made up

    Raises
    ------
    ValueError
        The address is none.
    """
    made = f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{secrets.token_hex(3)}"
    settings = config if isinstance(config, Mapping) else vars(config) if config is not None else {}
    return Run(_Service(url, token), project, run_key or made, _plain(settings))


def flush(*, url: str | None = None, token: str | None = None) -> int:
    """Send what earlier runs left in files; how many requests were delivered.

    Raises
    ------
    ClientError
        The service is not there; the files stay.
    """
    service, sent = _Service(url, token), 0
    for path in sorted(_folder().glob("*.jsonl")):
        sent += _send_file(service, path)
    return sent


class Run:
    """A run that is being logged; `start` makes it. As a context manager it ends as its block does."""

    def __init__(self, service: _Service, project: str, run_key: str, config: Mapping[str, Any]) -> None:
        self.project, self.run_key = project, run_key
        self._sender = _Sender(service, {"project": project, "run_key": run_key}, config)
        self._told: set[str] = set()
        self._ended = False

    def log(self, step: int, **metrics: Any) -> None:
        """Log numbers at a step. What is no number is left out, and told once; nothing is raised."""
        points = []
        for metric, value in metrics.items():
            try:
                points.append((metric, int(step), _number(value)))
            except (TypeError, ValueError, OverflowError, RuntimeError) as error:
                self._tell_once(metric, f"'{metric}' at step {step} cannot be logged: {error}")
        if points and not self._sender.add(points):
            self._tell_once("", "points come faster than they can be sent or written down; some are left out")

    def finish(self, *, state: str = "finished", timeout: float = _FINISH_SECONDS, **summary: Any) -> bool:
        """End the run: True once the service has all of it, stored as a run unless it asked a question or refused.

        What could not be sent within `timeout` seconds stays in a file for the next `start` or `flush`.

        Parameters
        ----------
        state : ``finished``, ``diverged`` or ``crashed``
        summary : of the run as a whole, such as its final loss
        """
        if self._ended:
            return True
        self._ended = True
        with suppress(Exception):  # whatever it is, the training has ended well
            return self._sender.end({"state": state, "summary": _plain(summary)}, timeout)
        return False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.finish(state="finished" if kind is None else "crashed")

    def _tell_once(self, about: str, sentence: str) -> None:
        if about not in self._told:
            self._told.add(about)
            log.warning("%s", sentence)


Point = tuple[str, int, float]
_Request = tuple[str, dict[str, Any]]  # path and body


class _Sender:
    """The thread that sends, in order; while the service is away all goes to a file, and from there to the service."""

    def __init__(self, service: _Service, run: dict[str, str], config: Mapping[str, Any]) -> None:
        self._service, self._run = service, run
        self._waiting: queue.SimpleQueue[Point | None] = queue.SimpleQueue()
        self._last: dict[str, Any] | None = None  # the end of the run, once it has come
        self._spool = _Spool(run)
        self._until = math.inf  # after this moment what is left stays in the file
        self._tries, self._next_try = 0, 0.0
        self.done = False
        self._first: _Request | None = ("/v1/live/runs", {**run, "config": dict(config)})
        self._thread = threading.Thread(target=self._work, name="lawfit-client", daemon=True)
        self._thread.start()
        atexit.register(self._leave)

    def add(self, points: Iterable[Point]) -> bool:
        if self._waiting.qsize() > _MOST_WAITING or not self._thread.is_alive():
            return False
        for point in points:
            self._waiting.put(point)
        return True

    def end(self, said: dict[str, Any], timeout: float) -> bool:
        self._until, self._last = time.monotonic() + timeout, said
        self._waiting.put(None)
        self._thread.join(timeout + _TIMEOUT_SECONDS)
        atexit.unregister(self._leave)
        return self.done

    def _leave(self) -> None:
        """The program ends without `finish`: what waits goes to the file at the latest."""
        self._until = time.monotonic() + 2 * SEND_SECONDS
        self._waiting.put(None)
        self._thread.join(2 * SEND_SECONDS + _TIMEOUT_SECONDS)

    def _work(self) -> None:
        try:
            self._send_leftovers()
            ended = False
            while not ended:
                points, ended = self._taken()
                for request in self._requests(points, ended):
                    self._deliver(request)
                if self._spool.used and not ended:
                    self._catch_up()
            while self._spool.used and time.monotonic() < self._until and not self._catch_up():
                time.sleep(min(0.1, SEND_SECONDS))
            self.done = not self._spool.used
            if not self.done:
                told = "%s did not take all; the rest stays in %s, and the next start() or flush() sends it"
                log.warning(told, self._service.url, self._spool.path)
        except Exception:
            log.exception("logging has stopped; the run goes on")
        finally:
            self._spool.close()

    def _taken(self) -> tuple[list[Point], bool]:
        """Points of about a second, and whether they are the last."""
        points: list[Point] = []
        until = time.monotonic() + SEND_SECONDS
        while len(points) < _MOST_POINTS:
            try:
                point = self._waiting.get(timeout=max(until - time.monotonic(), 0.001))
            except queue.Empty:
                break
            if point is None:
                return points, True
            points.append(point)
        return points, False

    def _requests(self, points: list[Point], ended: bool) -> Iterator[_Request]:
        if self._first is not None:
            yield self._first
            self._first = None
        if points:
            rows = [[metric, step, value if math.isfinite(value) else str(value)] for metric, step, value in points]
            yield "/v1/live/points", {"runs": [{**self._run, "points": rows}]}
        if ended and self._last is not None:
            yield "/v1/live/runs/finish", {**self._run, **self._last}

    def _deliver(self, request: _Request) -> None:
        """Send, or write down behind what waits already."""
        if not self._spool.used:
            try:
                _post(self._service, request)
                return
            except ClientError as error:
                log.warning("%s; what is logged goes to %s meanwhile", error, self._spool.path)
        self._spool.write(request)

    def _catch_up(self) -> bool:
        """Try to send the file, less and less often; True when it is empty."""
        if time.monotonic() < self._next_try:
            return False
        try:
            self._spool.send(self._service)
            self._tries = 0
            return True
        except ClientError:
            self._next_try = time.monotonic() + _BACK_OFF_SECONDS[min(self._tries, len(_BACK_OFF_SECONDS) - 1)]
            if self._until < math.inf:
                self._next_try = min(self._next_try, time.monotonic() + _BACK_OFF_SECONDS[0])
            self._tries += 1
            return False

    def _send_leftovers(self) -> None:
        with suppress(ClientError, OSError):
            for path in sorted(_folder().glob("*.jsonl")):
                _send_file(self._service, path)


def _post(service: _Service, request: _Request) -> None:
    """Send a request. What is refused for good is told, and not sent again.

    Raises
    ------
    ClientError
        It may go well later.
    """
    path, body = request
    seconds = _FINISH_SECONDS if path.endswith("finish") else _TIMEOUT_SECONDS
    try:
        service.call(path, body, seconds=seconds)
    except ClientError as error:
        if error.passes:
            raise
        log.warning("POST %s was refused (%d): %s", path, error.status, error)
        for question in error.questions:
            log.warning("  open: %s", question.get("question"))


class _Spool:
    """A file of requests that wait, in order, a line each; it is locked while its run lives."""

    def __init__(self, run: Mapping[str, str]) -> None:
        name = "".join(c if c.isalnum() or c in "-_." else "_" for c in "-".join(run.values()))[:100]
        self.path = _folder() / f"{name}-{secrets.token_hex(4)}.jsonl"
        self._file: IO[str] | None = None
        self.used = False  # whether something waits in it

    def write(self, request: _Request) -> None:
        if self._file is None:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            made = self.path.with_suffix(".new")  # a name that nobody sends, until the lock is ours
            self._file = made.open("a+", encoding="utf-8")
            _lock(self._file)
            made.rename(self.path)
        self._file.write(json.dumps(request) + "\n")
        self._file.flush()
        self.used = True

    def send(self, service: _Service) -> None:
        """Send all of it, and empty it.

        Raises
        ------
        ClientError
            The service is not there; nothing is lost.
        """
        if self._file is not None:
            _send_lines(service, self._file)
        self.used = False

    def close(self) -> None:
        if self._file is not None:
            if not self.used:
                self.path.unlink(missing_ok=True)
            self._file.close()
            self._file = None


def _folder() -> Path:
    return Path(os.environ.get("LAWFIT_SPOOL") or Path.home() / ".lawfit" / "spool")


def _send_file(service: _Service, path: Path) -> int:
    """Send a file whose run is gone; one that another process holds is left to it."""
    try:
        with path.open("r+", encoding="utf-8") as file:  # closing it lets go of the lock
            if not _lock(file):
                return 0
            sent = _send_lines(service, file)
            path.unlink(missing_ok=True)
            return sent
    except OSError:  # another process sent it, or it is not ours
        return 0


def _send_lines(service: _Service, file: IO[str]) -> int:
    """Send the requests of a file in order, and empty it. Where one cannot be sent all stay: twice does no harm."""
    file.seek(0)
    sent = 0
    for line in file:
        with suppress(ValueError):  # the last line of a process that was killed
            path, body = json.loads(line)
            _post(service, (path, body))
            sent += 1
    file.seek(0)
    file.truncate()
    return sent


def _lock(file: IO[str]) -> bool:
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ImportError:  # Windows: files that are open cannot be removed there
        return True
    except OSError:
        return False
    return True


def _plain(value: Any) -> Any:
    """Settings as JSON has them; what it does not have is written as text."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [_plain(inner) for inner in value]
    if value is None or isinstance(value, (str, bool, int)):
        return value
    try:
        number = _number(value)
    except (TypeError, ValueError, RuntimeError):
        return str(value)
    return number if math.isfinite(number) else str(number)


def _number(value: Any) -> float:
    """A number, or an array or tensor of one; of a loss that has gradients its value, without torch's warning."""
    detach = getattr(value, "detach", None)
    return float(value if detach is None else detach())
