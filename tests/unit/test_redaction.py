"""What a log may show of secrets."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from affectlocus.core.errors import write_traceback
from affectlocus.core.redaction import redacted


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a hf_abcdefghijklmnop b", "a hf_… b"),
        ("ghp_abcdefghijkl, github_pat_abcdefghij", "ghp_…, github_pat_…"),
        ("AKIAIOSFODNN7EXAMPLE", "AKIA…"),
        ("Authorization: Bearer abc.def-ghi_jkl", "Authorization: Bearer …"),
        ("https://ann:hunter2@host/path", "https://…@host/path"),
        ("https:/ann:hunter2@host/path", "https:/…@host/path"),
        ("git remote https://oauth2:x@github.com/a", "git remote https://…@github.com/a"),
        ("https://h/a?token=abc&x=1", "https://h/a?token=…&x=1"),
        ("https://h/a?X-Amz-Signature=abc&y=2", "https://h/a?X-Amz-Signature=…&y=2"),
        ("https://h/a?key=${MY_KEY}", "https://h/a?key=${MY_KEY}"),
        ("https://h/a?download=1 and a@b.c", "https://h/a?download=1 and a@b.c"),
        ("no secret: keyboard, tokenizer, mean=3", "no secret: keyboard, tokenizer, mean=3"),
    ],
)
def test_what_looks_like_a_secret_is_not_shown(text: str, shown: str) -> None:
    assert redacted(text, {}) == shown


def test_a_variables_value_is_known_in_an_address_too() -> None:
    environment = {"DATA_PASSWORD": "p@ss/word+1", "MY_KEY": "p@ss/word", "HOME": "/home/ann"}
    text = "p@ss/word+1 p%40ss%2Fword%2B1 p@ss/word /home/ann"
    shown = "${DATA_PASSWORD} ${DATA_PASSWORD} ${MY_KEY} /home/ann"
    assert redacted(text, environment) == shown


def test_a_traceback_holds_no_secret(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_TOKEN", "abcdefabcdef")
    try:
        raise ValueError("https://ann:hunter2@host said abcdefabcdef")
    except ValueError as error:
        write_traceback(ValueError, error, error.__traceback__)
    said = capsys.readouterr().err
    assert "ValueError: https://…@host said ${HF_TOKEN}" in said


SECRETS = {
    "HF_TOKEN": "tok-0000-hf-hub",
    "HUGGING_FACE_HUB_TOKEN": "hf_zzzzzzzzzzzzzzzz",
    "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG",
    "MY_KEY": "key/with+signs-0000",
    "PROXY_URL": "http://ann:hunter2hunter2@127.0.0.1:9/",
}
"""Of a user who has everything in the environment."""
FETCHED = ["--sha256", "0" * 64, "--out", "a.json"]
SHOWN = [*SECRETS.values(), "hunter2hunter2", "key%2Fwith%2Bsigns-0000", "zzzzzzzz"]


@pytest.mark.parametrize(
    "command",
    [
        # Nothing listens there: each ends in an error that names the address.
        ["retrieve", "http://ann:${MY_KEY}@127.0.0.1:9/a.pth?token=${HF_TOKEN}", *FETCHED],
        [
            "retrieve",
            "http://ann:hunter2hunter2@127.0.0.1:9/a.pth?key=hf_zzzzzzzzzzzzzzzz",
            *FETCHED,
        ],
        ["retrieve", "owner/name", "--revision", "hf_zzzzzzzzzzzzzzzz", "--out", "a.json"],
        ["check", "http://ann:hunter2hunter2@127.0.0.1/params.yaml"],
        ["corpus", "--settings", '{"seed": "hf_zzzzzzzzzzzzzzzz"}', "--out", "corpus"],
    ],
    ids=["url", "url with secrets in it", "hub", "path", "settings"],
)
def test_no_command_says_a_secret(command: list[str], tmp_path: Path) -> None:
    environment = {
        **os.environ,
        **SECRETS,
        "AFFECTLOCUS_JOB": "1",
        "AFFECTLOCUS_RETRY_WAIT": "0.01",
        "HF_HOME": str(tmp_path / "home"),
        "HF_HUB_OFFLINE": "0",
        "HF_ENDPOINT": "http://127.0.0.1:9",
    }
    done = subprocess.run(
        [sys.executable, "-c", "from affectlocus.cli import main; main()", *command],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 1
    assert "# parameters: " in said
    assert said.splitlines()[-1].startswith("affectlocus: ")
    written = [path.read_text(errors="replace") for path in tmp_path.rglob("*") if path.is_file()]
    for text in (said, *written):
        assert not [secret for secret in SHOWN if secret in text]
