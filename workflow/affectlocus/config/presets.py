"""Public data sets in the layouts in which their owners hand them out, as data.

Nothing of a data set is here, only where things stand in it: files, columns, labels, splits. A
preset fills in the keys of a task that params.yaml leaves out.
"""

from __future__ import annotations

import posixpath
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Literal

PresetName = Literal[
    "meld-emotion",
    "meld-sentiment",
    "meld-speaker",
    "meld-question",
    "goemotions",
    "goemotions-ekman",
    "gsm8k",
    "mosi",
    "mosei",
    "sims",
    "simsv2",
    "iemocap",
    "mer2023",
    "mer2024",
    "daic-woz",
    "daic-woz-phq8",
]


@dataclass(frozen=True)
class Preset:
    """A layout.

    `about` says what the folder holds; `owner` where the set is handed out or requested; `checked`
    whether the layout was read off the files themselves, or off public documentation alone.
    """

    about: str
    owner: str
    checked: bool
    task: dict[str, Any]

    @property
    def expectation(self) -> str:
        """For the message about a file that is not so."""
        source = "as its owners publish it" if self.checked else "by public documentation alone"
        return f"{self.about} ({source}; any key of the task overrides its own)"


_MELD: dict[str, Any] = {
    "files": {
        "train": "train_sent_emo.csv",
        "validation": "dev_sent_emo.csv",
        "test": "test_sent_emo.csv",
    },
    "context": {"dialogue": "Dialogue_ID", "order": "Utterance_ID", "speaker": "Speaker"},
}
# Each file counts its dialogues from 0.
_MELD_ID = {"id": ["Dialogue_ID", "Utterance_ID"], "id_per_split": True}
_SIGNS = {"negative": "negative", "neutral": "neutral", "positive": "positive"}


def _goemotions(words: str) -> dict[str, Any]:
    """Texts with the numbers of their labels: these words, in this order."""
    return {
        "files": {"train": "train.tsv", "validation": "dev.tsv", "test": "test.tsv"},
        "header": ["text", "label", "id"],
        "columns": {"text": "text", "label": "label", "id": "id"},
        "labels": {str(number): word for number, word in enumerate(words.split())},
        "label_separator": ",",
        "prompt": "{text}\nEmotion:",
    }


def _clips(file: str) -> dict[str, Any]:
    """A table of clips with one score each, and the split in a column: the Tsinghua layout."""
    return {
        "files": {"all": file},
        "split": {"column": "mode", "train": "train", "validation": "valid", "test": "test"},
        "columns": {"text": "text", "score": "label", "id": ["video_id", "clip_id"]},
        "context": {"dialogue": "video_id", "order": "clip_id"},
        "labels": _SIGNS,
        "prompt": "{text}\nSentiment:",
    }


def _mer(train: str, test: str, transcripts: str) -> dict[str, Any]:
    """Labels in one table, what is said in another, of the same names."""
    emotions = ["neutral", "angry", "happy", "sad", "worried", "surprise"]
    return {
        "files": {"train": train, "test": test},
        "join": {"file": transcripts, "on": "name"},
        "columns": {"text": "chinese", "label": "discrete", "id": "name"},
        "labels": dict(zip(emotions, emotions, strict=True)),
        "prompt": "{text}\nEmotion:",
    }


def _daic(**task: Any) -> dict[str, Any]:
    """Interviews: a table of participants a split, and a transcript for each of them.

    Only what the participant says is taken: from the interviewer's questions after past troubles a
    model learns the answer by a shortcut (Burdisso et al. 2024, arXiv 2404.14463).
    """
    return {
        "files": {
            "train": "train_split_Depression_AVEC2017.csv",
            "validation": "dev_split_Depression_AVEC2017.csv",
            "test": "full_test_split.csv",
        },
        "rename": {"PHQ_Binary": "PHQ8_Binary", "PHQ_Score": "PHQ8_Score"},
        "join": {
            "file": "*_P/[0-9]*_TRANSCRIPT.csv",
            "delimiter": "\t",
            "on": "Participant_ID",
            "key": "file",
            "part": r"^(\d+)_",
            "gather": {"column": "value", "where": {"speaker": "Participant"}},
        },
        **task,
    }


_DAIC = (
    "train_split_Depression_AVEC2017.csv, dev_split_…, full_test_split.csv (Participant_ID, "
    "PHQ8_Binary, PHQ8_Score) and each participant's NNN_P/NNN_TRANSCRIPT.csv (tab-separated: "
    "start_time, stop_time, speaker, value)"
)
_ICT = "ICT at USC, by its agreement (dcapswoz.ict.usc.edu)"

PRESETS: dict[str, Preset] = {
    "meld-emotion": Preset(
        "train_sent_emo.csv, dev_sent_emo.csv, test_sent_emo.csv; column Emotion, seven classes",
        "declare-lab/MELD on GitHub, data/MELD (GPL-3.0)",
        True,
        {
            **_MELD,
            "columns": {"text": "Utterance", "label": "Emotion", **_MELD_ID},
            "labels": ["neutral", "joy", "surprise", "anger", "sadness", "disgust", "fear"],
            "prompt": "{Utterance}\nEmotion:",
        },
    ),
    "meld-sentiment": Preset(
        "the same files as meld-emotion; column Sentiment, three classes",
        "declare-lab/MELD on GitHub, data/MELD (GPL-3.0)",
        True,
        {
            **_MELD,
            "columns": {"text": "Utterance", "label": "Sentiment", **_MELD_ID},
            "labels": ["neutral", "positive", "negative"],
            "prompt": "{Utterance}\nSentiment:",
        },
    ),
    "meld-speaker": Preset(
        "the same files as meld-emotion; column Speaker, the six main ones, rows of others are "
        "left out and counted: a label of the same texts that is no emotion",
        "declare-lab/MELD on GitHub, data/MELD (GPL-3.0)",
        True,
        {
            **_MELD,
            "columns": {"text": "Utterance", "label": "Speaker", **_MELD_ID},
            "labels": ["Joey", "Ross", "Rachel", "Phoebe", "Monica", "Chandler"],
            "unlisted_labels": "drop",
            "prompt": "{Utterance}\nSpeaker:",
        },
    ),
    "meld-question": Preset(
        "the same files as meld-emotion; whether the line holds a question mark: a label of the "
        "same texts that is no emotion",
        "declare-lab/MELD on GitHub, data/MELD (GPL-3.0)",
        True,
        {
            **_MELD,
            "columns": {"text": "Utterance", "matches": r"\?", **_MELD_ID},
            "labels": ["yes", "no"],
            "prompt": "{Utterance}\nQuestion:",
        },
    ),
    "goemotions": Preset(
        "train.tsv, dev.tsv, test.tsv without a header: text, label numbers from 0 (admiration) to "
        "27 (neutral), id; rows of several labels are left out and counted",
        "google-research/google-research on GitHub, goemotions/data (Apache-2.0)",
        True,
        _goemotions(
            "admiration amusement anger annoyance approval caring confusion curiosity desire "
            "disappointment disapproval disgust embarrassment excitement fear gratitude grief joy "
            "love nervousness optimism pride realization relief remorse sadness surprise neutral"
        ),
    ),
    "goemotions-ekman": Preset(
        "train.tsv, dev.tsv, test.tsv without a header: text, label numbers from 0 (anger) to 6 "
        "(surprise), id; rows of several labels are left out and counted; the set's own files, of "
        "28 labels, are preset goemotions",
        "monologg/GoEmotions-pytorch on GitHub, data/ekman (Apache-2.0)",
        True,
        _goemotions("anger disgust fear joy neutral sadness surprise"),
    ),
    "gsm8k": Preset(
        "train.jsonl and test.jsonl; question and answer, text to tune on; no ids",
        "openai/grade-school-math on GitHub (MIT)",
        True,
        {
            "files": {"train": "train.jsonl", "test": "test.jsonl"},
            "columns": {"text": "question", "target": "answer"},
            "prompt": "{question}\nAnswer:",
        },
    ),
    "mosi": Preset(
        "label.csv: video_id, clip_id, text, label (-3 to 3), mode",
        "CMU MultiComp Lab (CMU-MultimodalSDK); label.csv as thuiar/MMSA on GitHub hands it out",
        False,
        _clips("label.csv"),
    ),
    "mosei": Preset(
        "label.csv: video_id, clip_id, text, label (-3 to 3), mode",
        "CMU MultiComp Lab (CMU-MultimodalSDK); label.csv as thuiar/MMSA on GitHub hands it out",
        False,
        _clips("label.csv"),
    ),
    "sims": Preset(
        "label.csv: video_id, clip_id, text (Chinese), label (-1 to 1), mode",
        "thuiar/MMSA on GitHub (CH-SIMS)",
        False,
        _clips("label.csv"),
    ),
    "simsv2": Preset(
        "meta.csv of CH-SIMS v2(s): video_id, clip_id, text (Chinese), label (-1 to 1), mode",
        "thuiar/ch-sims-v2 on GitHub",
        False,
        _clips("meta.csv"),
    ),
    "iemocap": Preset(
        "Session1 to Session5 with dialog/EmoEvaluation/Ses*.txt (labels) and "
        "dialog/transcriptions/Ses*.txt (what is said); four classes, excited counts as happy, "
        "rows of other labels are left out and counted; session 5 is the test split, and since all "
        "sessions act the same scripts, no limit is set to its overlap, which is reported",
        "SAIL at USC, by its release form (sail.usc.edu/iemocap)",
        False,
        {
            "files": {"all": "Session*/dialog/EmoEvaluation/Ses*.txt"},
            "pattern": (
                r"^\[(?P<start>[\d.]+) - (?P<end>[\d.]+)\]\t"
                r"(?P<id>(?P<dialogue>Ses(?P<session>\d\d)[FM]_\w+)_(?P<speaker>[FM])\w+)\t"
                r"(?P<label>\w+)\t"
            ),
            "split": {"column": "session", "train": ["01", "02", "03", "04"], "test": "05"},
            "join": {
                "file": "Session*/dialog/transcriptions/Ses*.txt",
                "pattern": r"^(?P<id>Ses\w+) \[[\d.]+-[\d.]+\]: (?P<text>.*)$",
                "on": "id",
                "columns": ["text"],
            },
            "columns": {"text": "text", "label": "label", "id": "id"},
            "context": {"dialogue": "dialogue", "order": "start", "speaker": "speaker"},
            "labels": {
                "neu": "neutral",
                "ang": "angry",
                "hap": "happy",
                "exc": "happy",
                "sad": "sad",
            },
            "unlisted_labels": "drop",
            "overlap_limit": 1.0,
            "prompt": "{text}\nEmotion:",
        },
    ),
    "mer2023": Preset(
        "train-label.csv and test1-label.csv (name, discrete); transcription-engchi-polish.csv "
        "(name, english, chinese), of MERTools",
        "MERChallenge/MER2023 on the Hugging Face hub, by its EULA",
        False,
        _mer("train-label.csv", "test1-label.csv", "transcription-engchi-polish.csv"),
    ),
    "mer2024": Preset(
        "label-disdim.csv and reference-semi.csv (name, discrete); transcription-merge.csv "
        "(name, chinese), of MERTools",
        "the MER2024 organisers, by their EULA (zeroQiaoba/MERTools on GitHub, MER2024)",
        False,
        _mer("label-disdim.csv", "reference-semi.csv", "transcription-merge.csv"),
    ),
    "daic-woz": Preset(
        f"{_DAIC}; depressed (PHQ-8 of 10 and more) or not",
        _ICT,
        False,
        _daic(
            columns={"text": "value", "label": "PHQ8_Binary", "id": "Participant_ID"},
            labels={"0": "no", "1": "yes"},
            positive="yes",
            prompt="{value}\nIs this person depressed, yes or no?",
        ),
    ),
    "daic-woz-phq8": Preset(
        f"{_DAIC}; the PHQ-8 sum, 0 to 24",
        _ICT,
        False,
        _daic(
            columns={"text": "value", "score": "PHQ8_Score", "id": "Participant_ID"},
            number={"lowest": 0, "highest": 24, "cutoff": 10},
            prompt="{value}\nThis person's PHQ-8 score, from 0 to 24:",
        ),
    ),
}

_BY_KEY = ("columns", "context", "join", "number", "split")


def expanded(given: dict[str, Any]) -> dict[str, Any]:
    """A task with its preset's keys beside its own; paths of `files` and `join` start from `root`.

    Of columns, context, join, number and split single keys override; of the rest, whole ones.
    Without a root a task must name all its files itself. An expanded task expands to itself.

    Raises:
        ValueError: no root and no files.
    """
    preset = PRESETS[given["preset"]]
    root, files = given.get("root"), given.get("files")
    if files is None and root is None:
        raise ValueError(f"root is missing beside preset; name the folder that has {preset.about}")
    task = deepcopy(preset.task)
    own = task["files"]
    if isinstance(files, dict):
        alike = root is not None and ("all" in files) == ("all" in own)
        task["files"] = {**own, **files} if alike else files
        if "split" in task and task["files"].get("all") is None:
            del task["split"]
    for key, value in given.items():
        if key in _BY_KEY and isinstance(value, dict) and isinstance(task.get(key), dict):
            task[key] = {**task[key], **value}
        elif key != "files" or not isinstance(value, dict | None):
            task[key] = value
    if root is not None:
        if isinstance(task["files"], dict):
            task["files"] = {key: _below(root, file) for key, file in task["files"].items()}
        if isinstance(task.get("join"), dict):
            task["join"] = _below(root, task["join"])
    return task | {"root": None}


def _below(root: Any, file: Any) -> Any:
    """A path, or the keys of a file on disk, below a folder."""
    if isinstance(file, str) and isinstance(root, str):
        return posixpath.join(root, file)
    if isinstance(file, dict) and isinstance(file.get("file"), str) and file.get("hub") is None:
        return file | {"file": _below(root, file["file"])}
    return file
