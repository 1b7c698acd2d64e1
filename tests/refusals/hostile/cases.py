"""Hostile input of every kind, and what must be printed.

Each case is a good experiment, table or checkpoint with one hostile part, and the command that
reads it. Code in the input, if it were run, would create a file named `ran` (`MARKER`).
"""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from moods import GOOD, TASK
from moods import PARAMETERS as EXPERIMENT
from safetensors.numpy import save_file

from affectlocus.core.cells import Cell
from affectlocus.evaluation.predictions import Predictions

MARKER = "ran"
SHELL = "$(touch ran) `touch ran`; touch ran & 'touch ran' \"touch ran\""

PARAMETERS: dict[str, Any] = {
    **EXPERIMENT,
    "tasks": {
        "moods": TASK,
        "mini-caption": {"corpus": True, "columns": {"target": "target"}},
    },
}
CHECK = (("check", "."),)
PREPARE = (
    (
        *("prepare", "--name", "moods", "--test", "test.csv", "--settings", "task.yaml"),
        *("--out", "moods.parquet", "--report", "moods.json"),
    ),
    ("show", "moods.parquet"),
)
Change = Callable[[dict[str, Any]], Any]


@dataclass(frozen=True)
class Case:
    """One kind of hostile input.

    Attributes:
        kind: what it is.
        says: parts of what must be printed: the code of a refusal, and the values that it names.
        change: changes the good params.yaml in place; or the text of one.
        files: name → content, added to the good ones or in place of one.
        make: writes what is no text, into the experiment's folder.
        commands: what meets it, one after the other; the last must end as `refused` says.
        refused: whether it ends with exit code 1, or is taken for what it is.
        shown: which file the page shows; or words about it.
        heavy: seconds or hundreds of MB, so that only run.py runs it.
    """

    kind: str
    says: tuple[str, ...]
    change: Change | str | None = None
    files: dict[str, str | bytes] = field(default_factory=dict)
    make: Callable[[Path], None] | None = None
    commands: tuple[tuple[str, ...], ...] = CHECK
    refused: bool = True
    shown: str = ""
    heavy: bool = False

    def write(self, folder: Path) -> None:
        """Writes the experiment into an empty folder."""
        config = json.loads(json.dumps(PARAMETERS))
        text = self.change if isinstance(self.change, str) else None
        if text is None:
            if callable(self.change):
                self.change(config)
            text = yaml.safe_dump(config, allow_unicode=True)
        given = {**GOOD, "task.yaml": yaml.safe_dump(TASK), **self.files, "params.yaml": text}
        for name, content in given.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            data = content.encode() if isinstance(content, str) else content
            path.write_bytes(data)
        if self.make is not None:
            self.make(folder)


# names


def _pair_named(name: str) -> Change:
    def change(config: dict[str, Any]) -> None:
        config["pairs"][name] = config["pairs"].pop("pair")
        config["matrix"]["pairs"] = [name]

    return change


def _task_named(name: str) -> Change:
    return lambda config: config["tasks"].update({name: config["tasks"].pop("moods")})


def _task(**keys: Any) -> Change:
    return lambda config: config["tasks"]["moods"].update(keys)


def _two_pairs(one: str, two: str) -> Change:
    def change(config: dict[str, Any]) -> None:
        _pair_named(one)(config)
        config["pairs"][two] = json.loads(json.dumps(config["pairs"][one]))

    return change


def _named(what: str, name: str) -> Case:
    shown = json.dumps(name if len(name) < 60 else name[:20] + "…")
    code = "[params.name-too-long]" if len(name) > 80 else "[params.not-a-file-name]"
    return Case(
        f"A pair's name: {what}", (code,), _pair_named(name), shown=f"`pairs: {{{shown}: …}}`"
    )


NAMES = [
    _named("a way out of its folder", "../../x"),
    _named("a slash", "a/b"),
    _named("an option", "-rf"),
    _named("a quotation mark", "it's"),
    _named("a command for a shell", "$(touch ran)"),
    _named("another command", "x; touch ran"),
    _named("a line break", "a\nb"),
    _named("braces, which Snakemake or Python would fill in", "{cell}"),
    _named("a pattern of file names", "*"),
    _named("one of our own", "_extractor"),
    _named("a letter that only looks like a", "аffective"),
    _named("a mark that turns the direction of writing", "a\u202eb"),
    _named("longer than a disk allows", "x" * 300),
    Case(
        "A pair's name: a NUL",
        ("[params.unwritable-character]",),
        _pair_named("a\0b"),
        shown='`pairs: {"a\\0b": …}`',
    ),
    Case(
        "Half a character in a prompt",
        ("[params.unwritable-character]", "tasks.moods.prompt"),
        _task(prompt="{text}\ud800"),
        shown='`prompt: "{text}\\ud800"`',
    ),
    Case(
        "A task called as a column of the tables is",
        ("[task.named-like-a-column]",),
        _task_named("mean"),
        shown="`tasks: {mean: …}`",
    ),
    Case(
        "A task called as a number",
        ("[params.name-like-a-number]",),
        _task_named("1e5"),
        shown='`tasks: {"1e5": …}`',
    ),
    Case(
        "Names that differ by case alone",
        ("[params.names-differ-by-case]",),
        _two_pairs("pair", "Pair"),
        shown="`pairs: {pair: …, Pair: …}`",
    ),
    Case(
        "A name that another's results have",
        ("[params.same-result-names]", "pairs.pair"),
        _two_pairs("pair", "pair.seed0"),
        shown="`pairs: {pair: …, pair.seed0: …}`",
    ),
]

# paths


def _named_file(name: str, **keys: Any) -> dict[str, Any]:
    return {
        "change": _task(files={"test": name}, **keys),
        "files": {name: GOOD["test.csv"]},
        "shown": f"`files: {{test: {json.dumps(name)}}}`",
    }


def _device(folder: Path) -> None:
    (folder / "test.csv").unlink()
    (folder / "test.csv").symlink_to("/dev/zero")


PATHS = [
    Case(
        "A file whose name would be a command for a shell",
        ("moods: test 2", "good."),
        refused=False,
        **_named_file("$(touch ran); `touch ran` && 'touch ran'.csv"),
    ),
    Case(
        "A file whose name would be an option",
        ("moods: test 2", "good."),
        refused=False,
        **_named_file("--out=x.csv"),
    ),
    Case(
        "A file with braces in its name",
        ("[path.braces]", "tasks.moods.files.test:", "'{task}.csv'"),
        **_named_file("{task}.csv"),
    ),
    Case(
        "A file with a line break in its name",
        ("[path.unprintable]",),
        **_named_file("a\nb.csv"),
    ),
    Case(
        "A file that is none of a table's",
        ("[table.unknown-suffix]", "/etc/passwd:"),
        _task(files={"test": "../../../../../../../../../../etc/passwd"}),
        shown="`files: {test: ../../../../../../../../../../etc/passwd}`",
    ),
    Case(
        "A path longer than a disk allows",
        ("[path.not-valid]", "File name too long"),
        _task(files={"test": "x" * 5000 + ".csv"}),
        shown="`files: {test: xxx….csv}`, of 5,004 characters",
    ),
    Case(
        "A hub id that would be an option",
        ("[params.invalid-value]", "bases.tiny.hub"),
        lambda config: config["bases"].update(tiny={"hub": "--out/x", "revision": "main"}),
        shown="`bases: {tiny: {hub: --out/x, revision: main}}`",
    ),
    Case(
        "A device in the place of a file",
        ("[task.no-file]", "test.csv"),
        make=_device,
        shown="`test.csv` is a link to `/dev/zero`",
    ),
]

# YAML


def _yaml(text: str) -> dict[str, Any]:
    return {"change": text, "shown": "params.yaml"}


LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n"
    for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
YAML = [
    Case(
        "A billion laughs",
        ("[params.too-many-values]", "100000"),
        **_yaml(LAUGHS),
    ),
    Case("An anchor in itself", ("[params.endless-anchor]",), **_yaml("a: &a [*a]\n")),
    Case(
        "A tag that would call a program",
        ("[params.not-yaml]",),
        **_yaml("bases: !!python/object/apply:os.system ['touch ran']\n"),
    ),
    Case(
        "A tag that would import a module",
        ("[params.not-yaml]",),
        **_yaml("bases: !!python/name:os.system\n"),
    ),
    Case(
        "A key twice",
        ("[params.duplicate-key]", "line 2", "'bases'"),
        **_yaml("bases: {}\nbases: {}\n"),
    ),
    Case("A list as a key", ("[params.key-not-text]",), **_yaml("? [a, b]\n: c\n")),
    Case(
        "A date that no calendar has",
        ("[params.unquoted-scalar]", "line 1", "'2001-13-45'"),
        **_yaml("seeds: 2001-13-45\n"),
    ),
    Case(
        "A number of 5,000 digits",
        ("[params.invalid-value]", "seeds.0:", "1111"),
        lambda config: config.update(seeds=["1" * 5000]),
        shown="`seeds: [111…]`",
    ),
    Case(
        "A seed that no generator takes",
        ("[params.invalid-value]", "seeds.0:", "295147905179352825856"),
        lambda config: config.update(seeds=[2**68]),
        shown="`seeds: [295147905179352825856]`",
    ),
    Case(
        "An infinite learning rate",
        ("[params.invalid-value]", "pairs.pair.tuning.learning_rate:", "'.inf'"),
        lambda config: config["pairs"]["pair"]["tuning"].update(learning_rate=float("inf")),
        shown="`learning_rate: .inf`",
    ),
    Case(
        "Ten million answers",
        ("[task.too-many-numbers]", "10000001"),
        lambda config: config["tasks"]["moods"].update(
            labels=None, columns={"score": "mood", "id": "id"}, number={"highest": 10_000_000}
        ),
        shown="`number: {highest: 10000000}`",
    ),
    Case(
        "A date among the labels",
        ("[label.unlisted]", "row 1", "'joy'", "2001-02-03"),
        yaml.safe_dump(PARAMETERS).replace("- joy", "- 2001-02-03"),
        shown="`labels: [2001-02-03, anger]`",
    ),
    Case(
        "An octal number among the labels, which YAML 1.1 reads as 8",
        ("[label.unlisted]", "row 1", "'joy'", "010"),
        yaml.safe_dump(PARAMETERS).replace("- joy", "- 010"),
        shown="`labels: [010, anger]`",
    ),
    Case(
        "Nested a hundred thousand times",
        ("[params.nested-too-deep]",),
        "a: " + "[" * 100_000,
        shown="`a: [[[…`",
    ),
    Case(
        "Two MiB of YAML",
        ("[params.too-long]",),
        "# " + "x" * (2 << 20) + "\n",
        shown="a comment of 2 MiB",
    ),
]

# templates


def _prompt(text: str, what: str) -> Case:
    return Case(
        f"A prompt that {what}",
        ("[prompt.not-a-column]",),
        _task(prompt=text),
        shown=f"`prompt: {json.dumps(text)}`",
    )


PROMPTS = [
    Case(
        "A prompt that reaches for Python's insides",
        ("[prompt.no-such-column]", "'text.__class__'"),
        _task(prompt="{text.__class__}"),
        shown='`prompt: "{text.__class__}"`',
    ),
    _prompt("{text!r:>999999999}", "asks for a billion spaces"),
    _prompt("{text:{text}}", "nests its fields"),
    _prompt("{}", "names no column"),
    Case(
        "A prompt with a brace alone",
        ("[prompt.not-a-template]",),
        _task(prompt="{text"),
        shown='`prompt: "{text"`',
    ),
    Case(
        "A codec that transforms text, in hours for a long one",
        ("[params.unknown-encoding]", "'punycode'"),
        _task(encoding="punycode"),
        shown="`encoding: punycode`",
    ),
]

# tables


def _test(content: str | bytes, name: str = "test.csv", **keys: Any) -> dict[str, Any]:
    return {
        "files": {name: content},
        "change": _task(files={"test": name}, **keys),
        "shown": name if isinstance(content, str) and len(content) < 300 else "",
    }


def _shown(text: str) -> dict[str, Any]:
    """A table whose texts come out as they are."""
    files = {"test.csv": text, "task.yaml": yaml.safe_dump(TASK | {"unlisted_labels": "drop"})}
    return {"files": files, "commands": PREPARE, "refused": False, "shown": "test.csv"}


class Runs:
    """What unpickles as a call of a program."""

    def __reduce__(self) -> Any:
        return os.system, (f"touch {MARKER}",)


def _extension(folder: Path) -> None:
    """A parquet file with a pickle in its schema, which old readers ran (CVE-2023-47248)."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    about = {
        "ARROW:extension:name": "arrow.py_extension_type",
        "ARROW:extension:metadata": pickle.dumps(Runs()),
    }
    fields = [pa.field("id", pa.string()), pa.field("text", pa.string(), metadata=about)]
    rows = [pa.array(["3", "4"]), pa.array(["She passed", "He lied"]), pa.array(["joy", "anger"])]
    schema = pa.schema([*fields, pa.field("mood", pa.string())])
    pq.write_table(pa.Table.from_arrays(rows, schema=schema), folder / "test.parquet")


def _repeated(folder: Path) -> None:
    """A few kB of parquet: one text of 64 kB, a million times."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    places = pa.array(np.zeros(1_000_000, np.int32))
    text = pa.DictionaryArray.from_arrays(places, pa.array(["x" * 65536]))
    pq.write_table(pa.table({"text": text, "mood": text, "id": text}), folder / "test.parquet")


def _large(name: str, before: str, after: str, size: int = 10**9) -> Callable[[Path], None]:
    """A table of one text of so many characters."""

    def make(folder: Path) -> None:
        block = b"x" * 10**6
        opened = gzip.open if name.endswith(".gz") else open
        with opened(folder / name, "wb") as stream:  # type: ignore[operator]
            stream.write(before.encode())
            for _ in range(size // 10**6):
                stream.write(block)
            stream.write(after.encode())

    return make


def _large_parquet(folder: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table({"id": ["3"], "text": ["x" * 10**9], "mood": ["joy"]})
    # A dictionary and statistics would hold the text thrice more while it is written.
    path = folder / "test.parquet"
    pq.write_table(table, path, use_dictionary=False, write_statistics=False)


def _workbooks(folder: Path) -> None:
    """A folder of wheels whose workbooks unpack to 200 MB each."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("xl/worksheets/sheet1.xml", b"<" * 200_000_000)
    for name in [*(f"wheel{number}.xlsx" for number in range(1, 6)), "synonym.xlsx"]:
        (folder / name).write_bytes(stream.getvalue())
    (folder / "format.csv").write_text("name,format\nhappy,happily\n")


_CSV = "id,text,mood\n3,", ",joy\n4,He lied,anger\n"
TOO_LONG = "more than 512 MiB"
TABLES = [
    Case(
        "Formulas in texts and labels",
        ("=cmd|' /C calc'!A1", "+1+1", "@SUM(A1)", "-2+3"),
        **_shown(
            "id,text,mood\n3,=cmd|' /C calc'!A1,joy\n4,+1+1,anger\n5,@SUM(A1),joy\n6,-2+3,joy\n"
        ),
    ),
    Case(
        "HTML and a script in a text",
        ("<script>alert(1)</script>", "<img src=x onerror=alert(1)>"),
        **_shown(
            "id,text,mood\n3,<script>alert(1)</script>,joy\n4,<img src=x onerror=alert(1)>,anger\n"
        ),
    ),
    Case(
        "Markup of the terminal's own in a text",
        ("[red]She[/blue] passed", "[link=x]He lied"),
        **_shown("id,text,mood\n3,[red]She[/blue] passed,joy\n4,[link=x]He lied,anger\n"),
    ),
    Case(
        "What would steer a terminal in a text",
        (r"\x1b]0;mine\x07She passed", r"He \u202elied"),
        **_shown("id,text,mood\n3,\x1b]0;mine\x07She passed,joy\n4,He \u202elied,anger\n"),
    ),
    Case(
        "Fields that name our fields",
        ("{text} {mood}", "$HOME %s"),
        **_shown("id,text,mood\n3,{text} {mood},joy\n4,$HOME %s,anger\n"),
    ),
    Case(
        "A label with a line break and what steers a terminal",
        ("[label.unlisted]", "row 1", "'joy\\n\\x1b[2J'"),
        **_test('id,text,mood\n3,She passed,"joy\n\x1b[2J"\n'),
    ),
    Case(
        "NUL bytes",
        ("[table.not-text]", "line 2"),
        **_test("id,text,mood\n3,She\0passed,joy\n"),
    ),
    Case(
        "A million columns",
        ("[table.too-many-columns]", "1000001", "10000"),
        **_test("id,text,mood" + ",x" * 999_998 + "\n3,She passed,joy\n"),
    ),
    Case(
        "Few bytes, billions of fields",
        ("[table.too-many-fields]", "9999", "5e+07"),
        **_test("text" + ",x" * 9998 + "\n" + "a\n" * 100_000),
    ),
    Case(
        "A field of 20 million characters",
        ("[table.field-too-long]", "'text'", "20000000", "16777216"),
        **_test("x" * 20_000_000 + ",joy\n", header=["text", "mood"], columns={"label": "mood"}),
    ),
    Case(
        "A line of JSON nested a hundred thousand times",
        ("[table.nested-too-deep]",),
        **_test('{"text": ' + "[" * 100_000, "test.jsonl"),
    ),
    Case(
        "Rows of JSON with a column each",
        ("[table.too-many-fields]", "7072", "5e+07"),
        **_test("".join(f'{{"k{n}": 1}}\n' for n in range(20_000)), "test.jsonl"),
    ),
    Case(
        "A number of 5,000 digits in JSON",
        ("[table.unreadable]",),
        **_test('{"text": ' + "1" * 5000 + "}", "test.jsonl"),
    ),
    Case(
        "A column of JSON that has a name of ours",
        ("[table.nul-in-column-name]",),
        **_test('{"text": "a", "mood": "joy", "id": "3", "\\u0000partner": "x"}\n', "test.jsonl"),
    ),
    Case(
        "Half a character in JSON, which is replaced and counted",
        ("with characters that indicate a wrong encoding: test 1",),
        refused=False,
        **_test('{"text": "a \\ud83d", "mood": "joy", "id": "3"}\n', "test.jsonl"),
    ),
    Case(
        "A pickle in the schema of a parquet file",
        ("moods: test 2", "good."),
        _task(files={"test": "test.parquet"}),
        make=_extension,
        refused=False,
        shown="`test.parquet` with the extension type of CVE-2023-47248",
    ),
    Case(
        "Pickled arrays",
        ("[table.pickled]", "test.npz:"),
        **_test(pickle.dumps(Runs()), "test.npz"),
    ),
    Case(
        "A pickle named csv",
        ("[table.pickled]", "test.csv:"),
        **_test(pickle.dumps(Runs())),
    ),
    Case(
        "Workbooks of emotion wheels that unpack to 200 MB each",
        ("200000000 bytes when decompressed; expected at most 100000000",),
        files={
            "gold.csv": "sample,emotion\ns1,joy\n",
            "said.csv": "checkpoint,sample,openset\na,s1,happy\n",
        },
        make=_workbooks,
        commands=(
            (
                *("score", "--protocol", "mer-unibench", "--kind", "hit-rate", "--wheels", "."),
                *("--own-wheels", "--gold", "gold.csv", "--predictions", "said.csv"),
            ),
        ),
        shown="six workbooks of 0.9 MB",
        heavy=True,
    ),
    Case(
        "A text that is repeated a million times in a few kB of parquet",
        ("more than 512 MiB of values, decompressed", "[table.too-large]"),
        _task(files={"test": "test.parquet"}),
        make=_repeated,
        shown="`test.parquet`, of some 10 kB",
        heavy=True,
    ),
    *(
        Case(
            f"A text of 1 GB: {name.partition('.')[2]}",
            (TOO_LONG,),
            _task(files={"test": name}),
            make=_large_parquet if name.endswith("parquet") else _large(name, *around),
            shown=f"`{name}`, with a text of 1,000,000,000 characters",
            heavy=True,
        )
        for name, around in (
            ("test.csv", _CSV),
            ("test.csv.gz", _CSV),
            ("test.tsv", ("id\ttext\tmood\n3\t", "\tjoy\n")),
            ("test.jsonl", ('{"id": "3", "mood": "joy", "text": "', '"}\n')),
            ("test.parquet", ("", "")),
        )
    ),
    Case(
        "A text of 500 MB, which the limit of a file lets pass",
        ("has 500000000 characters; expected at most 16777216",),
        make=_large("test.csv", *_CSV, size=5 * 10**8),
        shown="`test.csv`, with a text of 500,000,000 characters",
        heavy=True,
    ),
]

# checkpoints

SHAPES = {
    **{f"self_attn.{name}_proj": (8, 8) for name in "qkvo"},
    **{f"mlp.{name}_proj": (12, 8) for name in ("gate", "up")},
    "mlp.down_proj": (8, 12),
}
CONFIG = {"model_type": "llama", "hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1}
CONFIG |= {"num_key_value_heads": 2, "vocab_size": 16, "intermediate_size": 12}
GATE = "model.layers.0.mlp.gate_proj.weight"
LORA = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"]}
DIFF = (("diff", "base", "tuned"),)


def arrays() -> dict[str, np.ndarray]:
    """The tensors of a tiny model of LLaMA's layout."""
    drawn = np.random.default_rng(0)
    made = {f"model.layers.0.{n}.weight": drawn.normal(size=s) for n, s in SHAPES.items()}
    made |= {
        name: drawn.normal(size=(16, 8)) for name in ("model.embed_tokens.weight", "lm_head.weight")
    }
    return {name: value.astype(np.float32) for name, value in made.items()}


def model(folder: Path, **config: Any) -> None:
    """A model's folder."""
    folder.mkdir(parents=True)
    save_file(arrays(), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(CONFIG | config), encoding="utf-8")


def _pairs(change: Callable[[Path], None]) -> Callable[[Path], None]:
    """A base and a tuned twin, of which the second is changed."""

    def make(folder: Path) -> None:
        model(folder / "base")
        model(folder / "tuned")
        change(folder / "tuned")

    return make


def _bytes(header: Any, data: bytes = b"", length: int | None = None) -> Callable[[Path], None]:
    """A safetensors file of this header."""

    def write(folder: Path) -> None:
        text = header if isinstance(header, bytes) else json.dumps(header).encode()
        size = struct.pack("<Q", len(text) if length is None else length)
        (folder / "model.safetensors").write_bytes(size + text + data)

    return _pairs(write)


def _entry(shape: Any, begin: int, end: int, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def _pth(content: Callable[[], Any], name: str = "tuned.pth") -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        import torch

        model(folder / "base")
        torch.save(content(), folder / name)

    return make


def _spread() -> Any:
    import torch

    return {GATE: torch.ones(1).expand(10**6, 10**6)}


def _laughs() -> Any:
    """A few hundred bytes that are 2^40 values, and hold themselves."""
    import torch

    inner: Any = []
    for _ in range(40):
        inner = {"a": inner, "b": inner}
    around: dict[str, Any] = {"model": {"x.lora_A": torch.ones(2, 2)}, "config": inner}
    inner["self"] = inner
    return around


def _packed(folder: Path) -> None:
    model(folder / "base")
    with zipfile.ZipFile(folder / "tuned.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("tuned/data.pkl", b"\0" * 100_000_000)


def _index(name: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        index = {"metadata": {}, "weight_map": dict.fromkeys(arrays(), name)}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))

    return _pairs(write)


def _linked(folder: Path) -> None:
    """As the hub's cache has it: files are links to blobs elsewhere."""
    model(folder / "base")
    blobs, snapshot = folder / "cache" / "blobs", folder / "tuned"
    blobs.mkdir(parents=True)
    snapshot.mkdir()
    model(folder / "kept")
    for number, file in enumerate(sorted((folder / "kept").iterdir())):
        file.rename(blobs / str(number))
        (snapshot / file.name).symlink_to(Path("..") / "cache" / "blobs" / str(number))


def _pickled_base(folder: Path) -> None:
    import torch

    model(folder / "base")
    (folder / "base" / "model.safetensors").unlink()
    torch.save({"model": Runs()}, folder / "base" / "pytorch_model.bin")
    model(folder / "tuned")


def _beside(folder: Path) -> None:
    """Pickles that a trainer leaves next to the weights, and program code."""
    for name in (
        "optimizer.pt",
        "scheduler.pt",
        "training_args.bin",
        "rng_state.pth",
        "tokenizer.pkl",
    ):
        (folder / name).write_bytes(pickle.dumps(Runs()))
    (folder / "modeling_evil.py").write_text(f"open({MARKER!r}, 'w')\n")
    (folder / "sitecustomize.py").write_text(f"open({MARKER!r}, 'w')\n")


def _adapter(**config: Any) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        model(folder / "base")
        (folder / "tuned").mkdir()
        stem = "base_model.model.model.layers.0.self_attn.q_proj"
        made = {"A": np.ones((2, 8), np.float32), "B": np.ones((8, 2), np.float32)}
        named = {f"{stem}.lora_{key}.weight": value for key, value in made.items()}
        save_file(named, folder / "tuned" / "adapter_model.safetensors")
        (folder / "tuned" / "adapter_config.json").write_text(json.dumps(LORA | config))

    return make


def _config(text: str) -> Callable[[Path], None]:
    return _pairs(lambda folder: (folder / "config.json").write_text(text) and None)


def _own_code(folder: Path) -> None:
    """A model and a tokenizer that say that they need code of their own, and a text to read."""
    own = {"AutoConfig": "evil.Evil", "AutoModelForCausalLM": "evil.Evil"}
    model(folder / "evil", model_type="evil", auto_map=own)
    (folder / "evil" / "evil.py").write_text(f"open({MARKER!r}, 'w')\n")
    rows = pd.DataFrame({"task": ["m"], "sample": ["1"], "label": ["joy"], "loglik": [-1.0]})
    rows = rows.assign(text="I am happy")
    Predictions(Cell("base", "b"), {"m": ["joy", "anger"]}, rows).write(folder / "said.parquet")


def _too_large(folder: Path) -> None:
    _own_code(folder)
    config = CONFIG | {"vocab_size": 10**12, "hidden_size": 10**6}
    (folder / "evil" / "config.json").write_text(json.dumps(config))


EXTRACT = (
    ("extract", "said.parquet", "--model", "evil", "--cache", "replies", "--out", "found.parquet"),
)
BROKEN = "not a whole safetensors file"
CHECKPOINTS = [
    Case(
        "A header of 2^60 bytes, says the file",
        (BROKEN, "too few for a header and its tensors"),
        make=_bytes({}, length=2**60),
        shown="eight bytes, `00 00 00 00 00 00 00 10`, and `{}`",
        commands=DIFF,
    ),
    Case(
        "A header of 26 MB",
        ("its header has 26000000 bytes; expected 25000000 at most",),
        make=_bytes(b"{" + b" " * 25_999_998 + b"}"),
        shown="`{`, 26 million blanks, `}`",
        commands=DIFF,
    ),
    Case(
        "A header nested a million times",
        (BROKEN, "recursion"),
        make=_bytes(b"[" * 1_000_000),
        shown="`[[[…`",
        commands=DIFF,
    ),
    Case(
        "Tensors that share bytes",
        (BROKEN, "'b' begins at 0 where 4 was expected"),
        make=_bytes({"a": _entry([1], 0, 4), "b": _entry([1], 0, 4)}, b"\0" * 8),
        commands=DIFF,
        shown='`{"a": {…, "data_offsets": [0, 4]}, "b": {…, "data_offsets": [0, 4]}}`',
    ),
    Case(
        "A tensor behind the end of the file",
        (BROKEN, "'a' ends 4 bytes after the end of the file"),
        make=_bytes({"a": _entry([3], 0, 12)}, b"\0" * 8),
        commands=DIFF,
        shown='`{"a": {…, "data_offsets": [0, 12]}}` and 8 bytes',
    ),
    Case(
        "A negative shape",
        (BROKEN, "'a': shape and offsets must be counts"),
        make=_bytes({"a": _entry([-1, -1], 0, 4)}, b"\0" * 4),
        commands=DIFF,
        shown='`"shape": [-1, -1]`',
    ),
    Case(
        "A shape whose product overflows 64 bits",
        (BROKEN, "'a': 4 bytes for shape"),
        make=_bytes({"a": _entry([2**32, 2**32, 2], 0, 4)}, b"\0" * 4),
        commands=DIFF,
        shown='`"shape": [4294967296, 4294967296, 2]`',
    ),
    Case(
        "A shape of a thousand sides",
        (BROKEN, "'a' has 1000 dimensions"),
        make=_bytes({"a": _entry([2**62] * 1000, 0, 4)}, b"\0" * 4),
        commands=DIFF,
        shown='`"shape": [4611686018427387904, …]`',
    ),
    Case(
        "A name twice",
        (BROKEN, "the header lists a name twice"),
        make=_bytes(b'{"a": {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]}, "a": {}}'),
        commands=DIFF,
        shown='`{"a": {…}, "a": {…}}`',
    ),
    Case(
        "A name that would be a way out of a folder, and steers a terminal",
        # A tensor outside the language model is not measured, whatever its name.
        (r"(1 tensor, as '../../x\x1b[2J'): not measured",),
        make=_pairs(
            lambda folder: save_file(
                arrays() | {"../../x\x1b[2J": np.ones(1, np.float32)}, folder / "model.safetensors"
            )
        ),
        commands=DIFF,
        refused=False,
        shown='`{"../../x\\u001b[2J": {…}}`',
    ),
    *(
        Case(
            f"An index that places tensors {what}",
            ("[checkpoint.path-in-weight-map]", repr(name)),
            make=_index(name),
            commands=DIFF,
            shown=f'`"weight_map": {{…: {json.dumps(name)}}}`',
        )
        for what, name in (
            ("outside its folder", "../../etc/passwd"),
            ("by an absolute path", "/etc/passwd"),
        )
    ),
    Case(
        "Links out of the folder, as in the hub's cache",
        ("gate",),
        make=_linked,
        commands=DIFF,
        refused=False,
        shown="`model.safetensors` and `config.json` are links to `../cache/blobs/…`",
    ),
    Case(
        "A pickle that would run a program: a .pth",
        ("contains more than plain tensors", "code from a file is never run"),
        make=_pth(lambda: {"model": Runs()}),
        commands=(("diff", "base", "tuned.pth"),),
        shown="`tuned.pth`",
    ),
    Case(
        "A pickle that would run a program: a base's .bin",
        ("pytorch_model.bin: contains more than plain tensors",),
        make=_pickled_base,
        commands=DIFF,
        shown="`base/pytorch_model.bin`",
    ),
    Case(
        "Pickles of a trainer and program code next to the weights, none of them opened",
        ("gate",),
        make=_pairs(_beside),
        commands=DIFF,
        refused=False,
        shown="`optimizer.pt`, `training_args.bin`, `tokenizer.pkl`, `modeling_evil.py`",
    ),
    Case(
        "A few hundred bytes that describe 4 TB",
        ("describes 4000000000000 bytes but stores 4",),
        make=_pth(_spread),
        commands=(("diff", "base", "tuned.pth"),),
        shown="`tuned.pth`: `torch.ones(1).expand(1000000, 1000000)`",
    ),
    Case(
        "A pickled configuration of 2^40 values that holds itself",
        ("is without the other LoRA factor; expected both factors of a module",),
        make=_pth(_laughs),
        commands=(("diff", "base", "tuned.pth"),),
        shown="`tuned.pth`",
    ),
    Case(
        "A PyTorch file that unpacks to 100 MB",
        ("bytes that unpack to 100000000; expected a file as torch.save writes it",),
        make=_packed,
        commands=(("diff", "base", "tuned.pth"),),
        shown="`tuned.pth`, of 97 kB",
    ),
    Case(
        "A model that comes with code of its own (auto_map)",
        ("[model.needs-own-code]",),
        make=_own_code,
        commands=EXTRACT,
        shown='`"auto_map": {"AutoModelForCausalLM": "evil.Evil"}`, with the file `evil/evil.py`',
    ),
    Case(
        "A configuration of a model far larger than its files",
        ("[model.larger-than-its-files]", "2e+18"),
        make=_too_large,
        commands=EXTRACT,
        shown='`"vocab_size": 1000000000000`',
    ),
    Case(
        "A configuration of a billion layers",
        ("[model.too-many-layers]", "1000000000"),
        make=_config(json.dumps(CONFIG | {"num_hidden_layers": 10**9})),
        commands=(("ledger", "tuned/config.json", "--modules", "gate"),),
        shown='`"num_hidden_layers": 1000000000`',
    ),
    Case(
        "A configuration that is a list",
        (
            "tuned/config.json: expected a JSON object with a model's settings, found list; "
            "restore the file",
        ),
        make=_config("[1, 2]"),
        commands=DIFF,
        shown="`[1, 2]`",
    ),
    Case(
        "A configuration nested a hundred thousand times",
        ("[json.nested-too-deep]", "tuned/config.json:"),
        make=_config("[" * 100_000),
        commands=DIFF,
        shown="`[[[…`",
    ),
    Case(
        "An adapter whose base has a hostile name",
        (r"the adapter names <script>\x1b[2J ../../x $(touch ran) as its base",),
        make=_adapter(base_model_name_or_path="<script>\x1b[2J\n../../x $(touch ran)"),
        commands=DIFF,
        refused=False,
        shown='`"base_model_name_or_path": "<script>\\u001b[2J\\n../../x $(touch ran)"`',
    ),
    Case(
        "An adapter's pattern that is none within its frame",
        ("rank_pattern: '(?i)q_proj' is not a regular expression",),
        make=_adapter(rank_pattern={"(?i)q_proj": 2}),
        commands=DIFF,
        shown='`"rank_pattern": {"(?i)q_proj": 2}`',
    ),
    Case(
        "An adapter's pattern that would take longer than the universe is old",
        ("its patterns take longer than 10 s to match",),
        make=_adapter(rank_pattern={"(([a-z_.0-9]+)+)+!": 2}),
        commands=DIFF,
        shown='`"rank_pattern": {"(([a-z_.0-9]+)+)+!": 2}`',
        heavy=True,
    ),
    Case(
        "A manifest that leads out of its folder",
        ("no manifest of a checkpoint",),
        files={
            "base.json": json.dumps(
                {"folder": ".", "files": [{"file": "../../etc/passwd", "bytes": 1}]}
            )
        },
        make=lambda folder: model(folder / "tuned"),
        commands=(
            ("deltas", "--base", "base.json", "--tuned", "base.json", "--out", "deltas.parquet"),
        ),
        shown="base.json",
    ),
]

GROUPS = {
    "Names": NAMES,
    "Paths": PATHS,
    "YAML": YAML,
    "Prompts and encodings": PROMPTS,
    "Tables": TABLES,
    "Checkpoints": CHECKPOINTS,
}
CASES = [case for cases in GROUPS.values() for case in cases]
