"""Files that are whole or absent."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from refusal import refused
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models

from affectlocus.core.checkpoint_files import checkpoint_files
from affectlocus.core.files import read_json, read_object, sha256, write_json, write_text
from affectlocus.core.output_files import MARKER, check_output, check_outside_inputs, replacing


def made(folder: Path, *names: str) -> Path:
    """A folder as a step writes it."""
    with replacing(folder, "graft") as temporary:
        temporary.mkdir()
        for name in names:
            (temporary / name).touch()
    return folder


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
    folder = made(tmp_path / "model", "old")
    with replacing(folder, "graft") as temporary:
        temporary.mkdir()
        (temporary / "new").touch()
        assert (folder / "old").exists()
    assert {path.name for path in folder.iterdir()} == {MARKER, "new"}
    assert list(tmp_path.iterdir()) == [folder]


def test_a_crash_leaves_the_old_folder_and_nothing_temporary(tmp_path: Path) -> None:
    folder = made(tmp_path / "model", "old")
    (folder / "old").write_text("weights")
    with pytest.raises(RuntimeError), replacing(folder, "graft") as temporary:
        temporary.mkdir()
        (temporary / "half").touch()
        raise RuntimeError
    assert (folder / "old").read_text() == "weights"
    assert list(tmp_path.iterdir()) == [folder]


def test_a_block_that_writes_nothing_leaves_the_old_folder(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    with pytest.raises(FileNotFoundError), replacing(folder, "graft"):
        pass
    assert folder.is_dir()


def refused_output(
    code: str, path: Path, *step: str, inputs: Iterable[Path] = (), **fields: object
) -> str:
    """Expects that an output is refused before the block runs; nothing on the disk changes."""
    before = sorted(path.parent.rglob("*"))
    with refused(code, **fields) as caught, replacing(path, *step, inputs=inputs):
        pytest.fail("the work began")
    assert sorted(path.parent.rglob("*")) == before
    (line,) = str(caught.value).splitlines()
    return line


OTHERS, FAILED = "output.holds-other-files", "output.not-writable"


def test_a_folder_of_somebody_is_never_replaced(tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / "papers").mkdir(parents=True)
    (home / "papers" / "thesis.tex").touch()
    refused_output(OTHERS, home, "convert", found="papers/thesis.tex", step="convert")


def test_a_file_put_into_a_folder_of_ours_is_not_taken_away_with_it(tmp_path: Path) -> None:
    folder = made(tmp_path / "model", "weights")
    (folder / "notes.md").touch()
    refused_output(OTHERS, folder, "graft", found="notes.md", step="graft")


def test_a_link_in_a_folder_of_ours_is_somebodys(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    folder = made(tmp_path / "model", "weights")
    (folder / "data").symlink_to(tmp_path / "data")
    refused_output(OTHERS, folder, "graft", found="data", step="graft")


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    made(tmp_path / "model", "weights")
    assert {path.name for path in (tmp_path / "model").iterdir()} == {MARKER, "weights"}


@pytest.mark.parametrize(
    "name", ["model.safetensors", "README.md", "notes.txt", "sub/config.json", ".git"]
)
def test_a_folder_without_a_marker_is_somebody_elses(tmp_path: Path, name: str) -> None:
    file = tmp_path / "model" / name
    file.parent.mkdir(parents=True)
    file.touch()
    refused_output(OTHERS, tmp_path / "model", "tune", found=name, step="tune")


def test_no_output_takes_an_input_away(tmp_path: Path) -> None:
    base = made(tmp_path / "model", "weights")
    refused_output("output.is-an-input", base, "graft", inputs=[base], file=base)
    inside = base / "weights"
    refused_output("output.contains-input", base, "graft", inputs=[inside], input=inside)
    with refused("output.inside-input", file=base / "grafted", input=base):
        check_outside_inputs(base / "grafted", base)
    check_outside_inputs(tmp_path / "model-2", base)


def test_the_folder_a_command_runs_in_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for path in (Path(), Path(".."), tmp_path):
        with refused("output.is-working-directory", file=path):
            check_output(path, "graft")


def test_a_file_does_not_take_a_folders_place_nor_a_folder_a_files(tmp_path: Path) -> None:
    (tmp_path / "folder.json").mkdir()
    refused_output("output.is-a-folder", tmp_path / "folder.json")
    (tmp_path / "file").touch()
    refused_output("output.is-a-file", tmp_path / "file", "graft")
    below = tmp_path / "file" / "below.json"
    refused_output("output.below-a-file", below, found=tmp_path / "file")


def test_a_link_is_written_through(tmp_path: Path) -> None:
    target, link = tmp_path / "far" / "table.csv", tmp_path / "link.csv"
    link.symlink_to(target)
    write_text(link, "new")
    assert link.is_symlink()
    assert target.read_text() == "new"
    folder, way = made(tmp_path / "model", "old"), tmp_path / "way"
    way.symlink_to(folder)
    made(way, "new")
    assert way.is_symlink()
    assert {path.name for path in folder.iterdir()} == {MARKER, "new"}
    assert {path.name for path in tmp_path.iterdir()} == {"far", "link.csv", "model", "way"}


def test_a_path_that_climbs_means_the_folder_it_ends_in(tmp_path: Path) -> None:
    (tmp_path / "model" / "below").mkdir(parents=True)
    made(tmp_path / "model" / "below" / "..", "new")
    assert {path.name for path in (tmp_path / "model").iterdir()} == {MARKER, "new"}


def test_a_link_to_itself_and_a_device_are_refused(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    refused_output("output.endless-link", tmp_path / "loop")
    with refused("output.not-a-file", file=Path("/dev/null")):
        check_output(Path("/dev/null"))


def test_a_name_too_long_is_one_short_line(tmp_path: Path) -> None:
    assert len(refused_output("output.not-writable", tmp_path / ("x" * 5000))) < 300


def test_a_long_name_that_fits_has_room_for_its_temporary_file(tmp_path: Path) -> None:
    write_text(tmp_path / ("x" * 250 + ".csv"), "whole")
    assert [len(path.name) for path in tmp_path.iterdir()] == [254]


def test_what_the_disk_refuses_names_the_output(tmp_path: Path) -> None:
    with (
        refused(FAILED, file=tmp_path / "a.csv", reason="No space left on device"),
        replacing(tmp_path / "a.csv") as temporary,
    ):
        temporary.symlink_to("/dev/full")
        temporary.write_text("whole")
    assert list(tmp_path.iterdir()) == []


def test_weights_that_cannot_be_saved_name_the_output(tmp_path: Path) -> None:
    with (
        refused(FAILED, file=tmp_path / "model", reason="No such file or directory"),
        replacing(tmp_path / "model", "graft") as temporary,
    ):
        save_file({"w": np.zeros(2)}, temporary / "missing" / "model.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_a_tokenizer_that_cannot_be_saved_names_the_output(tmp_path: Path) -> None:
    with (
        refused(FAILED, file=tmp_path / "model", reason="No space left on device"),
        replacing(tmp_path / "model", "graft") as temporary,
    ):
        temporary.mkdir()
        (temporary / "tokenizer.json").symlink_to("/dev/full")
        Tokenizer(models.WordLevel({"word": 0})).save(str(temporary / "tokenizer.json"))
    assert list(tmp_path.iterdir()) == []


def test_the_name_of_another_file_that_fails_in_the_block_is_kept(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught, replacing(tmp_path / "a.csv"):
        (tmp_path / "other").read_bytes()
    assert caught.value.filename == str(tmp_path / "other")


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
    with refused("json.not-json", file=path) as caught:
        read_json(path)
    assert len(str(caught.value).splitlines()) == 1


def test_a_missing_json_file_is_named(tmp_path: Path) -> None:
    with refused("json.no-file", file=tmp_path / "nowhere.json"):
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


def test_an_object_is_read_and_any_other_value_is_refused_with_its_type(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text('{"a": 1}')
    assert read_object(file, "settings") == {"a": 1}
    for text, found in (("[1]", "list"), ("null", "NoneType"), ('"a"', "str"), ("1", "int")):
        file.write_text(text)
        with refused("json.not-an-object", file=file, found=found):
            read_object(file, "settings")
