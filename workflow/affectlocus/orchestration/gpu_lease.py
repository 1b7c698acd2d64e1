"""One card for each job on a host with several: a file lease, which the kernel takes back.

A job holds an exclusive flock on a file of its card for as long as it lives. However it ends, a
kill -9 included, the kernel closes the file, and the card is free again. No torch is imported, so
that a job knows its card before CUDA looks for one.
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
    """The cards that this process may use, as CUDA_VISIBLE_DEVICES names them.

    Those that CUDA_VISIBLE_DEVICES lists; where it is not set, all that nvidia-smi lists, or else
    all with a device file.
    """
    environment = os.environ if environment is None else environment
    given = environment.get(VISIBLE)
    if given is not None:
        # CUDA stops at the first number that is none of its cards: -1 hides what follows.
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
    """Where the lease files lie, one place for all jobs of a host: AFFECTLOCUS_LEASES, or /tmp."""
    own = os.environ.get("AFFECTLOCUS_LEASES")
    return Path(own) if own else Path(tempfile.gettempdir()) / "affectlocus-cards"


class Lease:
    """Cards that are this process's until `release`, or until it ends.

    Attributes:
        cards: their names, as CUDA_VISIBLE_DEVICES takes them.
    """

    def __init__(self, held: dict[str, int]) -> None:
        self._held = held
        self.cards = list(held)

    def release(self) -> None:
        """Gives the cards back before the process ends."""
        for descriptor in self._held.values():
            os.close(descriptor)
        self._held = {}


def lease(
    wanted: int,
    environment: MutableMapping[str, str] | None = None,
    waiting: Callable[[str], None] = lambda _: None,
    pause: float = 1.0,
) -> Lease | None:
    """Takes `wanted` free cards, waiting for them, and makes them all that CUDA will see.

    A list of no more cards than wanted stays as it is: a scheduler, or the user, has chosen.

    Args:
        environment: where CUDA_VISIBLE_DEVICES is read and set.
        waiting: called once with a sentence if no card is free.
        pause: seconds between two looks.

    Returns:
        The lease; None where nothing was to be leased.

    Raises:
        InputError: fewer cards on this host than wanted, or a folder that cannot hold leases.
    """
    environment = os.environ if environment is None else environment
    known = cards(environment)
    if wanted < 1 or not known or (VISIBLE in environment and len(known) <= wanted):
        return None
    if len(known) < wanted:
        raise InputError(
            f"{wanted} cards are wanted and this host has {len(known)}; raise plan.card_gb to what "
            "a card holds, or take another host"
        )
    told = False
    while (held := _take(known, wanted)) is None:
        if not told:
            waiting(f"waiting for {wanted} of the cards {', '.join(known)}: others hold them")
            told = True
        # Two jobs that want several never hold one each and wait: a part is given back at once.
        time.sleep(pause * (1 + os.getpid() % 7 / 7))
    environment[VISIBLE] = ",".join(held)
    # CUDA would number the fastest first; nvidia-smi goes by the bus.
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
    """A descriptor with an exclusive lock on the file; None where another process has it."""
    try:
        if not path.parent.is_dir():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.parent.chmod(0o777)
        try:
            # Read only: in a folder that users share, creating what is there may be refused.
            descriptor = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            descriptor = os.open(path, os.O_RDONLY | os.O_CREAT, 0o666)
    except OSError as error:
        raise InputError(
            f"{path}: cannot be opened ({error.strerror}), and a card's lease lies there; set "
            "AFFECTLOCUS_LEASES to a folder that every job of this host may write"
        ) from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor
