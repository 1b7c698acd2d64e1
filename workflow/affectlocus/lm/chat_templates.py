"""What a model reads before it writes: a sample's prompt in the form that the model was taught."""

from __future__ import annotations

from collections.abc import Callable

from transformers import PreTrainedTokenizerBase

from affectlocus.config.evaluation import Generation
from affectlocus.core.errors import InputError

# The text-only form of AffectGPT's training prompt (zeroQiaoba/AffectGPT); its targets end in ###.
AFFECTGPT = (
    "###Human: The subtitle of this video is: <Subtitle>{text}</Subtitle>. Now, please answer my "
    "question based on all the provided information. {question} ###Assistant: "
)
_AFFECTGPT_END = "###"


def column(template: str) -> str:
    """Which column of a prepared task a template is put around: AffectGPT's holds bare text."""
    return "text" if template == "affectgpt" else "prompt"


def stops(settings: Generation) -> list[str]:
    """The texts before which an answer ends."""
    own = [_AFFECTGPT_END] if settings.template == "affectgpt" else []
    return [*settings.stop, *own]


def chat(tokenizer: PreTrainedTokenizerBase, text: str) -> str:
    """A user's turn and the head of the reply, as the tokenizer's chat template writes them.

    Raises:
        InputError: the tokenizer has no chat template.
    """
    if not tokenizer.chat_template:
        raise InputError(
            f"{tokenizer.name_or_path}: the tokenizer has no chat template; set "
            "generation.template to task or affectgpt, or give a model that was taught to chat"
        )
    turn = [{"role": "user", "content": text}]
    return str(tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True))


def wrapped(
    tokenizer: PreTrainedTokenizerBase, texts: list[str], settings: Generation, max_length: int
) -> list[list[int]]:
    """Token ids of each text within the template `affectgpt` or `chat`, at most `max_length`.

    A text that is too long loses its start, never the template. A tokenizer with a start token
    gets it in front, once.

    Raises:
        InputError: no chat template, or one that alone is longer than `max_length`.
    """
    around: Callable[[str], str]
    if settings.template == "chat":

        def around(text: str) -> str:
            return chat(tokenizer, text)
    else:

        def around(text: str) -> str:
            return AFFECTGPT.format(text=text, question=settings.question)

    return [fitted(tokenizer, around, text, max_length) for text in texts]


def fitted(
    tokenizer: PreTrainedTokenizerBase, around: Callable[[str], str], text: str, limit: int
) -> list[int]:
    """Token ids of a text with something `around` it; beyond `limit` the text loses its start.

    Raises:
        InputError: what is around it is longer alone, or has no token.
    """
    while True:
        ids = encoded(tokenizer, around(text))
        if not ids:
            # What transformers makes of a folder without a tokenizer's files.
            raise InputError(
                f"{tokenizer.name_or_path}: its tokenizer makes no token of a text; expected the "
                "tokenizer's files beside the model's"
            )
        if len(ids) <= limit:
            return ids
        if not text:
            raise InputError(
                f"the template alone takes {len(ids)} tokens, and a prompt may have {limit}; raise "
                " max_length, or lower max_new_tokens if the model has no more positions"
            )
        # Characters per token, as in the whole: a few rounds, each with a shorter text.
        surplus = (len(ids) - limit) * len(text) // len(ids)
        text = text[max(1, surplus) :]


def encoded(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Token ids of a text, behind the start token where there is one."""
    ids = list(tokenizer(text, add_special_tokens=False)["input_ids"])
    start = tokenizer.bos_token_id
    return ids if start is None or ids[:1] == [start] else [start, *ids]
