"""A template that would fill a prompt by itself is refused before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from refusal import refused

from affectlocus.config.experiment import Parameters
from affectlocus.lm.chat_templates import AFFECTGPT
from affectlocus.lm.prompts import Prompter
from affectlocus.orchestration.prompt_limit import _AROUND, check_prompts, label_lines, literal

PARAMETERS = """
bases: {small: {folder: base}}
pairs: {pair: {base: small, tuned: tuned}}
tasks:
  moods:
    files: {train: train.csv, test: test.csv}
    columns: {label: mood}
    labels: [joy, fear]
matrix: {pairs: [pair], load: [gate], tune: [], ablate: []}
"""


def checked(folder: Path, prompt: str, **sections: Any) -> None:
    config = yaml.safe_load(PARAMETERS) | sections
    config["tasks"]["moods"]["prompt"] = prompt
    check_prompts(Parameters.model_validate(config), folder, "mine.yaml")


FULL = "prompt.no-room-for-text"


@pytest.fixture
def folder(checkpoint, tmp_path: Path) -> Path:
    """With a base of 128 positions, whose tokenizer makes nearly every byte a token."""
    (tmp_path / "base").symlink_to(checkpoint())
    return tmp_path


def test_a_template_with_room_for_a_text_passes(folder: Path) -> None:
    checked(folder, "{text} " + "x" * 30, evaluate={"max_length": 40})
    # Bytes are many, tokens few: "Anna was happy." is one that the tokenizer was trained on.
    checked(folder, "{text}" + " was happy" * 5, evaluate={"max_length": 40})


def test_a_template_as_long_as_a_prompt_is_refused(folder: Path) -> None:
    limit = {"expected": 40, "limited_by": "evaluate.max_length"}
    with refused(FULL, file="mine.yaml", key="tasks.moods.prompt", base="small", found=40, **limit):
        checked(folder, "{text}" + "x" * 40, evaluate={"max_length": 40})
    checked(folder, "{text}" + "x" * 39, evaluate={"max_length": 40})


def test_a_recipe_s_limit_is_its_own(folder: Path) -> None:
    recipe = {"data": ["moods"], "max_length": 20}
    prompt = "{text}" + "x" * 25
    pairs = {"pair": {"base": "small", "tuning": recipe}}
    with refused(FULL, expected=20, limited_by="pairs.pair.tuning.max_length"):
        checked(folder, prompt, pairs=pairs)
    matrix = {"pairs": ["pair"], "tune": ["gate"]}
    with refused(FULL, expected=20, limited_by="tune.max_length"):
        checked(folder, prompt, matrix=matrix, tune=recipe)
    checked(folder, prompt, tune=recipe)  # of which no cell makes use


def test_affectgpt_s_template_counts_where_it_is_asked_for(folder: Path) -> None:
    free = {"readout": "generation", "generation": {"template": "affectgpt", "max_new_tokens": 8}}
    with refused(FULL, key="evaluate.generation.question"):
        checked(folder, "{text}", evaluate={**free, "max_length": 100})
    assert len(literal(AFFECTGPT)) < len(_AROUND)


def test_the_chat_template_counts_where_it_is_asked_for(
    checkpoint, tmp_path: Path, chatty: str
) -> None:
    base = tmp_path / "base"
    base.mkdir()
    for file in checkpoint().iterdir():
        (base / file.name).symlink_to(file)
    (base / "chat_template.jinja").write_text(chatty)
    free = {"readout": "generation", "generation": {"template": "chat", "max_new_tokens": 8}}
    checked(tmp_path, "{text}", evaluate={**free, "max_length": 100})
    with refused(FULL, found=62, expected=60):
        checked(tmp_path, "{text}", evaluate={**free, "max_length": 60})


@pytest.fixture
def chatty() -> str:
    return "y" * 60 + "{% for turn in messages %}{{ turn.content }}{% endfor %}zz"


def test_text_that_leaves_no_positions_for_a_prompt_is_refused(folder: Path) -> None:
    free: dict[str, Any] = {"readout": "generation", "generation": {"max_new_tokens": 128}}
    with refused("prompt.no-positions", base="small", found=128, expected=128):
        checked(folder, "{text}", evaluate=free)
    free["generation"]["max_new_tokens"] = 100
    with refused(FULL, found=28, expected=28) as caught:
        checked(folder, "{text}" + "x" * 28, evaluate=free)
    assert "with evaluate.generation.max_new_tokens 100 there is room for 28" in str(caught.value)


def test_of_a_base_that_is_not_here_yet_words_are_counted(tmp_path: Path) -> None:
    bases = {"small": {"hub": "owner/name", "revision": "main"}}
    prompt = "{text}" + " word" * 40
    with refused(FULL, base="small", found=40, expected=40) as caught:
        checked(tmp_path, prompt, evaluate={"max_length": 40}, bases=bases)
    assert "40 or more tokens" in str(caught.value)
    checked(tmp_path, prompt, evaluate={"max_length": 41}, bases=bases)


def test_the_tokens_of_each_label_are_those_that_a_cell_reads(folder: Path) -> None:
    loaded = Parameters.model_validate(yaml.safe_load(PARAMETERS))
    (line,) = label_lines(loaded, folder)
    answer = Prompter(folder / "base").answer
    counts = ", ".join(f"{word} {len(answer(word))}" for word in ("joy", "fear"))
    assert line == f"moods: tokens per label with base small: {counts}"


def test_a_base_without_a_fast_tokenizer_has_no_line(tmp_path: Path) -> None:
    loaded = Parameters.model_validate(yaml.safe_load(PARAMETERS))
    assert label_lines(loaded, tmp_path / "elsewhere") == []
