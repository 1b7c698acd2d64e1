"""Free text into open sets: the effect of each rule, in English and Chinese."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from refusal import refused

from affectlocus.core.cells import Cell
from affectlocus.evaluation.predictions import Predictions
from affectlocus.scoring import mer_unibench
from affectlocus.scoring.openset import emotion_words, first_label, parse_reply, with_open_sets
from affectlocus.scoring.valence_lexicon import NEGATIVE, NEUTRAL, POSITIVE

CASES = {
    # lists
    "[happy, surprised]": "happy, surprised",
    "['happy', \"sad\"]": "happy, sad",
    "Output: [Happy, SAD].": "happy, sad",
    '{"emotions": ["happy", "at ease"]}': "happy, at ease",
    "[happy, sad": "happy, sad",
    "[happy]\nInput: She is angry; Output: [angry]": "happy",
    "[]": "",
    "【高兴，惊讶】": "高兴, 惊讶",
    "happy, sad": "happy, sad",
    "Happy; sad/angry | calm": "happy, sad, angry, calm",
    "1. happy\n2. sad\n3) calm": "happy, sad, calm",
    "- happy\n- **very sad**\n* calm": "happy, sad, calm",
    "happy，惊讶、生气；难过": "happy, 惊讶, 生气, 难过",
    # states
    "The character's emotional state is happy and a bit worried.": "happy, worried",
    "The character’s emotional state is concern, pessimism.": "concern, pessimism",
    "His emotional state is happy, sad, and angry": "happy, sad, angry",
    "The emotional states of the main character are joy, hope.": "joy, hope",
    "Emotions: happy; sad": "happy, sad",
    "Answer: happy.": "happy",
    "The woman smiles at the camera. She feels happy and slightly relaxed.": "happy, relaxed",
    "He seems to be very angry because nobody came.": "angry",
    "She looks at the door. She appears nervous.": "nervous",
    "It was late. He felt a sense of relief.": "relief",
    "The man expresses both joy and surprise.": "joy, surprise",
    "人物的情绪状态是开心和惊讶。": "开心, 惊讶",
    "她感到非常难过，也有点生气。": "难过, 生气",
    "情绪：平和、温和与自信": "平和, 温和, 自信",
    "他的心情是不安的，因为没有消息。": "不安",
    # first sentences
    "happy": "happy",
    " happy. In a word, Sam was angry.": "happy",
    "Anna was happy.": "happy",
    "Anna is let down by her friend.": "let down",
    "She's angry at him.": "angry",
    # negation
    "not happy but sad": "sad",
    "He is not angry.": "",
    "She feels not happy or sad, but calm.": "calm",
    "neither angry nor sad": "",
    "no longer sad, happy": "happy",
    "He isn't angry": "",
    "unhappy": "unhappy",
    "没有生气，只是不满": "不满",
    # nothing
    "": "",
    "   \n ": "",
    "...": "",
    "We cannot recognize his emotional state": "",
    "We cannot tell what he feels: the picture is dark.": "",
    "The camera moves slowly along the long corridor of the house": "",
    # modifiers
    "happy (very)": "happy",
    "a mixture of joy and fear": "joy, fear",
    "positive emotions": "positive",
    "a little bit sad": "sad",
    "self-confident, let-down": "self-confident, let-down",
    "happy, Happy, HAPPY": "happy",
    "afraid of dogs": "afraid",
}


@pytest.mark.parametrize(("text", "words"), CASES.items())
def test_a_text_names_these_words(text: str, words: str) -> None:
    assert emotion_words(text) == [word for word in words.split(", ") if word]


@given(st.text())
def test_any_text_gives_distinct_words_in_lower_case(text: str) -> None:
    words = emotion_words(text)
    assert len(set(words)) == len(words)
    assert all(word == word.strip() and word and word == word.lower() for word in words)


@given(st.lists(st.sampled_from(sorted(POSITIVE | NEGATIVE | NEUTRAL)), unique=True))
def test_a_list_of_plain_words_is_read_back_whole(words: list[str]) -> None:
    assert emotion_words(f"[{', '.join(words)}]") == words
    assert emotion_words("，".join(words)) == words


@given(st.sampled_from(sorted(POSITIVE | NEGATIVE)))
def test_the_target_of_affectgpts_training_is_read_back(word: str) -> None:
    assert emotion_words(f"The character's emotional state is {word}.") == [word]


def test_a_label_of_the_task_is_kept_unchanged() -> None:
    assert emotion_words("very angry, no emotion") == ["angry"]
    assert emotion_words("Very angry, no emotion", ["very angry", "no emotion"]) == [
        "very angry",
        "no emotion",
    ]


@pytest.mark.parametrize(
    ("words", "labels", "label"),
    [
        (["calm", "joy", "rage"], ["rage", "joy"], "joy"),
        (["calm"], ["rage", "joy"], None),
        ([], ["rage"], None),
        (["angry"], ["very angry", "sad"], "very angry"),
        (["angry"], ["very angry", "angry"], "angry"),
        (["anger"], ["Anger"], "Anger"),
        (["不高兴"], ["高兴"], None),
    ],
)
def test_the_first_word_that_is_a_label_is_the_answer(words, labels, label) -> None:
    assert first_label(words, labels) == label


# with_open_sets


LABELS = {"moods": ["sad", "happy"], "MOSI": ["negative", "positive"], "choice": ["a", "b"]}


def predictions() -> Predictions:
    rows = pd.DataFrame(
        [
            ("moods", "1", "sad", None, "She was happy and sad."),
            ("choice", "1", "a", "a", None),
            ("choice", "1", "a", "b", None),
            ("moods", "2", "sad", None, "It was news."),
            ("MOSI", "1", "positive", None, "He feels angry."),
            ("MOSI", "2", "positive", None, ""),
        ],
        columns=["task", "sample", "label", "candidate", "text"],
        index=[4, 9, 2, 3, 7, 1],
    )
    return Predictions(Cell("base", "b"), LABELS, rows.assign(loglik=-1.0))


def test_texts_get_open_sets_and_answers_and_other_rows_stay() -> None:
    given = predictions()
    read = with_open_sets(given)
    assert (read.cell, read.labels) == (given.cell, given.labels)
    found = read.rows
    pd.testing.assert_frame_equal(found[list(given.rows.columns)], given.rows)
    spoken = found[found["text"].notna()]
    assert spoken["openset"].tolist() == [["happy", "sad"], ["news"], ["angry"], []]
    assert spoken["answer"].tolist() == ["happy", "", "negative", ""]
    assert spoken["valence"].tolist() == ["", "", "negative", ""]
    assert found.loc[found["text"].isna(), ["openset", "valence", "answer"]].isna().all(axis=None)


def test_open_sets_survive_parquet(tmp_path) -> None:
    file = tmp_path / "openset.parquet"
    written = with_open_sets(predictions())
    written.write(file)
    back = Predictions.read(file, "openset", "valence", "answer")
    found = [list(words) for words in back.rows["openset"].dropna()]
    assert found == [["happy", "sad"], ["news"], ["angry"], []]
    assert (back.cell, back.labels) == (written.cell, written.labels)


def test_extracted_emotions_replace_the_rules() -> None:
    extracted = pd.DataFrame(
        {
            "task": ["MOSI", "MOSI", "moods", "moods"],
            "sample": ["2", "1", "2", "1"],
            "emotions": ["", "[furious]", "[Sad, at ease]", "Output: ['joy']"],
            "valence": ["", "Positive.", "", ""],
        }
    )
    found = with_open_sets(predictions(), extracted).rows
    spoken = found[found["text"].notna()]
    assert spoken["openset"].tolist() == [["joy"], ["sad", "at ease"], ["furious"], []]
    assert spoken["answer"].tolist() == ["", "sad", "positive", ""]
    assert spoken["valence"].tolist() == ["", "", "Positive.", ""]
    with refused("prediction.not-extracted", task="moods", sample="1", rows=1):
        with_open_sets(predictions(), extracted[:3])


@given(st.lists(st.text("ab ,'\"[]", max_size=6), max_size=4))
def test_a_models_list_is_read_as_mer_unibench_reads_it(words: list[str]) -> None:
    reply = f"[{', '.join(words)}]"
    if "[" not in reply[1:]:
        assert parse_reply(reply) == mer_unibench.parse_open_set(reply)


def test_a_single_bracket_and_no_list_are_accepted() -> None:
    assert parse_reply("[") == parse_reply("") == parse_reply("[]") == []
    assert parse_reply("happy, Sad") == ["happy", "sad"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("not happy or sad", []),
        ("The character is not happy or sad.", []),
        ("He feels neither happy nor sad but angry.", ["angry"]),
        ("She is not angry, sad or happy.", []),
        ("He is not neutral, nor happy.", []),
        ("She is not angry, happy", ["happy"]),
        ("He is happy or sad.", ["happy", "sad"]),
        ("not at ease", ["not at ease"]),
    ],
)
def test_a_negated_label_is_not_an_answer(text: str, expected: list[str]) -> None:
    labels = ["happy", "sad", "angry", "neutral", "not at ease"]
    assert emotion_words(text, labels) == expected


def test_the_continuation_of_an_opening_is_not_an_answer() -> None:
    given = predictions()
    opening = given.rows[given.rows["text"].notna()].head(1).assign(task="general", label="")
    rows = pd.concat([given.rows, opening], ignore_index=True)
    found = with_open_sets(replace(given, rows=rows, labels=LABELS | {"general": []})).rows
    general = found.loc[found["task"] == "general", ["openset", "valence", "answer"]]
    assert general.isna().all(axis=None)
    rest = found[found["task"] != "general"]
    pd.testing.assert_frame_equal(rest, with_open_sets(given).rows.reset_index(drop=True))
