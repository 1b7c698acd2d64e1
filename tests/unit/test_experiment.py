"""params.yaml: what is accepted, and that every refusal is one line with the file and the key."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from affectlocus.config.evaluation import Evaluate
from affectlocus.config.experiment import Parameters, load, schema_text, validate
from affectlocus.config.hardware import Hardware
from affectlocus.config.tasks import NumberAnswer, Task
from affectlocus.core.errors import InputError
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


def refusal(file: Path) -> str:
    """The message with which a file is refused; always one line that begins with its name."""
    with pytest.raises(InputError) as caught:
        load(file)
    message = str(caught.value)
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
    ("path", "value", "key", "words"),
    [
        ("tuen", 1, "tuen", "unknown key"),
        ("tasks.moods.preset", "melt", "tasks.moods.preset", "'melt'"),
        ("tasks.moods", {"preset": "gsm8k"}, "tasks.moods", "root is missing; preset needs"),
        ("tasks.moods", {"preset": "gsm8k", "root": "x", "labls": []}, "tasks.moods.labls", "unkn"),
        ("tasks.moods.root", "x", "tasks.moods", "root needs preset"),
        ("tasks.moods.files.test", {"hub": "o/d"}, "tasks.moods.files.test.file", "missing"),
        (
            "tasks.moods.files.test",
            {"hub": "o/d", "file": "a.csv"},
            "tasks.moods.files.test",
            "revision is missing; hub needs the 40 hex digits",
        ),
        (
            "tasks.moods.files.test",
            {"file": "a.csv", "revision": "main"},
            "tasks.moods.files.test",
            "hub is missing",
        ),
        (
            "tasks.moods.files.all",
            "a.csv",
            "tasks.moods",
            "files.all contains every split; remove f",
        ),
        ("tasks.moods.split", {"test": "te"}, "tasks.moods", "split needs files.all"),
        ("tasks.moods.split", {"column": "x"}, "tasks.moods.split", "found no values"),
        (
            "tasks.moods.split",
            {"train": "a", "test": ["b", "a"]},
            "tasks.moods.split",
            "'a' is listed twice; list it once: a value means one split",
        ),
        ("tasks.moods.join", {"file": "a.csv"}, "tasks.moods.join.on", "missing"),
        (
            "tasks.moods.join",
            {"file": "no.csv", "on": "id"},
            "tasks.moods.join",
            "no such file: ",
        ),
        ("tasks.moods.files.test", "no*.csv", "tasks.moods.files.test", "no such file: "),
        ("tasks.moods.pattern", "(?P<text>", "tasks.moods.pattern", "not a regular expression"),
        ("tasks.moods.pattern", "(.*)", "tasks.moods.pattern", "the pattern names no column"),
        ("tasks.moods.encoding", "utf-9", "tasks.moods.encoding", "unknown encoding 'utf-9'"),
        ("tasks.moods.encoding", "rot13", "tasks.moods.encoding", "unknown encoding 'rot13'"),
        ("tasks.moods.context", {"turns": 2}, "tasks.moods.context.dialogue", "missing"),
        (
            "tasks.moods.context",
            {"dialogue": "talk"},
            "tasks.moods",
            "the prompt has no {context}; add it",
        ),
        ("tasks.moods.duplicate_ids", "last", "tasks.moods.duplicate_ids", "'refuse' or 'first'"),
        (
            "tasks.moods.columns",
            {"label": "a", "score": "b"},
            "tasks.moods",
            "columns.label and columns.score exclude each other",
        ),
        (
            "tasks.moods.columns",
            {"score": "b"},
            "tasks.moods",
            "labels: found 'joy'; with columns.score the sign is the label; "
            "expected negative, neutral, positive",
        ),
        ("tune.rnak", 8, "tune.rnak", "unknown key"),
        ("pairs.felt.tuning.epochs", 3, "pairs.felt.tuning.epochs", "unknown key"),
        ("tasks.moods.columns.lable", "x", "tasks.moods.columns.lable", "unknown key"),
        ("matrix", None, "matrix", "missing"),
        ("pairs.felt.base", None, "pairs.felt.base", "missing"),
        ("tune.rank", -1, "tune.rank", "-1; input should be greater than 0"),
        ("tune.rank", 0, "tune.rank", "greater than 0"),
        ("tune.rank", 2.5, "tune.rank", "2.5"),
        ("tune.dropout", 1.5, "tune.dropout", "less than or equal to 1"),
        ("tune.learning_rate", 0, "tune.learning_rate", "greater than 0"),
        ("tune.method", "qlora", "tune.method", "'lora' or 'sft'"),
        ("tune.shuffled", True, "tune.shuffled", "in the tuning of a separate pair"),
        ("tune.data", [], "tune.data", "at least 1"),
        ("tune.data", ["stories", "stories"], "tune.data", "'stories' is listed twice"),
        ("score.own_wheels", True, "score.own_wheels", "needs a folder of wheels"),
        ("score.resamples", 10, "score.resamples", "greater than or equal to 100"),
        ("score.confidence", 1, "score.confidence", "less than 1"),
        ("score.metric", "f1", "score.metric", "macro_f1, binary_f1, mer_uni"),
        (
            "score.metric",
            "binary_f1",
            "tasks.moods.positive",
            "missing; the tables show binary_f1, which needs the positive one of two labels",
        ),
        (
            "tasks.moods.positive",
            "rage",
            "tasks.moods",
            "found 'rage'; expected one of exactly two label words",
        ),
        (
            "tasks.moods",
            {**LABELLED, "files": {"test": "test.csv"}, "labels": ["a", "b", "c"], "positive": "a"},
            "tasks.moods",
            "positive: found 'a'; expected one of exactly two label words, found a, b, c",
        ),
        ("tasks.moods.number", {"highest": 3}, "tasks.moods", "labels and number exclude each oth"),
        ("tasks.moods.fluency", True, "tasks.moods", "labels and fluency exclude each other"),
        (
            "tasks.moods",
            {"files": {"test": "test.csv"}, "columns": {"label": "l"}, "number": {"highest": 3}},
            "tasks.moods",
            "number needs columns.score and no other answer",
        ),
        (
            "tasks.moods",
            {"files": {"test": "test.csv"}, "columns": {"score": "s"}, "number": {"highest": 3}},
            "tasks.moods.number.cutoff",
            "missing; the tables show weighted_f1, which numbers have only with a cutoff",
        ),
        ("tasks.moods.number", {}, "tasks.moods.number.highest", "missing"),
        ("tasks.moods.number", {"highest": 0}, "tasks.moods.number", "lowest 0 is not below hi"),
        (
            "tasks.moods.number",
            {"highest": 9, "cutoff": 0},
            "tasks.moods.number",
            "cutoff 0 leaves one class empty; expected a number from 1 to 9",
        ),
        ("tasks.moods.number", {"highest": 9, "ending": "0"}, "tasks.moods.number", "with a digit"),
        (
            "tasks.moods.number",
            {"highest": 9, "readout": "max"},
            "tasks.moods.number.readout",
            "",
        ),
        (
            "tasks.moods",
            {"files": {"test": "test.csv"}, "fluency": True, "columns": {"label": "l"}},
            "tasks.moods",
            "fluency uses only the text; remove columns.label",
        ),
        (
            "tasks.moods",
            {"files": {"test": "test.csv"}, "fluency": True, "prompt": "Read: {text}"},
            "tasks.moods",
            "fluency uses only the text; remove prompt and context",
        ),
        (
            "tasks.text",
            {"files": {"train": "test.csv"}, "fluency": True},
            "tasks.text.files",
            "fluency reads the test split",
        ),
        (
            "tasks.moods.join",
            {"file": "a*.csv", "on": "id", "part": "(a)(b)"},
            "tasks.moods.join.part",
            "found 2 groups in '(a)(b)'; expected one group, around the id",
        ),
        (
            "tasks.moods.join",
            {"file": "a.csv", "on": "id", "gather": {"column": "a"}, "columns": ["b"]},
            "tasks.moods.join",
            "columns cannot be used with gather",
        ),
        ("matrix.load", ["gat"], "matrix.load.0", "unknown projection 'gat'"),
        ("matrix.tune", ["q", "k+k"], "matrix.tune.1", "names a projection twice"),
        ("matrix.load", ["q+k", "o", "k+q"], "matrix.load", "'q+k' is listed twice"),
        ("matrix.modes", ["zero", "mean"], "matrix.modes.1", "'mean'"),
        ("matrix.draws", 0, "matrix.draws", "greater than or equal to 1"),
        ("matrix.draws", 2, "matrix.draws", "expected 1, or 3 or more"),
        ("seeds", [], "seeds", "at least 1"),
        ("seeds", [1, 1], "seeds", "1 is listed twice"),
        ("seeds", [-1], "seeds.0", "greater than or equal to 0"),
        ("matrix.even", ["gat"], "matrix.even.0", "unknown projection 'gat'"),
        ("matrix.dose", {"times": [-1]}, "matrix.dose.times.0", "greater than or equal to 0"),
        ("matrix.dose", {"times": []}, "matrix.dose.times", "at least 1"),
        ("matrix.pairs", ["felt", "felt"], "matrix.pairs", "'felt' is listed twice"),
        ("matrix.pairs", ["flet"], "matrix.pairs", "no pair named 'flet'; expected one of felt"),
        ("pairs.felt.base", "big", "pairs.felt.base", "no base named 'big'; expected one of small"),
        ("pairs.small", CONFIG["pairs"]["felt"], "pairs.small", "a base has the same name"),
        ("pairs.felt.tuned", "adapter", "pairs.felt", "either tuned (a checkpoint) or tuning"),
        ("bases.small", {}, "bases.small", "expected one of folder, hub, url, pretrain"),
        ("bases.small", {"hub": "a/b"}, "bases.small", "revision is missing; hub needs the"),
        ("bases.small", {"hub": "a/b/c", "revision": "main"}, "bases.small.hub", "'a/b/c'"),
        ("bases.small", {"folder": "base", "hub": "a/b"}, "bases.small", "expected one of folder"),
        (
            "bases.small",
            {"folder": "base", "revision": "x"},
            "bases.small",
            "can only be used with hub",
        ),
        ("pairs.brought.tuned", {}, "pairs.brought.tuned", "expected one of folder, hub, url"),
        ("pairs.brought.tuned", {"url": "a.pth"}, "pairs.brought.tuned.url", "https://host/path"),
        (
            "pairs.brought.tuned",
            {"url": "https://a.b/c.pth"},
            "pairs.brought.tuned",
            "sha256 is missing; url needs the SHA-256",
        ),
        (
            "pairs.brought.tuned",
            {"url": "https://a.b/c.pth", "sha256": "12"},
            "pairs.brought.tuned.sha256",
            "'12'",
        ),
        ("pairs.brought.tuned", {"pretrain": {}}, "pairs.brought.tuned.pretrain", "unknown key"),
        (
            "bases.small.then",
            ["x.pth"],
            "bases.small.then",
            "is tuned here, which needs a single model",
        ),
        ("pairs.brought.reading", {"alpha": 0}, "pairs.brought.reading.alpha", "greater than 0"),
        ("deltas", {"spectrum": True}, "deltas.spectrum", "unknown key"),
        ("bases.a/b", {"folder": "base"}, "bases.a/b", "the name 'a/b' becomes a folder"),
        ("tasks.a b", CONFIG["tasks"]["moods"], "tasks.a b", "the name 'a b'"),
        ("pairs.-x", CONFIG["pairs"]["felt"], "pairs.-x", "a letter or digit first"),
        ("tune", None, "tune", "missing; matrix.tune lists module sets"),
        ("tune.data", ["moodz"], "tune.data", "no task named 'moodz'"),
        ("tasks.moods", None, "tasks", "no task has labels and a test split"),
        ("pairs.felt.tuning.data", ["late"], "pairs.felt.tuning.data", "no task named 'late'"),
        ("tasks.moods.files", {}, "tasks.moods", "files names no split"),
        ("tasks.moods.corpus", True, "tasks.moods", "either corpus: true or files"),
        ("tasks.moods.labels", None, "tasks.moods", "either labels or columns.target"),
        ("tasks.moods.columns.label", None, "tasks.moods", "columns.label is missing"),
        ("tasks.moods.labels", ["joy"], "tasks.moods", "at least two different words"),
        ("tasks.moods.labels", {"1": "joy", "2": "joy"}, "tasks.moods", "two different words"),
        (
            "tasks.moods.labels",
            ["joy", None],
            "tasks.moods.labels",
            "null, put it in quotes",
        ),
        ("tasks.moods.overlap_limit", 2, "tasks.moods.overlap_limit", "less than or equal to 1"),
        ("tasks.moods.prompt", "{text", "tasks.moods", "prompt: expected '}'"),
        ("tasks.moods.prompt", "text}", "tasks.moods", "prompt: Single '}'"),
        ("tasks.moods.prompt", "{}", "tasks.moods", "not a column name"),
        ("tasks.moods.prompt", "{text!r}", "tasks.moods", "not a column name"),
        ("tasks.moods.prompt", "{text:>9}", "tasks.moods", "not a column name"),
        (
            "bases.small",
            {"pretrain": {"architecture": "gpt2"}},
            "bases.small.pretrain.architecture",
            "'qwen2', 'llama'",
        ),
        (
            "bases.small",
            {"pretrain": {"architecture": "llama", "heads": 3}},
            "bases.small.pretrain",
            "hidden_size 64 is not a multiple of heads 3",
        ),
        (
            "bases.small",
            {"pretrain": {"architecture": "llama", "kv_heads": 3}},
            "bases.small.pretrain",
            "heads 4 is not a multiple of kv_heads 3",
        ),
        (
            "bases.small",
            {"pretrain": {"architecture": "llama"}},
            "bases.small.pretrain",
            "needs the corpus section",
        ),
        (
            "tasks.mini-MOSI",
            {"corpus": True, **LABELLED},
            "tasks.mini-MOSI.corpus",
            "needs the corpus section",
        ),
    ],
)
def test_a_mistake_is_named_in_one_line_with_its_file_and_key(
    folder: Path, path: str, value: Any, key: str, words: str
) -> None:
    message = refusal(written(folder, path, value))
    assert message.startswith(f"{key}: ")
    assert words in message


@pytest.mark.parametrize(
    ("path", "value", "missing"),
    [
        ("tasks.moods.files.test", "nope.csv", "nope.csv"),
        ("tasks.moods.files.train", "base", "base"),
        ("bases.small.folder", "gone", "gone"),
        ("pairs.brought.tuned", "gone", "gone"),
        ("pairs.brought.tuned", "test.csv", "test.csv"),
    ],
)
def test_a_file_or_folder_that_is_not_there_is_named_with_its_key(
    folder: Path, path: str, value: str, missing: str
) -> None:
    message = refusal(written(folder, path, value))
    assert message.startswith(f"{path}: ")
    assert str(folder / missing) in message


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("model-00001-of-00002.safetensors", None),
        ("pytorch_model.bin", None),
        ("config.json", None),
        ("adapter_model.safetensors", "nor adapter_config.json"),
        ("adapters.safetensors", "nor adapter_config.json"),
        ("notes.txt", "found neither weights"),
    ],
)
def test_a_tuned_models_folder_needs_its_weights_alone(
    folder: Path, file: str, words: str | None
) -> None:
    (folder / "wrapped").mkdir()
    (folder / "wrapped" / file).touch()
    if words is None:
        assert load(written(folder, "pairs.brought.tuned", "wrapped")).pairs["brought"].tuned
    else:
        assert words in refusal(written(folder, "pairs.brought.tuned", "wrapped"))


def test_a_base_without_its_configuration_is_refused_with_the_reason(folder: Path) -> None:
    (folder / "wrapped").mkdir()
    (folder / "wrapped/model.safetensors").touch()
    message = refusal(written(folder, "bases.small.folder", "wrapped"))
    assert "no config.json" in message
    assert "the base is evaluated too" in message


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
        message = refusal(written(folder, "pairs.brought.tuned", source))
        assert message == "pairs.brought.tuned.url: expected an address such as https://host/path"


@pytest.mark.parametrize(
    "url", ["https://me:s3cret@a.b/c", "https://s3cret@a.b/c", "https://a.b/c?X-Signature=s3cret"]
)
def test_a_secret_in_an_address_is_refused_and_not_repeated(folder: Path, url: str) -> None:
    message = refusal(written(folder, "pairs.brought.tuned", {"url": url, "sha256": SHA256}))
    assert message.startswith("pairs.brought.tuned.url: the address contains a secret")
    assert "write ${NAME} in its place" in message
    assert "s3cret" not in message


@pytest.mark.parametrize("spelling", ["train.csv", "./train.csv", "base/../train.csv", "link.csv"])
def test_the_same_file_for_two_splits_is_refused_however_it_is_spelled(
    folder: Path, spelling: str
) -> None:
    (folder / "link.csv").symlink_to(folder / "train.csv")
    files = {"train": "adapter/../train.csv", "test": spelling}
    message = refusal(written(folder, "tasks.moods.files", files))
    assert message.startswith("tasks.moods.files.test: the same file as train")


def test_paths_start_from_data_root_which_starts_from_the_file(folder: Path) -> None:
    experiment = folder / "experiments" / "mine"
    experiment.mkdir(parents=True)
    assert load(written(experiment, "data_root", "../..")).data_root == "../.."
    assert refusal(written(experiment)).startswith("tasks.stories.files.train: no such file")


def test_without_tune_cells_no_recipe_is_needed(folder: Path) -> None:
    config = changed("matrix.tune", [])
    del config["tune"]
    assert validate(config, folder).tune is None


def test_a_task_without_a_train_split_cannot_be_tuned_on(folder: Path) -> None:
    config = changed("tasks.late", {"files": {"test": "test.csv"}, **LABELLED})
    config["tune"]["data"] = ["stories", "late"]
    with pytest.raises(InputError, match=r"tune\.data: task 'late' has no train split"):
        validate(config, folder)


def test_a_set_is_put_in_canonical_order(folder: Path) -> None:
    loaded = load(written(folder, "matrix.load", ["down+up+gate", "v+k+o+q+down+up+gate"]))
    assert loaded.matrix.load == ["gate+up+down", "all"]


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
    ("content", "words"),
    [
        (b"tasks: [\n  a,\n", "not YAML"),
        (b"a: b: c\n", "not YAML"),
        (b"\xff\xfe", "not YAML"),
        (b"x: !!python/object/apply:os.getcwd []\n", "not YAML"),
        (b"", "expected keys and values, found NoneType"),
        (b"- q\n- k\n", "expected keys and values, found list"),
    ],
)
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    file = tmp_path / "params.yaml"
    file.write_bytes(content)
    assert refusal(file).startswith(words)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert refusal(tmp_path / "params.yaml").startswith("no such file")


def test_parameters_cannot_be_changed_after_loading(folder: Path) -> None:
    loaded: Parameters = load(written(folder))
    with pytest.raises(ValueError, match="frozen"):
        loaded.score.resamples = 5


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("tasks.moods.labels", [{"joy": "happy"}, "fear"]),
        ("tasks.moods.labels", ["joy", "joy", "fear"]),
        ("tasks.moods.prompt", "{a\nb}"),
        ("tasks.mean", CONFIG["tasks"]["moods"]),
        ("tasks.modules", CONFIG["tasks"]["moods"]),
        ("matrix.modes", []),
    ],
)
def test_what_cannot_end_well_is_refused_at_once(folder: Path, path: str, value: Any) -> None:
    assert refusal(written(folder, path, value)).startswith(path.removesuffix(".prompt"))


@pytest.mark.parametrize("extra", [{}, {"labels": ["positive", "negative"]}])
def test_a_corpus_task_without_labels_column_or_target_is_refused(
    folder: Path, extra: dict[str, Any]
) -> None:
    config = changed("tasks.mini-MOSI", {"corpus": True, **extra}) | {"corpus": {}}
    with pytest.raises(InputError, match=r"tasks\.mini-MOSI"):
        validate(config, folder)


def test_a_corpus_task_that_the_generator_does_not_write_is_refused(folder: Path) -> None:
    config = changed("tasks.mini-MOOSI", {"corpus": True, **LABELLED}) | {"corpus": {}}
    with pytest.raises(InputError, match="mini-MOOSI"):
        validate(config, folder)


def test_a_folder_stands_for_its_params_yaml(folder: Path, tmp_path: Path) -> None:
    assert load(written(folder).parent) == load(written(folder))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"empty/params\.yaml: no such file"):
        load(tmp_path / "empty")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"evaluate": {"readouts": {"mods": "generation"}}}, "evaluate.readouts: no task named"),
        ({"evaluate": {"readouts": {"stories": "generation"}}}, "no task named 'stories'"),
        ({"evaluate": {"generation": {"top_p": 0}}}, "evaluate.generation.top_p: found 0"),
        ({"evaluate": {"generation": {"stop": ["a", ""]}}}, "stop contains an empty text"),
        ({"extraction": {"model": "nowhere"}}, "extraction.model: no config.json in"),
        ({"extraction": {"model": {"hub": "o/n"}}}, "revision is missing; hub needs"),
        ({"score": {"protocols": {"moods": "mer-unibench"}}}, "scores free text of a benchmark"),
        (
            {
                "evaluate": {"readout": "generation"},
                "score": {"protocols": {"moods": "mer-unibench"}},
            },
            "score.wheels: missing; task 'moods' is scored with emotion wheels",
        ),
        (
            {"evaluate": {"readout": "generation"}, "score": {"metric": "mer_unibench"}},
            "task 'moods' does not have mer_unibench",
        ),
        ({"score": {"wheels": "nowhere"}}, "score.wheels: no such folder"),
    ],
)
def test_free_text_that_cannot_be_asked_or_scored_is_refused(folder, changes, words) -> None:
    config = changed() | changes
    with pytest.raises(InputError) as caught:
        validate(config, folder)
    assert words in str(caught.value)


def test_a_task_has_its_own_readout_or_the_experiments() -> None:
    free = Evaluate(readout="generation", readouts={"sums": "candidates"})
    assert (free.of("moods"), free.of("sums")) == ("generation", "candidates")


def test_the_ledger_locks_every_section_of_the_parameters() -> None:
    stage = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]["workflow"]
    # A plan's assumptions change no result.
    assert sorted([*stage["params"], "plan"]) == sorted(Parameters.model_fields)
    # A key that is locked and not written is an error of dvc.
    assert set(stage["params"]) <= set(yaml.safe_load((ROOT / "params.yaml").read_text()))
