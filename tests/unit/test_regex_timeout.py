"""A pattern that would never end is stopped."""

from __future__ import annotations

import re
import signal
import threading
import time
from pathlib import Path

import pytest

from affectlocus.core.errors import InputError
from affectlocus.core.regex_timeout import time_limit


def test_a_pattern_is_stopped_in_the_middle_of_a_search() -> None:
    before = signal.getsignal(signal.SIGVTALRM)
    began = time.process_time()
    with pytest.raises(InputError, match="too slow"), time_limit(0.2, "too slow"):
        re.fullmatch("(a+)+", "a" * 40 + "!")
    assert time.process_time() - began < 2
    assert signal.getsignal(signal.SIGVTALRM) == before
    assert signal.getitimer(signal.ITIMER_VIRTUAL) == (0.0, 0.0)


def test_what_is_quick_is_not() -> None:
    with time_limit(0.2, "too slow"):
        found = re.fullmatch("(a+)+", "a" * 40)
    assert found is not None


def test_another_thread_goes_without_a_limit() -> None:
    done = []

    def work() -> None:
        with time_limit(0.001, "too slow"):
            done.append(sum(range(10**6)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done


def test_patterns_of_settings_are_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from affectlocus.config.files import DataFile, Files
    from affectlocus.config.tasks import Columns, Task
    from affectlocus.data import prepare
    from affectlocus.data import table_reader as rows

    for module in (prepare, rows):
        monkeypatch.setattr(module, "PATIENCE", 0.2)
    file = tmp_path / "test.csv"
    file.write_text(f"id,text\n1,{'a' * 40}!\n2,b!\n")
    with pytest.raises(InputError, match=r"test\.csv: the pattern takes longer"):
        rows.read_rows(file, pattern="(?P<text>(a+)+)$")
    task = Task(
        files=Files(test=DataFile(file="test.csv")),
        columns=Columns(matches="(a+)+$"),
        labels={"yes": "yes", "no": "no"},
    )
    with pytest.raises(InputError, match=r"columns\.matches takes longer"):
        prepare.prepare("t", task, {"test": file})
