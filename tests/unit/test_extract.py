"""Emotions read out of free text by a model, on tiny real models; replies are kept by content."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from refusal import refused

from affectlocus.config.evaluation import Extraction
from affectlocus.core.cells import Cell
from affectlocus.core.errors import InputError
from affectlocus.core.manifests import content_digest
from affectlocus.evaluation.extract import Extractor, ReplyCache, extract, prompt_for, replies
from affectlocus.evaluation.predictions import Predictions

SETTINGS = Extraction(max_new_tokens=6, batch_tokens=64)
FILES = [
    {"file": "model.safetensors", "bytes": 5, "sha256": "a" * 64},
    {"file": "config.json", "bytes": 2, "sha256": "b" * 64},
]


@pytest.fixture
def folder(checkpoint) -> Path:
    return checkpoint("qwen2", max_position_embeddings=1024)


@pytest.fixture
def kept(tmp_path) -> ReplyCache:
    return ReplyCache(tmp_path / "replies", content_digest(FILES), SETTINGS)


class Counting(Extractor):
    """The real thing, with a note of what it was asked."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, SETTINGS)
        self.asked: list[str] = []

    def reply(self, prompts, progress):
        self.asked += prompts
        return super().reply(prompts, progress)


def test_a_model_is_told_by_its_files_and_not_by_their_folder() -> None:
    assert content_digest(FILES) == content_digest(FILES[::-1])
    assert content_digest(FILES) != content_digest(FILES[:1])
    assert content_digest(FILES) != content_digest([FILES[0], {**FILES[1], "sha256": "c" * 64}])


def test_a_prompt_has_two_examples_and_the_text_on_one_line() -> None:
    prompt = prompt_for("emotions", "She is {text}\n and   sad.")
    assert prompt.count("Input:") == prompt.count("Output:") == 3
    assert prompt.endswith("Input: She is {text} and sad.\nOutput:")
    assert "positive" in prompt_for("valence", "[sad]")


def test_a_text_is_asked_once_and_an_empty_one_never(folder, kept, tmp_path) -> None:
    first = Counting(folder)
    found = replies("emotions", ["He is sad.", "", "She smiles.", "He is sad."], kept, first)
    assert sorted(first.asked) == sorted(
        prompt_for("emotions", text) for text in ("He is sad.", "She smiles.")
    )
    assert found[1] == ""
    assert found[0] == found[3]
    # Another job, later: nothing is asked, and no model is loaded.
    later = Counting(tmp_path / "no such model")
    again = ReplyCache(tmp_path / "replies", content_digest(FILES), SETTINGS)
    assert replies("emotions", ["She smiles.", "He is sad."], again, later) == [found[2], found[0]]
    assert later.asked == []


@pytest.mark.parametrize("changed", ["model", "settings", "kind"])
def test_another_model_setting_or_question_asks_again(folder, kept, tmp_path, changed) -> None:
    replies("emotions", ["He is sad."], kept, Counting(folder))
    other = ReplyCache(
        tmp_path / "replies",
        content_digest(FILES[:1] if changed == "model" else FILES),
        Extraction(max_new_tokens=7) if changed == "settings" else SETTINGS,
    )
    asks = Counting(folder)
    replies("valence" if changed == "kind" else "emotions", ["He is sad."], other, asks)
    assert len(asks.asked) == 1


def test_a_reply_does_not_depend_on_the_batch(folder, tmp_path) -> None:
    given = ["He is sad.", "She smiles at him for a long while.", "Hm."]
    together = ReplyCache(tmp_path / "a", "m", SETTINGS)
    found = replies("emotions", given, together, Extractor(folder, SETTINGS))
    alone = ReplyCache(tmp_path / "b", "m", SETTINGS)
    extractor = Extractor(folder, SETTINGS)
    assert [replies("emotions", [text], alone, extractor)[0] for text in given] == found
    assert len(set(found)) > 1


def test_jobs_at_once_keep_what_both_have_learned(tmp_path) -> None:
    one, other = (ReplyCache(tmp_path, "m", SETTINGS) for _ in range(2))
    one.keep({"a": "happy", "b": "sad"})
    other.keep({"b": "sad", "c": "[calm], \"'高兴"})
    third = ReplyCache(tmp_path, "m", SETTINGS)
    assert [third.get(prompt) for prompt in "abcd"] == ["happy", "sad", "[calm], \"'高兴", None]
    assert len(list(tmp_path.iterdir())) == 2


def test_a_broken_file_of_replies_is_refused_by_name(tmp_path) -> None:
    (tmp_path / "x.jsonl").write_text(json.dumps(["key", "reply"]) + "\n{half")
    with refused("reply.not-a-cache-file", file=tmp_path / "x.jsonl"):
        ReplyCache(tmp_path, "m", SETTINGS)


def test_a_chat_template_is_used_where_there_is_one(folder) -> None:
    from transformers import AutoTokenizer

    plain = Extractor(folder, SETTINGS).reply(["Hello."], lambda _: None)
    talking = Extractor(folder, SETTINGS)
    talking.reply(["Hello."], lambda _: None)
    assert talking.loaded is not None
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = "{% for m in messages %}<u>{{ m.content }}</u>{% endfor %}<a>"
    talking.loaded = (talking.loaded[0], tokenizer)
    as_chat = talking.reply(["Hello."], lambda _: None)
    tokenizer.chat_template = None
    by_hand = talking.reply(["<u>Hello.</u><a>"], lambda _: None)
    assert as_chat != plain
    assert by_hand[0].startswith(as_chat[0][:2])


def test_valence_is_asked_about_the_emotions_of_valence_tasks_only(folder, kept) -> None:
    rows = pd.DataFrame(
        {
            "task": ["moods", "moods", "MOSI", "MOSI", "choice"],
            "sample": ["1", "2", "1", "2", "1"],
            "text": ["He is sad.", "", "She smiles.", "He is sad.", None],
        }
    )
    labels = {
        "moods": ["sad", "happy"],
        "MOSI": ["negative", "positive"],
        "choice": ["a", "b"],
    }
    predictions = Predictions(Cell("base", "b"), labels, rows)
    counting = Counting(folder)
    found = extract(predictions, kept, counting)
    assert found[["task", "sample"]].values.tolist() == [
        ["moods", "1"], ["moods", "2"], ["MOSI", "1"], ["MOSI", "2"],
    ]  # fmt: skip
    assert found["emotions"][0] == found["emotions"][3]
    assert found["emotions"][1] == ""
    assert found["valence"].tolist()[:2] == ["", ""]
    about = [prompt for prompt in counting.asked if "positive, negative or neutral" in prompt]
    assert about == sorted(
        {prompt_for("valence", reply) for reply in found["emotions"][2:] if reply},
        key=lambda one: (len(one), one),
    )
    assert about


def test_a_model_without_a_tokenizer_is_refused(folder, twin) -> None:
    with pytest.raises(InputError, match="expected the tokenizer's files in"):
        Extractor(twin(folder), SETTINGS).reply(["Hello."], lambda _: None)


def test_a_model_without_all_its_weights_is_refused(folder, tmp_path) -> None:
    import shutil

    from safetensors.torch import load_file, save_file

    copy = shutil.copytree(folder, tmp_path / "copy")
    stored = load_file(copy / "model.safetensors")
    del stored["model.layers.0.mlp.up_proj.weight"]
    save_file(stored, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"up_proj\.weight, which no file of the checkpoint holds"):
        Extractor(copy, SETTINGS).reply(["Hello."], lambda _: None)
