"""Checks that a prompt's template leaves room for the text of a sample."""

from __future__ import annotations

import string
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from affectlocus.config.experiment import Parameters
from affectlocus.config.sources import Base
from affectlocus.config.tuning import Recipe
from affectlocus.core.errors import InputError
from affectlocus.core.files import read_json


@dataclass(frozen=True)
class Template:
    """The template of a task's prompts, and the limit of tokens for template and text together.

    Attributes:
        key: its key in params.yaml.
        text: the template without the text of a sample.
        kind: `task`; or `affectgpt` or `chat`, which add a template of their own around it.
        limit: number of tokens. The model needs positions for `new` generated tokens in addition.
        limited_by: the key of the limit.
    """

    key: str
    text: str
    kind: str
    limit: int
    limited_by: str
    new: int = 0


def templates(parameters: Parameters) -> Iterator[tuple[str, Template]]:
    """(base, template) of every task that a base answers or is tuned on."""
    limits = parameters.evaluate
    for name in parameters.benchmarks:
        key, bare = f"tasks.{name}.prompt", literal(parameters.tasks[name].prompt)
        free = limits.of(name) == "generation"
        kind = limits.generation.template if free else "task"
        if kind == "affectgpt":
            key, bare = "evaluate.generation.question", limits.generation.question
        new = limits.generation.max_new_tokens if free else 0
        for base in sorted({parameters.pairs[pair].base for pair in parameters.pairs}):
            limit = limits.max_length
            yield base, Template(key, bare, kind, limit, "evaluate.max_length", new)
    recipes: list[tuple[str, str, Recipe]] = [
        (pair.base, f"pairs.{name}.tuning", pair.tuning)
        for name, pair in parameters.pairs.items()
        if pair.tuning is not None
    ]
    if parameters.tune is not None and parameters.matrix.tune:
        bases = {parameters.pairs[name].base for name in parameters.matrix.pairs}
        recipes += [(base, "tune", parameters.tune) for base in sorted(bases)]
    for base, key, recipe in recipes:
        for name in recipe.data:
            bare = literal(parameters.tasks[name].prompt)
            limit, by = recipe.max_length, f"{key}.max_length"
            yield base, Template(f"tasks.{name}.prompt", bare, "task", limit, by)


def literal(prompt: str) -> str:
    """A prompt with empty text for each of its columns."""
    return "".join(text for text, *_ in string.Formatter().parse(prompt))


def check_prompts(parameters: Parameters, root: Path, source: str = "params.yaml") -> None:
    """Refuses a template that takes all tokens of a prompt, so that no text of a sample is read.

    Tokens are counted with the tokenizer of a base on disk. For other bases each word counts as one
    token, which is a lower bound.

    Args:
        root: the experiment's `data_root`.

    Raises:
        InputError: which template, how many tokens it takes, and which key limits them.
    """
    for name, one in templates(parameters):
        base = parameters.bases[name]
        limit = one.limit
        if one.new and (positions := _positions(base, root)):
            limit = min(limit, positions - one.new)
            if limit <= 0:
                raise InputError(
                    "prompt.no-positions",
                    f"{source}: evaluate.generation.max_new_tokens: {one.new} leaves no room for a "
                    f"prompt, as base {name} has {positions} positions for both; lower it",
                    file=source,
                    key="evaluate.generation.max_new_tokens",
                    base=name,
                    found=one.new,
                    expected=positions,
                )
        tokens = _tokens(one, base, root, limit)
        if tokens >= limit:
            counted = tokens if base.folder is not None else f"{tokens} or more"
            by = f"{one.limited_by} is {one.limit}"
            if limit < one.limit:
                by = f"with evaluate.generation.max_new_tokens {one.new} there is room for {limit}"
            raise InputError(
                "prompt.no-room-for-text",
                f"{source}: {one.key}: the prompt without the text takes {counted} tokens of base "
                f"{name}, and {by}, so that no text would be read; shorten it, or raise the limit",
                file=source,
                key=one.key,
                base=name,
                found=tokens,
                expected=limit,
                limited_by=one.limited_by,
            )


def label_lines(parameters: Parameters, root: Path) -> list[str]:
    """A line for each base on disk and benchmark with candidates: the tokens of each label.

    Reads tokenizer.json alone, as torch takes seconds to import; a base without one has no lines.

    Args:
        root: the experiment's `data_root`.
    """
    lines = []
    for name, base in parameters.bases.items():
        file = root / (base.folder or "") / "tokenizer.json"
        asked = [task for task in parameters.benchmarks if task not in parameters.spoken]
        if base.folder is None or not asked or not file.is_file():
            continue
        counts = _label_tokens(file)
        for task in asked:
            words = list(parameters.tasks[task].words)
            tokens = {word: counts(word) for word in words[:_MOST_LABELS]}
            more = f", and {len(words) - len(tokens)} more" if len(words) > len(tokens) else ""
            listed = ", ".join(f"{word} {count}" for word, count in tokens.items())
            lines.append(f"{task}: tokens per label with base {name}: {listed}{more}")
    return lines


_MOST_LABELS = 40


def _label_tokens(file: Path) -> Callable[[str], int]:
    """A function that counts a label's tokens after a prompt, as `Prompter.answer` encodes it."""
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # tokenizers raises no class of its own
        raise InputError(
            "tokenizer.unreadable",
            f"{file}: not a tokenizer ({error}); copy it from the base's source again",
            file=file,
        ) from None

    def length(text: str) -> int:
        return len(tokenizer.encode(text, add_special_tokens=False).ids)

    lead = length("a:")
    return lambda word: length(f"a: {word}") - lead


def _positions(base: Base, root: Path) -> int:
    """The number of positions of the model; 0 if it is unknown."""
    if base.folder is None:
        return 0
    config = read_json(root / base.folder / "config.json")
    found = config.get("max_position_embeddings") if isinstance(config, dict) else None
    return found if isinstance(found, int) else 0


def _tokens(one: Template, base: Base, root: Path, limit: int) -> int:
    """The number of tokens of a template; an upper bound if that is below the limit."""
    if base.folder is None:
        return len(one.text.split())
    # A token has at least one byte, except a start token and a mark of the first word.
    around = "" if one.kind == "task" else _AROUND
    most = len((one.text + around).encode()) + 2
    if one.kind != "chat" and most < limit:
        return most
    # These modules import torch, which takes seconds. A template of usual length does not need it.
    from affectlocus.lm.chat_templates import AFFECTGPT, chat, encode
    from affectlocus.lm.prompts import Prompter

    prompter = Prompter(root / base.folder)
    text = one.text
    if one.kind == "affectgpt":
        text = AFFECTGPT.format(text="", question=text)
    elif one.kind == "chat":
        text = chat(prompter.tokenizer, text)
    return len(encode(prompter.tokenizer, text))


_AROUND = " " * 200  # longer than AffectGPT's own prompt
