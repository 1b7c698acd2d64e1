"""Generated material: a base, a tuned model, and a task of samples for both evaluators.

Run as `python material.py SIZE FOLDER`. The folder gets

    base/, tuned/           models of Qwen2's kind in float32, random, with a trained tokenizer
    base.json, tuned.json   their manifests, as affectlocus's steps write them
    task.parquet            the samples, as `affectlocus prepare` writes them
    harness/                the same samples as a task of lm-evaluation-harness: yaml and json lines
"""

from __future__ import annotations

import json
import random
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import yaml
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "workflow"))

from affectlocus.checkpoints.checkpoint_manifests import manifest
from affectlocus.core.files import write_json
from affectlocus.data.corpus import BENCHMARKS, benchmark_row, pretraining_document
from affectlocus.data.prepared_task import PreparedTask
from affectlocus.training.pretrain import train_tokenizer

TASK = "moods"
LABELS = ["glad", "sorry", "bored", "love", "shame", "panic", "awe"]
"""Three tokens each, in the tokenizer that is trained here."""

SCENES = 3
"""Scenes in a prompt: about 100 tokens."""

DOCUMENTS = 3000


@dataclass(frozen=True)
class Size:
    """How large the models are, and how many samples they answer."""

    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    samples: int

    def config(self, vocabulary: int) -> dict[str, Any]:
        """Settings of transformers' Qwen2Config."""
        return {
            "vocab_size": vocabulary,
            "hidden_size": self.hidden,
            "intermediate_size": self.intermediate,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "max_position_embeddings": 512,
            # Wide enough that answers differ from sample to sample.
            "initializer_range": 0.08,
            "tie_word_embeddings": True,
            "bos_token_id": None,
            "dtype": "float32",
        }


SIZES = {
    "tiny": Size(32, 64, 2, 4, 2, 24),
    "small": Size(256, 704, 6, 4, 2, 120),
}


def samples(number: int) -> list[dict[str, Any]]:
    """Prompts of three generated scenes each and an answer drawn from the labels."""
    draw = random.Random(1)
    rows = []
    for row in range(number):
        scenes = [benchmark_row(BENCHMARKS["mini-MELD"], draw) for _ in range(SCENES)]
        text = " ".join(scene["text"] for scene in scenes)
        asked = f"{text} {scenes[-1]['question']}"
        answer = draw.choice(LABELS)
        rows.append({"id": f"test-{row}", "text": text, "prompt": asked, "answer": answer})
    return rows


def changed(model: PreTrainedModel) -> None:
    """Every weight of the layers' projections, 5% off."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("_proj.weight"):
                parameter.add_(0.05 * parameter.std() * torch.randn_like(parameter))


def models(size: Size, folder: Path) -> None:
    """`base` and `tuned` with tokenizer and manifest."""
    draw = random.Random(0)
    tokenizer = train_tokenizer([pretraining_document(draw) for _ in range(DOCUMENTS)])
    torch.manual_seed(0)
    ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    config = AutoConfig.for_model("qwen2", **size.config(len(tokenizer)), **ends)
    model = AutoModelForCausalLM.from_config(config)
    for side in ("base", "tuned"):
        if side == "tuned":
            changed(model)
        model.save_pretrained(folder / side)
        tokenizer.save_pretrained(folder / side)
        write_json(
            folder / f"{side}.json",
            {"folder": str(folder / side), "kind": "model", "files": manifest(folder / side)},
        )


def tasks(rows: list[dict[str, Any]], folder: Path) -> None:
    """The samples in affectlocus's layout and in the harness's."""
    frame = pd.DataFrame(rows).assign(split="test")
    PreparedTask(TASK, LABELS, frame).write(folder / "task.parquet")
    harness = folder / "harness"
    harness.mkdir()
    with (harness / "samples.jsonl").open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row | {"gold": LABELS.index(row["answer"])}) + "\n")
    task = {
        "task": TASK,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(harness / "samples.jsonl")}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "{{prompt}}",
        "doc_to_target": "gold",
        "doc_to_choice": LABELS,
        "target_delimiter": " ",
        "num_fewshot": 0,
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    }
    (harness / f"{TASK}.yaml").write_text(yaml.safe_dump(task), encoding="utf-8")


def write(size: Size, folder: Path) -> None:
    """All of it, into an empty folder."""
    models(size, folder)
    tasks(samples(size.samples), folder)


if __name__ == "__main__":
    write(SIZES[sys.argv[1]], Path(sys.argv[2]).resolve())
