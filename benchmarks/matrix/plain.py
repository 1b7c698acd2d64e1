"""One cell as one would write it with transformers and peft: python plain.py BASE ADAPTER SET DATA…

Loads the base, applies the adapter's factors of one module set, and chooses for each sample the
label with the highest log-likelihood, a forward pass for each label, 32 samples at a time.
"""

from __future__ import annotations

import sys

import pandas as pd
import torch
from peft import PeftModel
from sklearn.metrics import f1_score
from transformers import AutoModelForCausalLM, AutoTokenizer

BATCH = 32


def main(base: str, adapter: str, modules: str, data: list[str]) -> None:
    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), adapter)
    kept = modules.split("+")
    for name, parameter in model.named_parameters():
        if "lora_B" in name and modules != "all":
            projection = name.split("_proj")[0].rsplit(".", 1)[1]
            if projection not in kept:
                parameter.data.zero_()
    model = model.merge_and_unload().eval()
    for path in data:
        frame = pd.read_parquet(path)
        labels = sorted(frame["answer"].unique())
        test = frame[frame["split"] == "test"]
        scores = [logliks(model, tokenizer, test["prompt"].tolist(), label) for label in labels]
        chosen = torch.stack(scores).argmax(0)
        answers = [labels[number] for number in chosen]
        print(path, f1_score(test["answer"], answers, average="weighted"))  # noqa: T201


@torch.inference_mode()
def logliks(model, tokenizer, prompts: list[str], label: str) -> torch.Tensor:
    """log p(label | prompt) of each prompt."""
    found = []
    for start in range(0, len(prompts), BATCH):
        rows = [tokenizer(prompt)["input_ids"] for prompt in prompts[start : start + BATCH]]
        answer = tokenizer(" " + label)["input_ids"]
        width = max(map(len, rows)) + len(answer)
        ids = torch.zeros(len(rows), width, dtype=torch.long)
        mask = torch.zeros(len(rows), width, dtype=torch.long)
        for number, row in enumerate(rows):
            ids[number, : len(row) + len(answer)] = torch.tensor([*row, *answer])
            mask[number, : len(row) + len(answer)] = 1
        logs = model(input_ids=ids, attention_mask=mask).logits.log_softmax(-1)
        for number, row in enumerate(rows):
            places = torch.arange(len(row) - 1, len(row) + len(answer) - 1)
            found.append(logs[number, places, torch.tensor(answer)].sum())
    return torch.stack(found)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:])
