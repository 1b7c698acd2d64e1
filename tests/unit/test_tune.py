"""Tuning a tiny base: what is touched, what is not, and how many parameters that is."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from refusal import refused
from safetensors.torch import load_file
from single import tune
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner

from affectlocus.checkpoints.adapters import Adapter
from affectlocus.checkpoints.checkpoint_manifests import manifest
from affectlocus.checkpoints.pairs import Pair
from affectlocus.cli import app
from affectlocus.config.tuning import Tuning
from affectlocus.core.checkpoint_files import snapshot_folder
from affectlocus.core.errors import InputError
from affectlocus.core.files import write_json
from affectlocus.core.stop_signals import Stopped
from affectlocus.evaluation.interventions import verify_folders
from affectlocus.lm.prompts import Prompter
from affectlocus.training.training_state import TrainingStates, states_folder
from affectlocus.training.tune import Tuner, TuningJob, training_examples

# (d_in, d_out) of the tiny models: hidden 32, intermediate 48, two of four heads for k and v.
SIDES = {
    "q": (32, 32),
    "k": (32, 16),
    "v": (32, 16),
    "o": (32, 32),
    "gate": (32, 48),
    "up": (32, 48),
    "down": (48, 32),
}
LAYERS = 2
LONGEST = 400  # seconds; what a crowded machine may take
SETS = ["gate", "q+k+v+o", "v+down", "all"]
WEIGHTS, ADAPTER = "model.safetensors", "adapter_model.safetensors"

FRAME = pd.DataFrame(
    [
        {
            "id": f"{split}-{number}",
            "split": split,
            "text": "",
            "prompt": f"Anna lost {number} coins. Anna was",
            "answer": ("sad", "happy", "angry")[number % 3],
        }
        for split, many in (("train", 9), ("validation", 3), ("test", 4))
        for number in range(many)
    ]
)


def recipe(modules: str = "all", method: str = "lora", **others: object) -> Tuning:
    settings: dict[str, object] = {"steps": 4, "batch_size": 3, "learning_rate": 0.02, "rank": 2}
    return Tuning.model_validate(
        {"data": ["task"], "modules": modules, "method": method, "alpha": 4, **settings, **others}
    )


def parts(modules: str) -> list[str]:
    return list(SIDES) if modules == "all" else modules.split("+")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def prompter(checkpoint) -> Prompter:
    return Prompter(checkpoint())


# Examples


def test_an_example_is_prompt_answer_and_end_and_learns_the_answer(prompter) -> None:
    examples = training_examples(prompter, [FRAME], 64, 0)
    told = {prompter.tokenizer.decode(example.ids) for example in examples}
    expected = FRAME[FRAME["split"] == "train"]
    assert len(examples) == len(expected) == len(told)
    assert told == {f"{row.prompt} {row.answer}<|end|>" for row in expected.itertuples()}
    for example in examples:
        learned = prompter.tokenizer.decode(example.ids[example.prompt_length :])
        assert learned in (" sad<|end|>", " happy<|end|>", " angry<|end|>")


def test_tasks_are_mixed_in_an_order_that_the_seed_alone_decides(prompter) -> None:
    other = FRAME.assign(prompt="Ben was well. " + FRAME["prompt"])
    mixed = training_examples(prompter, [FRAME, other], 64, 0)
    lengths = [len(example.ids) for example in mixed]
    assert len(mixed) == 18
    assert mixed == training_examples(prompter, [FRAME, other], 64, 0)
    again = training_examples(prompter, [FRAME, other], 64, 1)
    assert mixed != again
    assert sorted(map(str, mixed)) == sorted(map(str, again))
    # Neither task comes first.
    long = [length > sum(lengths) / 18 for length in lengths]
    assert any(long[:9])
    assert any(long[9:])


def test_shuffled_answers_are_the_same_answers_behind_other_prompts(prompter) -> None:
    def split(seed: int, shuffled: bool) -> tuple[list[str], list[str]]:
        examples = training_examples(prompter, [FRAME], 64, seed, shuffled)
        decode = prompter.tokenizer.decode
        told = [
            (decode(e.ids[: e.prompt_length]), decode(e.ids[e.prompt_length :])) for e in examples
        ]
        prompts, answers = zip(*sorted(told), strict=True)
        return list(prompts), list(answers)

    (prompts, truth), (same, dealt) = split(0, False), split(0, True)
    assert prompts == same
    assert sorted(truth) == sorted(dealt)
    assert truth != dealt
    assert split(0, True) == split(0, True)
    assert split(1, True)[1] != dealt


def test_a_long_prompt_loses_its_start_and_keeps_the_answer(prompter) -> None:
    whole = {tuple(example.ids) for example in training_examples(prompter, [FRAME], 64, 0)}
    longest = max(map(len, whole))
    limit = longest - 5
    for example in training_examples(prompter, [FRAME], limit, 0):
        assert len(example.ids) <= limit
        assert any(ids[-len(example.ids) :] == tuple(example.ids) for ids in whole)
        assert 0 < example.prompt_length < len(example.ids)


def test_a_start_token_survives_the_cut(checkpoint) -> None:
    prompter = Prompter(checkpoint("llama"))
    for example in training_examples(prompter, [FRAME], 12, 0):
        assert example.ids[0] == prompter.tokenizer.bos_token_id
        assert prompter.tokenizer.bos_token_id not in example.ids[1:]
        assert len(example.ids) <= 12


def test_a_long_answer_loses_its_end_for_half_of_the_prompt(checkpoint) -> None:
    prompter = Prompter(checkpoint())
    frame = pd.DataFrame({"split": ["train"], "prompt": ["Nora won " * 40], "answer": ["so " * 90]})
    (whole,) = training_examples(prompter, [frame], 10_000, 0)
    (cut,) = training_examples(prompter, [frame], 40, 0)
    assert len(cut.ids) == 40
    assert cut.prompt_length == 20
    assert cut.ids[:20] == whole.ids[whole.prompt_length - 20 : whole.prompt_length]
    assert cut.ids[20:] == whole.ids[whole.prompt_length :][:20]


def test_a_max_length_without_room_for_an_answer_is_refused(checkpoint, tmp_path) -> None:
    with refused("tuning.max-length-too-small", key="max_length", found=1):
        tune(checkpoint(), [FRAME], recipe(max_length=1), tmp_path / "never")
    assert not (tmp_path / "never").exists()


def test_tasks_without_a_train_split_are_refused(checkpoint, tmp_path) -> None:
    with refused("tuning.no-samples"):
        tune(checkpoint(), [FRAME[FRAME["split"] == "test"]], recipe(), tmp_path / "never")


# LoRA


@pytest.mark.parametrize("modules", SETS)
def test_lora_touches_the_chosen_projections_and_nothing_else(
    checkpoint, tmp_path, projection, modules
) -> None:
    base, folder = checkpoint(), tmp_path / "adapter"
    measured = tune(base, [FRAME], recipe(modules), folder)
    weights = LAYERS * len(parts(modules))
    biases = LAYERS * sum(part in "qkv" for part in parts(modules))
    counts = verify_folders(base, folder, modules)
    assert counts["changed"] == weights
    assert counts["inside"] == weights + biases
    assert counts["outside"] == counts["untouched"] > 0
    pair = Pair(base, folder)
    assert pair.adapter is not None
    adapted = [name for name in pair.names if pair.adapted(name)]
    assert {projection(name) for name in adapted} == set(parts(modules))
    assert len(adapted) == weights
    assert measured["trainable"] == LAYERS * 2 * sum(sum(SIDES[part]) for part in parts(modules))
    assert measured["total"] == sum(tensor.numel() for tensor in load_file(base / WEIGHTS).values())
    assert measured["samples"] == 9
    assert [entry["step"] for entry in measured["log"]] == [1, 2, 3, 4]


@pytest.mark.parametrize("rank", [1, 5])
def test_the_adapter_has_the_recipes_rank_and_scaling(checkpoint, tmp_path, rank) -> None:
    folder = tmp_path / "adapter"
    tune(checkpoint(), [FRAME], recipe("gate", rank=rank, alpha=7), folder)
    module = "model.layers.0.mlp.gate_proj"
    adapter = Adapter(folder)
    assert torch.linalg.matrix_rank(Pair(checkpoint(), folder).delta(f"{module}.weight")) == rank
    assert adapter.rank(module) == rank
    assert adapter.scaling(module) == 7 / rank


def test_at_equal_parameters_a_narrow_set_gets_the_rank_that_all_seven_would_pay_for(
    checkpoint, tmp_path
) -> None:
    whole = tune(checkpoint(), [FRAME], recipe(), tmp_path / "all")["trainable"]
    gate = tune(checkpoint(), [FRAME], recipe("gate", fair=True), tmp_path / "gate")
    assert abs(gate["trainable"] - whole) <= LAYERS * sum(SIDES["gate"]) / 2
    config = json.loads((tmp_path / "gate/adapter_config.json").read_text())
    assert config["r"] == gate["trainable"] / (LAYERS * sum(SIDES["gate"])) > 2
    assert config["lora_alpha"] / config["r"] == 4 / 2


def test_the_same_seed_gives_the_same_adapter_byte_for_byte(checkpoint, tmp_path) -> None:
    def adapter(name: str, seed: int) -> bytes:
        tune(checkpoint(), [FRAME], recipe("o+gate", seed=seed), tmp_path / name)
        return (tmp_path / name / ADAPTER).read_bytes()

    first = adapter("first", 0)
    torch.manual_seed(4321)
    assert adapter("second", 0) == first
    assert adapter("third", 1) != first


def test_the_adapters_configuration_lists_its_targets_in_order(checkpoint, tmp_path) -> None:
    tune(checkpoint(), [FRAME], recipe("all"), tmp_path / "adapter")
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text("utf-8"))
    assert len(config["target_modules"]) == 14
    assert config["target_modules"] == sorted(config["target_modules"])


def test_lora_of_a_bfloat16_base_is_trained_and_saved_in_float32(checkpoint, tmp_path) -> None:
    base, folder = checkpoint(dtype="bfloat16"), tmp_path / "adapter"
    tune(base, [FRAME], recipe("up"), folder)
    assert {tensor.dtype for tensor in load_file(folder / ADAPTER).values()} == {torch.float32}
    assert verify_folders(base, folder, "up")["changed"] == LAYERS


# SFT


@pytest.mark.parametrize("modules", SETS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_full_tuning_changes_the_chosen_projections_bit_for_bit(
    checkpoint, tmp_path, projection, modules, dtype
) -> None:
    base, folder = checkpoint(dtype=dtype), tmp_path / "model"
    measured = tune(base, [FRAME], recipe(modules, "sft"), folder)
    before, after = load_file(base / WEIGHTS), load_file(folder / WEIGHTS)
    assert before.keys() == after.keys()
    chosen = {name for name in before if projection(name) in parts(modules)}
    for name, tensor in before.items():
        assert after[name].dtype == tensor.dtype
        same = torch.equal(after[name].view(torch.uint8), tensor.view(torch.uint8))
        assert same == (name not in chosen), name
    assert measured["trainable"] == sum(before[name].numel() for name in chosen)
    assert measured["total"] == sum(tensor.numel() for tensor in before.values())
    assert verify_folders(base, folder, modules)["changed"] == len(chosen)


def test_full_tuning_keeps_steps_that_bfloat16_would_lose(checkpoint, tmp_path) -> None:
    # Entries of about 0.2 have a bfloat16 step of 0.001; forty steps of 0.0001 add up to more.
    base = checkpoint(dtype="bfloat16")
    tune(base, [FRAME], recipe("gate", "sft", learning_rate=1e-4, steps=40), tmp_path / "model")
    name = "model.layers.0.mlp.gate_proj.weight"
    delta = Pair(base, tmp_path / "model").delta(name).abs()
    assert float((delta > 5e-4).double().mean()) > 0.3


def test_a_fully_tuned_folder_is_a_model_with_its_tokenizer(checkpoint, tmp_path) -> None:
    base, folder = checkpoint("mistral", dtype="bfloat16"), tmp_path / "model"
    tune(base, [FRAME], recipe("gate", "sft"), folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert model.config.model_type == "mistral"
    assert model.dtype == torch.bfloat16
    text = ["Anna was sad."]
    assert Prompter(folder).prompts(text, 50) == Prompter(base).prompts(text, 50)


def test_the_same_seed_gives_the_same_model_byte_for_byte(checkpoint, tmp_path) -> None:
    for name in ("first", "second"):
        tune(checkpoint(), [FRAME], recipe("down", "sft"), tmp_path / name)
    first, second = ((tmp_path / name / WEIGHTS).read_bytes() for name in ("first", "second"))
    assert first == second


# Both


@pytest.mark.parametrize("method", ["lora", "sft"])
def test_tuning_teaches_the_answers(checkpoint, tmp_path, method) -> None:
    measured = tune(checkpoint(), [FRAME], recipe("all", method, steps=40), tmp_path / "tuned")
    assert measured["log"][-1]["loss"] < 0.5 * measured["log"][0]["loss"]


@pytest.mark.parametrize(("method", "weights"), [("lora", ADAPTER), ("sft", WEIGHTS)])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_states_are_saved_along_the_way_and_change_nothing(
    checkpoint, tmp_path, method, weights, dtype
) -> None:
    base = checkpoint(dtype=dtype)
    settings = {"steps": 5, "dropout": 0.3 if method == "lora" else 0.0}
    plain, watched = tmp_path / "plain", tmp_path / "watched"
    assert tune(base, [FRAME], recipe("all", method, **settings), plain)["snapshots"] == []
    measured = tune(base, [FRAME], recipe("all", method, **settings, trajectory=3), watched)
    assert measured["snapshots"] == [2, 3]
    end = load_file(plain / weights)
    states = [load_file(snapshot_folder(watched, step) / weights) for step in (2, 3)]
    for early, late in pairwise([*states, end]):
        assert {name: tensor.dtype for name, tensor in early.items()} == {
            name: tensor.dtype for name, tensor in end.items()
        }
        assert any(not torch.equal(early[name], late[name]) for name in end)
    shutil.rmtree(watched / "trajectory")
    assert contents(watched) == contents(plain)


@pytest.mark.parametrize("method", ["lora", "sft"])
def test_a_base_without_the_chosen_projections_is_refused(tmp_path, tokenizer, method) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    base = tmp_path / "gpt2"
    GPT2LMHeadModel(GPT2Config(vocab_size=290, n_embd=16, n_layer=1, n_head=2)).save_pretrained(
        base
    )
    tokenizer(False).save_pretrained(base)
    with refused("base.no-such-projection", file=base, found="gate"):
        tune(base, [FRAME], recipe("gate", method), tmp_path / "never")
    assert not (tmp_path / "never").exists()


@pytest.mark.parametrize("method", ["lora", "sft"])
def test_the_base_on_disk_stays_as_it_was(checkpoint, tmp_path, method) -> None:
    base: Path = checkpoint("llama")
    before = contents(base)
    tune(base, [FRAME], recipe("all", method), tmp_path / "tuned")
    assert contents(base) == before


# Stopped, and gone on


def everything(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, but for what a killed process could not clear away."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.relative_to(folder).parts[0].startswith(".mine.")
    }


@pytest.mark.parametrize(
    "settings",
    [
        {"dropout": 0.3, "group_by_length": True, "trajectory": 4},
        {"method": "sft", "modules": "gate", "trajectory": 3, "weight_decay": 0.1},
    ],
)
def test_a_stopped_tuning_ends_as_if_it_never_was(checkpoint, tmp_path, stopping, settings) -> None:
    base, wanted = checkpoint("llama", dtype="bfloat16"), recipe(steps=12, **settings)
    measured = tune(base, [FRAME], wanted, tmp_path / "whole")
    for number, step in enumerate((5, 3)):
        with pytest.raises(Stopped, match=f"after step {(5, 8)[number]} of 12; the next run"):
            # Another folder each time, as `replacing` has it.
            tune(base, [FRAME], wanted, tmp_path / f"cut{number}", states=stopping(step))
    gone_on = tune(base, [FRAME], wanted, tmp_path / "ended", states=stopping())
    assert gone_on == measured
    assert everything(tmp_path / "ended") == everything(tmp_path / "whole")
    assert len(measured["snapshots"]) == settings["trajectory"] - 1


def test_a_state_of_lora_holds_the_adapter_and_not_the_base(checkpoint, tmp_path, stopping) -> None:
    states = stopping(2)
    with pytest.raises(Stopped):
        tune(checkpoint(), [FRAME], recipe("gate"), tmp_path / "cut", states=states)
    stored = load_file(states.find() / "trained.safetensors")
    assert len(stored) == 2 * LAYERS
    assert all(".gate_proj.lora_" in name for name in stored)


@pytest.fixture
def job(checkpoint, tmp_path) -> list[str]:
    """`affectlocus tune …` in a folder where its input is `../base.json` and `../task.parquet`."""
    base = checkpoint()
    write_json(tmp_path / "base.json", {"folder": str(base), "files": manifest(base)})
    FRAME.to_parquet(tmp_path / "task.parquet")
    settings = {"data": ["task"], "rank": 2, "steps": 100, "batch_size": 3, "dropout": 0.2}
    return [
        *("tune", "--base", "../base.json", "--data", "../task.parquet", "--folder", "mine"),
        *("--out", "mine.json", "--settings", json.dumps(settings | {"trajectory": 5})),
    ]


def called(folder: Path, job: list[str], monkeypatch) -> str:
    """Calls the command in a folder, to a good end; what it said."""
    folder.mkdir(exist_ok=True)
    monkeypatch.chdir(folder)
    result = CliRunner().invoke(app, job)
    assert result.exit_code == 0, result.output
    assert not states_folder(folder / "mine").exists()
    return result.output


def interrupted(folder: Path, job: list[str], number: int) -> tuple[int, str]:
    """The command in a process of its own that gets a signal once it has saved two states more."""
    program = [str(Path(sys.executable).with_name("affectlocus")), *job, "--save-minutes", "0"]
    folder.mkdir(exist_ok=True)
    place = states_folder(folder / "mine")
    before = set(place.glob("step-*"))
    process = subprocess.Popen(
        program,
        cwd=folder,
        # With compiled bytecode a start takes a third of the time.
        env={k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"},
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    seen: set[Path] = set()
    end = time.monotonic() + LONGEST
    while len(seen) < 2 and process.poll() is None and time.monotonic() < end:
        seen |= set(place.glob("step-*")) - before
        time.sleep(0.002)
    process.send_signal(number)
    _, said = process.communicate(timeout=LONGEST)
    assert not (folder / "mine").exists()
    assert not (folder / "mine.json").exists()
    assert place.is_dir()
    return process.returncode, said


def test_a_killed_and_a_terminated_tuning_go_on_and_end_with_the_same_bytes(
    job, tmp_path, monkeypatch
) -> None:
    assert "going on" not in called(tmp_path / "whole", job, monkeypatch)
    folder = tmp_path / "cut"
    assert interrupted(folder, job, signal.SIGKILL)[0] == -signal.SIGKILL
    code, said = interrupted(folder, job, signal.SIGTERM)
    assert code == 143
    assert "affectlocus: resuming from the saved state of step " in said
    last = said.splitlines()[-1]
    assert last.startswith("affectlocus: stopped by SIGTERM after step ")
    assert last.endswith(" of 100; the next run continues from there")
    step = last.split("after step ")[1].split()[0]
    assert f"resuming from the saved state of step {step} of 100" in called(
        folder, job, monkeypatch
    )
    assert everything(folder) == everything(tmp_path / "whole")


CHANGED = {
    "recipe": ("--settings", lambda text: text.replace('"rank": 2', '"rank": 3')),
    "hardware": ("--hardware", lambda _: '{"checkpointing": true}'),
    "threads": ("--threads", lambda _: "2"),
}


@pytest.mark.parametrize("topic", [*CHANGED, "base", "data", "code", "nothing"])
def test_a_state_is_taken_up_by_the_very_same_job_alone(
    checkpoint, job, tmp_path, monkeypatch, topic
) -> None:
    (tmp_path / "cut").mkdir()
    monkeypatch.chdir(tmp_path / "cut")
    job = [*job, "--hardware", "{}", "--threads", "1"]
    calls: list[TrainingStates] = []

    def look(_: Tuner, jobs: list[TuningJob], *__: Any) -> list[dict]:
        # What the command says of its job is what is looked at, and no training.
        assert jobs[0].states is not None
        calls.append(jobs[0].states)
        raise InputError("test.stop", "enough")

    monkeypatch.setattr(Tuner, "tune", look)
    CliRunner().invoke(app, job)
    calls[0].save(3, lambda folder: (folder / "weights").touch())
    if topic in CHANGED:
        option, change = CHANGED[topic]
        at = job.index(option) + 1
        job[at] = change(job[at])
    elif topic == "base":
        base = checkpoint(seed=5)
        write_json(tmp_path / "base.json", {"folder": str(base), "files": manifest(base)})
    elif topic == "data":
        FRAME.assign(prompt="Ben").to_parquet(tmp_path / "task.parquet")
    elif topic == "code":
        monkeypatch.setattr("affectlocus.orchestration.code_digest.digest", lambda _: "0" * 16)
    CliRunner().invoke(app, [*job, "--save-minutes", "3"])
    assert (calls[0].minutes, calls[1].minutes) == (10, 3)
    assert (calls[1].find() is None) == (topic != "nothing")
    other = {key for key, value in calls[0].job.items() if calls[1].job[key] != value}
    assert other == {topic} - {"nothing"}
