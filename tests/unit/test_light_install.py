"""The core without the extra `workflow`: torch, transformers and the like cannot be imported.

The processes stand for an environment made by `pip install .`: every module that only the extra
installs cannot be imported.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path

import layouts
import numpy as np
import programs
import pytest
import torch
from command import in_process
from refusal import printed_code
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from affectlocus.checkpoints.model_pairs import ModelPair
from affectlocus.checkpoints.stored import as_array, as_torch, rounded, same_bits
from affectlocus.core.cells import Cell
from affectlocus.core.extras import MEDIA, MODULES
from affectlocus.evaluation.interventions import intervened
from affectlocus.training import lora_targets
from affectlocus.training.lora_targets import layout_of, layout_of_config

ROOT = Path(__file__).parents[2]


def light(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    program = programs.light(blocked=tuple(sorted(MODULES | MEDIA))) / "affectlocus"
    command = [program, *map(str, arguments)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def works(folder: Path, *arguments: object) -> str:
    done = light(folder, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_extra_of_pyproject_is_what_a_step_says_it_lacks() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extra = {re.match(r"[\w-]+", one)[0] for one in project["optional-dependencies"]["workflow"]}
    assert extra == set(MODULES.values())
    core = {re.match(r"[\w-]+", one)[0] for one in project["dependencies"]}
    assert not core & extra
    media = {re.match(r"[\w-]+", one)[0] for one in project["optional-dependencies"]["media"]}
    # Pillow comes with Matplotlib, which the core needs.
    assert media - {"affectlocus", "pillow"} == set(MEDIA.values())


# The five commands


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_diff_measures_and_draws(checkpoint, lora, tmp_path, dtype) -> None:
    base = checkpoint("llama", dtype)
    adapter = lora(base, ["q_proj", "gate_proj"])
    works(tmp_path, "diff", base, adapter)
    written = {path.name for path in (tmp_path / "diff").iterdir()}
    assert {"deltas.parquet", "heat_map.png", "heat_map.svg"} <= written
    report = json.loads(works(tmp_path, "diff", base, adapter, "--json"))
    works(tmp_path, "diff", base, adapter, "--json", "--html", "page.html")
    assert "data:image/svg+xml" in (tmp_path / "page.html").read_text()
    norms = {name: row["l2"] for name, row in report["projections"].items()}
    assert norms["gate"] > 0
    assert norms["up"] is None  # not adapted


def test_convert_reads_mlx(checkpoint, lora, tmp_path) -> None:
    mlx = layouts.mlx(lora(checkpoint("llama"), ["q_proj"]), tmp_path / "mlx")
    works(tmp_path, "convert", mlx, "--out", "peft")
    assert load_file(tmp_path / "peft/adapter_model.safetensors")


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("load", ()),
        ("tuned", ()),
        ("ablate", ("--mode", "revert")),
        ("ablate", ("--mode", "zero")),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_graft_and_verify(checkpoint, lora, tmp_path, kind, more, dtype) -> None:
    base = checkpoint("qwen2", dtype)
    adapter = lora(base, ["q_proj", "gate_proj"])
    given = ("--base", base, "--tuned", adapter, "--modules", "gate", "--kind", kind, *more)
    counts = json.loads(works(tmp_path, "graft", *given, "--out", "out"))
    assert counts["untouched"] == counts["outside"]
    if kind == "load":
        counts = json.loads(works(tmp_path, "verify", base, "out", "--modules", "gate"))
        assert counts["changed"] == counts["inside"] > 0
    # What transformers loads is the cell, bit for bit, as the evaluation has it.
    model, loading = AutoModelForCausalLM.from_pretrained(
        tmp_path / "out", dtype="auto", output_loading_info=True
    )
    assert not any(loading.values())
    cell = Cell(kind, "b", "t", "" if kind == "tuned" else "gate", more[-1] if more else "")
    pair = ModelPair(base, adapter)
    for name, tensor in model.state_dict().items():
        if name != "lm_head.weight":
            assert same_bits(as_array(tensor), intervened(pair, name, cell)), name
    assert model.lm_head.weight is model.model.embed_tokens.weight
    texts = ["Anna was happy."]
    ours, theirs = (AutoTokenizer.from_pretrained(one) for one in (tmp_path / "out", base))
    assert ours(texts)["input_ids"] == theirs(texts)["input_ids"]


@pytest.mark.parametrize("architecture", ["qwen2", "llama", "mistral", "qwen3"])
@pytest.mark.parametrize("weights", [True, False])
def test_ledger_counts_as_with_transformers(checkpoint, tmp_path, architecture, weights) -> None:
    folder = checkpoint(architecture)
    if not weights:
        folder = tmp_path / folder.name
        folder.mkdir()
        shutil.copy(checkpoint(architecture) / "config.json", folder)
    works(tmp_path, "ledger", folder, "--out", "light.csv")
    frame = (tmp_path / "light.csv").read_text()
    done = in_process(tmp_path, "ledger", folder, "--out", "full.csv")
    assert done.returncode == 0, done.stderr
    assert frame == (tmp_path / "full.csv").read_text()


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("llama", {"attention_bias": True, "mlp_bias": True}),
        ("llama", {"tie_word_embeddings": True, "head_dim": 24}),
        ("qwen3", {"attention_bias": True, "head_dim": 128}),
        ("qwen2", {"tie_word_embeddings": False}),
        ("mistral", {"head_dim": 16}),
    ],
)
def test_a_configuration_alone_tells_what_transformers_builds(
    monkeypatch, tmp_path, kind, settings
) -> None:
    sizes = {
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 100,
    }
    config = AutoConfig.for_model(kind, **sizes, **settings)
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"model_type": kind, **sizes, **settings}))
    monkeypatch.setattr(lora_targets, "installed", lambda _: False)
    name = tmp_path.resolve().name
    assert layout_of(file) == layout_of_config(name, config)


# What needs the extra


PIP = "run pip install '.[workflow]' in the checkout of affectlocus"
MINIMAL = {
    "pretrain": ("--text", "t.txt", "--settings", "{}", "--folder", "f", "--out", "o.json"),
    "tune": (
        *("--base", "b.json", "--data", "d.parquet", "--settings", "{}"),
        *("--folder", "f", "--out", "o.json"),
    ),
    "evaluate": (
        *("p.parquet", "--cells", '{"kind": "base"}', "--base", "b.json"),
        *("--data", "d.parquet", "--settings", "{}"),
    ),
    "extract": ("p.parquet", "--model", "m", "--cache", "c", "--out", "o.parquet"),
}


@pytest.mark.parametrize("command", MINIMAL)
def test_a_step_without_its_library_says_which(tmp_path, command) -> None:
    done = light(tmp_path, command, *MINIMAL[command])
    assert done.returncode == 1, done.stderr
    assert printed_code(done.stderr) == "install.no-extra"
    (line,) = done.stderr.splitlines()
    assert f"affectlocus {command} needs torch: {PIP}" in line


def test_help_needs_nothing(tmp_path) -> None:
    assert "Tune a base on module sets" in works(tmp_path, "tune", "--help")


def test_a_pytorch_file_needs_torch(checkpoint, lora, tmp_path) -> None:
    file = layouts.trained_only(lora(checkpoint("llama"), ["q_proj"]), tmp_path / "a.pth")
    done = light(tmp_path, "convert", file, "--alpha", 4, "--out", "out")
    assert done.returncode == 1
    assert printed_code(done.stderr) == "install.no-extra"
    assert str(file) in done.stderr
    assert f"needs torch: {PIP}" in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("mode", ["shuffle", "noise"])
def test_random_numbers_need_torch(checkpoint, lora, tmp_path, mode) -> None:
    base = checkpoint("llama")
    given = ("--base", base, "--tuned", lora(base, ["q_proj"]), "--modules", "q", "--out", "out")
    done = light(tmp_path, "graft", *given, "--kind", "ablate", "--mode", mode)
    assert done.returncode == 1
    assert printed_code(done.stderr) == "install.no-extra"
    assert f"affectlocus needs torch: {PIP}" in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_ledger_of_a_mixture_needs_transformers(checkpoint, tmp_path) -> None:
    folder = checkpoint("mixtral")
    done = light(tmp_path, "ledger", folder)
    assert done.returncode == 1
    assert printed_code(done.stderr) == "install.no-extra"
    assert f"{folder / 'config.json'}: to count a model of type 'mixtral'" in done.stderr
    assert f"needs transformers: {PIP}" in done.stderr


# The arithmetic is torch's, bit for bit


def numbers(kind: str) -> np.ndarray:
    """Float64 values that are hard to round to 16 bits."""
    random = np.random.default_rng(0)
    size = 200_000
    halves = random.integers(0, 2**16, size).astype(np.uint32)
    # In the middle between two bfloat16 numbers, subnormal ones and infinity among them.
    ties = ((halves << 16) | 0x8000).view(np.float32)
    short = halves.astype(np.uint16).view(np.float16)
    with np.errstate(all="ignore"):
        ties = ties.astype(np.float64)
        between = (short.astype(np.float64) + np.nextafter(short, np.float16(np.inf))) / 2
        values = {
            "any bits": random.integers(0, 2**64, size, dtype=np.uint64).view(np.float64),
            "all sizes": random.standard_normal(size) * 10.0 ** random.uniform(-46, 40, size),
            "ties": ties,
            "beside ties": np.nextafter(ties, np.where(halves % 3, np.inf, -np.inf)),
            "ties of float16": between,
            "beside ties of float16": np.nextafter(between, np.inf),
            "special": np.array([0.0, -0.0, np.inf, -np.inf, 5e-324, -5e-324, 1e-40, 65520.0]),
        }[kind]
    return values[~np.isnan(values)]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
@pytest.mark.parametrize(
    "kind",
    [
        "any bits",
        "all sizes",
        "ties",
        "beside ties",
        "ties of float16",
        "beside ties of float16",
        "special",
    ],
)
def test_rounding_is_torchs_bit_for_bit(kind, dtype) -> None:
    values = numbers(kind)
    expected = torch.from_numpy(values).to(getattr(torch, dtype))
    assert same_bits(rounded(values, dtype), as_array(expected))
    # And from float32, as an adapter's own tensors are.
    short = torch.from_numpy(values).float()
    assert same_bits(rounded(short.numpy(), dtype), as_array(short.to(getattr(torch, dtype))))


def test_nan_stays_nan() -> None:
    for dtype in ("bfloat16", "float16", "float32"):
        assert np.isnan(rounded(np.array([np.nan]), dtype).astype(np.float64)).all()


DTYPES = [
    *("float64", "float32", "float16", "bfloat16", "int64", "uint8", "bool"),
    *("float8_e4m3fn", "float8_e5m2", "float8_e8m0fnu", "float8_e4m3fnuz", "float8_e5m2fnuz"),
]


@pytest.mark.parametrize("name", DTYPES)
@pytest.mark.parametrize("shape", [(3, 4), (), (0, 2)])
def test_arrays_and_tensors_have_the_same_bits(name, shape) -> None:
    count = int(np.prod(shape))
    bits = torch.arange(64, 64 + 8 * count, dtype=torch.uint8)
    bits = bits % 2 if name == "bool" else bits
    dtype = getattr(torch, name)
    tensor = bits[: count * dtype.itemsize].view(dtype).reshape(shape)
    array = as_array(tensor)
    assert array.dtype.name == name
    assert array.shape == shape
    back = as_torch(array)
    assert back.dtype == dtype
    assert back.shape == tensor.shape
    assert bytes(back.flatten().view(torch.uint8)) == bytes(tensor.flatten().view(torch.uint8))


def _times(pair: ModelPair, name: str, times: float) -> torch.Tensor:
    """What torch makes of the same load cell."""
    base, tuned = pair.sides(name)
    return (base.double() + times * pair.delta(name)).to(tuned.dtype)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("times", [0, 0.3, 1, 2.5])
def test_a_dose_has_the_bits_that_torch_gives(
    checkpoint: Callable[..., Path], lora: Callable[..., Path], tmp_path: Path, dtype, times
) -> None:
    base = shutil.copytree(checkpoint("llama", dtype), tmp_path / "base")
    tensors = load_file(base / "model.safetensors")
    name = "model.layers.0.mlp.gate_proj.weight"
    tensors[name].flatten()[:4] = torch.tensor([1e-40, float("inf"), -0.0, 6e-8]).to(
        tensors[name].dtype
    )
    save_file(tensors, base / "model.safetensors", metadata={"format": "pt"})
    pair = ModelPair(base, lora(checkpoint("llama", dtype), ["gate_proj"]), any_base=True)
    cell = Cell("load", "b", "t", "gate", f"x{times:g}")
    found = intervened(pair, name, cell)
    assert same_bits(found, as_array(_times(pair, name, times)))
