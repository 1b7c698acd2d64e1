"""AffectGPT's prompt, embeddings, logits, loss and optimizer step against a plain reference."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import pandas as pd
import plain_affectgpt as plain
import plain_training as training
import pytest
import torch
from layouts import HEARD, SEEN
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from affectlocus.config.evaluation import Generation
from affectlocus.config.tuning import Tuning
from affectlocus.lm.chat_templates import template_ids
from affectlocus.lm.prompts import Prompter
from affectlocus.lm.soft_tokens import model_inputs
from affectlocus.training.batches import Example
from affectlocus.training.tune import SampleLayout, Tuner, TuningJob, training_examples

START = "A"  # a token of the tiny tokenizer; AffectGPT's is <|im_start|>
QUESTION = "What is felt?"
SUBTITLES = ("Ben was sad, Cleo angry.", "So.")
ANSWERS = tuple(f"The character's emotional state is {one}." for one in ("sad, angry", "calm"))
TOKENS = {"multi": 1, "audio": 1, "face": 1}
RECIPE: dict[str, Any] = {
    "data": ["mer"],
    "rank": 3,
    "alpha": 6,
    "steps": 1,
    "batch_size": 2,
    "learning_rate": 1e-3,
    "warmup": 0,
    "weight_decay": 0.05,
    "max_length": 1024,
    "start": START,
    "answers": "separate",
    "end": "###",
    "clip": 0,
    "schedule": "constant",
    "seed": 3,
    "bridge": {"kind": "affectgpt", "tokens": TOKENS},
}


def ours(text: str) -> str:
    """A prompt of the released code with the placeholders of this project."""
    for here, name in zip(plain.HERE, TOKENS, strict=True):
        text = text.replace(here, f"<{name}>")
    return text


class Given:
    """The features of a medium."""

    def __init__(self, values: dict[str, torch.Tensor]) -> None:
        self._values = values
        self.width = next(iter(values.values())).shape[1]

    def of(self, sample: str) -> torch.Tensor:
        return self._values[sample]


@pytest.fixture
def media() -> dict[str, Given]:
    random = torch.Generator().manual_seed(0)
    return {
        name: Given({one: torch.randn(8, width, generator=random) for one in ("s0", "s1")})
        for name, width in (("face", SEEN), ("audio", HEARD))
    }


@pytest.fixture
def frame() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "id": ["s0", "s1"],
            "split": "train",
            "text": SUBTITLES,
            "prompt": [ours(plain.prompt(one, QUESTION)) for one in SUBTITLES],
            "answer": ANSWERS,
            "media.face": ["s0.npy", "s1.npy"],
            "media.audio": ["s0.wav", "s1.wav"],
        }
    )


def reference_samples(tokenizer: Any) -> list[tuple[list[int], list[int]]]:
    def encode(text: str) -> list[int]:
        return tokenizer(text, add_special_tokens=False)["input_ids"]

    start = tokenizer.convert_tokens_to_ids(START)
    return [
        plain.training_sample(
            encode, plain.prompt(subtitle, QUESTION), answer, start, tokenizer.eos_token_id
        )
        for subtitle, answer in zip(SUBTITLES, ANSWERS, strict=True)
    ]


def encoded(prompter: Prompter, frame: pd.DataFrame, media: dict[str, Given]) -> list[Example]:
    """The samples as the tuning of this project reads them."""
    recipe = Tuning(**RECIPE)
    layout = SampleLayout.of(recipe)
    return training_examples(
        prompter, [frame], 1024, 3, bridge=recipe.bridge, layout=layout, media=[media]
    )


def in_order(examples: list[Example], media: dict[str, Given]) -> list[Example]:
    """The examples of s0 and s1, whatever their order."""
    first = media["face"].of("s0")
    return sorted(examples, key=lambda one: not torch.equal(one.media["face"], first))


def test_ids_and_labels_are_the_reference_s(checkpoint, media, frame) -> None:
    prompter = Prompter(checkpoint("qwen2", max_position_embeddings=1024))
    examples = encoded(prompter, frame, media)
    tokenizer = training.with_added_tokens(prompter.tokenizer)
    places = dict(zip(tokenizer.convert_tokens_to_ids(list(plain.HERE)), (-1, -2, -3), strict=True))
    for example, (ids, labels) in zip(
        in_order(examples, media), reference_samples(tokenizer), strict=True
    ):
        assert example.ids == [places.get(one, one) for one in ids]
        assert example.prompt_length == labels.count(-100)
        assert example.ids[example.prompt_length :] == labels[example.prompt_length :]


def test_the_prompt_of_the_inference_has_no_start_token(checkpoint) -> None:
    prompter = Prompter(checkpoint("qwen2", max_position_embeddings=1024))
    settings = Generation(template="affectgpt", question=QUESTION)
    [ids] = template_ids(prompter.tokenizer, [SUBTITLES[0]], settings, 1024, TOKENS)
    tokenizer = training.with_added_tokens(prompter.tokenizer)
    expected = tokenizer(plain.prompt(SUBTITLES[0], QUESTION), add_special_tokens=False)
    places = dict(zip(tokenizer.convert_tokens_to_ids(list(plain.HERE)), (-1, -2, -3), strict=True))
    assert ids == [places.get(one, one) for one in expected["input_ids"]]


def test_one_step_from_the_same_start_ends_in_the_same_weights(
    checkpoint, media, frame, tmp_path: Path
) -> None:
    base = checkpoint("qwen2", max_position_embeddings=1024)
    job = TuningJob(Tuning(**RECIPE), [frame], tmp_path / "ours", None, [media])
    job.folder.mkdir()
    [measured] = Tuner(base).tune([job])

    model = AutoModelForCausalLM.from_pretrained(base)
    tokenizer = training.with_added_tokens(Prompter(base).tokenizer)
    samples = reference_samples(tokenizer)
    torch.manual_seed(RECIPE["seed"])
    targets = [name for name, _ in model.named_modules() if name.endswith("_proj")]
    config = LoraConfig(r=3, lora_alpha=6, target_modules=targets, task_type="CAUSAL_LM")
    tuned = get_peft_model(model, config)
    initial = load_file(job.folder / "bridge_initial.safetensors")
    bridge = {name: value.clone().requires_grad_() for name, value in initial.items()}
    lora = {name: one for name, one in tuned.named_parameters() if one.requires_grad}
    table = model.get_input_embeddings().weight.detach()
    soft = [
        training.soft_tokens(bridge, media["face"].of(one), media["audio"].of(one))
        for one in ("s0", "s1")
    ]
    inputs = training.batch(table, tokenizer, samples, soft)

    # Embeddings and logits of this project's own input, before the step.
    examples = encoded(Prompter(base), frame, media)
    for row, example in enumerate(in_order(examples, media)):
        vectors = torch.stack(list(soft[row]))[None]
        found = model_inputs(model, torch.tensor([example.ids]), vectors)["inputs_embeds"]
        length = len(example.ids)
        torch.testing.assert_close(
            found[0], inputs["inputs_embeds"][row, :length], rtol=0, atol=1e-6
        )
        # In float64: the rounding of a float32 logit of this model is 6e-6.
        wide = deepcopy(tuned).double()
        doubled = {
            name: one.double() if one.is_floating_point() else one for name, one in inputs.items()
        }
        with torch.no_grad():
            alone = wide(inputs_embeds=found.double()).logits[0, :-1]
            together = wide(**doubled).logits[row, : length - 1]
        torch.testing.assert_close(alone, together, rtol=0, atol=1e-6)

    optimizer = training.adamw([*lora.values(), *bridge.values()], 1e-3, 0.05)
    loss = tuned(**inputs).loss
    loss.backward()
    optimizer.step()
    assert measured["log"][0]["loss"] == pytest.approx(loss.item(), abs=1e-6)
    adapter = load_file(job.folder / "adapter_model.safetensors")
    for name, value in lora.items():
        found = adapter[name.replace(".default", "")]
        torch.testing.assert_close(found, value.detach(), rtol=0, atol=1e-6)
    after = load_file(job.folder / "bridge.safetensors")
    assert after.keys() == bridge.keys()
    changed = 0
    for name, value in bridge.items():
        torch.testing.assert_close(after[name], value.detach(), rtol=0, atol=1e-6)
        changed += not torch.equal(after[name], initial[name])
    assert changed == len(bridge), "some tensors of the bridge were not trained"


@pytest.mark.parametrize(
    "setting",
    [{"start": None}, {"answers": "spaced"}, {"end": ""}, {"clip": 1e-6}, {"schedule": "cosine"}],
    ids=str,
)
def test_each_setting_makes_a_difference(checkpoint, media, frame, tmp_path, setting) -> None:
    """The comparison above would notice each of them."""
    base = checkpoint("qwen2", max_position_embeddings=1024)
    losses, weights = [], []
    for number, changed in enumerate(({}, setting)):
        job = TuningJob(Tuning(**RECIPE | changed), [frame], tmp_path / str(number), None, [media])
        job.folder.mkdir()
        [measured] = Tuner(base).tune([job])
        losses.append(measured["log"][0]["loss"])
        weights.append(load_file(job.folder / "bridge.safetensors")["fc_att.weight"])
    # AdamW's first step has the gradient's sign alone, so that other samples may change no weight.
    other_weights = (weights[0] - weights[1]).abs().max() > 1e-6
    assert abs(losses[0] - losses[1]) > 1e-4 or other_weights
