"""One LoRA tuning as scripts are usually written: transformers' Trainer and peft, a process each.

    python benchmarks/tune/plain.py BASE DATA.parquet OUT RECIPE

RECIPE is the JSON of `affectlocus tune --settings`. Samples, their order, the factors at the start,
AdamW, clipping and the schedule are those of `affectlocus tune`, so that both end with the same
adapter but for rounding. It prints the seconds of the training alone.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from peft import LoraConfig, get_peft_model
from torch.utils.data import SequentialSampler
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

from affectlocus.config.tuning import Tuning
from affectlocus.core.projections import parse_modules
from affectlocus.lm.prompts import Prompter
from affectlocus.training.batches import Example, schedule
from affectlocus.training.tune import budget_of, training_examples


class _InOrder(Trainer):
    def _get_train_sampler(self, train_dataset: Any = None) -> SequentialSampler:
        return SequentialSampler(train_dataset or self.train_dataset)


def collate(examples: list[Example]) -> dict[str, torch.Tensor]:
    """A padded batch with labels, as Trainer's models take it."""
    shape = len(examples), max(len(example.ids) for example in examples)
    ids, mask = torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.long)
    labels = torch.full(shape, -100)
    for row, example in enumerate(examples):
        length, tokens = len(example.ids), torch.tensor(example.ids)
        ids[row, :length], mask[row, :length] = tokens, 1
        labels[row, example.prompt_length : length] = tokens[example.prompt_length :]
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def main(base: Path, data: Path, out: Path, recipe: Tuning) -> None:
    torch.set_num_threads(1)
    frame = pd.read_parquet(data)
    examples = training_examples(Prompter(base), [frame], recipe.max_length, recipe.seed)
    budget = budget_of(recipe)
    order = schedule([len(example.ids) for example in examples], budget)
    model = AutoModelForCausalLM.from_pretrained(base, dtype="auto")
    ends = tuple(f"{name}_proj" for name in parse_modules(recipe.modules).projections)
    targets = [name for name, _ in model.named_modules() if name.endswith(ends)]
    torch.manual_seed(recipe.seed)
    lora = LoraConfig(r=recipe.rank, lora_alpha=recipe.alpha, target_modules=targets)
    model = get_peft_model(model, lora)
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        arguments = TrainingArguments(
            output_dir=scratch,
            max_steps=recipe.steps,
            per_device_train_batch_size=recipe.batch_size,
            learning_rate=recipe.learning_rate,
            lr_scheduler_type="cosine",
            warmup_steps=max(1, round(recipe.warmup * recipe.steps)),
            weight_decay=recipe.weight_decay,
            max_grad_norm=1.0,
            seed=recipe.seed,
            save_strategy="no",
            logging_steps=max(1, recipe.steps // 20),
            report_to="none",
            remove_unused_columns=False,
            dataloader_pin_memory=False,
            use_cpu=True,
            disable_tqdm=True,
        )
        rows = [examples[row] for row in order]
        _InOrder(model=model, args=arguments, train_dataset=rows, data_collator=collate).train()
    print(json.dumps({"training_s": time.perf_counter() - begun}))  # noqa: T201
    model.save_pretrained(out)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]), Tuning.model_validate_json(sys.argv[4]))
