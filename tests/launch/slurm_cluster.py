"""A Slurm of two virtual nodes on this machine, without systemd and without a trace in its settings."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol", "scancel")
ACCOUNTS = ("slurmdbd", "sacctmgr", "sacct", "mariadbd", "mariadb-install-db")
NODES = ("n1", "n2")
CONF = """
ClusterName=lawfit
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={control}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
SlurmUser={user}
SlurmdUser={user}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
SlurmdTimeout=10
KillWait=5
MaxArraySize=1001
MaxJobCount=5000
GresTypes=gpu
NodeName=n1 NodeHostname=localhost NodeAddr=127.0.0.1 Port={n1} CPUs=2 RealMemory=4000 Gres=gpu:1 State=UNKNOWN
NodeName=n2 NodeHostname=localhost NodeAddr=127.0.0.1 Port={n2} CPUs=2 RealMemory=4000 Gres=gpu:1 State=UNKNOWN
PartitionName=debug Nodes=ALL Default=YES MaxTime=INFINITE State=UP
SchedulerParameters=batch_sched_delay=1,sched_interval=5,sched_min_interval=100000
"""
# GPUs must be device nodes, or jobs do not see their numbers.
GRES = "".join(f"NodeName={node} Name=gpu File=/dev/tty{n}\n" for n, node in enumerate(NODES))


class SlurmCluster:
    """Started and stopped by `cluster`; commands find it by SLURM_CONF."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.conf = folder, folder / "slurm.conf"
        self.ports: dict[str, int] = {}
        self.database: subprocess.Popen[bytes] | None = None

    def start(self, settings: str = "", *, accounts: bool = False) -> None:
        """Start everything.

        Parameters
        ----------
        settings : more lines of slurm.conf, instead of those of the same names
        accounts : with a database of accounts
        """
        for name in ("state", *(f"spool-{node}" for node in NODES)):
            (self.folder / name).mkdir(parents=True)
        ports = dict(zip(("control", *NODES), _free_ports(3), strict=True))
        settings += self._accounts_settings() if accounts else ""
        instead = {line.partition("=")[0] for line in settings.splitlines() if line}
        lines = CONF.format(folder=self.folder, user=getpass.getuser(), **ports).splitlines()
        kept = [line for line in lines if line.partition("=")[0] not in instead]
        self.conf.write_text("\n".join([*kept, settings, ""]))
        (self.folder / "gres.conf").write_text(GRES)
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)
        names = {
            name: f"--{name}={self.folder}/munge.{name.removesuffix('-file')}" for name in ("pid-file", "log-file")
        }
        self._do("munged", "--force", f"--key-file={key}", f"--socket={self.folder}/munge.socket",
                 f"--seed-file={self.folder}/munge.seed", *names.values())  # fmt: skip
        if accounts:
            self._start_accounts()
        self._do("slurmctld")
        for node in NODES:
            self.start_node(node)
        self.wait_for_nodes()

    def _accounts_settings(self) -> str:
        self.ports = dict(zip(("slurmdbd", "mariadb"), _free_ports(2), strict=True))
        return (
            "AccountingStorageType=accounting_storage/slurmdbd\nAccountingStorageHost=localhost\n"
            f"AccountingStoragePass={self.folder}/munge.socket\n"
            f"AccountingStoragePort={self.ports['slurmdbd']}\nJobAcctGatherType=jobacct_gather/linux\n"
        )

    def _start_accounts(self) -> None:
        data, socket_of = self.folder / "mariadb", f"{self.folder}/mariadb.socket"
        user = getpass.getuser()
        self._do("mariadb-install-db", "--no-defaults", f"--datadir={data}", f"--user={user}", "--skip-test-db")
        database = subprocess.Popen(
            ["mariadbd", "--no-defaults", f"--datadir={data}", f"--socket={socket_of}", f"--user={user}",
             f"--port={self.ports['mariadb']}", "--bind-address=127.0.0.1", f"--pid-file={self.folder}/mariadb.pid"],
            env=self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self.database = database
        sql = "create database slurm;"
        for host in ("localhost", "127.0.0.1"):
            sql += f" create user slurm@{host} identified by 'slurm'; grant all on slurm.* to slurm@{host};"
        _until(lambda: self._do("mariadb", "--no-defaults", f"--socket={socket_of}", "-e", sql))
        conf = self.folder / "slurmdbd.conf"
        conf.write_text(
            f"AuthType=auth/munge\nAuthInfo=socket={self.folder}/munge.socket\nDbdHost=localhost\n"
            f"DbdPort={self.ports['slurmdbd']}\nSlurmUser={user}\nPidFile={self.folder}/slurmdbd.pid\n"
            f"LogFile={self.folder}/slurmdbd.log\nStorageType=accounting_storage/mysql\nStorageHost=127.0.0.1\n"
            f"StoragePort={self.ports['mariadb']}\nStorageUser=slurm\nStoragePass=slurm\nStorageLoc=slurm\n"
        )
        conf.chmod(0o600)
        self._do("slurmdbd")
        _until(lambda: self._do("sacctmgr", "-i", "add", "cluster", "lawfit"))

    def start_node(self, node: str) -> None:
        self._do("slurmd", "-N", node)

    def wait_for_nodes(self, state: str = "idle", seconds: float = 30) -> None:
        end = time.monotonic() + seconds
        while self.node_states() != dict.fromkeys(NODES, state):
            if time.monotonic() > end:
                raise RuntimeError(f"Slurm's nodes are {self.node_states()}, not {state}, after {seconds} s")
            time.sleep(0.2)

    def node_states(self) -> dict[str, str]:
        said = self._do("sinfo", "--noheader", "--Node", "--format=%N %T").split()
        return dict(zip(said[::2], said[1::2], strict=True))

    def kill_node(self, node: str) -> None:
        """As a power cut does: the daemon and all jobs of the node, at once."""
        pid = int((self.folder / f"slurmd-{node}.pid").read_text())
        for process in [
            pid,
            *_with_environment(f"SLURMD_NODENAME={node}"),
            *_titled("slurmstepd: [", self._jobs_of(node)),
        ]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)

    def _jobs_of(self, node: str) -> set[str]:
        return set(self._do("squeue", "--noheader", "--states=R,CG", f"--nodelist={node}", "--format=%A").split())

    def stop(self) -> None:
        with contextlib.suppress(subprocess.SubprocessError, OSError, RuntimeError):
            self._do("scancel", "--full", "--user", getpass.getuser())
            time.sleep(0.5)
        for process in _with_environment(f"SLURM_CONF={self.conf}", but=os.getpid()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        if self.database is not None:
            self.database.wait()

    def _do(self, *words: str) -> str:
        done = subprocess.run(words, env=self.environment, capture_output=True, text=True, timeout=30, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(words)}: {done.stderr or done.stdout}")
        return done.stdout

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "SLURM_CONF": str(self.conf), "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}


def missing(*, accounts: bool = False) -> str:
    """Why there can be no Slurm here, or nothing."""
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    programs = (*PROGRAMS, *ACCOUNTS) if accounts else PROGRAMS
    absent = [program for program in programs if shutil.which(program, path=path) is None]
    return (
        f"Slurm is not installed ({', '.join(absent)}); on Debian: apt-get install slurmctld slurmd slurm-client munge"
        if absent
        else ""
    )


@contextmanager
def cluster(folder: Path, settings: str = "", *, accounts: bool = False) -> Iterator[SlurmCluster]:
    made = SlurmCluster(folder)
    try:
        made.start(settings, accounts=accounts)
        yield made
    finally:
        made.stop()


def _until(succeeds: Callable[[], object], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while True:
        try:
            succeeds()
            return
        except RuntimeError:
            if time.monotonic() > end:
                raise
            time.sleep(0.3)


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _processes() -> Iterator[Path]:
    return (entry for entry in Path("/proc").iterdir() if entry.name.isdigit())


def _with_environment(variable: str, *, but: int = 0) -> list[int]:
    found = []
    for entry in _processes():
        with contextlib.suppress(OSError):
            if variable.encode() in (entry / "environ").read_bytes().split(b"\0") and int(entry.name) != but:
                found.append(int(entry.name))
    return found


def _titled(start: str, jobs: set[str]) -> list[int]:
    found = []
    for entry in _processes():
        with contextlib.suppress(OSError):
            title = (entry / "cmdline").read_bytes().decode(errors="replace")
            if title.startswith(start) and any(title.startswith(f"{start}{job}.") for job in jobs):
                found.append(int(entry.name))
    return found
