"""`affectlocus score --protocol mer-unibench`: files in, both protocols and the baselines out."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from command import own_process
from hypothesis import given, settings
from hypothesis import strategies as st
from refusal import refused
from typer.testing import CliRunner
from wheel_files import REAL, write_wheels

from affectlocus.cli import app
from affectlocus.core.errors import InputError
from affectlocus.scoring.outputs import natural_key, read_outputs
from affectlocus.scoring.wheels import COMMIT

GOLD = "sample,emotion\ns1,joy\ns2,anger\ns3,neutral\ns4, Fear \n"
OPEN = (
    "checkpoint,sample,openset\n"
    "10,s1,joy|kind\n10,s2,joy\n10,s3,\n10,s4,Happy | afraid\n"
    "9,s2,anger\n9,s1,joy\n9,s4,joy\n9,s3,anger\n"
)
VALUES = "sample,value\ns1,1.5\ns2,-1\ns3,0\n"
SAID = "checkpoint,sample,prediction\na,s1,positive\na,s2,neutral\na,s3,positive\n"
OWN = ("--wheels", "wheels", "--own-wheels")
HIT_RATE = ("--kind", "hit-rate", *OWN, "--gold", "gold.csv")
WAF = ("--kind", "waf", "--gold", "values.csv", "--predictions", "said.csv")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("outputs")
    write_wheels(folder / "wheels")
    (folder / "gold.csv").write_text(GOLD)
    (folder / "open.csv").write_text(OPEN)
    (folder / "values.csv").write_text(VALUES)
    (folder / "said.csv").write_text(SAID)
    (folder / "happy.csv").write_text(GOLD.replace("neutral", "joy").replace("Fear", "joy"))
    return folder


@pytest.fixture(autouse=True)
def _there(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(files)


def run(*arguments: str) -> str:
    """What the command prints."""
    done = CliRunner().invoke(app, ["score", "--protocol", "mer-unibench", *arguments])
    if done.exception is not None:
        raise done.exception
    return done.stdout


def answer(*arguments: str) -> Any:
    return json.loads(run(*arguments, "--json"))


def test_every_checkpoint_has_a_row_for_each_wheel_and_for_their_mean() -> None:
    found = answer(*HIT_RATE, "--predictions", "open.csv")
    rows = {(row["checkpoint"], row["wheel"]): row for row in found["mer-unibench"]}
    assert list(rows) == [
        (checkpoint, wheel) for checkpoint in ("9", "10") for wheel in (*"12345", "mean")
    ]
    assert rows["9", "1"] == {
        "checkpoint": "9", "wheel": "1", "n_scored": 3, "hit_rate": pytest.approx(2 / 3),
    }  # fmt: skip
    assert rows["9", "5"]["n_scored"] == 2
    assert rows["10", "mean"]["hit_rate"] == pytest.approx((4 * 2 / 3 + 1) / 5)
    assert [list(row)[:2] for row in found["corrected"]] == [["checkpoint", "wheel"]] * 12


def test_the_answer_has_the_baselines() -> None:
    found = answer(*HIT_RATE, "--predictions", "open.csv")["baselines"]
    named = [(row["baseline"], row["answer"]) for row in found]
    assert named == [
        ("majority", ["anger"]),
        ("best pair", ["fear", "joy"]),  # on wheel 5 nobody is angry
        ("every label", ["anger", "fear", "joy", "neutral"]),
        *[("constant", [label]) for label in ("anger", "fear", "joy", "neutral")],
    ]
    assert found[2]["mer-unibench"]["hit_rate"] == 1
    assert found[2]["corrected"]["f1"] < 0.5
    assert found[-1]["mer-unibench"]["hit_rate"] == 0
    assert found[-1]["corrected"]["recall"] > 0


def test_valences_are_scored_by_both_protocols() -> None:
    found = answer(*WAF)
    assert found["mer-unibench"] == [
        {"checkpoint": "a", "n_scored": 2, "waf": 1.0, "accuracy": 1.0}
    ]
    (row,) = found["corrected"]
    assert (row["n_scored"], row["accuracy"], row["polar"]) == (3, pytest.approx(1 / 3), 0.5)
    assert [row["answer"] for row in found["baselines"]] == [
        "negative", "negative", "neutral", "positive",
    ]  # fmt: skip


@pytest.mark.parametrize("mark", ["", "nan", "-10", "-99"])
def test_a_masked_value_is_negative_only_for_the_published_protocol(files: Path, mark: str) -> None:
    (files / "masked.csv").write_text(VALUES + f"s4,{mark}\ns5,{mark}\n")
    (files / "more.csv").write_text(SAID + "a,s4,positive\na,s5,negative\n")
    given = ("--kind", "waf", "--gold", "masked.csv", "--predictions", "more.csv")
    found, plain = answer(*given), answer(*WAF)
    assert (found["mer-unibench"][0]["n_scored"], found["mer-unibench"][0]["accuracy"]) == (4, 0.75)
    assert found["corrected"] == [{**plain["corrected"][0], "n_masked": 2}]
    assert [row["answer"] for row in found["baselines"]] == [
        row["answer"] for row in plain["baselines"]
    ]


def test_the_last_checkpoint_is_taken_unless_another_rule_is_named() -> None:
    given = (*HIT_RATE, "--predictions", "open.csv")
    assert answer(*given)["choice"]["checkpoint"] == "10"
    assert answer(*given)["choice"]["choose"] == "last"


def test_the_order_of_checkpoints_is_reported() -> None:
    # In the file, and in text order, 10 comes before 9.
    given = (*HIT_RATE, "--predictions", "open.csv")
    choice = answer(*given)["choice"]
    assert choice["order"] == ["9", "10"]
    assert choice["ordered"] == "by name, numbers as numbers"
    order, _, chosen = run(*given).splitlines()[-3:]
    assert order == "checkpoints, by name, numbers as numbers: 9, 10"
    assert chosen.startswith("chosen: 10, the last checkpoint by name: ")


def test_the_best_on_test_is_named_as_such(files: Path) -> None:
    (files / "worse.csv").write_text(OPEN.replace("10,s1,joy|kind", "10,s1,"))
    found = answer(*HIT_RATE, "--predictions", "worse.csv", "--choose", "test")["choice"]
    assert (found["checkpoint"], found["choose"]) == ("9", "test")
    assert "best on test" in found["meaning"]
    assert found["hit_rate"] == found["best_on_test"] > found["mean"] > found["last"]


def test_the_best_on_validation_is_chosen_by_validation_alone(files: Path) -> None:
    (files / "worse.csv").write_text(OPEN.replace("10,s1,joy|kind", "10,s1,"))
    validation = ("--validation-gold", "happy.csv", "--validation-predictions", "open.csv")
    given = (*HIT_RATE, "--predictions", "worse.csv", "--choose", "validation")
    found = answer(*given, *validation)["choice"]
    assert (found["checkpoint"], found["choose"]) == ("9", "validation")
    (files / "odd.csv").write_text(OPEN.replace("9,", "8,"))
    fields = {"checkpoint": "8", "found": "validation", "expected": "test"}
    with refused("prediction.checkpoint-of-one-split", **fields):
        run(*given, "--validation-gold", "happy.csv", "--validation-predictions", "odd.csv")


def test_a_table_is_printed_for_people() -> None:
    text = run(*HIT_RATE, "--predictions", "open.csv", "--choose", "test")
    assert "wheel 5" in text
    assert "constant: neutral" in text
    assert "every label  " in text
    assert "the best on test (as in published results; optimistic)" in text.splitlines()[-1]
    assert "wheels: wheels, which differ from the released wheels of AffectGPT" in text.splitlines()
    assert "3-way wF1" in run(*WAF)


def test_the_printed_hit_rates_show_their_number_of_samples(files: Path) -> None:
    (files / "twice.csv").write_text(OPEN.replace("9,s1,joy", "9,s1,joy|joy|joy"))
    lines = run(*HIT_RATE, "--predictions", "twice.csv").splitlines()
    rows = {line.split("│")[1].strip(): line.split("│")[2:] for line in lines if "│" in line}
    assert {name: row[0].strip() for name, row in rows.items()} == dict.fromkeys(rows, "2-3")
    assert {"10", "9", "every label", "constant: joy"} <= rows.keys()
    same = ", ".join(f"wheel {wheel} 3" for wheel in range(1, 5))
    all_four = ", ".join(f"wheel {wheel} 4" for wheel in range(1, 5))
    assert (
        f"n of 4 samples: mer-unibench {same}, wheel 5 2; corrected {all_four}, wheel 5 3" in lines
    )
    assert "empty answers: 1 (10); repeated labels, which count once: 2 (9)" in lines
    assert answer(*HIT_RATE, "--predictions", "twice.csv")["answers"] == [
        {"checkpoint": "9", "n_empty": 0, "n_repeated": 2},
        {"checkpoint": "10", "n_empty": 1, "n_repeated": 0},
    ]


def test_the_printed_wafs_show_what_was_scored_masked_and_unread(files: Path) -> None:
    (files / "masked.csv").write_text(VALUES + "s4,\ns5,-10\n")
    (files / "odd.csv").write_text(
        SAID.replace("s2,neutral", "s2,mixed") + "a,s4,negative\na,s5,odd\n"
    )
    lines = run("--kind", "waf", "--gold", "masked.csv", "--predictions", "odd.csv").splitlines()
    header, *rows = ([cell.strip() for cell in line.replace("┃", "│").split("│")[1:-1]]
                     for line in lines if "│" in line or "┃" in line)  # fmt: skip
    places = header.index("n"), header.index("corrected n")
    assert [[row[place] for place in places] for row in rows] == [["4", "3"]] * 5
    (said,) = [line for line in lines if line.startswith("n of 5 samples: ")]
    assert "mer-unibench 4; corrected 3 3-way, 2 binary; masked" in said
    assert said.endswith(": 2")
    (unread,) = [line for line in lines if line.startswith("unread answers")]
    assert unread.endswith(": 1 (a)")


def test_gold_that_is_neutral_throughout_is_scored_by_the_corrected_protocol(files: Path) -> None:
    (files / "calm.csv").write_text("sample,emotion\n" + "".join(f"s{n},neutral\n" for n in "1234"))
    (files / "still.csv").write_text(OPEN.replace("9,s2,anger", "9,s2,neutral"))
    given = (*HIT_RATE[:-1], "calm.csv", "--predictions", "still.csv")
    found = answer(*given)
    assert [row["hit_rate"] for row in found["mer-unibench"]] == [None] * 12
    why = "wheel 1: none of the gold emotions (neutral) has a cluster on this wheel, so the"
    assert found["mer-unibench"][0]["reason"].startswith(why)
    assert found["mer-unibench"][5]["reason"].startswith(why)
    means = {row["checkpoint"]: row["f1"] for row in found["corrected"] if row["wheel"] == "mean"}
    assert means == {"9": 0.25, "10": 0.25}
    assert [row["baseline"] for row in found["baselines"]] == [
        "majority",
        "every label",
        "constant",
    ]
    assert found["baselines"][0]["corrected"]["f1"] == 1
    assert found["baselines"][0]["mer-unibench"]["hit_rate"] is None
    choice = found["choice"]
    assert (choice["checkpoint"], choice["hit_rate"], choice["best_on_test"]) == ("10", None, None)
    assert answer(*given, "--choose", "test")["choice"]["checkpoint"] is None
    lines = run(*given, "--choose", "test").splitlines()
    assert any(line.startswith(f"the mer-unibench score is not defined: {why}") for line in lines)
    assert lines[-1].startswith("chosen: none, because no checkpoint has a score, the best on test")


def test_one_wheel_without_gold_leaves_only_itself_and_the_mean_undefined(files: Path) -> None:
    (files / "mad.csv").write_text("sample,emotion\n" + "".join(f"s{n},anger\n" for n in "1234"))
    found = answer(*HIT_RATE[:-1], "mad.csv", "--predictions", "open.csv")
    nine = [row for row in found["mer-unibench"] if row["checkpoint"] == "9"]
    assert [row["hit_rate"] for row in nine] == [0.5, 0.5, 0.5, 0.5, None, None]
    assert [row["reason"].partition(":")[0] for row in nine[4:]] == ["wheel 5", "wheel 5"]


def test_valences_that_are_all_zero_are_scored_by_the_corrected_protocol(files: Path) -> None:
    (files / "zeros.csv").write_text("sample,value\ns1,0\ns2,-0\ns3,0.0\n")
    given = ("--kind", "waf", "--gold", "zeros.csv", "--predictions", "said.csv")
    found = answer(*given)
    (row,) = found["mer-unibench"]
    assert (row["n_scored"], row["waf"], row["accuracy"]) == (0, None, None)
    assert row["reason"].startswith("all 3 gold values are 0, so WAF is undefined")
    (corrected,) = found["corrected"]
    assert (corrected["n_scored"], corrected["accuracy"]) == (3, pytest.approx(1 / 3))
    majority = found["baselines"][0]
    assert (majority["answer"], majority["corrected"]["weighted_f1"]) == ("neutral", 1)
    lines = run(*given).splitlines()
    complaint = "the mer-unibench score is not defined: all 3 gold values are 0"
    assert any(complaint in line for line in lines)
    assert lines[-1] == "chosen: a, the last checkpoint by name: - (last -, mean -, best on test -)"


def test_the_answer_is_written_where_asked(tmp_path: Path) -> None:
    out = tmp_path / "scores.json"
    printed = answer(*WAF, "--out", str(out))
    assert json.loads(out.read_text()) == printed


def test_a_file_in_another_encoding_is_refused_with_what_to_do(files: Path) -> None:
    (files / "wide.csv").write_text(GOLD, encoding="utf-16")
    with refused("table.other-encoding", file=Path("wide.csv"), offset=0, line=1, found=0xFF):
        run(*HIT_RATE[:-1], "wide.csv", "--predictions", "open.csv")


@pytest.mark.parametrize(
    ("arguments", "code", "option"),
    [
        ((), "option.missing", "--kind"),
        (("--kind", "hit-rate"), "option.missing", "--wheels"),
        (("--kind", "waf"), "option.missing", "--gold"),
        (HIT_RATE, "option.missing", "--predictions"),
        (("--kind", "f1", *WAF[2:]), "option.unknown-value", "--kind"),
        ((*WAF, "--choose", "best"), "option.unknown-value", "--choose"),
        ((*WAF, "--choose", "validation"), "option.missing", "--validation-gold"),
        ((*WAF, "--validation-gold", "gold.csv"), "option.no-effect", "--validation-gold"),
        ((*WAF, "--wheels", "wheels"), "option.no-effect", "--wheels"),
        ((*WAF, "--own-wheels"), "option.no-effect", "--own-wheels"),
        ((*WAF, "--settings", "{}"), "option.no-effect", "--settings"),
        ((*WAF, "cell.parquet"), "option.no-effect", "PREDICTIONS"),
    ],
)
def test_a_wrong_option_is_refused(arguments: tuple[str, ...], code: str, option: str) -> None:
    with refused(code, option=option):
        run(*arguments)


@pytest.mark.parametrize(
    ("arguments", "code", "fields"),
    [
        (("released", "--own-wheels"), "wheel.own-and-released", {"option": "own-wheels"}),
        (("wheels",), "wheel.not-released", {"file": Path("wheels/format.csv")}),
        ((".",), "wheel.missing-file", {"file": Path("format.csv")}),
    ],
)
def test_wheels_that_are_not_the_released_ones_are_refused(
    arguments: tuple[str, ...], code: str, fields: dict[str, Any]
) -> None:
    with refused(code, **fields):
        run(*HIT_RATE[:2], "--wheels", *arguments, *WAF[2:])


@pytest.mark.parametrize(
    ("gold", "predictions", "file", "code", "fields"),
    [
        ("sample,mood\ns1,joy\n", OPEN, "gold", "table.no-column", {"column": "emotion"}),
        (GOLD, "checkpoint,sample\n9,s1\n", "answers", "table.no-column", {"column": "openset"}),
        (GOLD, "sample,openset\ns1,joy\n", "answers", "table.no-column", {"column": "checkpoint"}),
        ("sample,emotion\n", OPEN, "gold", "table.no-rows", {}),
        (GOLD, "checkpoint,sample,openset\n", "answers", "table.no-rows", {}),
        ("", OPEN, "gold", "table.empty", {}),
        (
            GOLD.replace(",", ";"),
            OPEN,
            "gold",
            "table.no-column",
            {"column": "sample", "found": ["sample;emotion"]},
        ),
        (
            GOLD,
            OPEN.replace(",", "\t"),
            "answers",
            "table.no-column",
            {"column": "checkpoint", "found": ["checkpoint\tsample\topenset"]},
        ),
        (GOLD + "s1,joy\n", OPEN, "gold", "table.duplicate-row", {"sample": "s1", "rows": 1}),
        (
            GOLD,
            OPEN + "9,s1,joy\n",
            "answers",
            "table.duplicate-row",
            {"checkpoint": "9", "sample": "s1", "rows": 1},
        ),
        (
            GOLD,
            OPEN + ",s5,joy\n",
            "answers",
            "table.empty-field",
            {"column": "checkpoint", "row": 9, "rows": 1},
        ),
        (
            GOLD.replace("s2", " "),
            OPEN,
            "gold",
            "table.empty-field",
            {"column": "sample", "row": 2, "rows": 1},
        ),
        (
            GOLD,
            OPEN + "9,s5,joy\n",
            "answers",
            "prediction.sample-not-in-gold",
            {"sample": "s5", "rows": 1},
        ),
        (
            GOLD + "s5,joy\n",
            OPEN,
            "answers",
            "prediction.no-answer",
            {"checkpoint": "9", "sample": "s5"},
        ),
        (
            GOLD.replace("anger", " "),
            OPEN,
            "gold",
            "table.empty-field",
            {"column": "emotion", "sample": "s2"},
        ),
    ],
)
def test_bad_open_sets_are_refused(
    files: Path, gold: str, predictions: str, file: str, code: str, fields: dict[str, Any]
) -> None:
    (files / "bad.csv").write_text(gold)
    (files / "answers.csv").write_text(predictions)
    with refused(code, file=Path("bad.csv" if file == "gold" else "answers.csv"), **fields):
        run(*HIT_RATE[:5], "--gold", "bad.csv", "--predictions", "answers.csv")


def test_the_delimiter_of_a_file_with_one_column_is_named(files: Path) -> None:
    (files / "bad.csv").write_text(GOLD.replace(",", "\t"))
    with refused("table.no-column", column="sample") as caught:
        run(*HIT_RATE[:5], "--gold", "bad.csv", "--predictions", "open.csv")
    assert "'\\t' seems to separate its columns" in str(caught.value)


def test_gold_emotions_outside_every_wheel_are_refused(files: Path) -> None:
    gold = GOLD.replace("joy", "odd").replace("anger", "odd")
    (files / "bad.csv").write_text(gold.replace("Fear", "even").replace("neutral", "even"))
    with refused("score.undefined") as caught:
        run(*HIT_RATE[:5], "--gold", "bad.csv", "--predictions", "open.csv")
    assert "wheel 1: none of the gold emotions (even, odd) has a cluster" in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "sample", "expected"),
    [
        ("1.5", "high", "s1", "a number"),
        ("1.5", "1_5", "s1", "a number"),
        ("1.5", "inf", "s1", "a finite number"),
        ("-1", "-1e400", "s2", "a finite number"),
    ],
)
def test_bad_valences_are_refused(
    files: Path, old: str, new: str, sample: str, expected: str
) -> None:
    (files / "bad.csv").write_text(VALUES.replace(old, new))
    fields = {"file": Path("bad.csv"), "sample": sample, "found": new, "expected": expected}
    with refused("table.not-a-number", **fields):
        run("--kind", "waf", "--gold", "bad.csv", "--predictions", "said.csv")


@pytest.mark.parametrize("name", [".", "folder.csv"])
def test_a_folder_in_place_of_a_file_is_named_as_one(files: Path, name: str) -> None:
    (files / name).mkdir(exist_ok=True)
    for arguments in (
        ("--kind", "waf", "--gold", name, "--predictions", "said.csv"),
        (*WAF[:4], "--predictions", name),
    ):
        with refused("table.is-a-folder", file=Path(name)):
            run(*arguments)


@pytest.mark.parametrize(
    ("arguments", "code", "option"),
    [
        (("--kind", "waf"), "option.no-effect", "--kind"),
        (("a.parquet", "--json"), "option.no-effect", "--json"),
        (("--protocol", "mer"), "option.unknown-value", "--protocol"),
    ],
)
def test_options_of_one_protocol_are_refused_with_another(
    arguments: tuple[str, ...], code: str, option: str
) -> None:
    error = CliRunner().invoke(app, ["score", *arguments]).exception
    assert isinstance(error, InputError)
    assert (error.code, error.fields["option"]) == (code, option)


@pytest.mark.parametrize(
    ("arguments", "missing"),
    [
        ((), "PREDICTIONS..."),
        (("a.parquet", "--out", "b"), "--settings"),
        (("a.parquet", "--settings", "{}"), "--out"),
    ],
)
def test_the_label_protocol_needs_its_options(arguments: tuple[str, ...], missing: str) -> None:
    done = CliRunner().invoke(app, ["score", *arguments])
    assert done.exit_code == 2
    assert f"'{missing}'" in done.output


def test_numbers_in_checkpoint_names_compare_as_numbers() -> None:
    names = ["epoch 30", "epoch 5", "100", "epoch 100", "20", "final"]
    assert sorted(names, key=natural_key) == [
        "20",
        "100",
        "epoch 5",
        "epoch 30",
        "epoch 100",
        "final",
    ]


@given(st.permutations(OPEN.splitlines()[1:]), st.permutations(GOLD.splitlines()[1:]))
@settings(max_examples=20)
def test_the_order_of_rows_changes_no_pairing(rows: list[str], truths: list[str]) -> None:
    Path("mixed.csv").write_text("\n".join([OPEN.splitlines()[0], *rows]))
    Path("turned.csv").write_text("\n".join([GOLD.splitlines()[0], *truths]))
    mixed = read_outputs("hit-rate", Path("turned.csv"), Path("mixed.csv"))
    plain = read_outputs("hit-rate", Path("gold.csv"), Path("open.csv"))

    def pairs(outputs: Any, checkpoint: str) -> list[Any]:
        return sorted(zip(outputs.gold, outputs.answers[checkpoint], strict=True))

    assert list(mixed.answers) == ["9", "10"]
    assert all(pairs(mixed, one) == pairs(plain, one) for one in ("9", "10"))


@pytest.mark.real
@pytest.mark.skipif(not REAL.is_dir(), reason="the real material is not beside the checkout")
def test_the_installed_command_scores_meld_as_published_without_a_model_library() -> None:
    program = (
        "import sys; from affectlocus.cli import app; app(standalone_mode=False);"
        "assert not {'torch', 'transformers', 'huggingface_hub'} & set(sys.modules)"
    )
    material = {
        "--wheels": "emotion_wheel",
        "--gold": "meld_gold.csv",
        "--predictions": "meld_openset.csv",
    }
    options = [word for option, name in material.items() for word in (option, str(REAL / name))]
    command = [sys.executable, "-c", program, "score", "--protocol", "mer-unibench"]
    command += ["--kind", "hit-rate", *options, "--choose", "test", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    rows = {(row["checkpoint"], row["wheel"]): row for row in found["mer-unibench"]}
    with (REAL / "expected.csv").open(encoding="utf-8", newline="") as stream:
        expected = list(csv.DictReader(stream))
    assert len(rows) == len(expected)
    for row in expected:
        mine = rows[row["checkpoint"], row["wheel"]]
        assert str(mine["n_scored"] or "") == row["n_scored"]
        assert mine["hit_rate"] == pytest.approx(float(row["hit_rate"]), abs=1e-12, rel=0)
    assert found["choice"]["checkpoint"] == "30"
    assert f"{100 * found['choice']['hit_rate']:.2f}" == "55.65"
    best = found["baselines"][1]
    assert best["mer-unibench"]["hit_rate"] > found["choice"]["best_on_test"]


def test_wheels_that_cannot_be_downloaded_end_in_one_line(files: Path, tmp_path: Path) -> None:
    options = (*HIT_RATE[:2], "--wheels", "released", *HIT_RATE[5:], "--predictions", "open.csv")
    own = {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    done = own_process(files, "score", "--protocol", "mer-unibench", *options, **own)
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert f"{COMMIT}/AffectGPT/emotion_wheel/format.csv: not in the cache ({tmp_path}" in line


def test_a_bad_file_ends_the_installed_command_with_exit_code_1(files: Path) -> None:
    command = [Path(sys.executable).with_name("affectlocus"), "score", "--protocol", "mer-unibench"]
    done = subprocess.run(
        [*command, *HIT_RATE, "--predictions", "nowhere.csv"],
        cwd=files,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines() == [
        "affectlocus: nowhere.csv: no such file; correct the path [table.no-file]"
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("happy|sad", ["happy", "sad"]),
        ("happy", ["happy"]),
        ("", []),
        ("['happy', 'sad']", ["happy", "sad"]),
        ("[happy, sad]", ["happy", "sad"]),
        ("happy, sad", ["happy", "sad"]),
    ],
)
def test_labels_are_read_in_either_notation(text: str, expected: list[str], tmp_path: Path) -> None:
    (tmp_path / "gold.csv").write_text("sample,emotion\na,happy\n")
    (tmp_path / "given.csv").write_text(f'checkpoint,sample,openset\n1,a,"{text}"\n')
    found = read_outputs("hit-rate", tmp_path / "gold.csv", tmp_path / "given.csv")
    assert found.answers == {"1": [expected]}


def test_a_single_bracket_is_named_with_its_sample(tmp_path: Path) -> None:
    (tmp_path / "gold.csv").write_text("sample,emotion\na,happy\n")
    (tmp_path / "given.csv").write_text("checkpoint,sample,openset\n1,a,[\n")
    with refused("prediction.single-bracket", file=tmp_path / "given.csv", sample="a"):
        read_outputs("hit-rate", tmp_path / "gold.csv", tmp_path / "given.csv")
