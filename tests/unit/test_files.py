"""Files that are whole or absent."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from affectlocus.errors import InputError
from affectlocus.files import checkpoint_files, read_json, replacing, sha256, write_json, write_text


def test_a_block_that_ends_well_puts_the_file_in_place(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "table.csv"
    with replacing(path) as temporary:
        temporary.write_text("whole")
        assert not path.exists()
    assert path.read_text() == "whole"
    assert list(path.parent.iterdir()) == [path]


def test_the_temporary_file_lies_beside_and_keeps_the_suffix_that_names_its_format(
    tmp_path: Path,
) -> None:
    with replacing(tmp_path / "a.b.parquet") as temporary:
        temporary.touch()
        assert temporary.parent == tmp_path
        assert temporary.suffix == ".parquet"
        assert temporary.name != "a.b.parquet"


def test_a_crash_leaves_the_old_file_and_nothing_temporary(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), replacing(path) as temporary:
        temporary.write_text("half of the n")
        raise ZeroDivisionError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_crash_before_the_first_byte_leaves_nothing_at_all(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), replacing(tmp_path / "table.csv"):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_a_folder_takes_the_place_of_the_old_one_whole(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "old").touch()
    with replacing(folder) as temporary:
        temporary.mkdir()
        (temporary / "new").touch()
        assert (folder / "old").exists()
    assert [path.name for path in folder.iterdir()] == ["new"]
    assert list(tmp_path.iterdir()) == [folder]


def test_a_crash_leaves_the_old_folder_and_nothing_temporary(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "old").write_text("weights")
    with pytest.raises(RuntimeError), replacing(folder) as temporary:
        temporary.mkdir()
        (temporary / "half").touch()
        raise RuntimeError
    assert (folder / "old").read_text() == "weights"
    assert list(tmp_path.iterdir()) == [folder]


def test_a_block_that_writes_nothing_leaves_the_old_folder(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    with pytest.raises(FileNotFoundError), replacing(folder):
        pass
    assert folder.is_dir()


def test_text_is_written_as_utf_8_whatever_the_locale(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "Δ W → naïve\n")
    assert (tmp_path / "a.txt").read_bytes() == "Δ W → naïve\n".encode()


def test_json_comes_back_as_it_was_and_stays_readable(tmp_path: Path) -> None:
    value = {"task": "mini-MER23", "overlap": {"test in train": 0}, "word": "fröhlich", "x": [1.5]}
    write_json(tmp_path / "a.json", value)
    assert read_json(tmp_path / "a.json") == value
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert "fröhlich" in text
    assert text.endswith("}\n")


def test_json_that_cannot_be_written_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"old": 1})
    with pytest.raises(TypeError):
        write_json(path, {"new": object()})
    assert read_json(path) == {"old": 1}


@pytest.mark.parametrize("content", [b"", b"{", b'{"a": 1} x', b"\xff\xfe"])
def test_a_file_that_is_no_json_is_named_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.json"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_json(path)
    assert str(path) in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_missing_json_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.json: no such file"):
        read_json(tmp_path / "nowhere.json")


@pytest.mark.parametrize("size", [0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 3 << 20])
def test_the_digest_of_a_file_is_that_of_its_bytes_around_every_block(
    tmp_path: Path, size: int
) -> None:
    content = bytes(range(256)) * (size // 256 + 1)
    (tmp_path / "weights").write_bytes(content[:size])
    assert sha256(tmp_path / "weights") == hashlib.sha256(content[:size]).hexdigest()


@pytest.mark.parametrize(
    ("there", "needed"),
    [
        (
            "config.json model.safetensors pytorch_model.bin tokenizer.model merges.txt README.md",
            "config.json merges.txt model.safetensors tokenizer.model",
        ),
        (
            "model.safetensors.index.json model-00001-of-00002.safetensors consolidated.safetensors"
            " model-00002-of-00002.safetensors model.safetensors",
            "model-00001-of-00002.safetensors model-00002-of-00002.safetensors"
            " model.safetensors.index.json",
        ),
        (
            "pytorch_model-00001-of-00001.bin pytorch_model.bin.index.json training_args.bin"
            " optimizer.pt scheduler.pt rng_state.pth",
            "pytorch_model-00001-of-00001.bin pytorch_model.bin.index.json",
        ),
        (
            "adapter_config.json adapter_model.safetensors adapter_model.bin model.safetensors",
            "adapter_config.json adapter_model.safetensors",
        ),
        (
            "adapter_config.json adapters.safetensors 0000100_adapters.safetensors",
            "adapter_config.json adapters.safetensors",
        ),
        ("one.safetensors two.safetensors three.pth", "one.safetensors two.safetensors"),
        ("checkpoint_30.pth notes.md", "checkpoint_30.pth"),
        ("config.json original/model.safetensors onnx/model.onnx q4.gguf", "config.json"),
        ("", ""),
    ],
)
def test_a_checkpoint_is_its_configuration_its_tokenizer_and_one_set_of_weights(
    there: str, needed: str
) -> None:
    assert checkpoint_files(there.split()) == needed.split()
