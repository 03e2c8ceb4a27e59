"""Jobs as tasks of a Ray cluster: each runs `node` as a process, and is over when that is.

Ray carries the command line and the environment; that a task of a driver that died ends, with its process, is Ray's
own doing. It is not asked to try anything again: what died goes on from its checkpoint by the campaign, which counts.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, Final

from lawfit.launch.backends.cluster import ClusterLauncher, Entry, node_command
from lawfit.launch.backends.ledger import Batch, Ledger
from lawfit.launch.launcher import Ending
from lawfit.launch.plan import LaunchError

CONNECT_SECONDS: Final = 5.0
KILL_SECONDS: Final = 10.0  # for killed tasks to be gone
_OF_ONE_MACHINE: Final = ("RAY_", "SLURM_", "CUDA_VISIBLE_DEVICES", "HOSTNAME", "TMPDIR")


class RayLauncher(ClusterLauncher):
    """Runs jobs through Ray; see `ClusterLauncher`."""

    name: ClassVar[str] = "ray"
    honours: ClassVar[frozenset[str]] = frozenset(
        {"workers", "gpus_per_job", "cpus_per_job", "memory_gb", "walltime_minutes", "jobs_at_a_time", "ray_address"}
    )

    def __init__(self, gpus: Sequence[str] = (), **own: Any) -> None:
        super().__init__(gpus, **own)
        self.require_here()
        self._refs: dict[str, Any] = {}  # by token of the batch: what Ray calls the task
        self._began = _connect(self._resources.ray_address)
        try:
            self._require_room()
        except LaunchError:
            self._leave()
            raise
        self._task = _task()

    @classmethod
    def require_here(cls) -> None:
        if find_spec("ray") is None:
            raise LaunchError("backend ray needs the package ray: pip install 'lawfit[ray]'")

    def hand_on(self, ready: Sequence[Entry]) -> None:
        environment = {k: v for k, v in os.environ.items() if not k.startswith(_OF_ONE_MACHINE)}
        for entry in ready:
            if (batch := self.new_batch([entry])) is None:
                continue
            command = node_command(sys.executable, batch)
            self._refs[batch.token] = self._task.options(**self._needs()).remote(f"exec {command} 0", environment)

    def _needs(self) -> dict[str, float]:
        asked = self._resources
        needs = {"num_cpus": asked.cpus_per_job or 1, "num_gpus": (asked.gpus_per_job or 0) / self._workers}
        return needs | ({"memory": asked.memory_gb * 2**30} if asked.memory_gb else {})

    def look(self) -> None:
        import ray

        refs = {
            self._refs[e.batch.token]: e for e in self.live() if e.batch is not None and e.batch.token in self._refs
        }
        over, _ = ray.wait(list(refs), num_returns=len(refs), timeout=0) if refs else ([], [])
        for ref in over:
            self._over(refs[ref], ref)

    def _over(self, entry: Entry, ref: Any) -> None:
        """Ray says that a task is over: why, where the job wrote down no end of its own."""
        import ray
        from ray.exceptions import OutOfMemoryError, RayError, TaskCancelledError

        assert entry.batch is not None
        code: int | None = None
        ending = None
        try:
            code = ray.get(ref)
        except TaskCancelledError:
            entry.state = replace(entry.state, cancelled=True)
        except OutOfMemoryError as error:
            entry.said, ending = _first_line(error), Ending.MEMORY
        except RayError as error:
            entry.said, ending = _first_line(error), Ending.NODE
        del self._refs[entry.batch.token]
        self._read_records()  # what it wrote down just before
        if entry.end is None or (entry.end["signalled"] and not entry.state.cancelled):
            entry.ended(code if entry.end is None else entry.end["exit_code"], ending)

    def ask(self, entries: Sequence[Entry]) -> None:
        self._cancel(entries, force=False)

    def drop(self, entries: Sequence[Entry]) -> None:
        self._cancel(entries, force=False)

    def kill(self, entries: Sequence[Entry]) -> None:
        import ray

        refs = self._cancel(entries, force=True)
        if refs:
            ray.wait(refs, num_returns=len(refs), timeout=KILL_SECONDS)

    def inherit(self, ledger: Ledger, batch: Batch, folder: Path) -> None:  # noqa: ARG002
        """Its tasks ended with it; one that is still about to holds a lock on its runs."""
        ledger.forget(batch)

    def _cancel(self, entries: Sequence[Entry], *, force: bool) -> list[Any]:
        import ray

        refs = [self._refs[e.batch.token] for e in entries if e.batch is not None and e.batch.token in self._refs]
        for ref in refs:
            ray.cancel(ref, force=force)
        return refs

    def close(self) -> None:
        super().close()
        self._leave()

    def _leave(self) -> None:
        import ray

        if self._began:
            ray.shutdown()
            self._began = False

    def _require_room(self) -> None:
        """One machine at least could run a job if it were idle; Ray would wait for ever."""
        import ray

        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        asked = {
            "CPU": self._needs()["num_cpus"],
            "GPU": self._needs()["num_gpus"],
            "memory": self._needs().get("memory", 0),
        }
        if any(all(node.get(what, 0) >= count for what, count in asked.items()) for node in nodes):
            return
        has = "; ".join(
            f"{node.get('CPU', 0):g} CPUs, {node.get('GPU', 0):g} GPUs, {node.get('memory', 0) / 2**30:.1f} GiB"
            for node in nodes
        )
        raise LaunchError(
            f"no machine of the Ray cluster has what a job asks for ({asked['CPU']:g} CPUs, {asked['GPU']:g} GPUs"
            + (f", {asked['memory'] / 2**30:g} GiB" if asked["memory"] else "")
            + f"); they have: {has}. Ask for less (--gpus-per-job, --cpus-per-job, --memory-gb; --cpu for none)"
        )


def _connect(address: str | None) -> bool:
    """Join a cluster, or start one on this machine; False where this process had already done so."""
    import ray

    if ray.is_initialized():
        return False
    address = address or os.environ.get("RAY_ADDRESS")
    host, _, port = (address or "").rpartition(":")
    if host and port.isdigit():
        _require_answer(host.removeprefix("ray://"), int(port))
    with _own_signals():
        try:
            if address is not None:
                ray.init(address=address, log_to_driver=False, logging_level="ERROR")
                return True
            with contextlib.suppress(ConnectionError):
                ray.init(address="auto", log_to_driver=False, logging_level="ERROR")
                return True
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
            ray.init(
                address="local",
                include_dashboard=False,
                _node_ip_address="127.0.0.1",
                log_to_driver=False,
                logging_level="ERROR",
            )
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            raise LaunchError(
                f"no Ray cluster at {address or 'this machine'}: {_first_line(error)}; name its head with "
                "--ray-address HOST:PORT"
            ) from None
    return True


def _require_answer(host: str, port: int) -> None:
    try:
        socket.create_connection((host, port), timeout=CONNECT_SECONDS).close()
    except OSError as error:
        raise LaunchError(
            f"no Ray cluster answers at {host}:{port} ({error.strerror or error}); name its head with --ray-address "
            "HOST:PORT, or leave that out for one on this machine"
        ) from None


@contextmanager
def _own_signals() -> Iterator[None]:
    """Ray takes SIGTERM for itself; what a campaign does on it is left as it was."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _task() -> Any:
    """The task. Defined in here, it travels as it stands: the machine that runs it need not know this module."""
    import ray

    def run(command: str, environment: dict[str, str]) -> int:
        import os
        import subprocess
        import time

        process = subprocess.Popen(["/bin/sh", "-c", command], env={**os.environ, **environment})
        while True:
            try:
                while (code := process.poll()) is None:
                    time.sleep(0.1)  # a wait without end would not hear of a cancellation
                return code
            except KeyboardInterrupt:  # cancelled: the process is told, and ends in good time
                process.terminate()

    return ray.remote(max_retries=0, max_calls=0)(run)


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:300]
