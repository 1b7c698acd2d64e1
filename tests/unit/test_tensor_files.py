"""Tensors read by byte ranges, against what safetensors and torch read."""

from __future__ import annotations

import json
import os
import pickle
import struct
import threading
import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from refusal import refused
from safetensors.torch import save_file
from single import measure

from affectlocus.checkpoints.tensor_files import Tensors
from affectlocus.core.errors import InputError

FLOATS = [torch.float64, torch.float32, torch.float16, torch.bfloat16]


def drawn(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def written(path: Path, tensors: dict[str, torch.Tensor]) -> Tensors:
    (save_file if path.suffix == ".safetensors" else torch.save)(tensors, path)
    return Tensors([path])


def entries(part, dtype: torch.dtype = torch.float64, start: int = 0, stop: int | None = None):
    stop = part.numel if stop is None else stop
    out = torch.full((stop - start,), torch.nan, dtype=dtype)
    part.read(start, stop, out.numpy())
    return out


@pytest.fixture(params=["model.safetensors", "pytorch_model.bin", "old.pth"])
def written_as(request, tmp_path):
    """Writes tensors in each of the three formats."""

    def write(tensors: dict[str, torch.Tensor]) -> Tensors:
        path = tmp_path / request.param
        if path.name == "old.pth":
            torch.save(tensors, path, _use_new_zipfile_serialization=False)
            return Tensors([path])
        return written(path, tensors)

    return write


@pytest.mark.parametrize("dtype", FLOATS)
def test_a_tensor_is_read_as_it_was_written(written_as, dtype) -> None:
    tensors = {"w": drawn(5, 7, dtype=dtype), "b": drawn(3, dtype=dtype, seed=1)}
    found = written_as(tensors)
    assert found.names() == ["b", "w"]
    assert "w" in found
    assert "c" not in found
    for name, tensor in tensors.items():
        assert found.shape(name) == tuple(tensor.shape)
        assert found.dtype(name) == str(dtype).removeprefix("torch.")
        assert torch.equal(found.tensor(name), tensor)
        assert found.tensor(name).dtype == dtype
        part = found.part(name)
        assert (part.shape, part.dtype) == (tuple(tensor.shape), found.dtype(name))
        assert part.numel == tensor.numel()
        assert np.array_equal(found.array(name), tensor.double().numpy())
        assert torch.equal(part.tensor(), tensor)
        for wanted in (torch.float32, torch.float64):
            assert torch.equal(entries(part, wanted), tensor.flatten().to(wanted))


@pytest.mark.parametrize("shift", range(3))
def test_tensors_may_begin_at_any_byte(tmp_path, shift) -> None:
    # Enough of them that they are mapped.
    values = drawn(1 << 19, dtype=torch.bfloat16)
    data = values.view(torch.uint8).numpy().tobytes()
    header = json.dumps(one("BF16", (1 << 19,), (0, 1 << 20))).encode() + b" " * shift
    path = raw(tmp_path / "m.safetensors", header, data)
    part = Tensors([path]).part("w")
    assert torch.equal(part.tensor(), values)
    assert measure(part, part).aa == pytest.approx(float(values.double().square().sum()), rel=1e-12)


@given(start=st.integers(0, 35), stop=st.integers(0, 35))
def test_any_range_of_entries_can_be_read(tmp_path_factory, start, stop) -> None:
    start, stop = min(start, stop), max(start, stop)
    tensor = drawn(5, 7, dtype=torch.bfloat16)
    found = written(tmp_path_factory.mktemp("range") / "m.safetensors", {"w": tensor})
    assert torch.equal(
        entries(found.part("w"), start=start, stop=stop), tensor.flatten()[start:stop].double()
    )


def test_rows_come_in_the_order_asked_for(written_as) -> None:
    # As a fused wqkv is split: groups of rows that do not lie together.
    tensor = drawn(12, 4, dtype=torch.float16)
    rows = [(8, 10), (2, 4), (4, 5), (0, 1)]
    part = written_as({"wqkv": tensor}).part("wqkv", rows)
    expected = torch.cat([tensor[start:stop] for start, stop in rows])
    assert part.shape == (6, 4)
    assert torch.equal(part.tensor(), expected)
    assert torch.equal(entries(part), expected.flatten().double())
    for start in range(0, 24, 5):
        for stop in range(start, 25, 3):
            found = entries(part, torch.float32, start, stop)
            assert torch.equal(found, expected.flatten()[start:stop].float())


@pytest.mark.parametrize("rows", [[(0, 13)], [(-1, 2)], [(3, 3)], [(0, 2), (5, 4)]])
def test_rows_outside_the_tensor_are_refused(tmp_path, rows) -> None:
    found = written(tmp_path / "m.safetensors", {"w": drawn(12, 4)})
    with pytest.raises(ValueError, match="no rows"):
        found.part("w", rows)


def test_a_bias_can_be_split_too(tmp_path) -> None:
    tensor = drawn(9)
    part = written(tmp_path / "m.safetensors", {"b": tensor}).part("b", [(6, 9), (0, 2)])
    assert torch.equal(part.tensor(), tensor[[6, 7, 8, 0, 1]])


def test_a_number_and_an_empty_tensor_are_tensors(written_as) -> None:
    found = written_as({"scale": torch.tensor(2.5), "none": torch.zeros(0, 4)})
    assert found.shape("scale") == ()
    assert entries(found.part("scale")).tolist() == [2.5]
    assert found.tensor("none").shape == (0, 4)
    assert entries(found.part("none")).tolist() == []


def test_a_tensor_has_memory_of_its_own(written_as) -> None:
    found = written_as({"w": drawn(3, 3)})
    found.tensor("w").zero_()
    found.part("w").tensor().zero_()
    assert found.tensor("w").abs().sum() > 0


def test_shards_are_one_set_of_tensors(tmp_path) -> None:
    for number in (1, 2):
        save_file({f"w{number}": drawn(2, 2, seed=number)}, tmp_path / f"{number}.safetensors")
    found = Tensors([tmp_path / "1.safetensors", tmp_path / "2.safetensors"])
    assert found.names() == ["w1", "w2"]
    assert found.file("w2") == tmp_path / "2.safetensors"
    assert torch.equal(found.tensor("w2"), drawn(2, 2, seed=2))


def test_a_name_in_two_files_is_refused(tmp_path) -> None:
    for number in (1, 2):
        save_file({"w": drawn(2, 2)}, tmp_path / f"{number}.safetensors")
    first, second = tmp_path / "1.safetensors", tmp_path / "2.safetensors"
    with refused("checkpoint.tensor-in-two-files", file=second, tensor="w", other=first):
        Tensors([first, second])


def test_integers_and_quantised_tensors_have_names_and_no_entries_to_read(tmp_path) -> None:
    tensors = {
        "ids": torch.arange(6).view(1, 6),
        "mask": torch.tensor([True, False]),
        "q": drawn(4, 4).to(torch.float8_e4m3fn),
        "packed": torch.ones(4, dtype=torch.uint8),
        "w": drawn(2, 2),
    }
    found = written(tmp_path / "m.safetensors", tensors)
    assert found.names() == sorted(tensors)
    assert found.dtype("q") == "float8_e4m3fn"
    assert torch.equal(found.tensor("q").view(torch.uint8), tensors["q"].view(torch.uint8))
    assert torch.equal(found.tensor("mask"), tensors["mask"])
    assert found.tensor("ids").tolist() == [[0, 1, 2, 3, 4, 5]]
    for name in ("ids", "mask", "q", "packed"):
        with refused("tensor.not-float", tensor=name, found=found.dtype(name)):
            entries(found.part(name))
    assert torch.equal(entries(found.part("w")), tensors["w"].flatten().double())


def test_threads_read_at_once_and_each_its_own(tmp_path) -> None:
    tensors = {f"w{i}": drawn(64, 33, dtype=torch.bfloat16, seed=i) for i in range(6)}
    found = written(tmp_path / "m.safetensors", tensors)
    wrong: list[str] = []

    def read(name: str) -> None:
        expected = tensors[name].flatten().float()
        for _ in range(50):
            if not torch.equal(entries(found.part(name), torch.float32), expected):
                wrong.append(name)

    threads = [threading.Thread(target=read, args=(name,)) for name in tensors]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_files_close_with_the_last_that_reads_them(tmp_path) -> None:
    def is_open(path: Path) -> bool:
        found = []
        for link in Path("/proc/self/fd").iterdir():
            with suppress(FileNotFoundError):  # another thread closed it meanwhile
                found.append(link.readlink())
        return path in found

    path = tmp_path / "m.safetensors"
    found = written(path, {"w": drawn(2, 2)})
    part = found.part("w")
    del found
    assert is_open(path)
    assert entries(part).shape == (4,)
    del part
    assert not is_open(path)


# safetensors that are not whole


def raw(path: Path, header: object, data: bytes = b"", length: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)
    return path


def one(dtype: object = "F32", shape: object = (2,), offsets: object = (0, 8)) -> dict:
    return {"w": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}


@pytest.mark.parametrize(
    ("header", "data", "length"),
    [
        (one(), bytes(7), None),  # cut
        (one(), bytes(9), None),  # something behind
        (one(shape=(3,)), bytes(8), None),  # fewer bytes than the shape
        (one(offsets=(4, 12)), bytes(12), None),  # a gap
        (one(shape=(-2,)), bytes(8), None),
        (one(offsets=(8, 0)), bytes(8), None),
        (one(offsets=None), bytes(8), None),
        ({"w": 3}, b"", None),
        ([1, 2], b"", None),
        (b"{" + b"[" * 50, b"", None),
        (b"\xff\xfe{}", b"", None),
        (one(), bytes(8), 1 << 40),  # a length beyond the file
        (b'{"w": 1, "w": 2}', b"", None),
    ],
)
def test_a_safetensors_file_that_is_not_whole_is_refused(tmp_path, header, data, length) -> None:
    path = raw(tmp_path / "m.safetensors", header, data, length)
    with refused("checkpoint.broken-safetensors", file=path):
        Tensors([path])


def test_a_few_bytes_are_not_a_safetensors_file(tmp_path) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(b"abc")
    with refused("checkpoint.broken-safetensors", file=path):
        Tensors([path])


@given(keep=st.floats(0, 0.999))
def test_every_cut_of_a_file_is_noticed(tmp_path_factory, keep) -> None:
    folder = tmp_path_factory.mktemp("cut")
    for name in ("m.safetensors", "m.pth"):
        written(folder / name, {"w": drawn(8, 8), "v": drawn(3, seed=1)})
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(whole[: int(len(whole) * keep)])
        with pytest.raises(InputError) as error:
            Tensors([folder / name])
        kind = "safetensors" if name.endswith(".safetensors") else "pytorch"
        assert error.value.code in (f"checkpoint.broken-{kind}", "checkpoint.empty-file")
        assert error.value.fields["file"] == folder / name


LOOKS = {
    b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n": "run git lfs pull",
    b"\n<!DOCTYPE html>\n<html><head><title>Sign in</title>": "fetch the file itself",
    b"<html><body>404 not found</body></html>": "fetch the file itself",
    b"<html>\n": "fetch the file itself",
}


@pytest.mark.parametrize("name", ["m.safetensors", "m.pth", "m.bin"])
@pytest.mark.parametrize("content", LOOKS)
def test_what_came_in_a_checkpoints_place_is_called_by_its_name(tmp_path, name, content) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with refused("checkpoint.other-content", file=path) as error:
        Tensors([path])
    assert str(error.value).endswith(f"; {LOOKS[content]}")


@pytest.mark.parametrize("name", ["m.safetensors", "m.pth", "m.bin"])
def test_an_empty_file_is_called_empty(tmp_path, name) -> None:
    (tmp_path / name).touch()
    with refused("checkpoint.empty-file", file=tmp_path / name):
        Tensors([tmp_path / name])


def test_a_folder_under_a_files_name_is_refused(tmp_path) -> None:
    (tmp_path / "m.pth").mkdir()
    with refused("checkpoint.unreadable", file=tmp_path / "m.pth", reason="Is a directory"):
        Tensors([tmp_path / "m.pth"])


CUT = ("checkpoint.broken-pytorch", "checkpoint.not-pytorch", "checkpoint.needs-code")


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pth_cut_anywhere_is_one_line(tmp_path, zipped) -> None:
    path = tmp_path / "m.pth"
    torch.save({"w": drawn(40, 40)}, path, _use_new_zipfile_serialization=zipped)
    whole = path.read_bytes()
    for keep in (1, 4, 30, 100, len(whole) // 2, len(whole) - 22, len(whole) - 1):
        path.write_bytes(whole[:keep])
        with pytest.raises(InputError) as error:
            Tensors([path])
        assert error.value.code in CUT
        assert error.value.fields["file"] == path
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("shape", [(), (2, 3, 4)])
def test_rows_of_what_is_no_matrix_are_refused(tmp_path, shape) -> None:
    file = tmp_path / "m.safetensors"
    found = written(file, {"w": drawn(*shape)})
    with refused("tensor.not-matrix", file=file, tensor="w", found=shape):
        found.part("w", ((0, 1),))


def test_a_dtype_that_is_not_known_is_named(tmp_path) -> None:
    path = raw(tmp_path / "m.safetensors", one("F4", (4,), (0, 2)), bytes(2))
    with refused("tensor.unknown-dtype", file=path, tensor="w", found="F4"):
        Tensors([path])


def test_a_missing_file_is_named(tmp_path) -> None:
    with refused("checkpoint.missing-file", file=tmp_path / "m.safetensors"):
        Tensors([tmp_path / "m.safetensors"])


def test_a_file_cut_while_it_is_read_is_noticed(tmp_path) -> None:
    path = tmp_path / "m.safetensors"
    found = written(path, {"w": drawn(100)})
    os.truncate(path, path.stat().st_size - 4)
    with refused("checkpoint.cut-while-read", file=path):
        found.tensor("w")


# PyTorch files


@pytest.mark.parametrize("key", ["model", "state_dict"])
def test_a_state_dict_may_lie_in_a_checkpoint_of_a_training(tmp_path, key) -> None:
    path = tmp_path / "checkpoint.pth"
    optimizer = {"state": {0: {"exp_avg": drawn(3), "step": 7}}, "groups": [{"lr": 0.1}]}
    content = {key: {"w": drawn(2, 3)}, "optimizer": optimizer, "epoch": 4, "config": {"a": "b"}}
    torch.save(content, path)
    found = Tensors([path])
    assert found.names() == ["w"]
    assert torch.equal(found.tensor("w"), drawn(2, 3))
    assert found.extra["epoch"] == 4
    assert found.extra["config"] == {"a": "b"}
    assert found.extra["optimizer"] == {"state": {0: {"step": 7}}, "groups": [{"lr": 0.1}]}


def test_tied_sliced_and_transposed_tensors_are_right(tmp_path) -> None:
    weight = drawn(6, 5, dtype=torch.bfloat16)
    tensors = {
        "w": weight,
        "tied": weight,
        "slice": weight[2:4],
        "transposed": weight.T,
        "column": weight[:, 1],
        "parameter": torch.nn.Parameter(drawn(3)),
        "spread": torch.tensor([1.0, 2.0])[:, None].expand(2, 3),
    }
    torch.save(dict(tensors), tmp_path / "m.pth")
    found = Tensors([tmp_path / "m.pth"])
    for name, tensor in tensors.items():
        expected = tensor.detach()
        assert torch.equal(found.tensor(name), expected), name
        assert found.tensor(name).is_contiguous()
        assert torch.equal(entries(found.part(name)), expected.flatten().double()), name
        assert torch.equal(found.part(name).tensor(), expected), name
    part = found.part("transposed", [(3, 5), (0, 1)])
    assert torch.equal(part.tensor(), weight.T[[3, 4, 0]])
    assert torch.equal(
        entries(part, start=4, stop=15), weight.T[[3, 4, 0]].flatten()[4:15].double()
    )


def test_a_repacked_file_is_read_all_the_same(tmp_path) -> None:
    torch.save({"w": drawn(40, 40)}, tmp_path / "m.pth")
    with (
        zipfile.ZipFile(tmp_path / "m.pth") as old,
        zipfile.ZipFile(tmp_path / "packed.pth", "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for record in old.infolist():
            new.writestr(record.filename, old.read(record))
    assert torch.equal(Tensors([tmp_path / "packed.pth"]).tensor("w"), drawn(40, 40))


class Code:
    """What a pickle can do to whoever loads it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


@pytest.mark.parametrize("zipped", [True, False])
def test_pickled_code_is_refused_and_never_run(tmp_path, zipped) -> None:
    path = tmp_path / "m.pth"
    content = {"w": drawn(2), "bad": Code(tmp_path / "ran")}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    with refused("checkpoint.needs-code", file=path) as error:
        Tensors([path])
    assert "state_dict()" in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "ran").exists()


def test_a_plain_pickle_is_refused(tmp_path) -> None:
    path = tmp_path / "m.bin"
    path.write_bytes(pickle.dumps({"w": [1, 2]}, protocol=2))
    with refused("checkpoint.broken-pytorch", file=path):
        Tensors([path])


@pytest.mark.parametrize(
    ("content", "found"),
    [([drawn(2)], "list"), ({"epoch": 3, "lr": 0.1}, ["epoch", "lr"])],
)
def test_a_file_without_a_dict_of_tensors_is_refused(tmp_path, content, found) -> None:
    torch.save(content, tmp_path / "m.pth")
    with refused("checkpoint.no-tensors", file=tmp_path / "m.pth", found=found):
        Tensors([tmp_path / "m.pth"])


def test_a_sparse_tensor_is_refused_by_name(tmp_path) -> None:
    torch.save({"w": torch.eye(3).to_sparse()}, tmp_path / "m.pth")
    with refused("tensor.not-plain", file=tmp_path / "m.pth", tensor="w"):
        Tensors([tmp_path / "m.pth"])
