"""A pattern that would never end is stopped."""

from __future__ import annotations

import re
import signal
import threading
import time
from pathlib import Path

import pytest
from refusal import refused

from affectlocus.core.errors import InputError
from affectlocus.core.regex_timeout import time_limit

SLOW = InputError("task.slow-pattern", "too slow")


def test_a_pattern_is_stopped_in_the_middle_of_a_search() -> None:
    before = signal.getsignal(signal.SIGVTALRM)
    began = time.process_time()
    with refused("task.slow-pattern"), time_limit(0.2, SLOW):
        re.fullmatch("(a+)+", "a" * 40 + "!")
    assert time.process_time() - began < 2
    assert signal.getsignal(signal.SIGVTALRM) == before
    assert signal.getitimer(signal.ITIMER_VIRTUAL) == (0.0, 0.0)


def test_what_is_quick_is_not() -> None:
    with time_limit(0.2, SLOW):
        found = re.fullmatch("(a+)+", "a" * 40)
    assert found is not None


def test_another_thread_goes_without_a_limit() -> None:
    done = []

    def work() -> None:
        with time_limit(0.001, SLOW):
            done.append(sum(range(10**6)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done


def test_patterns_of_settings_are_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from affectlocus.config.files import DataFile, Files
    from affectlocus.config.tasks import Columns, Task
    from affectlocus.data import answers, prepare
    from affectlocus.data import table_reader as rows

    for module in (answers, rows):
        monkeypatch.setattr(module, "PATIENCE", 0.2)
    file = tmp_path / "test.csv"
    file.write_text(f"id,text\n1,{'a' * 40}!\n2,b!\n")
    with refused("task.slow-pattern", file=file, key="pattern"):
        rows.read_table(file, pattern="(?P<text>(a+)+)$")
    task = Task(
        files=Files(test=DataFile(file="test.csv")),
        columns=Columns(matches="(a+)+$"),
        labels={"yes": "yes", "no": "no"},
    )
    with refused("task.slow-pattern", key="columns.matches"):
        prepare.prepare("t", task, {"test": file})
