"""Presets: small files in each owner's layout become samples; another layout is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError
from refusal import refused

from affectlocus.config.experiment import Parameters, validate
from affectlocus.config.presets import FOLDER, PRESETS
from affectlocus.config.tasks import Task
from affectlocus.core.errors import InputError
from affectlocus.data.audit import report_lines
from affectlocus.data.prepare import prepare
from affectlocus.data.sources import located

ROOT = Path(__file__).parents[2]

SPLIT_NAMES = {"train": "train", "validation": "dev", "test": "test"}
MELD = (
    "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season,Episode,"
    "StartTime,EndTime\n"
)


def meld(folder: Path) -> None:
    for name, mood in (("train", "joy,positive"), ("dev", "fear,negative"), ("test", None)):
        rows = f'1,"{name}, said",Ross,{mood},0,0,1,1,"0:0:1,0","0:0:2,0"\n'
        if mood is None:
            rows = '1,Why?,Mark,surprise,positive,0,0,3,19,"0,1","0,2"\n'
            rows += '2,"Oh, so.",Rachel,anger,negative,0,1,3,19,"0,2","0,3"\n'
        (folder / f"{name}_sent_emo.csv").write_text(MELD + rows, encoding="utf-8")


def goemotions(folder: Path) -> None:
    (folder / "train.tsv").write_text('say "no\t0\tt1\nfine\t3,4\tt2\n')
    (folder / "dev.tsv").write_text("hm\t4\td1\n")
    (folder / "test.tsv").write_text("I’m sad\t5\te1\nyes\t3\te2\n")


def goemotions_28(folder: Path) -> None:
    goemotions(folder)
    (folder / "test.tsv").write_text("I’m sad\t25\te1\nyes\t17\te2\nwell, no\t10,27\te3\n")


def gsm8k(folder: Path) -> None:
    for name in ("train", "test"):
        row = {"question": f"{name}: 1+1?", "answer": "It is 2.\n#### 2"}
        (folder / f"{name}.jsonl").write_text(json.dumps(row) + "\n")


def clips(name: str, text: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        rows = [
            ["v1", "0001", f"{text} 1", -0.8, "Negative", "train"],
            ["v1", "0002", f"{text} 2", 0.0, "Neutral", "valid"],
            ["v2", "0001", f"{text} 3", 0.4, "Positive", "test"],
            ["v2", "0002", f"{text} 4", -1.0, "Negative", "test"],
        ]
        columns = ["video_id", "clip_id", "text", "label", "annotation", "mode"]
        pd.DataFrame(rows, columns=columns).to_csv(folder / name, index=False)

    return write


def iemocap(folder: Path) -> None:
    for session in (1, 5):
        dialogue = f"Ses0{session}F_impro01"
        turns = [("F000", 6.2, "neu", "Excuse me."), ("M000", 10.1, "exc", "Yes!")]
        turns += [("F001", 15.0, "fru", "No.")]
        about = folder / f"Session{session}/dialog"
        for part in ("EmoEvaluation", "EmoEvaluation/Categorical", "transcriptions"):
            (about / part).mkdir(parents=True)
        labels = "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n\n"
        said = ""
        for turn, start, label, text in turns:
            end = start + 1
            labels += f"[{start:.4f} - {end:.4f}]\t{dialogue}_{turn}\t{label}\t[2.5, 2.5, 2.5]\n"
            labels += "C-E2:\tNeutral;\t()\nA-E3:\tval 3; act 2; dom  2;\t()\n\n"
            said += f"{dialogue}_{turn} [{start:08.4f}-{end:08.4f}]: {text}\n"
        (about / f"EmoEvaluation/{dialogue}.txt").write_text(labels)
        (about / f"EmoEvaluation/Categorical/{dialogue}_e1.txt").write_text("not this one\n")
        (about / f"EmoEvaluation/._{dialogue}.txt").write_bytes(b"\0\xff")
        (about / f"transcriptions/{dialogue}.txt").write_text(said + "M: Mm.\n")


def mer(train: str, test: str, transcripts: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / train).write_text("name,discrete,valence\ns_1,happy,2.5\ns_2,worried,-1\n")
        (folder / test).write_text("name,discrete\ns_3,angry\ns_4,neutral\n")
        said = [[f"s_{n}", f"english {n}", f"中文{n}。"] for n in (1, 2, 3, 4)]
        frame = pd.DataFrame(said, columns=["name", "english", "chinese"])
        frame.to_csv(folder / transcripts, index=False)

    return write


def unibench(transcripts: str, text: str, valence: bool = False) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        values = ("-0.8", "1.2") if valence else ("neutral", "neutral")
        rows = "".join(f"s_{n},{value}\n" for n, value in enumerate(values, 1))
        (folder / "label.csv").write_text(f"name,{'val' if valence else 'discrete'}\n{rows}")
        (folder / transcripts).write_text(f"name,{text}\ns_1,one\ns_2,two\n")

    return write


INTERVIEW = [
    ("0.1", "1.2", "Ellie", "how_doingV (how are you)"),
    ("1.5", "2.0", "Participant", "fine"),
    ("2.5", "3.0", "Ellie", "okay"),
    ("3.5", "4.0", "Participant", '"<laughter> so" so'),
]


def daic(folder: Path) -> None:
    for name, first, prefix in (
        ("train_split_Depression_AVEC2017", 301, "PHQ8"),
        ("dev_split_Depression_AVEC2017", 302, "PHQ8"),
        ("full_test_split", 300, "PHQ"),
    ):
        rows = f"Participant_ID,{prefix}_Binary,{prefix}_Score,Gender\n{first},0,4,1\n"
        if prefix == "PHQ":
            rows += "303,1,17,0\n304,1,12,0\n"  # the last without a transcript
        (folder / f"{name}.csv").write_text(rows)
    for number in (300, 301, 302, 303):
        (folder / f"{number}_P").mkdir()
        turns = [("start_time", "stop_time", "speaker", "value"), *INTERVIEW]
        lines = "".join("\t".join(turn).replace("fine", f"fine {number}") + "\n" for turn in turns)
        (folder / f"{number}_P/{number}_TRANSCRIPT.csv").write_text(lines)
        (folder / f"{number}_P/._{number}_TRANSCRIPT.csv").write_bytes(b"\0\xff")
        (folder / f"{number}_P/{number}_COVAREP.csv").write_text("1,2\n")


def interviews(question: str, *answers: str) -> list[tuple[str, str]]:
    return [
        (f'fine {number}\n"<laughter> so" so\n{question}', answer)
        for number, answer in zip((300, 303), answers, strict=True)
    ]


# What writes the layout, the test split's prompts and answers, and rows left out.
LAYOUTS: dict[str, tuple[Callable[[Path], None], list[tuple[str, str]]]] = {
    "meld-emotion": (meld, [("Why?\nEmotion:", "surprise"), ("Oh, so.\nEmotion:", "anger")]),
    "meld-sentiment": (
        meld,
        [("Why?\nSentiment:", "positive"), ("Oh, so.\nSentiment:", "negative")],
    ),
    "meld-speaker": (meld, [("Oh, so.\nSpeaker:", "Rachel")]),
    "meld-question": (meld, [("Why?\nQuestion:", "yes"), ("Oh, so.\nQuestion:", "no")]),
    "goemotions": (goemotions_28, [("I’m sad\nEmotion:", "sadness"), ("yes\nEmotion:", "joy")]),
    "goemotions-ekman": (goemotions, [("I’m sad\nEmotion:", "sadness"), ("yes\nEmotion:", "joy")]),
    "gsm8k": (gsm8k, [("test: 1+1?\nAnswer:", "It is 2.\n#### 2")]),
    **{
        name: (
            clips(file, text),
            [(f"{text} 3\nSentiment:", "positive"), (f"{text} 4\nSentiment:", "negative")],
        )
        for name, file, text in (
            ("mosi", "label.csv", "said"),
            ("mosei", "label.csv", "said"),
            ("sims", "label.csv", "我说"),
            ("simsv2", "meta.csv", "我说"),
        )
    },
    "iemocap": (iemocap, [("Excuse me.\nEmotion:", "neutral"), ("Yes!\nEmotion:", "happy")]),
    "mer2023": (
        mer("train-label.csv", "test1-label.csv", "transcription-engchi-polish.csv"),
        [("中文3。\nEmotion:", "angry"), ("中文4。\nEmotion:", "neutral")],
    ),
    "mer2024": (
        mer("label-disdim.csv", "reference-semi.csv", "transcription-merge.csv"),
        [("中文3。\nEmotion:", "angry"), ("中文4。\nEmotion:", "neutral")],
    ),
    **{
        f"unibench-{name}": (
            unibench("transcription-engchi-polish.csv", "english"),
            [("one\nEmotion:", "neutral"), ("two\nEmotion:", "neutral")],
        )
        for name in ("mer2023", "meld", "iemocap")
    },
    "unibench-mer2024": (
        unibench("transcription_merge.csv", "chinese"),
        [("one\nEmotion:", "neutral"), ("two\nEmotion:", "neutral")],
    ),
    **{
        f"unibench-{name}": (
            unibench("transcription-engchi-polish.csv", "english", valence=True),
            [("one\nSentiment:", "negative"), ("two\nSentiment:", "positive")],
        )
        for name in ("mosi", "mosei", "sims", "simsv2")
    },
    "daic-woz": (daic, interviews("Is this person depressed, yes or no?", "no", "yes")),
    "daic-woz-phq8": (
        daic,
        interviews("This person's PHQ-8 score, from 0 to 24:", "4\n", "17\n"),
    ),
}


def read(folder: Path, preset: str, **keys: Any) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Samples and report of a preset's files, which are in `set` below this folder."""
    task = Task.model_validate({"preset": preset, "root": "set", **keys})
    return prepare(preset, task, located(task, folder, folder / "pins.json"))


@pytest.fixture
def written(tmp_path: Path) -> Callable[[str], Path]:
    """`written(preset)`: a folder with the layout in `set`."""

    def write(preset: str) -> Path:
        (tmp_path / "set").mkdir()
        LAYOUTS[preset][0](tmp_path / "set")
        return tmp_path

    return write


def test_every_preset_has_a_layout_here() -> None:
    assert set(LAYOUTS) == set(PRESETS) == {file.stem for file in FOLDER.iterdir()}


@pytest.mark.parametrize("preset", LAYOUTS)
def test_the_owners_layout_becomes_samples(written: Callable[[str], Path], preset: str) -> None:
    samples, report = read(written(preset), preset)
    test = samples[samples["split"] == "test"]
    assert list(zip(test["prompt"], test["answer"], strict=True)) == LAYOUTS[preset][1]
    assert report["preset"] == preset
    assert report["preset_version"] == PRESETS[preset].version
    assert preset.startswith("unibench-") or "train" in report["splits"]


@pytest.mark.parametrize("preset", LAYOUTS)
def test_an_expanded_preset_goes_through_a_job_s_settings_unchanged(preset: str) -> None:
    task = Task.model_validate({"preset": preset, "root": "set"})
    assert Task.model_validate(json.loads(json.dumps(task.model_dump(mode="json")))) == task


@pytest.mark.parametrize("preset", LAYOUTS)
def test_a_missing_file_is_refused_with_what_the_preset_expects(
    tmp_path: Path, preset: str
) -> None:
    config = {
        "bases": {"b": {"folder": "b"}},
        "pairs": {"p": {"base": "b", "tuned": "t"}},
        "tasks": {
            "set": {"preset": preset, "root": "nowhere"},
            "other": {"corpus": True, "labels": ["a", "b"], "columns": {"label": "l"}},
        },
        "matrix": {"pairs": ["p"], "tune": []},
    }
    config["tasks"]["mini-MOSI"] = config["tasks"].pop("other")
    config["corpus"] = {}
    with refused("task.no-file") as caught:
        validate(config, tmp_path)
    assert str(caught.value.fields["key"]).startswith("tasks.set.files.")
    assert f"(preset {preset}: " in str(caught.value)


@pytest.mark.parametrize("preset", LAYOUTS)
def test_files_without_the_columns_are_refused_with_what_the_preset_expects(
    written: Callable[[str], Path], preset: str
) -> None:
    folder = written(preset)
    for path in (folder / "set").rglob("*"):
        if path.is_file():
            # One column, of another name; a line, to a pattern.
            path.write_text('{"a": 1}\n' if path.suffix == ".jsonl" else "a\nb\n")
    with pytest.raises(InputError) as caught:
        read(folder, preset)
    message = str(caught.value)
    assert f"; preset {preset} expects {PRESETS[preset].about}" in message
    assert len(message.splitlines()) == 1


def test_the_presets_of_the_stories_experiment_are_what_was_written_out_before() -> None:
    files = {split: f"m/{name}_sent_emo.csv" for split, name in SPLIT_NAMES.items()}
    meld_ids = {"id": ["Dialogue_ID", "Utterance_ID"], "id_per_split": True}
    written_out = {
        "meld-emotion": {
            "files": files,
            "columns": {"text": "Utterance", "label": "Emotion", **meld_ids},
            "labels": ["neutral", "joy", "surprise", "anger", "sadness", "disgust", "fear"],
            "prompt": "{Utterance}\nEmotion:",
        },
        "meld-sentiment": {
            "files": files,
            "columns": {"text": "Utterance", "label": "Sentiment", **meld_ids},
            "labels": ["neutral", "positive", "negative"],
            "prompt": "{Utterance}\nSentiment:",
        },
        "goemotions-ekman": {
            "files": {split: f"m/{name}.tsv" for split, name in SPLIT_NAMES.items()},
            "header": ["text", "label", "id"],
            "columns": {"text": "text", "label": "label", "id": "id"},
            "labels": dict(
                enumerate(["anger", "disgust", "fear", "joy", "neutral", "sadness", "surprise"])
            ),
            "label_separator": ",",
            "prompt": "{text}\nEmotion:",
        },
        "gsm8k": {
            "files": {"train": "m/train.jsonl", "test": "m/test.jsonl"},
            "columns": {"text": "question", "target": "answer"},
            "prompt": "{question}\nAnswer:",
        },
    }
    for preset, keys in written_out.items():
        task = Task.model_validate({"preset": preset, "root": "m"})
        plain = Task.model_validate(keys)
        assert task.model_copy(update={"preset": None, "context": None}) == plain
        # The order of labels decides ties.
        assert list((task.labels or {}).items()) == list((plain.labels or {}).items())


UNIBENCH = [name for name in PRESETS if name.startswith("unibench-")]


@pytest.mark.parametrize("preset", UNIBENCH)
def test_media_of_a_preset_are_taken_by_name(preset: str) -> None:
    named = {"preset": preset, "root": "sets/one", "media": ["face", "audio"]}
    task = Task.model_validate(named)
    folder = "audio" if preset.endswith(("mer2023", "mer2024", "sims", "simsv2")) else "subaudio"
    assert task.media == {
        "face": "sets/one/openface_face/{name}.npy",
        "audio": f"sets/one/{folder}/{{name}}.wav",
    }
    assert Task.model_validate(json.loads(json.dumps(task.model_dump(mode="json")))) == task
    own = Task.model_validate({**named, "media": {"audio": "wav/{id}.wav"}})
    assert own.media == {"audio": "wav/{id}.wav"}
    assert Task.model_validate({"preset": preset, "root": "sets"}).media == {}


def test_mer2024_s_subtitles_have_an_underscore() -> None:
    join = PRESETS["unibench-mer2024"].task["join"]
    assert join["file"] == "transcription_merge.csv"


def test_a_medium_that_a_preset_lacks_is_refused() -> None:
    for keys in (
        {"preset": "unibench-mosi", "media": ["voice"]},
        {"preset": "mosi", "media": ["a"]},
    ):
        with pytest.raises(ValidationError, match="has the media"):
            Task.model_validate({"root": "set", **keys})
    with pytest.raises(ValidationError, match="write medium: path"):
        Task.model_validate({"files": {"test": "a.csv"}, "media": ["audio"]})


def test_a_preset_that_was_never_seen_says_so() -> None:
    seen = {name for name, preset in PRESETS.items() if preset.checked}
    assert {name for name in PRESETS if name.startswith("meld-")} < seen
    assert seen - {"meld-emotion", "meld-sentiment", "meld-speaker", "meld-question"} == {
        "goemotions",
        "goemotions-ekman",
        "gsm8k",
    }
    assert "from documentation only" in PRESETS["iemocap"].expectation


def test_single_keys_of_a_preset_are_overridden(written: Callable[[str], Path]) -> None:
    folder = written("mer2023")
    prompt, words = "They say: {text}", {"angry": "furious", "neutral": "calm"}
    samples, report = read(
        folder,
        "mer2023",
        columns={"text": "english"},
        prompt=prompt,
        labels=words,
        files={"train": None},
    )
    assert samples[["prompt", "answer"]].values.tolist() == [
        ["They say: english 3", "furious"],
        ["They say: english 4", "calm"],
    ]
    assert list(report["splits"]) == ["test"]


def test_one_file_in_place_of_a_preset_s_split_files(written: Callable[[str], Path]) -> None:
    folder = written("meld-emotion")
    (folder / "set/one.csv").write_text(
        "Utterance,Emotion,Dialogue_ID,Utterance_ID,split\na,joy,0,0,test\nb,joy,0,1,train\n"
    )
    samples, _ = read(folder, "meld-emotion", files={"all": "one.csv"})
    assert samples["split"].tolist() == ["train", "test"]


def test_files_without_a_root_are_the_task_s_own(written: Callable[[str], Path]) -> None:
    folder = written("sims")
    task = Task.model_validate({"preset": "sims", "files": {"all": "set/label.csv"}})
    assert task.splits == ("train", "validation", "test")
    samples, _ = prepare("sims", task, located(task, folder, folder / "pins.json"))
    assert samples["id"].tolist() == ["v1_0001", "v1_0002", "v2_0001", "v2_0002"]
    assert samples["score"].tolist() == [-0.8, 0.0, 0.4, -1.0]


def test_a_dialogue_s_turns_are_those_of_the_preset(written: Callable[[str], Path]) -> None:
    prompt = "{context}{Speaker}: {text} =>"
    samples, _ = read(written("meld-emotion"), "meld-emotion", prompt=prompt, context={"turns": 1})
    assert samples["prompt"].tolist()[-1] == "Mark: Why?\nRachel: Oh, so. =>"


def test_rows_of_several_labels_are_left_out_of_goemotions_and_counted(
    written: Callable[[str], Path],
) -> None:
    _, report = read(written("goemotions"), "goemotions")
    counts = report["splits"]["test"]
    assert (counts["read"], counts["several_labels"], counts["kept"]) == (3, 1, 2)
    assert "  left out: with several labels: train 1, test 1" in report_lines(report)


def test_the_28_labels_of_goemotions_are_not_taken_for_ekman_s_seven(
    written: Callable[[str], Path],
) -> None:
    folder = written("goemotions")
    with refused("label.unlisted", row=1) as caught:
        read(folder, "goemotions-ekman")
    assert "the set's own files, of 28 labels, are preset goemotions" in str(caught.value)


def test_turns_that_are_not_scored_are_context_in_iemocap(written: Callable[[str], Path]) -> None:
    labels = {"fru": "frustrated", "neu": "neutral"}
    samples, report = read(
        written("iemocap"), "iemocap", prompt="{context}{speaker}: {text}", labels=labels
    )
    assert samples["prompt"].tolist()[-1] == "F: Excuse me.\nM: Yes!\nF: No."
    assert report["splits"]["test"]["unlisted_label"] == 1
    assert report["other_lines"] == 2 * (1 + 3 * 2)


def test_a_participant_without_a_transcript_is_left_out_and_counted(
    written: Callable[[str], Path],
) -> None:
    samples, report = read(written("daic-woz"), "daic-woz")
    assert report["splits"]["test"]["no_partner"] == 1
    assert samples["id"].tolist() == ["301", "302", "300", "303"]


def test_both_speakers_of_an_interview_are_taken_where_that_is_asked_for(
    written: Callable[[str], Path],
) -> None:
    gather = {"column": "value", "speaker": "speaker"}
    samples, _ = read(written("daic-woz"), "daic-woz", join={"gather": gather})
    assert samples["text"].iloc[0].split("\n")[:2] == [
        "Ellie: how_doingV (how are you)",
        "Participant: fine 301",
    ]


def test_single_keys_of_a_number_are_overridden(written: Callable[[str], Path]) -> None:
    number = {"ending": ".", "readout": "likeliest"}
    task = Task.model_validate({"preset": "daic-woz-phq8", "root": "set", "number": number})
    assert task.number is not None
    assert (task.number.highest, task.number.cutoff, task.number.readout) == (24, 10, "likeliest")
    samples, _ = read(written("daic-woz-phq8"), "daic-woz-phq8", number=number)
    assert samples["answer"].tolist() == ["4.", "4.", "4.", "17."]
    assert samples["score"].tolist() == [4, 4, 4, 17]


def test_the_labels_of_a_preset_as_a_pickled_archive_are_refused(
    written: Callable[[str], Path],
) -> None:
    folder = written("mer2023")
    (folder / "set/label-6way.npz").write_bytes(b"PK")
    with refused("table.pickled", file=folder / "set/label-6way.npz"):
        read(folder, "mer2023", files={"train": None, "test": "label-6way.npz"})


@pytest.mark.parametrize("preset", ["meld-emotion", "meld-sentiment"])
def test_a_turn_of_meld_that_stands_twice_is_refused(
    written: Callable[[str], Path], preset: str
) -> None:
    folder = written(preset)
    samples, report = read(folder, preset)
    assert samples["id"].tolist() == ["train-0_0", "validation-0_0", "test-0_0", "test-0_1"]
    assert report["splits"]["test"]["duplicate_id"] == 0
    with (folder / "set/test_sent_emo.csv").open("a", encoding="utf-8") as stream:
        stream.write('3,"Again.",Ross,joy,positive,0,1,3,19,"0,3","0,4"\n')
    with refused("split.duplicate-id", split="test", found="test-0_1"):
        read(folder, preset)


def test_what_stands_for_an_id_in_gsm8k_is_said(written: Callable[[str], Path]) -> None:
    samples, report = read(written("gsm8k"), "gsm8k")
    assert samples["id"].tolist() == ["train-0", "test-0"]
    assert (report["id"], report["splits"]["test"]["duplicate_id"]) == (None, None)
    assert any("no column holds ids" in line for line in report_lines(report))


def test_a_pickled_archive_is_turned_into_tables_as_the_documentation_says(
    written: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = written("mer2023")
    monkeypatch.chdir(folder / "set")
    corpora = {
        "train_corpus": {"s_1": {"emo": "happy", "val": 2.5}, "s_2": {"emo": "sad", "val": -1.0}},
        "test1_corpus": {"s_3": {"emo": "angry", "val": -3.0}},
    }
    # As AffectGPT and MERTools keep their labels: dictionaries, pickled.
    np.savez_compressed("label-6way.npz", **corpora)  # type: ignore[arg-type]
    page = ROOT / "docs/how-to/presets.md"
    text = page.read_text(encoding="utf-8")
    (program,) = [
        part.split("```")[0] for part in text.split("```python\n")[1:] if "allow_pickle" in part
    ]
    exec(compile(program, str(page), "exec"), {})
    files = {"train": "train_corpus.csv", "test": "test1_corpus.csv"}
    samples, _ = read(folder, "mer2023", files=files)
    assert samples[["id", "text", "answer"]].values.tolist() == [
        ["s_1", "中文1。", "happy"],
        ["s_2", "中文2。", "sad"],
        ["s_3", "中文3。", "angry"],
    ]


def test_the_schema_names_every_preset() -> None:
    schema = json.dumps(Parameters.model_json_schema())
    assert all(f'"{preset}"' in schema for preset in PRESETS)
