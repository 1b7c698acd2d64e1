"""Leases of GPUs: each job on a host with several GPUs uses its own.

A job holds an exclusive flock on a file for each of its GPUs. When the job ends, also by kill -9,
the kernel releases the lock and the GPU is free. torch is not imported here, because
CUDA_VISIBLE_DEVICES must be set before CUDA starts.
"""

from __future__ import annotations

import fcntl
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Callable, MutableMapping
from pathlib import Path

from affectlocus.core.errors import InputError

VISIBLE = "CUDA_VISIBLE_DEVICES"
_LISTED = re.compile(r"^GPU (\d+):", re.MULTILINE)
_DEVICE = re.compile(r"nvidia(\d+)")


def cards(environment: MutableMapping[str, str] | None = None) -> list[str]:
    """The GPUs that this process may use, by their names in CUDA_VISIBLE_DEVICES.

    If CUDA_VISIBLE_DEVICES is not set: all that nvidia-smi lists, or else all with a device file.
    """
    environment = os.environ if environment is None else environment
    given = environment.get(VISIBLE)
    if given is not None:
        # CUDA ignores the rest of the list after an invalid number such as -1.
        listed = [name.strip() for name in given.split(",")]
        end = next((at for at, name in enumerate(listed) if name in ("", "-1")), len(listed))
        return listed[:end]
    try:
        run = subprocess.run(
            ["nvidia-smi", "-L"], capture_output=True, text=True, timeout=30, check=True
        )
        return _LISTED.findall(run.stdout)
    except (OSError, subprocess.SubprocessError):
        found = (_DEVICE.fullmatch(path.name) for path in Path(os.sep, "dev").glob("nvidia*"))
        return sorted((match[1] for match in found if match), key=int)


def folder() -> Path:
    """The folder of the lease files of all jobs of a host: AFFECTLOCUS_LEASES, or in /tmp."""
    own = os.environ.get("AFFECTLOCUS_LEASES")
    return Path(own) if own else Path(tempfile.gettempdir()) / "affectlocus-cards"


class Lease:
    """GPUs that this process holds until `release`, or until it ends.

    Attributes:
        cards: their names in CUDA_VISIBLE_DEVICES.
    """

    def __init__(self, held: dict[str, int]) -> None:
        self._held = held
        self.cards = list(held)

    def release(self) -> None:
        """Releases the GPUs before the process ends."""
        for descriptor in self._held.values():
            os.close(descriptor)
        self._held = {}


def lease(
    wanted: int,
    environment: MutableMapping[str, str] | None = None,
    waiting: Callable[[str], None] = lambda _: None,
    pause: float = 1.0,
) -> Lease | None:
    """Waits for `wanted` free GPUs, locks them, and sets CUDA_VISIBLE_DEVICES to them.

    If CUDA_VISIBLE_DEVICES lists no more GPUs than wanted, it is left as it is: a scheduler or the
    user has set it.

    Args:
        environment: where CUDA_VISIBLE_DEVICES is read and set.
        waiting: called once with a sentence if too few GPUs are free.
        pause: seconds between two attempts.

    Returns:
        The lease; None if there is nothing to lease.

    Raises:
        InputError: this host has fewer GPUs than wanted, or the lease folder cannot be written.
    """
    environment = os.environ if environment is None else environment
    known = cards(environment)
    if wanted < 1 or not known or (VISIBLE in environment and len(known) <= wanted):
        return None
    if len(known) < wanted:
        raise InputError(
            "gpu.too-few",
            f"the job needs {wanted} GPUs, but this host has {len(known)}; set plan.card_gb to the "
            "memory of its GPUs, or use another host",
            found=len(known),
            expected=wanted,
        )
    reported = False
    while (held := _take(known, wanted)) is None:
        if not reported:
            waiting(f"waiting for {wanted} of the GPUs {', '.join(known)}, which other jobs use")
            reported = True
        # `_take` releases a part at once, so jobs that want several GPUs cannot block each other.
        time.sleep(pause * (1 + os.getpid() % 7 / 7))
    environment[VISIBLE] = ",".join(held)
    # By default CUDA numbers the fastest GPU first; nvidia-smi uses the order of the bus.
    environment.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    return Lease(held)


def _take(known: list[str], wanted: int) -> dict[str, int] | None:
    held: dict[str, int] = {}
    for card in known:
        descriptor = _locked(folder() / f"{re.sub(r'[^A-Za-z0-9-]', '_', card)}.lock")
        if descriptor is not None:
            held[card] = descriptor
        if len(held) == wanted:
            return held
    for descriptor in held.values():
        os.close(descriptor)
    return None


def _locked(path: Path) -> int | None:
    """A descriptor with an exclusive lock on the file; None if another process holds the lock."""
    try:
        if not path.parent.is_dir():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.parent.chmod(0o777)
        try:
            # Opened read-only, because in a shared folder opening with O_CREAT may be refused.
            descriptor = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            descriptor = os.open(path, os.O_RDONLY | os.O_CREAT, 0o666)
    except OSError as error:
        raise InputError(
            "gpu.no-lease-folder",
            f"{path}: cannot be opened ({error.strerror}), but jobs lock it to reserve a GPU; set "
            "AFFECTLOCUS_LEASES to a folder that every job on this host can write",
            file=path,
            reason=error.strerror,
        ) from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor
