"""Prompt templates for free text: the model's chat template, and that of AffectGPT."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from transformers import PreTrainedTokenizerBase

from affectlocus.config.evaluation import Generation
from affectlocus.core.errors import InputError
from affectlocus.lm import soft_tokens

# The text-only form of AffectGPT's training prompt (zeroQiaoba/AffectGPT); its targets end in ###.
AFFECTGPT = (
    "###Human: The subtitle of this video is: <Subtitle>{text}</Subtitle>. Now, please answer my "
    "question based on all the provided information. {question} ###Assistant: "
)
# What comes first with media: placeholder → its sentence, in the order of the released prompts.
_OF_MEDIA = {
    "multi": "The audio and video merged info is: <Multi><multi></Multi>. ",
    "audio": "The audio content is as follows: <Audio><audio></Audio>. ",
    "face": "Meanwhile, we uniformly sample raw frames from the video and extract faces from these "
    "frames: <Video><face></Video>. ",
    "frame": "Meanwhile, we uniformly sample raw frames from the video: <Video><frame></Video>. ",
}
_HUMAN, _FIRST = "###Human: ", "Meanwhile, w"
_AFFECTGPT_END = "###"


def column(template: str) -> str:
    """The column of a prepared task that a template wraps: AffectGPT's template takes the text."""
    return "text" if template == "affectgpt" else "prompt"


def affectgpt_prompt(placeholders: Collection[str] = ()) -> str:
    """AffectGPT's prompt with these placeholders, and {text} and {question} to be filled in.

    Raises:
        InputError: a placeholder that the prompt has no place for.
    """
    for name in placeholders:
        if name not in _OF_MEDIA:
            raise InputError(
                "prompt.no-place-for-medium",
                f"AffectGPT's prompt has no place for <{name}>, only for "
                f"{', '.join(f'<{one}>' for one in _OF_MEDIA)}; set generation.template to task, "
                "and write the placeholders into the task's prompt",
                key="generation.template",
                found=name,
                expected=list(_OF_MEDIA),
            )
    told = "".join(text for name, text in _OF_MEDIA.items() if name in placeholders)
    if told.startswith(_FIRST):  # the first sentence of all
        told = f"W{told.removeprefix(_FIRST)}"
    return _HUMAN + told + AFFECTGPT.removeprefix(_HUMAN)


def stops(settings: Generation) -> list[str]:
    """The stop texts: an answer ends before the first of them."""
    own = [_AFFECTGPT_END] if settings.template == "affectgpt" else []
    return [*settings.stop, *own]


def chat(tokenizer: PreTrainedTokenizerBase, text: str) -> str:
    """A user turn and the start of the reply, in the tokenizer's chat template.

    Raises:
        InputError: the tokenizer has no chat template.
    """
    if not tokenizer.chat_template:
        raise InputError(
            "tokenizer.no-chat-template",
            f"{tokenizer.name_or_path}: the tokenizer has no chat template; set "
            "generation.template to task or affectgpt, or use a chat model",
            file=tokenizer.name_or_path,
            key="generation.template",
        )
    turn = [{"role": "user", "content": text}]
    return str(tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True))


def template_ids(
    tokenizer: PreTrainedTokenizerBase,
    texts: list[str],
    settings: Generation,
    max_length: int,
    tokens: Mapping[str, int] | None = None,
) -> list[list[int]]:
    """Token ids of each text in the template `affectgpt` or `chat`, at most `max_length`.

    A text that is too long is cut at its start; the template is kept whole. A start token, if the
    tokenizer has one, comes first, once.

    Args:
        tokens: placeholder → the number of its soft tokens, which have negative ids
            (`soft_tokens`). They are never cut.

    Raises:
        InputError: no chat template, or a template that is longer than `max_length` without a text.
    """
    template: Callable[[str], str]
    if settings.template == "chat":

        def template(text: str) -> str:
            return chat(tokenizer, text)
    else:
        around = affectgpt_prompt(tokens or {})

        def template(text: str) -> str:
            return around.format(text=text, question=settings.question)

    return [truncated_ids(tokenizer, template, text, max_length, tokens) for text in texts]


def truncated_ids(
    tokenizer: PreTrainedTokenizerBase,
    template: Callable[[str], str],
    text: str,
    limit: int,
    tokens: Mapping[str, int] | None = None,
) -> list[int]:
    """Token ids of a text in a template; the text is cut at its start to fit `limit` tokens.

    Raises:
        InputError: the template alone is longer, or the tokenizer returns no tokens.
    """
    while True:
        ids = encode(tokenizer, template(text), tokens)
        if not ids:
            # transformers creates such a tokenizer for a folder without a tokenizer's files.
            raise InputError(
                "tokenizer.no-tokens",
                f"{tokenizer.name_or_path}: the tokenizer returns no tokens; expected the "
                "tokenizer's files in the model's folder",
                file=tokenizer.name_or_path,
            )
        if len(ids) <= limit:
            return ids
        shorter = soft_tokens.cut(text, 1, tokens or {})
        if shorter == text:
            raise InputError(
                "prompt.template-too-long",
                f"the template alone has {len(ids)} tokens, but a prompt may have {limit}; raise "
                "max_length, or lower max_new_tokens if the model has no more positions",
                found=len(ids),
                expected=limit,
                key="max_length",
            )
        # Estimated by the mean number of characters per token; takes a few rounds.
        surplus = (len(ids) - limit) * len(text) // len(ids)
        text = soft_tokens.cut(text, max(1, surplus), tokens or {})


def encode(
    tokenizer: PreTrainedTokenizerBase, text: str, tokens: Mapping[str, int] | None = None
) -> list[int]:
    """Token ids of a text, after the start token if the tokenizer has one.

    Args:
        tokens: placeholder → the number of its soft tokens.
    """
    if tokens:
        ids = soft_tokens.encoded(tokenizer, text, tokens)
    else:
        ids = list(tokenizer(text, add_special_tokens=False)["input_ids"])
    start = tokenizer.bos_token_id
    return ids if start is None or ids[:1] == [start] else [start, *ids]
