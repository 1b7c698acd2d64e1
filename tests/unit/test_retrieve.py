"""Retrieving a checkpoint from a real server on loopback, from a URL, and from the disk.

Most tests run the command as a user or a job would: a process of its own, with its own HF_HOME.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import json
import os
import pty
import re
import shutil
import subprocess
import termios
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hub import Hub, serving, start
from huggingface_hub import constants
from programs import heavy, light, search_path
from refusal import printed_code, refused
from safetensors.numpy import save

from affectlocus.checkpoints.checkpoint_manifests import checkpoint_folder
from affectlocus.core.errors import InputError
from affectlocus.core.manifests import manifest_folder
from affectlocus.data.retrieve import retrieve

ROOT = Path(__file__).parents[2]
COMMIT, LATER, ABSENT = "a1" * 20, "b2" * 20, "c3" * 20


def pickled(**tensors: torch.Tensor) -> bytes:
    """What torch.save writes."""
    buffer = io.BytesIO()
    torch.save(tensors, buffer)
    return buffer.getvalue()


WEIGHTS = save({"model.layers.0.mlp.gate_proj.weight": np.arange(50_000, dtype=np.float32)})
PICKLED = pickled(weight=torch.arange(50_000, dtype=torch.float32))
OTHER = pickled(weight=torch.ones(3))
FACTORS = pickled(
    **{f"model.layers.0.mlp.up_proj.lora_{one}.weight": torch.ones(2, 2) for one in "AB"}
)
MODEL = {
    "config.json": b"{}",
    "model.safetensors": WEIGHTS,
    "tokenizer.json": b'{"version": "1.0"}',
    "tokenizer.model": b"sentencepiece",
    "merges.txt": b"a b\n",
    "chat_template.jinja": b"{{ messages }}",
}
UNNEEDED = {
    "README.md": b"---\nlicense: mit\n---\n",
    "pytorch_model.bin": OTHER,
    "model.onnx": b"onnx",
    "model-q4.gguf": b"gguf",
    "original/model.safetensors": b"other",
    "original/params.json": b"{}",
    "consolidated.safetensors": b"copy",
    "training_args.bin": b"arguments",
}
TOKEN = "hf_a-token-that-nobody-may-see"


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The HF_HOME of the commands, for what reads their manifests here."""
    monkeypatch.setattr(constants, "HF_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "home/hub"))


@pytest.fixture
def hub() -> Iterator[Hub]:
    """A hub with one model, o/m, whose main is COMMIT."""
    with serving() as hub:
        hub.add("o/m", COMMIT, MODEL | UNNEEDED, card={"license": "apache-2.0"})
        yield hub


@pytest.fixture
def command(hub: Hub, tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """`command("o/m", "--revision", COMMIT)`: starts `affectlocus retrieve` in `tmp_path`."""

    def begin(*arguments: str | Path, **options: Any) -> subprocess.Popen[str]:
        whole = ("retrieve", *arguments, "--out", "out.json")
        return start(hub, tmp_path, "affectlocus", *whole, place=light(), **options)

    return begin


@pytest.fixture
def good(command: Callable[..., subprocess.Popen[str]], tmp_path: Path) -> Callable[..., Any]:
    """`good(...)`: runs to a good end; the manifest, and what was said on standard error."""

    def run(*arguments: str | Path, **environment: str) -> tuple[dict[str, Any], str]:
        process = command(*arguments, **environment)
        output, said = process.communicate(timeout=60)
        assert (process.returncode, output) == (0, ""), said
        return json.loads((tmp_path / "out.json").read_text(encoding="utf-8")), said

    return run


@pytest.fixture
def bad(command: Callable[..., subprocess.Popen[str]], tmp_path: Path) -> Callable[..., str]:
    """`bad("hub.no-access", ...)`: runs to exit code 1 with this code and without a manifest.

    Gives the sentence that is printed, without its code.
    """

    def run(code: str, *arguments: str | Path, **options: Any) -> str:
        (tmp_path / "out.json").unlink(missing_ok=True)
        process = command(*arguments, **options)
        output, said = process.communicate(timeout=60)
        assert (process.returncode, output) == (1, ""), said
        lines = said.splitlines()
        assert all(line.startswith("affectlocus: ") for line in lines), said
        assert not (tmp_path / "out.json").exists()
        assert printed_code(said) == code
        return lines[-1].removeprefix("affectlocus: ").removesuffix(f" [{code}]")

    return run


def contents(manifest: dict[str, Any]) -> dict[str, bytes]:
    """The files that a manifest lists, as they are on disk; size and SHA-256 must be right."""
    found = {}
    for entry in manifest["files"]:
        content = (manifest_folder(manifest) / entry["file"]).read_bytes()
        assert (entry["bytes"], entry["sha256"]) == (len(content), sha256(content))
        found[entry["file"]] = content
    return found


HUB = ("o/m", "--revision", COMMIT)

# The hub


def test_a_commit_comes_with_the_files_that_steps_need_and_no_others(
    hub: Hub, good: Callable[..., Any], tmp_path: Path
) -> None:
    manifest, said = good(*HUB)
    assert said == ""
    assert contents(manifest) == MODEL
    assert {name for name in MODEL | UNNEEDED if hub.seen("GET", f"/{COMMIT}/{name}")} | {
        "model.safetensors",
        "tokenizer.model",
    } == set(MODEL)
    assert len(hub.seen("GET", "/cdn/")) == 2
    assert manifest["kind"] == "model"
    assert manifest["source"] == {"hub": "o/m"}
    assert manifest["revision"] == COMMIT
    assert manifest["licence"] == "apache-2.0"
    assert manifest["tensors"] == 1
    assert checkpoint_folder(tmp_path / "out.json") == manifest_folder(manifest)


def test_a_download_has_the_same_manifest_wherever_its_home_is(
    good: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = good(*HUB)
    assert first["folder"] == f"${{HF_HUB_CACHE}}/models--o--m/snapshots/{COMMIT}"
    (tmp_path / "home").rename(tmp_path / "elsewhere")
    with pytest.raises(InputError, match=r"models--o--m/\S+ missing, though"):
        checkpoint_folder(tmp_path / "out.json")
    second, _ = good(*HUB, HF_HOME=str(tmp_path / "elsewhere"), HF_HUB_OFFLINE="1")
    assert second == first
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "elsewhere/hub"))
    assert contents(second) == MODEL


def test_without_safetensors_the_weights_of_pytorch_come_and_no_trainer_state(
    hub: Hub, good: Callable[..., Any]
) -> None:
    files = {name: content for name, content in UNNEEDED.items() if "safetensors" not in name}
    hub.add("o/old", COMMIT, files | {"config.json": b"{}", "optimizer.pt": b"moments"})
    manifest, _ = good("o/old", "--revision", COMMIT)
    assert set(contents(manifest)) == {"config.json", "pytorch_model.bin"}


def test_an_adapter_repository_is_an_adapter(hub: Hub, good: Callable[..., Any]) -> None:
    config = b'{"peft_type": "LORA"}'
    files = {"adapter_config.json": config, "adapter_model.bin": FACTORS, "training_args.bin": b"y"}
    hub.add("o/lora", COMMIT, files)
    manifest, _ = good("o/lora", "--revision", COMMIT)
    assert manifest["kind"] == "adapter"
    assert set(contents(manifest)) == {"adapter_config.json", "adapter_model.bin"}


def test_what_is_in_the_cache_is_verified_and_not_asked_for_again(
    hub: Hub, good: Callable[..., Any]
) -> None:
    first, _ = good(*HUB)
    hub.requests.clear()
    assert good(*HUB) == (first, "")
    assert hub.requests == []


def test_two_experiments_share_what_is_downloaded(
    hub: Hub, good: Callable[..., Any], tmp_path: Path
) -> None:
    first, _ = good(*HUB)
    hub.requests.clear()
    other = tmp_path / "another experiment"
    other.mkdir()
    arguments = ("retrieve", *HUB, "--out", "out.json")
    process = start(hub, other, "affectlocus", *arguments, HF_HOME=str(tmp_path / "home"))
    assert process.communicate(timeout=60) == ("", "")
    assert json.loads((other / "out.json").read_text()) == first
    assert hub.requests == []


@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_cut_download_resumes_from_where_it_was_cut(
    hub: Hub, good: Callable[..., Any], how: str
) -> None:
    hub.fail("GET", sha256(WEIGHTS), after=70_000, how=how)
    manifest, _ = good(*HUB)
    assert contents(manifest)["model.safetensors"] == WEIGHTS
    first, second = hub.seen("GET", sha256(WEIGHTS))
    assert first.range is None
    assert second.range is not None
    start = int(second.range.removeprefix("bytes=").removesuffix("-"))
    # A reset may lose what was still on its way.
    assert start == 70_000 if how == "close" else 0 < start <= 70_000


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api/models/", 500),
        ("HEAD", "config.json", 503),
        ("GET", "config.json", 429),
        ("GET", "/cdn/", 503),
        ("GET", "/cdn/", 429),
    ],
)
def test_a_hub_that_is_busy_or_down_for_a_moment_is_asked_again(
    hub: Hub, good: Callable[..., Any], method: str, path: str, status: int
) -> None:
    hub.fail(method, path, status=status, times=3)
    manifest, said = good(*HUB)
    assert contents(manifest) == MODEL
    assert said.count(f"127.0.0.1: HTTP {status}; trying again in 0.0") == 3


@pytest.mark.parametrize("headers", [{"Retry-After": "1"}, {"RateLimit": '"resolvers";r=0;t=1'}])
def test_a_hub_that_says_when_to_come_back_is_waited_for(
    hub: Hub, good: Callable[..., Any], headers: dict[str, str]
) -> None:
    hub.fail("GET", "/cdn/", status=429, headers=headers)
    start = time.monotonic()
    _, said = good(*HUB)
    assert time.monotonic() - start >= 1
    assert "trying again in 1 s" in said


@pytest.mark.parametrize("when", ["3600", format_datetime(datetime(2999, 1, 1, tzinfo=UTC))])
def test_a_wait_of_an_hour_is_not_waited_for(hub: Hub, bad: Callable[..., str], when: str) -> None:
    hub.fail("GET", "/api/models/", status=429, headers={"Retry-After": when})
    assert re.search(r"HTTP 429; .* run again in \d{4,} s:", bad("download.no-answer", *HUB))


def test_a_hub_that_stays_down_ends_in_one_line(hub: Hub, bad: Callable[..., str]) -> None:
    hub.fail("GET", "/api/models/", status=503, times=100)
    assert bad("download.no-answer", *HUB).startswith("o/m: 127.0.0.1: HTTP 503; ")


def test_without_a_network_one_line_says_so(bad: Callable[..., str]) -> None:
    line = bad("download.no-answer", *HUB, HF_ENDPOINT="http://127.0.0.1:9")
    assert line.startswith("o/m: 127.0.0.1: no answer ([Errno 111] Connection refused)")


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_a_file_that_is_not_what_the_hub_lists_is_removed(
    hub: Hub, bad: Callable[..., str], good: Callable[..., Any], tmp_path: Path, name: str
) -> None:
    wrong = MODEL[name][:-1] + b"!"
    hub.fail("GET", sha256(WEIGHTS) if name in ("model.safetensors",) else name, content=wrong)
    assert bad("hub.other-digest", *HUB).startswith(f"o/m: {name}: ")
    assert wrong not in [p.read_bytes() for p in (tmp_path / "home").rglob("*") if p.is_file()]
    assert contents(good(*HUB)[0]) == MODEL


def test_a_file_damaged_in_the_cache_is_found_and_downloaded_again(
    hub: Hub, good: Callable[..., Any]
) -> None:
    manifest, _ = good(*HUB)
    path = manifest_folder(manifest) / "model.safetensors"
    path.resolve().write_bytes(WEIGHTS[:-9])
    again, said = good(*HUB)
    assert again == manifest
    assert contents(again) == MODEL
    assert "model.safetensors: damaged in the cache; downloading it again" in said
    assert len(hub.seen("GET", sha256(WEIGHTS))) == 2


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("code", [{"X-Error-Code": "GatedRepo"}, {}])
def test_a_gated_repository_says_to_accept_the_licence_and_to_set_a_token(
    hub: Hub, bad: Callable[..., str], status: int, code: dict[str, str]
) -> None:
    hub.repositories["o/m"].token = TOKEN
    hub.repositories["o/m"].refusal = (status, code)
    line = bad("hub.no-access", *HUB)
    assert f"no access (HTTP {status}); accept the licence at {hub.url}/o/m" in line


def test_a_missing_repository_is_named(bad: Callable[..., str], hub: Hub) -> None:
    line = bad("hub.no-access", "o/n", "--revision", COMMIT)
    assert line.startswith("o/n: no such repository, or no access (HTTP 401)")
    hub.fail("GET", "/api/models/o/n", status=404, headers={"X-Error-Code": "RepoNotFound"})
    assert bad("hub.missing", "o/n", "--revision", COMMIT).startswith("o/n: ")


@pytest.mark.parametrize("revision", [ABSENT, "no-such-branch"])
def test_a_missing_revision_is_named(
    bad: Callable[..., str], hub: Hub, tmp_path: Path, revision: str
) -> None:
    line = bad("hub.no-such-revision", "o/m", "--revision", revision)
    assert line.startswith(f"o/m: no revision {revision!r}; its commits are listed at {hub.url}")
    assert not (tmp_path / "checkpoints.lock.json").exists()


def test_without_a_revision_the_line_says_which_commit_main_is(bad: Callable[..., str]) -> None:
    line = bad("hub.no-revision", "o/m")
    assert line.startswith("o/m: ")
    assert line.endswith(f"main is now {COMMIT}")


def test_without_a_revision_and_without_a_network_nothing_is_waited_for(
    hub: Hub, bad: Callable[..., str]
) -> None:
    hub.fail("GET", "/api/models/", status=503, times=100)
    assert bad("hub.no-revision", "o/m").startswith("o/m: ")
    assert len(hub.requests) == 1


def test_a_repository_that_moved_is_followed(hub: Hub, good: Callable[..., Any]) -> None:
    hub.moved["old/name"] = "o/m"
    manifest, _ = good("old/name", "--revision", COMMIT)
    assert contents(manifest) == MODEL


def test_a_repository_without_weights_says_what_it_has(hub: Hub, bad: Callable[..., str]) -> None:
    hub.add("o/q", COMMIT, {"config.json": b"{}", "model-q4.gguf": b"gguf"})
    assert "model-q4.gguf" in bad("checkpoint.no-weights", "o/q", "--revision", COMMIT)


def test_a_killed_download_is_never_taken_for_whole(
    hub: Hub,
    command: Callable[..., subprocess.Popen[str]],
    bad: Callable[..., str],
    good: Callable[..., Any],
) -> None:
    hub.fail("GET", sha256(WEIGHTS), after=70_000, how="hold")
    process = command(*HUB)
    assert hub.held.wait(20)
    process.kill()
    process.communicate()
    bad("hub.incomplete-offline", *HUB, HF_HUB_OFFLINE="1")
    assert contents(good(*HUB)[0]) == MODEL


def test_two_jobs_download_a_checkpoint_once(
    hub: Hub, command: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    hub.fail("GET", sha256(WEIGHTS), after=70_000, how="hold")
    first = command(*HUB)
    assert hub.held.wait(20)
    second = command(*HUB)
    assert second.stderr is not None
    assert "another job is downloading it; waiting" in second.stderr.readline()
    hub.released.set()
    for process in (first, second):
        process.communicate(timeout=60)
        assert process.returncode == 0
    assert len(hub.seen("GET", sha256(WEIGHTS))) == 1
    assert contents(json.loads((tmp_path / "out.json").read_text())) == MODEL


def test_a_branch_is_looked_up_once_and_pinned_with_a_warning(
    hub: Hub, good: Callable[..., Any], tmp_path: Path
) -> None:
    manifest, said = good("o/m", "--revision", "main")
    pins = json.loads((tmp_path / "checkpoints.lock.json").read_text())
    assert pins == {"o/m@main": COMMIT}
    assert f"write revision: {COMMIT} in params.yaml" in said
    repository = hub.repositories["o/m"]
    repository.commits[LATER] = {"config.json": b"{}", "model.safetensors": WEIGHTS}
    repository.branches["main"] = LATER
    assert good("o/m", "--revision", "main") == (manifest, "")
    # A second branch is written beside the first.
    repository.branches["dev"] = LATER
    assert good("o/m", "--revision", "dev")[0]["revision"] == LATER
    pins = json.loads((tmp_path / "checkpoints.lock.json").read_text())
    assert pins == {"o/m@dev": LATER, "o/m@main": COMMIT}


def test_a_pin_that_is_not_a_commit_is_refused(bad: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "checkpoints.lock.json").write_text('{"o/m@main": "yesterday"}')
    line = bad("lock.not-a-commit", "o/m", "--revision", "main")
    assert line.startswith("checkpoints.lock.json: o/m@main: found 'yesterday'")


def test_offline_a_pinned_checkpoint_comes_from_the_cache(
    hub: Hub, good: Callable[..., Any], bad: Callable[..., str]
) -> None:
    manifest, _ = good("o/m", "--revision", "main")
    hub.requests.clear()
    for revision in ("main", COMMIT):
        assert good("o/m", "--revision", revision, HF_HUB_OFFLINE="1") == (manifest, "")
    bad("hub.commit-unknown-offline", "o/m", "--revision", "dev", HF_HUB_OFFLINE="1")
    bad("hub.incomplete-offline", "o/m", "--revision", ABSENT, HF_HUB_OFFLINE="1")
    assert hub.requests == []


def test_offline_a_checkpoint_that_another_program_downloaded_is_verified_by_its_blobs(
    good: Callable[..., Any], bad: Callable[..., str], tmp_path: Path
) -> None:
    manifest, _ = good(*HUB)
    shutil.rmtree(tmp_path / "home/affectlocus")
    again, _ = good(*HUB, HF_HUB_OFFLINE="1")
    assert again == manifest | {"licence": None}
    shutil.rmtree(tmp_path / "home/affectlocus")
    (manifest_folder(manifest) / "model.safetensors").resolve().write_bytes(WEIGHTS[:-1])
    bad("hub.incomplete-offline", *HUB, HF_HUB_OFFLINE="1")


def test_a_checkpoint_larger_than_the_disk_is_refused_before_it_starts(
    hub: Hub, bad: Callable[..., str]
) -> None:
    lfs = {"size": 10**18, "sha256": sha256(WEIGHTS), "pointerSize": 134}
    hub.repositories["o/m"].listed["model.safetensors"] = {"size": 10**18, "lfs": lfs}
    assert bad("disk.full", *HUB).startswith("o/m: needs 1000000000.0 GB more")
    assert not hub.seen("GET", "/resolve/")


def test_only_what_is_not_in_the_cache_counts_for_the_disk(
    hub: Hub, good: Callable[..., Any]
) -> None:
    good(*HUB)
    # A later commit of the same weights, which the listing makes larger than any disk.
    repository = hub.repositories["o/m"]
    repository.commits[LATER] = MODEL | {"config.json": b"{ }"}
    lfs = {"size": 10**18, "sha256": sha256(WEIGHTS), "pointerSize": 134}
    repository.listed["model.safetensors"] = {"size": 10**18, "lfs": lfs}
    later, _ = good("o/m", "--revision", LATER)
    assert contents(later) == repository.commits[LATER]
    assert len(hub.seen("GET", sha256(WEIGHTS))) == 1


def test_a_mirror_that_lists_no_digests_is_verified_by_its_etags(
    hub: Hub, good: Callable[..., Any], bad: Callable[..., str]
) -> None:
    for name in MODEL:
        hub.repositories["o/m"].listed[name] = {"size": None, "blobId": None, "lfs": None}
    hub.fail("GET", sha256(WEIGHTS), content=WEIGHTS[:-1] + b"!")
    assert bad("hub.other-digest", *HUB).startswith("o/m: model.safetensors: ")
    assert contents(good(*HUB)[0]) == MODEL


def test_a_shard_that_is_not_there_is_named(hub: Hub, bad: Callable[..., str]) -> None:
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "gone.safetensors"}}
    files = {
        "config.json": b"{}",
        "model.safetensors.index.json": json.dumps(index).encode(),
        "model-00001-of-00002.safetensors": WEIGHTS,
    }
    hub.add("o/s", COMMIT, files)
    assert "gone.safetensors: " in bad("checkpoint.no-shard", "o/s", "--revision", COMMIT)


def test_a_disk_that_is_full_half_way_ends_in_one_line(
    bad: Callable[..., str], good: Callable[..., Any], tmp_path: Path
) -> None:
    line = bad("disk.unwritable", *HUB, room=70_000)
    assert line.startswith(f"o/m: cannot write {tmp_path}/home/hub (File too large)")
    assert contents(good(*HUB)[0]) == MODEL


def drawn(command: Callable[..., subprocess.Popen[str]], *arguments: str) -> str:
    """What a terminal shows of a command that ends well."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(ours, (24, 100))
    process = command(*arguments, errors=theirs)
    os.close(theirs)
    text = b""
    # Reading a terminal that nobody has open any more is an error.
    with contextlib.suppress(OSError):
        while block := os.read(ours, 4096):
            text += block
    process.communicate()
    os.close(ours)
    assert process.returncode == 0
    return text.decode()


def test_a_terminal_shows_progress(
    command: Callable[..., subprocess.Popen[str]], file: Callable[..., Any]
) -> None:
    shown = drawn(command, *HUB)
    assert "model.safetensors: 100%" in shown
    assert "X-Signature" not in shown
    assert "a.pth" in drawn(command, *file())


def written(folder: Path) -> str:
    """Every byte and name below a folder."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return "".join(f"{path}\n{path.read_bytes()!r}\n" for path in files)


def test_a_token_reaches_the_hub_and_nothing_else(
    hub: Hub, command: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    hub.repositories["o/m"].token = TOKEN
    hub.fail("GET", sha256(WEIGHTS), after=70_000)
    hub.fail("GET", "config.json", status=503)
    # To the hub, to a hub that refuses it, and as a token that no header can hold.
    for token, code in ((TOKEN, 0), (f"{TOKEN}x", 1), (f"{TOKEN}é", 1)):
        process = command("o/m", "--revision", "main", HF_TOKEN=token, HF_DEBUG="1")
        output, said = process.communicate(timeout=60)
        assert process.returncode == code
        assert TOKEN not in output + said
        assert "X-Signature" not in output + said
        (tmp_path / "home/affectlocus/hub").exists() and shutil.rmtree(tmp_path / "home")
    assert TOKEN not in written(tmp_path)
    assert f"Bearer {TOKEN}" in {request.authorization for request in hub.requests}
    assert {r.authorization for r in hub.requests if r.server == "cdn"} == {None}


# A URL


@pytest.fixture
def file(hub: Hub) -> Callable[..., tuple[str, str, str]]:
    """`file("a.pth", content)`: puts it on the server; the arguments that retrieve it."""

    def put(name: str = "a.pth", content: bytes = PICKLED) -> tuple[str, str, str]:
        hub.files[f"/far/{name}"] = content
        return f"{hub.url}/far/{name}", "--sha256", sha256(content)

    return put


def test_a_file_comes_by_its_address_once(
    hub: Hub, good: Callable[..., Any], file: Callable[..., Any], tmp_path: Path
) -> None:
    arguments = file("checkpoint_30.pth")
    manifest, said = good(*arguments)
    assert said == ""
    assert contents(manifest) == {"checkpoint_30.pth": PICKLED}
    assert manifest["kind"] == "file"
    assert manifest["source"] == {"url": arguments[0]}
    path = checkpoint_folder(tmp_path / "out.json")
    assert path.read_bytes() == PICKLED
    assert path.is_relative_to(tmp_path / "home")
    assert good(*arguments, HF_HUB_OFFLINE="1") == (manifest, "")
    assert len(hub.requests) == 1


@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_cut_file_resumes_from_where_it_was_cut(
    hub: Hub, good: Callable[..., Any], file: Callable[..., Any], how: str
) -> None:
    hub.fail("GET", "a.pth", after=70_000, how=how)
    manifest, said = good(*file())
    assert contents(manifest) == {"a.pth": PICKLED}
    start = int((hub.requests[-1].range or "").removeprefix("bytes=").removesuffix("-"))
    assert f"127.0.0.1: connection lost at byte {start} (" in said
    assert start == 70_000 if how == "close" else 0 < start <= 70_000


def test_a_killed_download_of_a_file_goes_on_in_the_next_run(
    hub: Hub,
    command: Callable[..., subprocess.Popen[str]],
    good: Callable[..., Any],
    tmp_path: Path,
    file: Callable[..., Any],
) -> None:
    content = pickled(
        weight=torch.arange(600_000, dtype=torch.float32)
    )  # a buffer's length is written at once
    arguments = file(content=content)
    hub.fail("GET", "a.pth", after=2_000_000, how="hold")
    process = command(*arguments)
    assert hub.held.wait(20)
    partial = tmp_path / f"home/affectlocus/files/{sha256(content)}/.partial"
    while not partial.exists() or not partial.stat().st_size:
        time.sleep(0.01)
    process.kill()
    process.communicate()
    there = partial.stat().st_size
    assert 0 < there < len(content)
    assert contents(good(*arguments)[0]) == {"a.pth": content}
    assert hub.requests[-1].range == f"bytes={there}-"


@pytest.mark.parametrize("there", [0, 50_000, 90_000])
def test_a_server_without_ranges_sends_it_all_again(
    hub: Hub, good: Callable[..., Any], file: Callable[..., Any], tmp_path: Path, there: int
) -> None:
    folder = tmp_path / f"home/affectlocus/files/{sha256(PICKLED)}"
    folder.mkdir(parents=True)
    (folder / ".partial").write_bytes(PICKLED[:there])
    hub.ranges = False
    hub.fail("GET", "a.pth", after=70_000)
    assert contents(good(*file())[0]) == {"a.pth": PICKLED}
    assert len(hub.requests) == 2


@pytest.mark.parametrize("stale", [b"x" * 900, PICKLED + b"x", b"x" * len(PICKLED)])
def test_what_another_file_left_behind_is_not_built_upon(
    good: Callable[..., Any], file: Callable[..., Any], tmp_path: Path, stale: bytes
) -> None:
    folder = tmp_path / f"home/affectlocus/files/{sha256(PICKLED)}"
    folder.mkdir(parents=True)
    (folder / ".partial").write_bytes(stale)
    assert contents(good(*file())[0]) == {"a.pth": PICKLED}


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_server_that_is_busy_for_a_moment_is_asked_again(
    hub: Hub, good: Callable[..., Any], file: Callable[..., Any], status: int
) -> None:
    hub.fail("GET", "a.pth", status=status, times=3)
    assert contents(good(*file())[0]) == {"a.pth": PICKLED}


def test_a_connection_that_is_cut_every_time_ends_in_one_line(
    hub: Hub, bad: Callable[..., str], file: Callable[..., Any]
) -> None:
    hub.fail("GET", "a.pth", after=0, times=100)
    line = bad("download.no-answer", *file())
    assert "a.pth: 127.0.0.1: connection lost at byte 0 (RemoteProtocolError)" in line


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"other", "; the download"), (b"<html>", "(the server sent a web page)")],
)
def test_a_file_with_another_digest_is_removed(
    bad: Callable[..., str], file: Callable[..., Any], tmp_path: Path, content: bytes, words: str
) -> None:
    url, _, _ = file(content=content)
    line = bad("download.other-sha256", url, "--sha256", sha256(PICKLED))
    assert f"the SHA-256 of the download is {sha256(content)}, expected {sha256(PICKLED)}" in line
    assert words in line
    assert not [path for path in (tmp_path / "home/affectlocus/files").rglob("*") if path.is_file()]


def test_a_damaged_file_in_the_cache_is_downloaded_again(
    good: Callable[..., Any], file: Callable[..., Any]
) -> None:
    manifest, _ = good(*file())
    (manifest_folder(manifest) / "a.pth").write_bytes(PICKLED[:-1])
    again, said = good(*file())
    assert contents(again) == {"a.pth": PICKLED}
    assert "damaged in the cache" in said


@pytest.mark.parametrize(
    ("status", "code"),
    [(401, "download.no-access"), (403, "download.no-access"), (404, "download.http-error")],
)
def test_an_address_that_is_refused_says_what_to_do(
    hub: Hub, bad: Callable[..., str], file: Callable[..., Any], status: int, code: str
) -> None:
    hub.fail("GET", "a.pth", status=status)
    assert f"HTTP {status}" in bad(code, *file())


@pytest.mark.parametrize(
    ("arguments", "words"), [((), "is missing"), (("--sha256", "12ab"), "is not 64 hex digits")]
)
def test_an_address_without_a_digest_is_refused(
    hub: Hub, bad: Callable[..., str], arguments: tuple[str, ...], words: str
) -> None:
    line = bad("download.no-sha256", f"{hub.url}/a.pth", *arguments)
    assert f"a.pth: the sha256 {words}" in line
    assert hub.requests == []


def test_an_address_that_points_elsewhere_is_followed(
    hub: Hub, good: Callable[..., Any], file: Callable[..., Any]
) -> None:
    _, option, digest = file(content=WEIGHTS)
    hub.fail("GET", "/share", status=302, headers={"Location": f"{hub.cdn}/far/a.pth"})
    manifest, _ = good(f"{hub.url}/share?id=3", option, digest)
    # A name without a suffix gets one, by what is in the file.
    assert contents(manifest) == {"share.safetensors": WEIGHTS}


def test_a_file_larger_than_the_disk_is_refused(
    hub: Hub, bad: Callable[..., str], file: Callable[..., Any]
) -> None:
    arguments = file()
    hub.fail("GET", "a.pth", status=200, headers={"Content-Length": str(10**18)})
    assert "a.pth: needs 1000000000.0 GB more" in bad("disk.full", *arguments)


def test_a_file_that_finds_the_disk_full_half_way_goes_on_when_there_is_room(
    hub: Hub, bad: Callable[..., str], good: Callable[..., Any], file: Callable[..., Any]
) -> None:
    line = bad("disk.unwritable", *file(), room=70_000)
    assert "a.pth: cannot write" in line
    assert "(File too large)" in line
    assert contents(good(*file())[0]) == {"a.pth": PICKLED}
    assert hub.requests[-1].range == "bytes=70000-"


def test_two_jobs_download_a_file_once(
    hub: Hub, command: Callable[..., subprocess.Popen[str]], file: Callable[..., Any]
) -> None:
    hub.fail("GET", "a.pth", after=70_000, how="hold")
    first = command(*file())
    assert hub.held.wait(20)
    second = command(*file())
    assert second.stderr is not None
    assert "waiting" in second.stderr.readline()
    hub.released.set()
    for process in (first, second):
        process.communicate(timeout=60)
        assert process.returncode == 0
    assert len(hub.requests) == 1


def test_secrets_in_an_address_reach_the_server_and_nothing_else(
    hub: Hub,
    good: Callable[..., Any],
    bad: Callable[..., str],
    tmp_path: Path,
    file: Callable[..., Any],
) -> None:
    hub.credentials = "Basic " + base64.b64encode(b"me:pass-word").decode()
    url, option, digest = file()
    host = url.removeprefix("http://")
    hub.fail("GET", "a.pth", after=70_000)
    hub.fail("GET", "a.pth", status=503)
    said = ""
    for spelled in (
        f"http://me:pass-word@{host}?token=t0ken",
        "http://${WHO}@" + host + "?token=${KEY}",
    ):
        manifest, lines = good(spelled, option, digest, WHO="me:pass-word", KEY="t0ken")
        assert manifest["source"] == {"url": url}
        said += lines
        (manifest_folder(manifest) / "a.pth").unlink()
    assert "connection lost at byte 70000" in said
    other = sha256(b"other")
    refusals = [
        ("download.other-sha256", f"http://me:pass-word@{host}?token=t0ken", other),
        ("download.no-access", f"http://you:pass-word@{host}?token=t0ken", digest),
        ("download.no-answer", "http://me:pass-word@127.0.0.1:9/a.pth?token=t0ken", digest),
    ]
    refusals += [
        (code, f"http://me:pass-word@{broken}/a.pth?token=t0ken", digest)
        for code, broken in (
            ("download.failed", "127.0.0.1:port"),
            ("download.no-answer", "["),
            ("download.failed", "/pass-word@a.b"),
            ("download.failed", "?pass-word@a.b"),
            ("download.failed", "#pass-word@a.b"),
        )
    ]
    for code, address, expected in refusals:
        said += bad(code, address, option, expected)
    for secret in ("pass-word", "t0ken", base64.b64encode(b"me:pass-word").decode()):
        assert secret not in said + written(tmp_path)
    assert all("token=t0ken" in request.path for request in hub.requests)


def test_an_environment_variable_that_is_not_set_is_named(
    hub: Hub, bad: Callable[..., str]
) -> None:
    url = f"{hub.url}/a.pth?key=${{MY_KEY}}"
    assert "MY_KEY" in bad("download.variable-not-set", url, "--sha256", "0" * 64)
    assert hub.requests == []


# The disk


def folder_of(path: Path, files: dict[str, bytes]) -> Path:
    path.mkdir()
    for name, content in files.items():
        (path / name).write_bytes(content)
    return path


def test_the_manifest_of_a_folder_has_the_licence_of_its_model_card(tmp_path: Path) -> None:
    flat = {name: content for name, content in UNNEEDED.items() if "/" not in name}
    folder = folder_of(tmp_path / "m", MODEL | flat)
    manifest = retrieve(str(folder))
    assert contents(manifest) == MODEL
    assert (manifest["kind"], manifest["tensors"], manifest["licence"]) == ("model", 1, "mit")
    assert manifest["source"] == {"folder": str(folder)}


def test_a_folder_of_pickled_weights_has_a_manifest(tmp_path: Path) -> None:
    files = {"config.json": b"{}", "pytorch_model.bin": OTHER, "training_args.bin": b"y"}
    manifest = retrieve(str(folder_of(tmp_path / "m", files)))
    assert set(contents(manifest)) == {"config.json", "pytorch_model.bin"}


def test_one_file_of_weights_is_a_checkpoint(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "m", {"checkpoint_30.pth": b"x", "checkpoint_40.pth": OTHER})
    manifest = retrieve(str(folder / "checkpoint_40.pth"))
    assert contents(manifest) == {"checkpoint_40.pth": OTHER}
    out = tmp_path / "out.json"
    out.write_text(json.dumps(manifest))
    assert checkpoint_folder(out) == folder / "checkpoint_40.pth"


def test_an_adapter_on_disk_is_counted_by_the_modules_it_adapts(
    checkpoint: Callable[..., Path], lora: Callable[..., Path]
) -> None:
    manifest = retrieve(str(lora(checkpoint("llama"), ["q_proj", "v_proj"])))
    assert (manifest["kind"], manifest["adapted"]) == ("adapter", 4)


def test_a_manifest_says_how_a_checkpoint_was_tuned_by_its_files_not_its_folder(
    checkpoint: Callable[..., Path], lora: Callable[..., Path], tmp_path: Path
) -> None:
    base = checkpoint("llama")
    adapter = shutil.copytree(lora(base, ["q_proj", "gate_proj"], r=5), tmp_path / "qwen-sft")
    manifest = retrieve(str(adapter))
    told = {key: manifest[key] for key in ("method", "ranks", "targets", "model_type", "base")}
    assert told == {
        "method": "lora",
        "ranks": [5],
        "targets": ["gate_proj", "q_proj"],
        "model_type": "llama",
        "base": str(base),
    }
    model = shutil.copytree(base, tmp_path / "mistral-lora")
    assert retrieve(str(model))["model_type"] == "llama"
    assert "method" not in retrieve(str(model))
    (model / "config.json").unlink()
    assert "model_type" not in retrieve(str(model))


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "m", {"config.json": b"{}"})
    with refused("checkpoint.no-weights", file=folder):
        retrieve(str(folder))


def test_a_folder_with_a_broken_file_of_weights_is_refused(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "m", MODEL | {"model.safetensors": PICKLED[:-1]})
    with pytest.raises(InputError, match="not a whole safetensors file"):
        retrieve(str(folder))


@pytest.mark.parametrize(
    ("source", "revision", "code", "fields"),
    [
        ("./gone", None, "checkpoint.missing", {"file": Path("gone")}),
        ("../a/b/c", None, "checkpoint.missing", {"file": Path("../a/b/c")}),
        (__file__, None, "checkpoint.not-weights", {"file": Path(__file__)}),
        ("./gone", COMMIT, "hub.bad-id", {"hub": "./gone"}),
        ("gone", None, "checkpoint.missing", {"file": Path("gone")}),
    ],
)
def test_an_invalid_source_is_refused(
    source: str, revision: str | None, code: str, fields: dict[str, Any]
) -> None:
    with refused(code, **fields):
        retrieve(source, revision)


def test_a_digest_of_something_else_than_an_address_is_refused(tmp_path: Path) -> None:
    with refused("download.sha256-without-url", option="sha256", found=str(tmp_path)):
        retrieve(str(tmp_path), digest="0" * 64)


def test_a_downloaded_checkpoint_that_was_deleted_says_how_to_download_it_again(
    good: Callable[..., Any], tmp_path: Path
) -> None:
    manifest, _ = good(*HUB)
    (manifest_folder(manifest) / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"missing, though .*bring it back with the command"):
        checkpoint_folder(tmp_path / "out.json")


# The workflow


def test_the_workflow_downloads_what_params_yaml_names_and_only_once(
    hub: Hub, file: Callable[..., Any], tmp_path: Path
) -> None:
    url, _, digest = file()
    tuned = {"url": f"{url}?key=${{KEY}}", "sha256": digest}
    parameters = {
        "bases": {"base": {"hub": "o/m", "revision": "main"}},
        "pairs": {"pair": {"base": "base", "tuned": tuned}},
        "tasks": {
            "mini-MOSI": {"corpus": True, "columns": {"label": "label"}, "labels": ["a", "b"]}
        },
        "corpus": {},
        "matrix": {"pairs": ["pair"], "load": ["q"], "tune": [], "ablate": []},
    }
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(parameters))

    def snakemake(*arguments: str) -> str:
        flags = ("--snakefile", ROOT / "Snakefile", "--cores", "1")
        own = {"place": heavy(), "PATH": search_path(light()), "KEY": "k3y-of-mine"}
        process = start(hub, tmp_path, "snakemake", *flags, *arguments, **own)
        output, said = process.communicate(timeout=120)
        assert process.returncode == 0, output + said
        return output + said

    manifests = [f"results/checkpoints/{name}.json" for name in ("base", "pair")]
    # Memory for a base that is not here yet is asked for once it is.
    assert "retrieve" in snakemake("--dry-run")
    said = snakemake("--printshellcmds", *manifests)
    assert json.loads((tmp_path / "checkpoints.lock.json").read_text()) == {"o/m@main": COMMIT}
    assert [set(contents(json.loads((tmp_path / m).read_text()))) for m in manifests] == [
        set(MODEL),
        {"a.pth"},
    ]
    hub.requests.clear()
    assert "Nothing to be done" in snakemake(*manifests)
    assert hub.requests == []
    assert "k3y-of-mine" not in said + written(tmp_path)
