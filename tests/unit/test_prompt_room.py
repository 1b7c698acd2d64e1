"""A template that would fill a prompt by itself is refused before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from affectlocus.config.experiment import Parameters
from affectlocus.core.errors import InputError
from affectlocus.lm.chat_templates import AFFECTGPT
from affectlocus.orchestration.prompt_room import _AROUND, check_room, literal

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
    check_room(Parameters.model_validate(config), folder, "mine.yaml")


def refusal(folder: Path, prompt: str, **sections: Any) -> str:
    with pytest.raises(InputError) as caught:
        checked(folder, prompt, **sections)
    return str(caught.value)


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
    said = refusal(folder, "{text}" + "x" * 40, evaluate={"max_length": 40})
    assert said == (
        "mine.yaml: tasks.moods.prompt: what stands around each text takes 40 tokens of base "
        "small, and evaluate.max_length is 40, so that no text would be read; shorten it, or raise "
        "the limit"
    )
    checked(folder, "{text}" + "x" * 39, evaluate={"max_length": 40})


def test_a_recipe_s_limit_is_its_own(folder: Path) -> None:
    recipe = {"data": ["moods"], "max_length": 20}
    prompt = "{text}" + "x" * 25
    pairs = {"pair": {"base": "small", "tuning": recipe}}
    assert "pairs.pair.tuning.max_length is 20" in refusal(folder, prompt, pairs=pairs)
    matrix = {"pairs": ["pair"], "tune": ["gate"]}
    assert "and tune.max_length is 20" in refusal(folder, prompt, matrix=matrix, tune=recipe)
    checked(folder, prompt, tune=recipe)  # of which no cell makes use


def test_affectgpt_s_template_counts_where_it_is_asked_for(folder: Path) -> None:
    free = {"readout": "generation", "generation": {"template": "affectgpt", "max_new_tokens": 8}}
    said = refusal(folder, "{text}", evaluate={**free, "max_length": 100})
    assert said.startswith("mine.yaml: evaluate.generation.question: what stands around each text")
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
    assert "takes 62 tokens" in refusal(tmp_path, "{text}", evaluate={**free, "max_length": 60})


@pytest.fixture
def chatty() -> str:
    return "y" * 60 + "{% for turn in messages %}{{ turn.content }}{% endfor %}zz"


def test_text_that_leaves_no_positions_for_a_prompt_is_refused(folder: Path) -> None:
    free: dict[str, Any] = {"readout": "generation", "generation": {"max_new_tokens": 128}}
    said = refusal(folder, "{text}", evaluate=free)
    assert "max_new_tokens: 128 leaves no room for a prompt, as base small has 128 pos" in said
    free["generation"]["max_new_tokens"] = 100
    said = refusal(folder, "{text}" + "x" * 28, evaluate=free)
    assert "with evaluate.generation.max_new_tokens 100 there is room for 28" in said


def test_of_a_base_that_is_not_here_yet_words_are_counted(tmp_path: Path) -> None:
    bases = {"small": {"hub": "owner/name", "revision": "main"}}
    prompt = "{text}" + " word" * 40
    said = refusal(tmp_path, prompt, evaluate={"max_length": 40}, bases=bases)
    assert "takes 40 or more tokens of base small" in said
    checked(tmp_path, prompt, evaluate={"max_length": 41}, bases=bases)
