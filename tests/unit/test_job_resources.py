"""What jobs ask of their machine: by the size of the model, and more with every attempt."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from affectlocus.config.experiment import Parameters
from affectlocus.orchestration.artifacts import EXTRACTOR
from affectlocus.orchestration.dag import Dag
from affectlocus.orchestration.job_resources import Needs

CONFIG = """
corpus: {benchmark_samples: 50}
bases:
  large: {hub: owner/Model-7B, revision: main}
  own: {pretrain: {architecture: llama}}
tune: {data: [words], rank: 16, steps: 100, batch_size: 8, max_length: 256}
pairs:
  felt: {base: large, tuning: {data: [words], steps: 100, batch_size: 8}}
  small: {base: own, tuning: {data: [words], steps: 100, batch_size: 8}}
tasks:
  words: {corpus: true, columns: {label: l}, labels: [joy, fear]}
matrix: {pairs: [felt], load: [q, all], tune: [q, all], ablate: [q], modes: [zero]}
"""
QWEN_7B = {
    "model_type": "qwen2",
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "vocab_size": 152064,
    "dtype": "bfloat16",
}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An experiment's folder without results."""
    monkeypatch.chdir(tmp_path)
    # The mini task's name is free here.
    monkeypatch.setattr("affectlocus.config.corpus.CORPUS_TASKS", ("words",))


def needs(cards: int | None = None, **changes: Any) -> Needs:
    config = yaml.safe_load(CONFIG) | changes
    return Needs(Dag(Parameters.model_validate(config)), lambda: cards)


def named(name: str) -> SimpleNamespace:
    tuned = f"{name}.seed0"
    return SimpleNamespace(name=tuned, tuned=tuned, cell=f"{name}/tuned/seed0", base=name)


FELT, SMALL = named("felt"), named("small")


@pytest.mark.parametrize("step", ["tune", "evaluate", "deltas"])
def test_a_larger_model_asks_for_more_memory_and_time(step: Any) -> None:
    asked = needs()
    for ask in (asked.memory(step), asked.minutes(step)):
        assert ask(FELT, 1) > ask(SMALL, 1)


@pytest.mark.parametrize("step", ["tune", "evaluate", "deltas", "activations"])
def test_every_retry_asks_for_more(step: Any) -> None:
    asked = needs()
    for ask in (asked.memory(step), asked.minutes(step)):
        first, second, third = (ask(FELT, attempt) for attempt in (1, 2, 3))
        assert first < second < third
        assert second == pytest.approx(2 * first, rel=0.01)


def test_on_a_cluster_large_models_ask_for_the_cards_that_hold_them_and_small_ones_for_none() -> (
    None
):
    asked = needs(plan={"card_gb": 80})
    assert asked.gpus("tune")(FELT, 1) == 1
    assert asked.gpus("tune")(SMALL, 1) == 0
    tight = needs(plan={"card_gb": 12})
    assert tight.gpus("evaluate")(FELT, 1) == 2
    assert tight.gpus("evaluate")(FELT, 3) > tight.gpus("evaluate")(FELT, 1)


def test_on_one_host_nobody_asks_for_more_cards_than_there_are() -> None:
    plan = {"card_gb": 1}
    assert needs(0).gpus("tune")(FELT, 1) == 0
    assert needs(2, plan=plan).gpus("tune")(FELT, 3) == 2
    # Where there is a card, a small model uses it too.
    assert needs(2).gpus("tune")(SMALL, 1) == 1
    assert [needs(count).any_card() for count in (0, 3, None)] == [0, 1, 0]


def test_a_card_makes_it_faster_and_takes_the_weight_off_main_memory() -> None:
    without, with_one = needs(0), needs(1)
    assert with_one.minutes("tune")(FELT, 1) < without.minutes("tune")(FELT, 1) / 10
    assert with_one.memory("tune")(FELT, 1) < without.memory("tune")(FELT, 1) / 2


def test_full_tuning_needs_more_cards_than_lora() -> None:
    recipe = {"data": ["words"], "steps": 100, "batch_size": 8}
    pairs = {
        name: {"base": "large", "tuning": {**recipe, "method": name}} for name in ("lora", "sft")
    }
    asked = needs(pairs=pairs, matrix={"pairs": ["lora"]})
    assert asked.gpus("tune")(named("sft"), 1) > asked.gpus("tune")(named("lora"), 1)


def test_the_size_is_read_off_the_configuration_once_the_model_is_here(tmp_path: Path) -> None:
    assert needs().sizes.of("large").origin == "the name Model-7B"
    folder = tmp_path / "hub"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(QWEN_7B))
    files = [{"file": "model.safetensors", "bytes": 15_231_233_024}, {"file": "a.json", "bytes": 9}]
    manifest = tmp_path / "results/checkpoints/large.json"
    manifest.parent.mkdir(parents=True)
    manifest.write_text(json.dumps({"folder": str(folder), "files": files}))
    size = needs().sizes.of("large")
    assert (size.parameters, size.bytes) == (7_615_616_512, 15_231_233_024)
    # In float32 the same model takes twice the room.
    files[0]["bytes"] *= 2
    manifest.write_text(json.dumps({"folder": str(folder), "files": files}))
    assert needs().memory("evaluate")(FELT, 1) > 90_000


def test_a_size_may_be_stated_and_a_model_that_nobody_knows_counts_as_large() -> None:
    bases = {"large": {"hub": "owner/model", "revision": "main"}, "own": {"folder": "nowhere"}}
    stated = needs(bases=bases, plan={"sizes": {"large": {"parameters": 32.8e9}}})
    assert stated.sizes.of("large").bytes == pytest.approx(65.6e9)
    assert stated.sizes.of("own").parameters == 8_000_000_000
    assert "plan.sizes" in stated.sizes.of("own").origin


def test_a_damaged_manifest_or_configuration_is_as_good_as_none(tmp_path: Path) -> None:
    manifest = tmp_path / "results/checkpoints/large.json"
    manifest.parent.mkdir(parents=True)
    for text in ("", "[]", '{"folder": "x"}', '{"folder": "x", "files": [1]}'):
        manifest.write_text(text)
        assert needs().sizes.of("large").origin == "the name Model-7B"


def test_samples_are_counted_stated_or_assumed(tmp_path: Path) -> None:
    assert needs().samples("words") == 50
    brought = {"files": {"train": "a.csv", "test": "b.csv"}, "columns": {"label": "l"}}
    tasks = {"words": {**brought, "labels": ["joy", "fear"]}}
    assert needs(tasks=tasks).samples("words") == 1000
    assert needs(tasks=tasks, plan={"samples": {"words": 411}}).samples("words") == 411
    report = tmp_path / "results/data/words.json"
    report.parent.mkdir(parents=True)
    report.write_text(json.dumps({"splits": {"test": {"kept": 77}}}))
    assert needs(tasks=tasks).samples("words") == 77


def test_a_job_of_many_cells_asks_for_their_time_together_and_loads_once() -> None:
    asked = needs(0, corpus={"benchmark_samples": 5000})
    cells = list(asked.jobs.cells.values())[2:6]
    alone = asked.seconds(asked.work("evaluate", group=cells[:1]))
    together = asked.seconds(asked.work("evaluate", group=cells))
    assert 3.9 * alone < together < 4 * alone


def test_free_text_takes_longer_than_choosing_among_labels() -> None:
    corpus = {"benchmark_samples": 1000}
    written = {"readout": "generation", "generation": {"max_new_tokens": 1200}}
    spoken, chosen = needs(corpus=corpus, evaluate=written), needs(corpus=corpus)
    assert spoken.minutes("evaluate")(FELT, 1) > chosen.minutes("evaluate")(FELT, 1)


def test_the_model_that_reads_free_text_is_sized_too() -> None:
    asked = needs(
        evaluate={"readout": "generation"},
        extraction={"model": {"hub": "owner/Reader-14B", "revision": "main"}},
    )
    assert asked.sizes.of(EXTRACTOR).parameters == 14e9
    assert asked.memory("extract")(FELT, 1) > asked.memory("activations")(FELT, 1)


def test_large_models_get_threads_and_small_ones_one_which_their_results_depend_on() -> None:
    assert needs().threads("tune")(FELT, 1) == 4
    assert needs().threads("tune")(SMALL, 1) == 1
