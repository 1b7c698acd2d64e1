"""Cards and their leases, held by real processes."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from refusal import refused

from affectlocus.orchestration.gpu_lease import VISIBLE, cards, lease

HOLDER = """
import os, sys, time
from affectlocus.orchestration.gpu_lease import lease
held = lease(int(sys.argv[1]), pause=0.05)
print(os.environ["CUDA_VISIBLE_DEVICES"], os.environ.get("CUDA_DEVICE_ORDER"), flush=True)
time.sleep(60)
"""


@pytest.fixture(autouse=True)
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host whose nvidia-smi lists three cards."""
    program = tmp_path / "bin" / "nvidia-smi"
    program.parent.mkdir()
    lines = "".join(f"GPU {n}: NVIDIA Example (UUID: GPU-{n}{n}{n}{n})\n" for n in range(3))
    program.write_text(f"#!/bin/sh\n[ \"$1\" = -L ] || exit 1\ncat <<'END'\n{lines}END\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("AFFECTLOCUS_LEASES", str(tmp_path / "leases"))
    monkeypatch.delenv(VISIBLE, raising=False)
    return program


def start(wanted: int = 1) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(wanted)], stdout=subprocess.PIPE, text=True
    )


def card(process: subprocess.Popen[str]) -> str:
    """The cards that a holder says it has, once it has them."""
    assert process.stdout is not None
    visible, order = process.stdout.readline().split()
    assert order == "PCI_BUS_ID"
    return visible


@pytest.mark.parametrize(
    ("given", "expected"),
    [("2,0", ["2", "0"]), ("", []), ("-1", []), ("0,-1,1", ["0"]), ("GPU-8a,MIG-1", None)],
)
def test_what_is_listed_is_what_may_be_used(given: str, expected: list[str] | None) -> None:
    assert cards({VISIBLE: given}) == (given.split(",") if expected is None else expected)


def test_without_a_list_every_card_of_the_host_may_be_used() -> None:
    assert cards({}) == ["0", "1", "2"]


def test_three_jobs_have_a_card_each_and_a_killed_ones_is_free_at_once() -> None:
    jobs = [start() for _ in range(3)]
    late = None
    try:
        held = [card(job) for job in jobs]
        assert sorted(held) == ["0", "1", "2"]
        late = start()
        time.sleep(0.4)
        assert late.poll() is None
        jobs[1].send_signal(signal.SIGKILL)
        assert card(late) == held[1]
    finally:
        for job in [*jobs, *([late] if late else [])]:
            job.kill()
            job.communicate()


def test_a_job_of_two_cards_holds_none_while_it_waits() -> None:
    mine = {}
    first = lease(1, mine)
    second = lease(1, {})
    assert first is not None and second is not None
    assert mine[VISIBLE] == "0"
    wide = start(2)
    try:
        time.sleep(0.4)
        third = lease(1, {}, pause=0.02)
        assert third is not None
        assert third.cards == ["2"]
        first.release()
        third.release()
        assert card(wide) == "0,2"
    finally:
        wide.kill()
        wide.communicate()
        second.release()


@pytest.mark.parametrize("given", ["1", "GPU-1111", "0,2"])
def test_what_a_scheduler_gave_stays(given: str) -> None:
    environment = {VISIBLE: given}
    assert lease(2, environment) is None
    assert environment == {VISIBLE: given}


def test_of_a_users_longer_list_each_job_takes_its_own() -> None:
    one, two = {VISIBLE: "1,2"}, {VISIBLE: "1,2"}
    leases = lease(1, one), lease(1, two)
    assert (one[VISIBLE], two[VISIBLE]) == ("1", "2")
    for held in leases:
        assert held is not None
        held.release()


def test_a_host_without_cards_leases_none(host: Path) -> None:
    host.write_text("#!/bin/sh\nexit 9\n")
    environment: dict[str, str] = {}
    if cards({}):
        pytest.skip("this host has cards of its own")
    assert lease(1, environment) is None
    assert environment == {}


def test_more_cards_than_there_are_end_in_one_sentence() -> None:
    with refused("gpu.too-few", found=3, expected=4):
        lease(4, {})


def test_a_folder_that_cannot_be_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("AFFECTLOCUS_LEASES", str(tmp_path / "file" / "leases"))
    with refused("gpu.no-lease-folder") as caught:
        lease(1, {})
    assert str(tmp_path / "file" / "leases") in str(caught.value.fields["file"])
