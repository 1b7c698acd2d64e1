"""Step `tune`: tunes a base on a module set, by LoRA or in full, within a fixed budget."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from peft import LoraConfig, get_peft_model

from affectlocus.checkpoints.architectures import locate
from affectlocus.config.hardware import Hardware
from affectlocus.config.tuning import Tuning
from affectlocus.core.checkpoint_files import TRAJECTORY, snapshot_folder
from affectlocus.core.errors import InputError
from affectlocus.core.files import read_json, write_json
from affectlocus.core.projections import parse_modules
from affectlocus.lm.devices import load
from affectlocus.lm.prompts import Prompter
from affectlocus.training.lora_targets import fair_rank, layout
from affectlocus.training.training_loop import Budget, Example, snapshot_steps, train
from affectlocus.training.training_state import TrainingStates

HARDWARE = Hardware()


def training_examples(
    prompter: Prompter,
    frames: Sequence[pd.DataFrame],
    max_length: int,
    seed: int,
    shuffled: bool = False,
) -> list[Example]:
    """The train splits of prepared tasks as token ids, shuffled together.

    Args:
        frames: prepared tasks with columns `split`, `prompt` and `answer`.
        max_length: tokens of prompt, answer and end token at most. In a longer sample, the answer
            is cut at its end until the prompt has half of the tokens; then the prompt is cut at its
            start.
        shuffled: whether the answers of each task are permuted among its samples, by the seed.
    """
    if max_length < 2:
        raise InputError(
            "tuning.max-length-too-small",
            f"max_length {max_length} leaves no room for an answer; raise max_length",
            key="max_length",
            found=max_length,
        )
    examples = []
    for frame in frames:
        rows = frame[frame["split"] == "train"]
        answers = rows["answer"].tolist()
        if shuffled:
            random.Random(f"{seed}/answers").shuffle(answers)
        texts = rows["prompt"].tolist()
        prompts = prompter.prompts(texts, max_length)
        for text, prompt, word in zip(texts, prompts, answers, strict=True):
            answer = [*prompter.answer(word), *prompter.end()]
            answer = answer[: max_length - min(len(prompt), max_length // 2)]
            room = max_length - len(answer)
            if len(prompt) > room:
                (prompt,) = prompter.prompts([text], room)
            examples.append(Example([*prompt, *answer], len(prompt)))
    random.Random(seed).shuffle(examples)
    return examples


def tune(
    base: Path,
    frames: Sequence[pd.DataFrame],
    recipe: Tuning,
    folder: Path,
    hardware: Hardware = HARDWARE,
    states: TrainingStates | None = None,
) -> dict:
    """Tunes `base` and saves an adapter (LoRA) or a whole model (SFT) into `folder`.

    Embeddings, norms, biases outside the module set and the head are frozen in both methods, as in
    the paper's Algorithm 1. With `recipe.trajectory`, snapshots of earlier steps are saved as well
    (`snapshot_folder`); they do not change the checkpoint.

    Args:
        states: saves the state of the training, and restores the state of an interrupted one.

    Returns:
        `trainable` and `total` parameter counts, `samples`, the `log` of the losses, and
        `snapshots`, the steps of the snapshots.
    """
    prompter = Prompter(base)
    examples = training_examples(prompter, frames, recipe.max_length, recipe.seed, recipe.shuffled)
    torch.manual_seed(recipe.seed)
    model = load(base, hardware, place=False)
    stored = model.dtype
    total = sum(parameter.numel() for parameter in model.parameters())
    projections = parse_modules(recipe.modules)
    if recipe.method == "lora":
        # Full names, because the base may have other modules of these names (a vision tower).
        targets = [
            name.removesuffix(".weight")
            for name, _ in model.named_parameters()
            if (location := locate(name)) is not None
            and location.parameter == "weight"
            and location.projection in projections
        ]
        _check_found(targets, recipe.modules, base)
        rank = recipe.rank
        if recipe.fair:
            shapes = ((name, tuple(one.shape)) for name, one in model.named_parameters())
            rank = fair_rank(layout(str(base), shapes), recipe.modules, recipe.rank)
        adapter = LoraConfig(
            r=rank,
            # Keeps the scaling alpha / r of the recipe.
            lora_alpha=recipe.alpha * rank / recipe.rank,
            lora_dropout=recipe.dropout,
            target_modules=targets,
            task_type="CAUSAL_LM",
        )
        model = get_peft_model(model, adapter)
    else:
        chosen = []
        for name, parameter in model.named_parameters():
            location = locate(name)
            parameter.requires_grad = location is not None and location.projection in projections
            chosen += [name] * parameter.requires_grad
        # Small steps are lost in bfloat16: train in float32, save in the dtype of the base.
        model.float()
        _check_found(chosen, recipe.modules, base)
    trainable = sum(
        parameter.numel() for parameter in model.parameters() if parameter.requires_grad
    )
    snapshots = snapshot_steps(recipe.steps, recipe.trajectory)[:-1]

    def save(step: int) -> None:
        _save(model, recipe, stored, snapshot_folder(folder, step))

    log = train(
        model,
        examples,
        Budget(
            steps=recipe.steps,
            batch_size=recipe.batch_size,
            learning_rate=recipe.learning_rate,
            warmup=recipe.warmup,
            weight_decay=recipe.weight_decay,
            seed=recipe.seed,
            group_by_length=recipe.group_by_length,
        ),
        hardware,
        snapshots,
        save,
        states,
        trajectory=folder / TRAJECTORY,
    )
    if recipe.method == "sft":
        model.to(stored)
        prompter.tokenizer.save_pretrained(folder)
    _save(model, recipe, stored, folder)
    counts = {"trainable": trainable, "total": total, "samples": len(examples)}
    return counts | {"log": log, "snapshots": snapshots}


def _save(model: Any, recipe: Tuning, stored: torch.dtype, folder: Path) -> None:
    """Saves the current adapter, or the current model in dtype `stored`."""
    folder.mkdir(parents=True, exist_ok=True)
    if recipe.method == "sft":
        # Keyed by address, so that tied tensors share one copy.
        cast = {tensor.data_ptr(): tensor.to(stored) for tensor in model.state_dict().values()}
        weights = {name: cast[tensor.data_ptr()] for name, tensor in model.state_dict().items()}
        model.save_pretrained(folder, state_dict=weights)
        return
    model.save_pretrained(folder)
    # peft writes target_modules, a set, in an order that differs between runs.
    config = read_json(folder / "adapter_config.json")
    write_json(
        folder / "adapter_config.json",
        config | {"target_modules": sorted(config["target_modules"])},
    )


def _check_found(names: list[str], modules: str, base: Path) -> None:
    if not names:
        raise InputError(
            "base.no-such-projection",
            f"{base}: no layer has the projections {modules}; "
            "expected q, k, v, o, gate, up or down_proj below self_attn and mlp",
            file=base,
            found=modules,
        )
