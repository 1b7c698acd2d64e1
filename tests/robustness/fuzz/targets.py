"""What is fuzzed: each reader of somebody else's files, with what must hold whatever it is given.

A target is a strategy of examples and a check. A check passes where the reader gives its result, or
raises `InputError` with one line that a terminal can show; anything else is a finding.
"""

from __future__ import annotations

import io
import json
import re
import shlex
import shutil
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import yaml
from hypothesis import strategies as st
from safetensors.numpy import save as safetensors_bytes

from affectlocus.core.errors import InputError

ROOT = Path(__file__).resolve().parents[3]
Check = Callable[[Any], None]

# Texts that a shell, a template, a table, a page or a file system reads in its own way.
HOSTILE = (
    *(
        "../../x",
        "/etc/passwd",
        "-rf",
        "--out=x",
        "a b",
        "it's",
        '"',
        "$(touch ran)",
        "`touch ran`",
    ),
    *(
        "; touch ran",
        "&& touch ran",
        "| sh",
        "a\nb",
        "a\0b",
        "{task}",
        "{text.__class__}",
        "{",
        "*",
    ),
    *("{text!r:>999999999}", "<script>x</script>", "=cmd|' /C calc'!A1", "$x^2$", "%s", "${HOME}"),
    *(
        "_extractor",
        "mean",
        "base",
        "null",
        "007",
        "1e5",
        "A" * 300,
        "аffective",
        "a\u202eb",
        "\ud800",
    ),
    *("\ud800", "x.seed0", "x.experts", "x_intervals", "a-and-b", "", " ", ".", "..", "~"),
)
# Names that may be, and meet others in the names of results.
NAMES = (
    *("a", "A", "a.b", "a.seed0", "a.seed1", "a.tune.gate.seed0", "a.experts", "a_intervals"),
    *("a_baselines", "a-and-a", "a-and-b", "a-and-b-and-c", "others.parquet", "table1", "1a"),
    *("base", "tuned", "load", "seed0", "mean.", "x" * 80, "sources", "a.summary", "a.overlaps.b"),
    *("scores", "Null-", "a.histogram.parquet", "b-", "test", "all", "join", "mini-MOSI", "a.1"),
)
texts = st.one_of(st.sampled_from(HOSTILE), st.text(max_size=30))
plain = st.one_of(
    texts,
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.sampled_from([10**400, -1, 0, 1, 2**31, 0.5]),
)
values = st.recursive(
    plain,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=8,
)


@dataclass(frozen=True)
class Target:
    """One reader: examples, and the check that each must pass."""

    name: str
    about: str
    strategy: st.SearchStrategy[Any]
    check: Check


@contextmanager
def folder() -> Iterator[Path]:
    """An empty folder that is gone afterwards."""
    path = Path(tempfile.mkdtemp(prefix="affectlocus-fuzz-"))
    try:
        yield path
    finally:
        shutil.rmtree(path)


@contextmanager
def refusing() -> Iterator[None]:
    """A refusal is fine if it is one line that a terminal can show."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except InputError as error:
        said = str(error)
        assert said, "an empty message"
        assert len(said) <= 2100, f"a message of {len(said)} characters"
        odd = re.findall("[\0-\x08\x0a-\x1f\ud800-\udfff]", said)
        assert not odd, f"{odd!r} in a message"


@st.composite
def mutated(draw: st.DrawFn, seeds: st.SearchStrategy[bytes]) -> bytes:
    """Bytes of a good file with some stretches changed, doubled, moved or left out."""
    content = bytearray(draw(seeds))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(len(content) - 1, 0)))
        size = draw(st.integers(0, 24))
        kind = draw(st.sampled_from(["set", "flip", "cut", "insert", "double", "end"]))
        if kind == "set":
            content[at : at + size] = draw(st.binary(min_size=size, max_size=size))
        elif kind == "flip" and content:
            content[at] ^= 1 << draw(st.integers(0, 7))
        elif kind == "cut":
            del content[at : at + size]
        elif kind == "insert":
            content[at:at] = draw(st.binary(max_size=24))
        elif kind == "double":
            content[at:at] = content[at : at + size]
        else:
            del content[at:]
    return bytes(content)


def _names(tree: Any) -> list[str]:
    """What stands as a key somewhere: among others the names of bases, pairs and tasks."""
    groups = [tree.get(key) for key in ("bases", "pairs", "tasks")]
    return [name for group in groups if group for name in group] or list(tree)


def _renamed(value: Any, old: str, new: str) -> Any:
    """The tree with another name wherever one stands, as a key or as a value."""
    if isinstance(value, dict):
        return {new if k == old else k: _renamed(v, old, new) for k, v in value.items()}
    if isinstance(value, list):
        return [_renamed(one, old, new) for one in value]
    return new if value == old else value


def _like(value: Any) -> st.SearchStrategy[Any]:
    """Values of the same kind, which are refused by what they are, if at all."""
    if isinstance(value, bool):
        return st.booleans()
    if isinstance(value, int):
        return st.one_of(st.integers(-2, 20), st.integers(0, 2**33))
    if isinstance(value, float):
        return st.floats(-1, 2)
    if isinstance(value, str):
        return st.one_of(texts, st.sampled_from(NAMES))
    return values


@st.composite
def changed(draw: st.DrawFn, seeds: st.SearchStrategy[Any]) -> Any:
    """A good tree of settings with a few places replaced, renamed, added or taken away."""
    tree = json.loads(json.dumps(draw(seeds)))
    if draw(st.booleans()):
        tree = _renamed(tree, draw(st.sampled_from(_names(tree))), draw(st.sampled_from(NAMES)))
    for _ in range(draw(st.integers(0, 3))):
        at = tree
        while isinstance(at, dict | list) and at:
            keys = list(at) if isinstance(at, dict) else list(range(len(at)))
            key = draw(st.sampled_from(keys))
            inner = at[key]
            if isinstance(inner, dict | list) and inner and draw(st.integers(0, 3)):
                at = inner
                continue
            what = draw(st.sampled_from(["replace", "replace", "remove", "rename", "add"]))
            if what == "replace":
                at[key] = draw(_like(inner) if draw(st.booleans()) else values)
            elif what == "remove":
                del at[key]
            elif isinstance(at, list):
                at.append(draw(values))
            else:
                at[draw(texts)] = at.pop(key) if what == "rename" else draw(values)
            break
    return tree


# params.yaml


@cache
def _good_parameters() -> list[dict[str, Any]]:
    files = [ROOT / "params.yaml", *sorted(ROOT.glob("experiments/*/params.yaml"))]
    files += [ROOT / "tests/workflow/params.yaml"]
    found = [yaml.safe_load(file.read_text(encoding="utf-8")) for file in files]
    return [_small(one) for one in found]


def _small(config: dict[str, Any]) -> dict[str, Any]:
    """The same with few cells, which are quicker to lay out."""
    matrix = config.get("matrix", {}) | {"load": ["gate", "all"], "tune": [], "ablate": ["up"]}
    tree = config | {"matrix": matrix}
    # What is awaited may be missing, so that experiments on somebody's files are laid out too.
    for task in tree["tasks"].values():
        if "files" in task or "preset" in task:
            task["awaited"] = True
    tuned = [pair.get("tuned") for pair in tree["pairs"].values()]
    for source in (*tree["bases"].values(), *tuned):
        if isinstance(source, dict) and "folder" in source:
            source["awaited"] = True
    return tree


def _parameters(config: Any) -> None:
    from affectlocus.config.experiment import validate

    with folder() as path, refusing():
        if not isinstance(config, dict):
            return
        _laid_out(validate(config, path, planning=True))


def _text(content: bytes) -> None:
    from affectlocus.config.experiment import load

    with folder() as path, refusing():
        (path / "params.yaml").write_bytes(content)
        _laid_out(load(path, planning=True))


def _laid_out(parameters: Any) -> None:
    """What holds of every experiment that is accepted: its files, and what a shell is given."""
    from affectlocus.orchestration.dag import Dag
    from affectlocus.orchestration.rule_values import checkpoint, settings

    dag = Dag(parameters)
    tables = [*dag.tables.files, *dag.fluency.files, *dag.ledger.files]
    made = [
        *tables,
        *dag.all_figures,
        *dag.deltas.files,
        *dag.trajectory.files,
        *dag.neurons.files,
        *dag.neurons.activations,
    ]
    made += [*dag.directions.files, *(f"results/data/{task}.json" for task in dag.report.tasks)]
    made += [checkpoint(name) for name in (*dag.brought, *dag.converted, *dag.pretrained)]
    made += [checkpoint(name) for name in dag.tuned]
    made += [f"results/cells/{cell}/predictions.parquet" for cell in dag.cells]
    made += [f"results/data/{task}.parquet" for task in parameters.tasks]
    made += [
        f"results/deltas/{name}.{kind}.parquet"
        for name in dag.pair_of
        for kind in ("experts", "histogram", "neurons")
    ]
    for path in made:
        assert path.startswith("results/"), path
        assert ".." not in Path(path).parts, path
        assert max(map(len, Path(path).parts)) < 200, path
        assert path.isprintable(), path
    folded = [path.lower() for path in dict.fromkeys(made)]
    twice = [path for path in folded if folded.count(path) > 1] if len(folded) < 2000 else []
    assert len(set(folded)) == len(folded), f"two results in one file: {twice[:2]}"
    for name in dag.brought:
        given = shlex.split(dag.retrieve.flags(SimpleNamespace(name=name)))
        source = dag.source(name)
        if source.hub is not None:
            assert given == [source.hub, "--revision", source.revision]
        elif source.url is not None:
            assert given == [source.url, "--sha256", source.sha256]
        else:
            assert given == [dag.external(source.folder)]
        assert not given[0].startswith("-"), given
    for task in parameters.tasks:
        given = shlex.split(dag.prepare.flags(SimpleNamespace(task=task)))
        media = [f"results/features/{task}/{one}.parquet" for one in parameters.tasks[task].media]
        paths = [*dag.prepare.paths(task).items(), *(("media", index) for index in media)]
        assert given[::2] == [f"--{key}" for key, _ in paths]
        assert given[1::2] == [path for _, path in paths]
        text = dag.prepare.settings(SimpleNamespace(task=task))
        assert shlex.split(shlex.quote(text)) == [text]
        text.encode()
    for base, source in dag.bases.items():
        given = shlex.split(dag.chain_flags(base))
        assert given[1::2] == list(map(dag.external, source.then))
    for section in (parameters.evaluate, parameters.score, parameters.extraction):
        text = settings(section)
        assert shlex.split(shlex.quote(text)) == [text]
        text.encode()
    shlex.split(dag.ledger.flags())


good_parameters = st.deferred(lambda: st.sampled_from(_good_parameters()))


@st.composite
def yaml_texts(draw: st.DrawFn) -> bytes:
    """A good file's bytes changed, or YAML of any values, with anchors, tags and the like."""
    if draw(st.booleans()):
        written = good_parameters.map(lambda one: yaml.safe_dump(one, sort_keys=False).encode())
        return draw(mutated(written))
    lines = []
    for number in range(draw(st.integers(1, 8))):
        key = draw(st.sampled_from(["bases", "pairs", "tasks", "matrix", "seeds", "x", "<<"]))
        mark = draw(st.sampled_from(["", "&a ", "*a ", f"&a{number} ", "!!python/name:os.system "]))
        mark += draw(st.sampled_from(["", "!!int ", "!!timestamp ", "!!binary ", "!x ", "!!set "]))
        value = draw(
            st.one_of(
                values.map(lambda one: json.dumps(one, default=str)),
                st.sampled_from(
                    ["2001-13-45", "0o7", "010", ".inf", "[*a, *a]", "{*a : 1}", "? [x]"]
                ),
                texts.map(lambda one: one.encode("utf-8", "replace").decode()),
            )
        )
        lines.append(f"{key}: {mark}{value}")
    return "\n".join(lines).encode("utf-8", "replace")


# checkpoints


def _tensors(path: Path) -> None:
    from affectlocus.checkpoints.tensor_files import Tensors

    tensors = Tensors([path])
    for name in tensors.names():
        part = tensors.part(name)
        assert part.numel * 1 <= 64 * max(path.stat().st_size, 1 << 20), "more than is stored"
        if tensors.dtype(name) in ("float32", "float16", "bfloat16", "float64"):
            tensors.array(name)


def _safetensors(content: bytes) -> None:
    with folder() as path, refusing():
        file = path / "model.safetensors"
        file.write_bytes(content)
        _tensors(file)


@cache
def _good_safetensors() -> bytes:
    layer = "model.layers.0.{}.weight"
    names = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj")
    names += ("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")
    return bytes(safetensors_bytes({layer.format(n): np.ones((4, 4), np.float32) for n in names}))


@st.composite
def headers(draw: st.DrawFn) -> bytes:
    """A safetensors file: a good one's bytes changed, or a header of any entries."""
    if draw(st.booleans()):
        return draw(mutated(st.builds(_good_safetensors)))
    sides = st.one_of(st.integers(-2, 4), st.integers(-(2**70), 2**70), plain)
    entry = st.fixed_dictionaries(
        {
            "dtype": st.sampled_from(["F32", "BF16", "U8", "I64", "F4", 3, None, ["F32"]]),
            "shape": st.one_of(st.lists(sides, max_size=4), st.lists(sides, max_size=80), plain),
            "data_offsets": st.one_of(st.lists(sides, min_size=2, max_size=2), values),
        }
    )
    named = st.dictionaries(texts, st.one_of(entry, values), max_size=4)
    text = json.dumps(draw(st.one_of(named, values)), default=str).encode()
    length = draw(st.one_of(st.just(len(text)), st.integers(0, 2**64 - 1)))
    return length.to_bytes(8, "little") + text + draw(st.binary(max_size=64))


@cache
def _good_pth() -> list[bytes]:
    import torch

    tensors = {"model.layers.0.mlp.gate_proj.weight": torch.ones(4, 4)}
    tensors["x"] = torch.arange(12).reshape(3, 4).T
    made = []
    for content in (tensors, {"model": tensors, "epoch": 3, "config": {"lora_alpha": 8}}):
        for modern in (True, False):
            stream = io.BytesIO()
            torch.save(content, stream, _use_new_zipfile_serialization=modern)
            made.append(stream.getvalue())
    return made


@st.composite
def pickles(draw: st.DrawFn) -> bytes:
    """A PyTorch file with its bytes changed, or those of the pickle in its archive."""
    whole = draw(st.sampled_from(_good_pth()))
    if whole[:2] != b"PK" or draw(st.booleans()):
        return draw(mutated(st.just(whole)))
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(whole)) as old, zipfile.ZipFile(stream, "w") as new:
        for record in old.infolist():
            content = old.read(record)
            if record.filename.endswith("data.pkl"):
                content = draw(mutated(st.just(content)))
            new.writestr(record.filename, content)
    return stream.getvalue()


def _pth(content: bytes) -> None:
    with folder() as path, refusing():
        file = path / "tuned.pth"
        file.write_bytes(content)
        _tensors(file)


LORA = {
    "peft_type": "LORA",
    "r": 2,
    "lora_alpha": 4,
    "target_modules": ["q_proj"],
    "base_model_name_or_path": "owner/name",
    "rank_pattern": {"q_proj": 2},
    "alpha_pattern": {},
    "exclude_modules": None,
    "layers_to_transform": [0],
}
MLX = {"fine_tune_type": "lora", "lora_parameters": {"rank": 2, "scale": 20.0}, "model": "x/y"}


def _adapter(config: Any) -> None:
    from affectlocus.checkpoints.adapter_settings import CONFIG
    from affectlocus.checkpoints.adapters import Adapter

    with folder() as path, refusing():
        stem = "base_model.model.model.layers.0.self_attn.q_proj"
        made = {"lora_A.weight": np.ones((2, 4)), "lora_B.weight": np.ones((4, 2))}
        peft = {f"{stem}.{name}": value.astype(np.float32) for name, value in made.items()}
        (path / "adapter_model.safetensors").write_bytes(safetensors_bytes(peft))
        mlx = {f"model.layers.0.self_attn.q_proj.lora_{x}": np.ones((4, 2)) for x in "a"}
        mlx["model.layers.0.self_attn.q_proj.lora_b"] = np.ones((2, 4))
        mlx = {name: np.ascontiguousarray(value, np.float32) for name, value in mlx.items()}
        (path / "adapters.safetensors").write_bytes(safetensors_bytes(mlx))
        (path / CONFIG).write_text(json.dumps(config, default=str), encoding="utf-8")
        adapter = Adapter(path)
        for module in adapter.factors:
            adapter.low_rank(module)
        adapter.untouched_targets()
        adapter.targets("model.layers.0.self_attn.q_proj")
        _ = adapter.base_name, adapter.base_config


MODEL = {
    "config": {
        "model_type": "llama",
        "hidden_size": 4,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "num_hidden_layers": 1,
        "vocab_size": 4,
        "intermediate_size": 4,
        "text_config": {"num_attention_heads": 2},
        "quantization_config": None,
    },
    "index": {"metadata": {}, "weight_map": {"a": "model-00001-of-00001.safetensors"}},
}


def _model(given: Any) -> None:
    from affectlocus.checkpoints.model_size import size_from_config
    from affectlocus.checkpoints.pairs import Pair
    from affectlocus.checkpoints.weights import Weights
    from affectlocus.lm.config_limits import check_size

    if not isinstance(given, dict):
        return
    with folder() as path, refusing():
        fused = {"model.layers.0.self_attn.qkv_proj.weight": np.ones((8, 4), np.float32)}
        content = safetensors_bytes(fused)
        (path / "model-00001-of-00001.safetensors").write_bytes(content)
        for name, key in (("config.json", "config"), ("model.safetensors.index.json", "index")):
            if key in given:
                text = json.dumps(given[key], default=str)
                (path / name).write_text(text, encoding="utf-8")
        if isinstance(given.get("config"), dict):
            size_from_config(given["config"])
        check_size(path)
        _ = Weights(path).projections
        Pair(path, path)


MANIFEST = {
    "folder": "model",
    "kind": "file",
    "source": {"hub": "owner/name"},
    "files": [{"file": "config.json", "bytes": 2, "sha256": "0" * 64}],
}


def _manifest(given: Any) -> None:
    from affectlocus.checkpoints.checkpoint_manifests import checkpoint_folder
    from affectlocus.data.sources import resolved

    with folder() as path, refusing():
        (path / "model").mkdir()
        (path / "model" / "config.json").write_text("{}")
        file = path / "base.json"
        text = json.dumps(given, default=str).replace('"model"', json.dumps(str(path / "model")))
        file.write_text(text, encoding="utf-8")
        found = checkpoint_folder(file)
        if isinstance(given, dict) and given.get("folder") == "model":
            assert path in (found, *found.parents), f"led out of its folder: {found}"
        table = SimpleNamespace(hub="owner/name")
        task = SimpleNamespace(files=SimpleNamespace(items=lambda: [("test", table)]), join=None)
        resolved(task, {"test": file})  # type: ignore[arg-type]


# tables

ROWS = [
    {"id": "1", "text": "We won the cup, all of us", "mood": "joy", "n": "1"},
    {"id": "2", "text": 'They said "no" to me', "mood": "anger", "n": "-10"},
    {"id": "3", "text": "=1+1 <b>x</b>", "mood": "joy", "n": "0.5"},
]

HEADER = {name: name for name in ROWS[0]}


@cache
def _good_tables() -> list[tuple[str, bytes]]:
    frame = pd.DataFrame(ROWS)
    parquet, gz = io.BytesIO(), io.BytesIO()
    frame.to_parquet(parquet)
    frame.to_csv(gz, index=False, compression={"method": "gzip", "mtime": 0})
    lines = "".join(json.dumps(row | {"more": {"a": [1, None]}}) + "\n" for row in ROWS)
    return [
        ("test.csv", frame.to_csv(index=False).encode()),
        ("test.tsv", "".join("\t".join(row.values()) + "\n" for row in [HEADER, *ROWS]).encode()),
        ("test.jsonl", lines.encode()),
        ("test.parquet", parquet.getvalue()),
        ("test.csv.gz", gz.getvalue()),
        ("test.csv", frame.to_csv(index=False).encode("utf-16")),
    ]


@st.composite
def tables(draw: st.DrawFn) -> tuple[str, bytes]:
    """The name and the changed bytes of a table."""
    name, content = draw(st.sampled_from(_good_tables()))
    if name == "test.jsonl" and draw(st.booleans()):
        rows = draw(st.lists(st.dictionaries(texts, values, max_size=4), max_size=4))
        return name, "\n".join(json.dumps(row, default=str) for row in rows).encode()
    return name, draw(mutated(st.just(content)))


def _table(given: tuple[str, bytes]) -> None:
    from affectlocus.config.files import DataFile, Files
    from affectlocus.config.tasks import Columns, Task
    from affectlocus.data.prepare import prepare
    from affectlocus.data.table_reader import read_table

    name, content = given
    with folder() as path:
        file = path / name
        file.write_bytes(content)
        with refusing():
            frame = read_table(file).rows
            assert frame.map(lambda value: isinstance(value, str)).all(axis=None)
            frame.to_parquet(path / "again.parquet")
        task = Task(
            files=Files(test=DataFile(file=name)),
            columns=Columns(label="mood", id=["id"]),
            labels={"joy": "joy", "anger": "anger"},
            unlisted_labels="drop",
            duplicate_ids="first",
            prompt="{text}\nMood of {id}:",
        )
        with refusing():
            samples, report = prepare("moods", task, {"test": file})
            samples.to_parquet(path / "moods.parquet")
            json.dumps(report)


@st.composite
def answers(draw: st.DrawFn) -> tuple[str, bytes, bytes]:
    """A kind of scoring, and the changed bytes of gold and answers."""
    kind = draw(st.sampled_from(["hit-rate", "waf"]))
    if kind == "waf":
        gold, said = (
            "sample,value\ns1,1.5\ns2,-1\n",
            "checkpoint,sample,prediction\na30,s1,positive\na30,s2,neutral\n",
        )
    else:
        gold = "sample,emotion\ns1,joy\ns2,anger\n"
        said = "checkpoint,sample,openset\na5,s1,happy|glad\na5,s2,\"['mad', 'sad']\"\n"
    if draw(st.booleans()):
        return kind, draw(mutated(st.just(gold.encode()))), said.encode()
    return kind, gold.encode(), draw(mutated(st.just(said.encode())))


def _answers(given: tuple[str, bytes, bytes]) -> None:
    from affectlocus.scoring.outputs import read_outputs, score_outputs, scorer

    kind, gold, said = given
    with folder() as path, refusing():
        (path / "gold.csv").write_bytes(gold)
        (path / "said.csv").write_bytes(said)
        found = read_outputs(kind, path / "gold.csv", path / "said.csv")
        if kind == "waf":
            json.dumps(score_outputs(found, scorer(kind), "last"))


@cache
def _good_wheels() -> dict[str, bytes]:
    from openpyxl import Workbook

    def sheet(rows: list[list[str]]) -> bytes:
        book, stream = Workbook(), io.BytesIO()
        for row in rows:
            book.active.append(row)
        book.save(stream)
        return stream.getvalue()

    wheel = sheet([["level1", "level2", "level3"], ["happy", "joyful", "glad"], ["", "proud", ""]])
    made = {f"wheel{number}.xlsx": wheel for number in range(1, 6)}
    synonyms = sheet([["word_run1", "synonym_run1"], ["happy", "glad, merry"]])
    return made | {
        "format.csv": b'name,format\nhappy,"happily, happier"\n',
        "synonym.xlsx": synonyms,
    }


@st.composite
def wheels(draw: st.DrawFn) -> tuple[str, bytes]:
    """One file of a folder of wheels, changed."""
    name = draw(st.sampled_from(["format.csv", "synonym.xlsx", "wheel1.xlsx"]))
    content = _good_wheels()[name]
    if name.endswith(".csv") or draw(st.booleans()):
        return name, draw(mutated(st.just(content)))
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(stream, "w") as new:
        for record in old.infolist():
            inner = old.read(record)
            if draw(st.integers(0, 3)) == 0:
                inner = draw(mutated(st.just(inner)))
            new.writestr(record.filename, inner)
    return name, stream.getvalue()


def _wheels(given: tuple[str, bytes]) -> None:
    from affectlocus.scoring.wheels import read

    name, content = given
    with folder() as path, refusing():
        for each, good in _good_wheels().items():
            (path / each).write_bytes(content if each == name else good)
        _ = read(path, own=True).published


# texts


def _printed(given: tuple[str, str]) -> None:
    from affectlocus.core.redaction import redacted

    secret, around = given
    said = redacted(f"{around}{secret}{around}", {"MY_TOKEN": secret})
    assert secret not in said or secret in "${MY_TOKEN}" or secret in around


CELL = {
    "kind": "ablate",
    "base": "small",
    "pair": "felt",
    "modules": "q+gate",
    "mode": "noise",
    "seed": None,
    "draw": 2,
}


def _cells(fields: dict[str, Any]) -> None:
    from affectlocus.cli.shared import settings_of
    from affectlocus.config.cells import CellList

    with refusing():
        (found,) = settings_of(CellList, json.dumps([fields]), "--cells").root
        cell = found.of("base")
        (again,) = settings_of(CellList, CellList.json_of([cell]), "--cells").root
        assert again.of("other") == cell


TARGETS = [
    Target(
        "parameters",
        "real params.yaml with keys and values replaced",
        changed(good_parameters),
        _parameters,
    ),
    Target("parameters-text", "texts of params.yaml", yaml_texts(), _text),
    Target("safetensors", "safetensors files and headers", headers(), _safetensors),
    Target("pth", "PyTorch files and the pickles in them", st.deferred(pickles), _pth),
    Target("adapter", "adapter_config.json", changed(st.sampled_from([LORA, MLX])), _adapter),
    Target("model", "config.json and index of a model", changed(st.just(MODEL)), _model),
    Target(
        "manifest", "manifests of checkpoints and of data", changed(st.just(MANIFEST)), _manifest
    ),
    Target("table", "csv, tsv, jsonl, parquet, gzip", st.deferred(tables), _table),
    Target("answers", "gold and answers to be scored", answers(), _answers),
    Target("wheels", "files of emotion wheels", st.deferred(wheels), _wheels),
    Target("cell", "cells as JSON", changed(st.just(CELL)), _cells),
    Target(
        "secrets",
        "secrets within other text",
        st.tuples(st.text(min_size=6, max_size=40), st.text(max_size=10)),
        _printed,
    ),
]
