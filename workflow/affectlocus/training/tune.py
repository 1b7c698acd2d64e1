"""Step `tune`: tunes a base on module sets, by LoRA or in full, within a fixed budget."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from peft import LoraConfig
from transformers import PreTrainedModel

from affectlocus.checkpoints.architectures import locate
from affectlocus.checkpoints.native_models import check_native, stored_native_model
from affectlocus.config.bridges import KINDS, BridgeConfig
from affectlocus.config.hardware import Hardware
from affectlocus.config.tuning import Tuning
from affectlocus.core.checkpoint_files import TRAJECTORY, snapshot_folder
from affectlocus.core.errors import InputError
from affectlocus.core.projections import BRIDGE, parse_modules
from affectlocus.lm.devices import load
from affectlocus.lm.native_samples import load_processor
from affectlocus.lm.prompts import Prompter
from affectlocus.lm.sample_media import (
    SampleMedia,
    TaskMedia,
    placeholders_of,
    with_placeholders,
)
from affectlocus.training.adapter_stack import AdapterStack
from affectlocus.training.batches import Budget, Example, snapshot_steps
from affectlocus.training.lora_targets import fair_rank, layout
from affectlocus.training.native_bridge import NativeBridge
from affectlocus.training.native_examples import NativeExample, native_examples
from affectlocus.training.sample_layout import (
    SAMPLE_LAYOUT,
    SampleLayout,
    learned_tokens,
    train_rows,
)
from affectlocus.training.training_loop import DivergedError, train_runs
from affectlocus.training.training_run import Run, Slot
from affectlocus.training.training_state import TrainingStates
from affectlocus.training.tuned_bridge import TunedBridge

HARDWARE = Hardware()


def training_examples(
    prompter: Prompter,
    frames: Sequence[pd.DataFrame],
    max_length: int,
    seed: int,
    shuffled: bool = False,
    bridge: BridgeConfig | None = None,
    layout: SampleLayout = SAMPLE_LAYOUT,
    media: Sequence[TaskMedia] = (),
) -> list[Example]:
    """The train splits of prepared tasks as token ids, shuffled together.

    Args:
        frames: prepared tasks with columns `split`, `prompt` and `answer`.
        max_length: tokens of prompt, answer and end token at most. In a longer sample, the answer
            is cut at its end until the prompt has half of the tokens; then the prompt is cut at its
            start.
        shuffled: whether the answers of each task are permuted among its samples, by the seed.
        bridge: what makes soft tokens of media. Without it, prompts have no placeholders.
        layout: what is around prompt and answer.
        media: the features of each task; empty for tasks without media.

    Raises:
        InputError: `max_length` leaves no room for an answer or for the soft tokens.
    """
    if max_length < 2:
        raise InputError(
            "tuning.max-length-too-small",
            f"max_length {max_length} leaves no room for an answer; raise max_length",
            key="max_length",
            found=max_length,
        )
    examples = []
    start = None if layout.start is None else prompter.token(layout.start)
    kept = {} if bridge is None else bridge.tokens
    for number, whole in enumerate(frames):
        frame = with_placeholders(whole, kept)
        tokens = kept if placeholders_of(frame) else {}
        rows, answers = train_rows(frame, seed, shuffled)
        given = SampleMedia(media[number], rows["id"].tolist()) if tokens else None
        texts = rows["prompt"].tolist()
        prompts = prompter.prompts(texts, max_length, tokens, start)
        for row, (text, prompt, word) in enumerate(zip(texts, prompts, answers, strict=True)):
            answer = learned_tokens(prompter, word, layout)[
                : max_length - min(len(prompt), max_length // 2)
            ]
            room = max_length - len(answer)
            if len(prompt) > room:
                (prompt,) = prompter.prompts([text], room, tokens, start)
            own = given.of(row, bridge.media) if bridge is not None and given is not None else None
            examples.append(Example([*prompt, *answer], len(prompt), own))
    random.Random(seed).shuffle(examples)
    return examples


@dataclass(frozen=True)
class TuningJob:
    """A tuning and its files.

    Attributes:
        frames: the prepared tasks of the recipe.
        folder: the folder that the checkpoint is written into.
        states: saves the state of the training, and restores the state of an interrupted one.
        media: with a bridge, the features of each of the tasks.
    """

    recipe: Tuning
    frames: Sequence[pd.DataFrame]
    folder: Path
    states: TrainingStates | None = None
    media: Sequence[TaskMedia] = ()


class Tuner:
    """Tunes one base by any number of recipes; the base is loaded once for all adapters.

    Results do not depend on other tunings.
    """

    def __init__(self, base: Path, hardware: Hardware = HARDWARE) -> None:
        self._base, self._hardware = base, hardware
        self._prompter = Prompter(base)
        self._native = stored_native_model(base)
        self._model: PreTrainedModel | None = None
        self._examples: tuple[Any, list[Example]] = (None, [])

    def stacks(self, recipes: Sequence[Tuning]) -> list[list[int]]:
        """Indices of the recipes that one call of `tune` trains together.

        They are at most `adapters_at_once` adapters that read the same samples in the same order,
        and have the same budget and rank. A recipe with dropout is trained alone, because its
        random numbers would depend on the others; so is one of the bridge alone, which has no
        adapter, and one of a multimodal model of transformers, whose bridge is a part of it.
        """
        size = self._hardware.adapters_at_once
        alike: dict[Any, list[int]] = {}
        for number, recipe in enumerate(recipes):
            alone = recipe.modules == BRIDGE or recipe.dropout or _is_native(recipe)
            single = size == 1 or recipe.method != "lora" or alone or self._drops
            rank = None if single else self._rank(recipe)
            own = recipe.model_dump_json(exclude={"modules", "fair", "trajectory"})
            alike.setdefault(number if single else (own, rank), []).append(number)
        return [
            numbers[start : start + size]
            for numbers in alike.values()
            for start in range(0, len(numbers), size)
        ]

    def tune(
        self, jobs: Sequence[TuningJob], progress: Callable[[], None] = lambda: None
    ) -> list[dict[str, Any]]:
        """Tunes the base by one recipe, or by those of a stack, and saves each checkpoint.

        An adapter (LoRA) or a whole model (SFT) is saved; with a bridge also the bridge, tuned and
        initial; of the module set `bridge`, only these. Embeddings, norms, biases outside the
        module set and the head are frozen in both methods, as in the paper's Algorithm 1. With
        `recipe.trajectory`, snapshots of earlier steps are saved as well (`snapshot_folder`); they
        do not change the checkpoint.

        Args:
            progress: called after each step.

        Returns:
            Of each job: `trainable` and `total` parameter counts, `samples`, the `log` of the
            losses, and `snapshots`, the steps of the snapshots.
        """
        examples = self._examples_of(jobs[0])
        if jobs[0].recipe.modules == BRIDGE:
            (job,) = jobs
            return [self._tune_bridge(job, examples, progress)]
        if jobs[0].recipe.method == "sft":
            (job,) = jobs
            return [self._tune_in_full(job, examples, progress)]
        try:
            return self._tune_adapters(jobs, examples, progress)
        except DivergedError:
            if len(jobs) == 1:
                raise
        # One of the stack diverged. Alone, the others succeed.
        return [self._tune_adapters([job], examples, progress)[0] for job in jobs]

    def _tune_adapters(
        self, jobs: Sequence[TuningJob], examples: list[Example], progress: Callable[[], None]
    ) -> list[dict[str, Any]]:
        model = self._loaded()
        total = sum(parameter.numel() for parameter in model.parameters())
        configs = [self._config(job.recipe) for job in jobs]
        stack = AdapterStack(model, configs, jobs[0].recipe.seed)
        bridges = [self._bridge(job.recipe, examples, model) for job in jobs]

        def saving(number: int) -> Callable[[Path], None]:
            def save(folder: Path) -> None:
                stack.save(number, folder)
                bridges[number].save(folder)

            return save

        try:
            runs = [
                _run(job, slots, saving(number), bridges[number])
                for number, (job, slots) in enumerate(zip(jobs, stack.slots, strict=True))
            ]
            train_runs(model, examples, budget_of(jobs[0].recipe), runs, self._hardware, progress)
            for number, job in enumerate(jobs):
                saving(number)(job.folder)
        finally:
            stack.close()
            for bridge in bridges:
                bridge.close()
        return [_measured(run, total, examples) for run in runs]

    def _tune_bridge(
        self, job: TuningJob, examples: list[Example], progress: Callable[[], None]
    ) -> dict[str, Any]:
        """Tunes the bridge alone, with the base frozen."""
        model = self._loaded().requires_grad_(False)
        total = sum(parameter.numel() for parameter in model.parameters())
        bridge = self._bridge(job.recipe, examples, model)
        try:
            run = _run(job, {}, bridge.save, bridge)
            train_runs(model, examples, budget_of(job.recipe), [run], self._hardware, progress)
            job.folder.mkdir(parents=True, exist_ok=True)
            bridge.save(job.folder)
        finally:
            bridge.close()
        return _measured(run, total, examples)

    def _tune_in_full(
        self, job: TuningJob, examples: list[Example], progress: Callable[[], None]
    ) -> dict[str, Any]:
        # A model of its own, because its weights change.
        self._model = None
        model = load(self._base, self._hardware)
        stored = model.dtype
        chosen = set(self._chosen(model, job.recipe))
        for name, parameter in model.named_parameters():
            parameter.requires_grad = name in chosen
        # Small steps are lost in bfloat16: train in float32, save in the dtype of the base.
        model.float()
        slots = {n: Slot(one) for n, one in model.named_parameters() if one.requires_grad}
        bridge = self._bridge(job.recipe, examples, model)

        def save(folder: Path) -> None:
            _save_model(model, stored, folder)
            bridge.save(folder)

        run = _run(job, slots, save, bridge)
        train_runs(model, examples, budget_of(job.recipe), [run], self._hardware, progress)
        model.to(stored)
        save(job.folder)
        reads = self._prompter.tokenizer if self._native is None else load_processor(self._base)
        reads.save_pretrained(job.folder)
        total = sum(parameter.numel() for parameter in model.parameters())
        return _measured(run, total, examples)

    def _bridge(
        self, recipe: Tuning, examples: Sequence[Example], model: PreTrainedModel
    ) -> TunedBridge | NativeBridge:
        """The bridge of a recipe: beside the language model, or a part of the multimodal one."""
        if not _is_native(recipe):
            return TunedBridge.of(recipe, examples, model)
        check_native(self._base, model.config.to_dict())
        assert self._native is not None
        return NativeBridge(model, self._native)

    def _loaded(self) -> PreTrainedModel:
        if self._model is None:
            self._model = load(self._base, self._hardware)
        return self._model

    @property
    def _drops(self) -> bool:
        """Whether the base itself has dropout, whose random numbers all rows of a batch share."""
        config = self._loaded().config.get_text_config().to_dict()
        return any(
            value
            for key, value in config.items()
            if ("dropout" in key or key.endswith("_pdrop")) and isinstance(value, (int, float))
        )

    def _examples_of(self, job: TuningJob) -> list[Example]:
        """The samples of a job; kept for the next one, which often has the same."""
        recipe = job.recipe
        key = (
            recipe.data,
            recipe.max_length,
            recipe.seed,
            recipe.shuffled,
            recipe.bridge,
            SampleLayout.of(recipe),
        )
        if self._examples[0] != key:
            if _is_native(recipe):
                check_native(self._base, self._loaded().config.to_dict())
                found: list[Example] = [*self._native_examples(job)]
            else:
                found = training_examples(self._prompter, job.frames, *key[1:], job.media)
            self._examples = key, found
        return self._examples[1]

    def _native_examples(self, job: TuningJob) -> list[NativeExample]:
        assert self._native is not None
        recipe = job.recipe
        return native_examples(
            self._prompter,
            load_processor(self._base),
            self._native,
            job.frames,
            job.media,
            max_length=recipe.max_length,
            seed=recipe.seed,
            shuffled=recipe.shuffled,
            layout=SampleLayout.of(recipe),
        )

    def _chosen(self, model: PreTrainedModel, recipe: Tuning) -> list[str]:
        """The names of a recipe's parameters.

        Raises:
            InputError: no layer has the projections, or the model lacks a layer of the set.
        """
        wanted = parse_modules(recipe.modules)
        located = {
            name: location
            for name, _ in model.named_parameters()
            if (location := locate(name)) is not None
        }
        if located:
            wanted.check_layers(1 + max(one.layer for one in located.values()), self._base)
        found = [
            name for name, one in located.items() if wanted.contains(one.layer, one.projection)
        ]
        if not found:
            raise InputError(
                "base.no-such-projection",
                f"{self._base}: no layer has the projections {recipe.modules}; "
                "expected q, k, v, o, gate, up or down_proj below self_attn and mlp",
                file=self._base,
                found=recipe.modules,
            )
        return found

    def _rank(self, recipe: Tuning) -> int:
        if not recipe.fair:
            return recipe.rank
        shapes = ((name, tuple(one.shape)) for name, one in self._loaded().named_parameters())
        return fair_rank(layout(str(self._base), shapes), recipe.modules, recipe.rank)

    def _config(self, recipe: Tuning) -> LoraConfig:
        """The configuration of an adapter.

        Its targets are full names, because the base may have other modules of these names (a vision
        tower).
        """
        names = self._chosen(self._loaded(), recipe)
        rank = self._rank(recipe)
        return LoraConfig(
            r=rank,
            # Keeps the scaling alpha / r of the recipe.
            lora_alpha=recipe.alpha * rank / recipe.rank,
            lora_dropout=recipe.dropout,
            target_modules=[
                name.removesuffix(".weight") for name in names if name.endswith(".weight")
            ],
            task_type="CAUSAL_LM",
        )


def _is_native(recipe: Tuning) -> bool:
    """Whether a recipe tunes a multimodal model of transformers with its own bridge."""
    return recipe.bridge is not None and KINDS[recipe.bridge.kind].own


def budget_of(recipe: Tuning) -> Budget:
    """The training budget of a recipe."""
    return Budget(
        steps=recipe.steps,
        batch_size=recipe.batch_size,
        learning_rate=recipe.learning_rate,
        warmup=recipe.warmup,
        weight_decay=recipe.weight_decay,
        seed=recipe.seed,
        group_by_length=recipe.group_by_length,
        clip=recipe.clip,
        schedule=recipe.schedule,
        bridge_learning_rate=None if recipe.bridge is None else recipe.bridge.learning_rate,
    )


def _run(
    job: TuningJob,
    slots: dict[str, Slot],
    save: Callable[[Path], None],
    bridge: TunedBridge | NativeBridge,
) -> Run:
    """The run of a job; `save` writes the current checkpoint into a folder."""
    return Run(
        slots | bridge.slots,
        snapshot_steps(job.recipe.steps, job.recipe.trajectory)[:-1],
        lambda step: save(snapshot_folder(job.folder, step)),
        job.states,
        job.folder / TRAJECTORY,
        bridge.module,
        bridge.frozen,
    )


def _measured(run: Run, total: int, examples: list[Example]) -> dict[str, Any]:
    trainable = sum(slot.of(slot.parameter).numel() for slot in run.slots.values())
    counts = {"trainable": trainable, "total": total, "samples": len(examples)}
    if run.bridge is not None:
        # Of the trainable parameters, those of the bridge; `total` is the language model's.
        counts["bridge"] = sum(one.numel() for one in run.bridge.parameters())
    return counts | {"log": run.log, "snapshots": list(run.snapshots)}


def _save_model(model: PreTrainedModel, stored: torch.dtype, folder: Path) -> None:
    """Saves the current model in dtype `stored`."""
    # Keyed by address, so that tied tensors share one copy.
    cast = {tensor.data_ptr(): tensor.to(stored) for tensor in model.state_dict().values()}
    weights = {name: cast[tensor.data_ptr()] for name, tensor in model.state_dict().items()}
    model.save_pretrained(folder, state_dict=weights)
