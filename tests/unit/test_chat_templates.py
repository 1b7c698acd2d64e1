"""Prompts in the forms that models were taught, as token ids."""

from __future__ import annotations

import pytest
from refusal import refused

from affectlocus.config.evaluation import Generation
from affectlocus.lm.chat_templates import affectgpt_prompt, column, stops, template_ids

AFFECTGPT = Generation(template="affectgpt")
CHAT = Generation(template="chat")
TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}</{{ m.role }}>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def test_affectgpts_prompt_is_the_text_only_form_of_its_training(tokenizer) -> None:
    [ids] = template_ids(tokenizer(False), ["I am {fine}."], AFFECTGPT, 512)
    assert tokenizer(False).decode(ids) == (
        "###Human: The subtitle of this video is: <Subtitle>I am {fine}.</Subtitle>. Now, please "
        "answer my question based on all the provided information. Please recognize all possible "
        "emotional states of the character. ###Assistant: "
    )
    assert column("affectgpt") == "text"
    assert [column(template) for template in ("task", "chat")] == ["prompt", "prompt"]


@pytest.mark.parametrize(
    ("placeholders", "start"),
    [
        ((), "###Human: The subtitle of"),
        (
            ("audio",),
            "###Human: The audio content is as follows: <Audio><audio></Audio>. The subtitle",
        ),
        (("face",), "###Human: We uniformly sample raw frames from the video and extract faces"),
        (("frame",), "###Human: We uniformly sample raw frames from the video: <Video><frame>"),
        (
            ("face", "audio", "multi"),
            "###Human: The audio and video merged info is: <Multi><multi></Multi>. The audio "
            "content is as follows: <Audio><audio></Audio>. Meanwhile, we uniformly sample raw "
            "frames from the video and extract faces from these frames: <Video><face></Video>. The "
            "subtitle",
        ),
    ],
    ids=str,
)
def test_affectgpt_s_prompt_names_the_media_that_there_are(placeholders, start) -> None:
    text = affectgpt_prompt(placeholders)
    assert text.startswith(start)
    assert text.endswith("{question} ###Assistant: ")
    assert "Meanwhile, W" not in text


def test_affectgpt_s_prompt_has_no_place_for_other_media() -> None:
    with refused("prompt.no-place-for-medium", found="voice"):
        affectgpt_prompt(["voice"])


def test_an_affectgpt_answer_ends_before_its_mark() -> None:
    assert stops(AFFECTGPT) == ["###"]
    assert stops(Generation(template="affectgpt", stop=["\n"])) == ["\n", "###"]
    assert stops(CHAT) == []


def test_another_question_can_be_asked(tokenizer) -> None:
    asked = Generation(template="affectgpt", question="What is felt?")
    [ids] = template_ids(tokenizer(False), ["Hm."], asked, 512)
    assert "information. What is felt? ###" in tokenizer(False).decode(ids)


@pytest.mark.parametrize("begin", [False, True])
def test_the_chat_template_wraps_the_prompt_with_one_start_token(tokenizer, begin) -> None:
    words = tokenizer(begin)
    for template in (TEMPLATE, ("{{ bos_token }}" if begin else "") + TEMPLATE):
        words.chat_template = template
        [ids] = template_ids(words, ["Hello."], CHAT, 512)
        assert words.decode(ids, skip_special_tokens=True) == "<user>Hello.</user><assistant>"
        assert ids.count(words.bos_token_id) == int(begin)


def test_a_tokenizer_without_chat_template_is_refused(tokenizer) -> None:
    with refused("tokenizer.no-chat-template", key="generation.template"):
        template_ids(tokenizer(False), ["Hello."], CHAT, 512)


@pytest.mark.parametrize("settings", [AFFECTGPT, CHAT], ids=["affectgpt", "chat"])
@pytest.mark.parametrize("limit", [260, 300])
def test_a_long_text_loses_its_start_and_the_template_stays(tokenizer, settings, limit) -> None:
    words = tokenizer(False)
    words.chat_template = TEMPLATE
    text = " ".join(f"Turn {number} 🙂." for number in range(80))
    [ids] = template_ids(words, [text], settings, limit)
    told = words.decode(ids)
    assert limit - 40 < len(ids) <= limit
    assert told.startswith("###Human: The subtitle" if settings is AFFECTGPT else "<user>")
    assert told.endswith("###Assistant: " if settings is AFFECTGPT else "</user><assistant>")
    assert "Turn 79 🙂." in told
    assert "Turn 1 " not in told


def test_a_limit_below_the_template_is_refused(tokenizer) -> None:
    with refused("prompt.template-too-long", expected=50, key="max_length"):
        template_ids(tokenizer(False), ["Hello."], AFFECTGPT, 50)
