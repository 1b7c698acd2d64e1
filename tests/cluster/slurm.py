"""A real SLURM of one node on loopback, for the time of a test: no systemd, no database.

Debian's packages slurm-wlm and munge are enough. It needs root, because slurmd starts jobs as other
users, and /etc/slurm, because Snakemake's job step drops the variable that names another place.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

CONFIGURATION = Path("/etc/slurm/slurm.conf")
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "sinfo")
_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
_SETTINGS = """\
ClusterName=affectlocus
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={daemon}
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
# Neither cgroups nor accounting: processes are found by /proc, and memory is not enforced.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/builtin
ReturnToService=2
KillWait=2
# Seconds that squeue still shows a job that has ended.
MinJobAge=900
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} RealMemory=100000 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


class NoSlurmError(Exception):
    """Why there is none here, for a skipped test."""


@dataclass(frozen=True)
class Job:
    """A line of squeue."""

    id: str
    state: str
    memory: str
    limit: str
    comment: str


def jobs() -> list[Job]:
    """Every job of this controller, ended ones too, in the order of submission."""
    run = subprocess.run(
        ["squeue", "--noheader", "--states=all", "--sort=i", "--format=%i|%T|%m|%l|%k"],
        capture_output=True,
        text=True,
        check=True,
    )
    return [Job(*line.split("|", 4)) for line in run.stdout.splitlines()]


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _wait(what: str, ready: list[str], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        run = subprocess.run(ready, capture_output=True, text=True, check=False)
        if run.returncode == 0 and ("sinfo" not in ready[0] or "idle" in run.stdout):
            return
        time.sleep(0.1)
    raise NoSlurmError(f"{what} did not start within {seconds:g} s")


def check() -> None:
    """Raises `NoSlurmError` where no SLURM can be started."""
    missing = [name for name in PROGRAMS if shutil.which(name, path=_PATH) is None]
    if missing:
        raise NoSlurmError(f"no {missing[0]} here (Debian: apt install slurm-wlm munge)")
    if os.geteuid() != 0:
        raise NoSlurmError("only root can start slurmd")
    if CONFIGURATION.exists():
        raise NoSlurmError(f"{CONFIGURATION} is there: another SLURM's, which a test leaves alone")


@contextmanager
def running(folder: Path) -> Iterator[None]:
    """A SLURM with one idle node, until the block ends.

    Args:
        folder: its state and logs; on a path of plain characters.

    Raises:
        NoSlurmError: it is not installed, or cannot be started here.
    """
    check()
    for name in ("state", "spool"):
        (folder / name).mkdir(parents=True)
    folder.chmod(0o755)
    key = folder / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o600)
    host = "localhost"
    made = [path for path in (CONFIGURATION.parent,) if not path.exists()]
    CONFIGURATION.parent.mkdir(parents=True, exist_ok=True)
    CONFIGURATION.write_text(
        _SETTINGS.format(
            host=host,
            folder=folder,
            controller=_free_port(),
            daemon=_free_port(),
            cores=max(2, os.cpu_count() or 1),
        )
    )
    plain = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
    plain["PATH"] = _PATH
    started: list[subprocess.Popen[bytes]] = []

    def start(*command: str) -> None:
        with (folder / f"{command[0]}.out").open("wb") as out:
            started.append(
                subprocess.Popen(command, stdout=out, stderr=out, env=plain, start_new_session=True)
            )

    try:
        start(
            *("munged", "--foreground", "--force", f"--key-file={key}"),
            *(f"--socket={folder}/munge.socket", f"--pid-file={folder}/munged.pid"),
            *(f"--log-file={folder}/munged.log", f"--seed-file={folder}/munged.seed"),
        )
        _wait("munged", ["munge", "--no-input", f"--socket={folder}/munge.socket"])
        start("slurmctld", "-D")
        start("slurmd", "-D", "-N", host)
        _wait("SLURM", ["sinfo", "--noheader", "--format=%T"])
        yield
    finally:
        subprocess.run(["scancel", "--user=root"], capture_output=True, check=False, timeout=20)
        for process in reversed(started):
            process.terminate()
        for process in reversed(started):
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
        # Left behind, it would cost every start of snakemake seconds.
        CONFIGURATION.unlink(missing_ok=True)
        for path in made:
            shutil.rmtree(path, ignore_errors=True)
