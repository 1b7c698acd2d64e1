"""Tunings in groups: each has the numbers that it has alone, and those of a plain training loop."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
from refusal import refused
from safetensors.torch import load_file
from single import tune
from transformers import AutoModelForCausalLM, get_cosine_schedule_with_warmup
from typer.testing import CliRunner

from affectlocus.checkpoints.checkpoint_manifests import manifest
from affectlocus.cli import app
from affectlocus.config.hardware import Hardware
from affectlocus.config.tuning import Tuning
from affectlocus.core.files import write_json
from affectlocus.core.stop_signals import Stopped
from affectlocus.evaluation.interventions import verify_folders
from affectlocus.lm.prompts import Prompter
from affectlocus.training.batches import Budget, Example, schedule
from affectlocus.training.training_loop import DivergedError, train
from affectlocus.training.training_state import states_folder
from affectlocus.training.tune import Tuner, TuningJob, training_examples
from affectlocus.training.tuning_record import RECORD

ADAPTER = "adapter_model.safetensors"
SIXTEEN = (
    *("o+gate", "q", "k", "v", "o", "gate", "up", "down", "q+k+v+o", "q+k+v+o+down"),
    *("q+k+v+o+up", "q+k+v+o+gate", "q+k+v+o+up+down", "q+k+v+o+gate+down", "gate+up", "all"),
)
FRAME = pd.DataFrame(
    {
        "id": [str(number) for number in range(12)],
        "split": "train",
        "prompt": [f"Anna lost {number} coins{' again' * (number % 4)}." for number in range(12)],
        "answer": [("sad", "happy", "very angry")[number % 3] for number in range(12)],
    }
)
RECIPE: dict[str, Any] = {"data": ["task"], "steps": 8, "batch_size": 4, "rank": 2, "alpha": 4}
RECIPE |= {"learning_rate": 0.02}


def recipe(modules: str = "all", **others: object) -> Tuning:
    return Tuning.model_validate(RECIPE | {"modules": modules} | others)


def tuned(
    base: Path, recipes: Sequence[Tuning], folder: Path, at_once: int = 1, **others: Any
) -> tuple[list[dict[str, bytes]], list[dict]]:
    """The files and the measurements of each tuning, of one `Tuner`."""
    tuner = Tuner(base, Hardware(adapters_at_once=at_once, **others))
    measured: dict[int, dict] = {}
    for stack in tuner.stacks(recipes):
        jobs = [TuningJob(recipes[one], [FRAME], folder / str(one)) for one in stack]
        measured |= dict(zip(stack, tuner.tune(jobs), strict=True))
    files = [everything(folder / str(number)) for number in range(len(recipes))]
    return files, [measured[number] for number in range(len(recipes))]


def everything(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


# Alone and in company


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("at_once", [1, 4, 16])
@pytest.mark.parametrize("count", [4, 16])
def test_an_adapter_has_the_same_bits_alone_and_in_a_group(
    checkpoint, tmp_path, at_once, count, dtype
) -> None:
    base = checkpoint("qwen2", dtype=dtype)
    recipes = [recipe(modules, trajectory=2) for modules in SIXTEEN[:count]]
    one_by_one = tuned(base, recipes, tmp_path / "alone")
    if at_once == 1:
        single = tuned(base, recipes[2:3], tmp_path / "single")
        assert single == (one_by_one[0][2:3], one_by_one[1][2:3])
    files, measured = tuned(base, recipes, tmp_path / "group", at_once)
    assert files == one_by_one[0]
    assert measured == one_by_one[1]
    assert len({one[ADAPTER] for one in files}) == count


@pytest.mark.parametrize("method", ["lora", "sft"])
def test_a_tuning_by_layer_changes_these_layers_alone(checkpoint, tmp_path, method) -> None:
    base = checkpoint()
    recipes = [recipe("q@0+gate@1", method=method), recipe("q@0+gate@1", method=method, fair=True)]
    recipes = recipes[: 2 if method == "lora" else 1]
    _, measured = tuned(base, recipes, tmp_path, 4)
    for number in range(len(recipes)):
        counts = verify_folders(base, tmp_path / str(number), "q@0+gate@1")
        # The bias of q is inside the set, and LoRA does not change it.
        changed = 3 if method == "sft" else 2
        assert (counts["inside"], counts["changed"]) == (3, changed)
        assert counts["outside"] == counts["untouched"]
    assert measured[0]["trainable"] < measured[-1]["trainable"] or method == "sft"


def test_a_tuning_of_a_layer_beyond_the_model_is_refused(checkpoint, tmp_path) -> None:
    with refused("modules.no-such-layer", found=2, expected=2):
        tuned(checkpoint(), [recipe("gate@1-2")], tmp_path)


def test_methods_seeds_and_data_in_one_group_do_not_touch_each_other(checkpoint, tmp_path) -> None:
    base = checkpoint("llama", dtype="bfloat16")
    recipes = [
        recipe("gate"),
        recipe("gate", method="sft"),
        recipe("gate", seed=1, dropout=0.3),
        recipe("gate", shuffled=True),
        recipe("gate", fair=True),
        recipe("gate", seed=1, dropout=0.3),
    ]
    files, measured = tuned(base, recipes, tmp_path / "group", 4)
    for number, one in enumerate(recipes):
        alone, counts = tuned(base, [one], tmp_path / f"alone{number}")
        assert files[number] == alone[0], one
        assert measured[number] == counts[0]
    assert files[2] == files[5] != files[0]


def test_adapters_that_read_the_same_samples_are_stacked(checkpoint) -> None:
    recipes = [
        *(recipe(modules) for modules in ("q", "gate", "up")),
        recipe("q", seed=1),
        recipe("down"),
        recipe("q", shuffled=True),
        recipe("q", dropout=0.1),
        recipe("q", method="sft"),
        recipe("gate", fair=True),
        recipe("v", trajectory=3),
    ]

    def stacks(at_once: int, **config: Any) -> list[list[int]]:
        hardware = Hardware(adapters_at_once=at_once)
        return Tuner(checkpoint("qwen2", **config), hardware).stacks(recipes)

    assert stacks(1) == [[number] for number in range(10)]
    assert stacks(9) == [[0, 1, 2, 4, 9], [3], [5], [6], [7], [8]]
    assert stacks(2)[:3] == [[0, 1], [2, 4], [9]]
    # Dropout in the base would be drawn for all adapters together.
    assert stacks(9, attention_dropout=0.1) == stacks(1)


def test_of_a_stack_only_the_diverged_adapter_is_lost(checkpoint, tmp_path, monkeypatch) -> None:
    import affectlocus.training.tune as module

    whole = module.train_runs

    def diverging(*arguments: Any) -> None:
        runs = arguments[3]
        if any("down_proj" in name for run in runs for name in run.slots):
            raise DivergedError("tuning.loss-not-finite", "diverged")
        whole(*arguments)

    monkeypatch.setattr(module, "train_runs", diverging)
    tuner = Tuner(checkpoint(), Hardware(adapters_at_once=3))
    jobs = [TuningJob(recipe(one), [FRAME], tmp_path / one) for one in ("q", "gate")]
    lost = TuningJob(recipe("down"), [FRAME], tmp_path / "down")
    with refused("tuning.loss-not-finite"):
        tuner.tune([*jobs, lost])
    assert everything(tmp_path / "q") == tuned(checkpoint(), [recipe("q")], tmp_path / "x")[0][0]
    assert (tmp_path / "gate" / ADAPTER).is_file()


@pytest.mark.parametrize("at_once", [1, 3])
def test_a_stopped_group_ends_as_if_it_never_was(checkpoint, tmp_path, stopping, at_once) -> None:
    base, recipes = checkpoint(), [recipe(one, trajectory=4) for one in ("q", "gate", "all")]
    files, measured = tuned(base, recipes, tmp_path / "whole")

    def jobs(number: int, stop: int | None = None) -> list[TuningJob]:
        own = [stopping(stop if place == 0 else None, f"job{place}") for place in range(3)]
        folder = tmp_path / f"cut{number}"
        return [TuningJob(recipes[n], [FRAME], folder / str(n), own[n]) for n in range(at_once)]

    tuner = Tuner(base, Hardware(adapters_at_once=at_once))
    with pytest.raises(Stopped, match="after step 5 of 8; the next run continues from there"):
        tuner.tune(jobs(0, 5))
    with pytest.raises(Stopped, match="after step 7 of 8; the next run continues from there"):
        tuner.tune(jobs(1, 2))
    found = Tuner(base, Hardware(adapters_at_once=at_once)).tune(jobs(2))
    assert found == measured[:at_once]
    for number in range(at_once):
        assert everything(tmp_path / f"cut2/{number}") == files[number]


def test_states_of_different_steps_are_not_resumed_together(checkpoint, tmp_path, stopping) -> None:
    base, recipes = checkpoint(), [recipe("q"), recipe("gate")]
    files, _ = tuned(base, recipes, tmp_path / "whole")
    tuner = Tuner(base, Hardware(adapters_at_once=2))
    with pytest.raises(Stopped):
        tuner.tune([TuningJob(recipes[0], [FRAME], tmp_path / "cut", stopping(5, "job0"))])
    states = [stopping(None, "job0"), stopping(None, "job1")]
    tuner.tune([TuningJob(recipes[n], [FRAME], tmp_path / f"end/{n}", states[n]) for n in range(2)])
    assert [everything(tmp_path / f"end/{n}") for n in range(2)] == files


# Against a plain loop


@pytest.mark.parametrize("architecture", ["qwen2", "llama", "mistral", "gemma2", "phi3"])
def test_an_adapter_is_what_peft_and_a_plain_loop_train(checkpoint, tmp_path, architecture) -> None:
    base = checkpoint(architecture, sliding_window=64)
    wanted = recipe("q+k+v+o+gate+up", weight_decay=0.1, warmup=0.25)
    tune(base, [FRAME], wanted, tmp_path / "adapter")
    found = load_file(tmp_path / "adapter" / ADAPTER)
    examples = training_examples(Prompter(base), [FRAME], wanted.max_length, wanted.seed)
    budget = Budget(8, 4, 0.02, 0.25, 0.1, 0)
    order = schedule([len(one.ids) for one in examples], budget)
    stored = json.loads((tmp_path / "adapter/adapter_config.json").read_text())
    torch.manual_seed(0)
    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(base),
        LoraConfig(r=2, lora_alpha=4, target_modules=stored["target_modules"]),
    ).train()
    parameters = [one for one in model.parameters() if one.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=0.02, weight_decay=0.1)
    scheduler = get_cosine_schedule_with_warmup(optimizer, 2, 8)
    for step in range(8):
        rows = [examples[row] for row in order[4 * step : 4 * step + 4]]
        costs = [
            torch.nn.functional.cross_entropy(
                model(torch.tensor([row.ids])).logits[0, row.prompt_length - 1 : -1],
                torch.tensor(row.ids[row.prompt_length :]),
                reduction="sum",
            )
            for row in rows
        ]
        torch.stack(costs).sum().div(sum(len(r.ids) - r.prompt_length for r in rows)).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
    expected = get_peft_model_state_dict(model)
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=2e-3, atol=2e-4)


SCALED: dict[str, dict[str, Any]] = {
    "gemma2": {"final_logit_softcapping": 3.0, "sliding_window": 64},
    "cohere": {"logit_scale": 0.25},
    "granite": {"logits_scaling": 8.0},
    "gpt_neox": {},
    "mixtral": {"num_local_experts": 4},
}


@pytest.mark.parametrize("architecture", SCALED)
def test_the_loss_is_that_of_the_models_own_logits(random_model, architecture) -> None:
    model = random_model(architecture, **SCALED[architecture])
    examples = [Example([5, 6, 7, 8, 9, 10], 4), Example([11, 12, 13, 14], 1)]
    with torch.inference_mode():
        logs = [model(torch.tensor([one.ids])).logits[0].log_softmax(-1) for one in examples]
    nats = [
        -float(log[place - 1, one.ids[place]])
        for one, log in zip(examples, logs, strict=True)
        for place in range(one.prompt_length, len(one.ids))
    ]
    (entry,) = train(model, examples, Budget(1, 2, 1e-9, 0.0, 0.0, 0))
    assert entry["loss"] == pytest.approx(sum(nats) / len(nats), rel=1e-4)


def test_computing_activations_again_changes_nothing(checkpoint, tmp_path) -> None:
    one = [recipe("q+gate")]
    files, measured = tuned(checkpoint(), one, tmp_path / "plain")
    again, same = tuned(checkpoint(), one, tmp_path / "again", checkpointing=True)
    assert (again, same) == (files, measured)


# The command


@pytest.fixture
def call(checkpoint, tmp_path, monkeypatch) -> Callable[..., Any]:
    """Calls `tune` in a folder with a base and two tasks; `tunings` by the name of the folder."""
    base = checkpoint()
    monkeypatch.chdir(tmp_path)
    write_json(tmp_path / "base.json", {"folder": str(base), "files": manifest(base)})
    FRAME.to_parquet("task.parquet")
    FRAME.assign(answer="well").to_parquet("other.parquet")

    def run(
        tunings: dict[str, dict[str, Any]], bases: Sequence[str] = ("base.json",), **settings: Any
    ) -> Any:
        listed = [{"folder": name, "out": f"{name}.json"} | one for name, one in tunings.items()]
        return CliRunner().invoke(
            app,
            [
                *("tune", *(word for one in bases for word in ("--base", one))),
                *("--data", "task.parquet", "--data", "other.parquet"),
                *("--settings", json.dumps(RECIPE | settings)),
                *("--tunings", json.dumps(listed)),
            ],
        )

    return run


def test_the_command_tunes_several_and_each_as_alone(call, checkpoint, tmp_path) -> None:
    done = call({"q": {"modules": "q"}, "other": {"modules": "q", "data": ["other"]}})
    assert done.exit_code == 0, done.output
    for name, frame in (("q", FRAME), ("other", FRAME.assign(answer="well"))):
        wanted = recipe("q", data=[{"q": "task"}.get(name, name)])
        measured = tune(checkpoint(), [frame], wanted, tmp_path / f"alone-{name}")
        record = json.loads(Path(f"{name}.json").read_text())
        assert {key: record[key] for key in measured} == measured
        assert record["recipe"] == wanted.model_dump()
        own = Path(name, ADAPTER).read_bytes()
        assert own == Path(f"alone-{name}", ADAPTER).read_bytes()


def test_tunings_of_several_bases_each_start_from_the_base_of_their_seed(
    call, checkpoint, tmp_path
) -> None:
    bases = {seed: checkpoint("qwen2", seed=seed) for seed in (3, 4)}
    for seed, base in bases.items():
        record = {"folder": str(base), "files": manifest(base)}
        write_json(tmp_path / f"own.seed{seed}.json", record)
    given = ["own.seed3.json", "own.seed4.json"]
    done = call({"x": {"seed": 4}, "y": {"seed": 3}}, bases=given)
    assert done.exit_code == 0, done.output
    for name, seed in (("x", 4), ("y", 3)):
        tune(bases[seed], [FRAME], recipe(seed=seed), tmp_path / f"alone-{name}")
        own = Path(name, ADAPTER).read_bytes()
        assert own == Path(f"alone-{name}", ADAPTER).read_bytes()
    assert printed(call({"z": {"seed": 5}}, bases=given)) == "tuning.no-base-of-seed"


def test_a_finished_tuning_is_not_repeated(call) -> None:
    call({"q": {"modules": "q"}, "gate": {"modules": "gate"}})
    first = {name: Path(name, ADAPTER).stat().st_mtime_ns for name in ("q", "gate")}
    written = Path("q.json").read_bytes()
    Path("q.json").unlink()
    Path("gate", ADAPTER).write_bytes(b"damaged")
    done = call({"q": {"modules": "q"}, "gate": {"modules": "gate"}, "up": {"modules": "up"}})
    assert done.exit_code == 0, done.output
    assert "note: q: already tuned" in done.output
    assert "note: gate" not in done.output
    assert Path("q", ADAPTER).stat().st_mtime_ns == first["q"]
    assert Path("gate", ADAPTER).stat().st_mtime_ns != first["gate"]
    assert Path("q.json").read_bytes() == written
    assert Path("up.json").is_file()
    # Another recipe is another tuning.
    assert "already tuned" not in call({"q": {"modules": "q", "seed": 1}}).output
    assert json.loads(Path("q", RECORD).read_text())["measured"]


def test_what_diverges_is_refused_after_the_others_are_finished(call) -> None:
    done = call({"q": {"modules": "q", "learning_rate": 1e30}, "gate": {"modules": "gate"}})
    assert printed(done) in ("tuning.loss-not-finite", "tuning.weight-not-finite")
    assert str(done.exception).startswith("q: ")
    assert Path("gate.json").is_file()
    assert not Path("q").exists()
    assert not states_folder(Path("q")).exists()


def printed(done: Any) -> str:
    return str(done.exception.code)


@pytest.mark.parametrize(
    ("tunings", "code"),
    [
        ({"q": {"folder": "same"}, "k": {"folder": "same"}}, "option.same-output"),
        ({"q": {"out": "a.json"}, "k": {"out": "./a.json"}}, "option.same-output"),
        ({"q": {"data": ["task", "third"]}}, None),
        ({"q": {"data": ["third"]}}, "tuning.task-not-given"),
    ],
)
def test_tunings_that_do_not_fit_the_files_are_refused(call, tunings, code) -> None:
    done = call(tunings)
    assert (done.exit_code == 0) == (code is None)
    if code is not None:
        assert printed(done) == code
        assert not list(Path().glob("*/adapter*"))


@pytest.mark.usefixtures("call")
def test_folder_and_out_are_given_once() -> None:
    words = ["tune", "--base", "base.json", "--data", "task.parquet"]
    words += ["--settings", '{"data": ["task"]}']
    for more, code in (
        (["--folder", "x"], "option.missing"),
        (["--out", "x.json"], "option.missing"),
        (["--tunings", "[]", "--out", "x.json"], "option.no-effect"),
    ):
        assert printed(CliRunner().invoke(app, [*words, *more])) == code
