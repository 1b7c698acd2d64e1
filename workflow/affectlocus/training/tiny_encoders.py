"""Step `encoders`: the tiny encoders of the embedded example, in Hugging Face format.

From an untrained CLIP the valence of a face can hardly be read, so this one is pre-trained. It is
given no label of an emotion or of an expression. It predicts who the person is, how the picture was
taken, and a small picture of the same face in a standard view: the expression is in that picture
as anything else is that can be seen. From an untrained HuBERT the arousal of a voice can be read.
Its output is the same for all voices but for a small part, so it gets mean 0 and deviation 1 over
drawn voices.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    HubertConfig,
    HubertModel,
    Wav2Vec2FeatureExtractor,
)

from affectlocus.config.encoder_recipes import EncoderRecipe
from affectlocus.data.faces import (
    SIDE,
    STANDARD,
    draw_expression,
    draw_face,
    draw_identity,
    draw_view,
)
from affectlocus.data.voices import RATE, draw_delivery, draw_speaker, draw_voice
from affectlocus.lm.devices import main_device

HELD_OUT = 0.1
"""Share of the faces, the last ones, that the encoder is not trained on."""


@dataclass(frozen=True)
class Faces:
    """Drawn faces and what the encoder has to predict of them.

    Attributes:
        pixels: (faces, 3, SIDE, SIDE), float32 from -1 to 1.
        targets: (faces, numbers), float32: identity and view, each of mean 0 and deviation 1; then
            the grey values of the face in the standard view, together of deviation 1.
    """

    pixels: Tensor
    targets: Tensor


@dataclass(frozen=True)
class _Face:
    pixels: NDArray[np.uint8]
    numbers: tuple[float, ...]
    standard: NDArray[np.float32]


def _drawn(seed: int, number: int) -> _Face:
    """One face; every face is of another person."""
    rng = random.Random(f"encoder/{seed}/{number}")
    person, view = draw_identity(rng), draw_view(rng)
    expression = draw_expression(rng, rng.random() < 0.5)
    grey = draw_face(person, expression, STANDARD, None).mean(axis=2)
    small = grey.reshape(SIDE // 2, 2, SIDE // 2, 2).mean(axis=(1, 3))
    return _Face(
        draw_face(person, expression, view, rng.getrandbits(63)),
        (*person.numbers, *view.numbers),
        small[4:19, 3:17].astype(np.float32),  # from the brow to the chin
    )


def draw_faces(recipe: EncoderRecipe) -> Faces:
    """The faces of a recipe; none of their people occurs in the generated tasks."""
    drawn = [_drawn(recipe.seed, number) for number in range(recipe.examples)]
    pixels = torch.from_numpy(np.stack([face.pixels for face in drawn]))
    numbers = torch.tensor([face.numbers for face in drawn])
    pictures = torch.from_numpy(np.stack([face.standard for face in drawn])).flatten(1)
    targets = [
        (numbers - numbers.mean(0)) / numbers.std(0),
        (pictures - pictures.mean(0)) / pictures.std(),
    ]
    return Faces(pixels.permute(0, 3, 1, 2).float() / 127.5 - 1, torch.cat(targets, dim=1))


def draw_voices(recipe: EncoderRecipe, count: int) -> NDArray[np.int16]:
    """Voices of speakers of whom none occurs in the generated tasks, (count, samples)."""
    voices = []
    for number in range(count):
        rng = random.Random(f"encoder/{recipe.seed}/voice/{number}")
        delivery = draw_delivery(rng, rng.random() < 0.5)
        voices.append(draw_voice(draw_speaker(rng), delivery, rng))
    return np.stack(voices)


def fingerprint(recipe: EncoderRecipe) -> str:
    """SHA-256 of the first 16 examples: it changes with the way they are drawn."""
    total = hashlib.sha256()
    if recipe.architecture == "hubert":
        total.update(draw_voices(recipe, 16).tobytes())
    else:
        for number in range(16):
            face = _drawn(recipe.seed, number)
            total.update(face.pixels.tobytes() + face.standard.tobytes())
    return total.hexdigest()


def _clip(recipe: EncoderRecipe) -> CLIPVisionModelWithProjection:
    return CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            hidden_size=recipe.hidden_size,
            intermediate_size=2 * recipe.hidden_size,
            projection_dim=recipe.hidden_size,
            num_hidden_layers=recipe.layers,
            num_attention_heads=recipe.heads,
            image_size=SIDE,
            patch_size=8,
        )
    )


def _hubert(recipe: EncoderRecipe) -> HubertModel:
    return HubertModel(
        HubertConfig(
            hidden_size=recipe.hidden_size,
            intermediate_size=2 * recipe.hidden_size,
            num_hidden_layers=recipe.layers,
            num_attention_heads=recipe.heads,
            conv_dim=(32, 32, 32),
            conv_kernel=(10, 8, 4),
            conv_stride=(5, 4, 4),
            num_conv_pos_embeddings=16,
            num_conv_pos_embedding_groups=4,
            # Larger than usual, so that the untrained layers change what they are given.
            initializer_range=0.1,
        )
    )


def _train(model: CLIPVisionModelWithProjection, faces: Faces, recipe: EncoderRecipe) -> float:
    """Trains the model with a linear head, which is thrown away; the error on held-out faces."""
    device = main_device()
    count = max(1, round(HELD_OUT * len(faces.pixels)))
    pixels, targets = faces.pixels.to(device), faces.targets.to(device)
    head = torch.nn.Linear(recipe.hidden_size, targets.shape[1]).to(device)
    model.to(device).train()
    parameters = [*model.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=recipe.learning_rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.learning_rate, total_steps=max(recipe.steps, 2), pct_start=0.1
    )
    order = torch.Generator().manual_seed(recipe.seed)
    for _ in range(recipe.steps):
        rows = torch.randint(len(pixels) - count, (recipe.batch_size,), generator=order).to(device)
        predicted = head(model(pixel_values=pixels[rows]).image_embeds)
        loss = torch.nn.functional.mse_loss(predicted, targets[rows])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
    model.eval()
    with torch.no_grad():
        predicted = head(model(pixel_values=pixels[-count:]).image_embeds)
        return float(torch.nn.functional.mse_loss(predicted, targets[-count:]))


def _standardise(
    model: HubertModel, extractor: Wav2Vec2FeatureExtractor, voices: NDArray[np.int16]
) -> None:
    """Gives the mean over time of the output mean 0 and deviation 1 over some voices."""
    inputs = extractor([*(voices / 32768)], sampling_rate=RATE, return_tensors="pt")
    with torch.no_grad():
        outputs = [
            model(part).last_hidden_state.mean(dim=1) for part in inputs["input_values"].split(100)
        ]
        mean, deviation = torch.cat(outputs).mean(0), torch.cat(outputs).std(0)
        last = model.encoder.layers[-1].final_layer_norm
        last.weight.div_(deviation)
        last.bias.sub_(mean).div_(deviation)


def make_encoder(recipe: EncoderRecipe, folder: Path) -> dict[str, float]:
    """Makes an encoder and saves it with its preprocessing into `folder`.

    Returns:
        The number of `parameters`; for a trained encoder `held_out_error`, the mean squared error
        per predicted number on faces of other people; about 1 is what a constant would reach.
    """
    torch.manual_seed(recipe.seed)
    measured: dict[str, float] = {}
    model: CLIPVisionModelWithProjection | HubertModel
    if recipe.architecture == "clip":
        model = _clip(recipe)
        if recipe.steps:
            measured["held_out_error"] = _train(model, draw_faces(recipe), recipe)
        processor = CLIPImageProcessor(
            size={"shortest_edge": SIDE},
            crop_size={"height": SIDE, "width": SIDE},
            image_mean=[0.5, 0.5, 0.5],
            image_std=[0.5, 0.5, 0.5],
        )
    else:
        model = _hubert(recipe)
        processor = Wav2Vec2FeatureExtractor(sampling_rate=RATE, do_normalize=True)
        _standardise(model.eval(), processor, draw_voices(recipe, recipe.examples))
    folder.mkdir(parents=True)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    measured["parameters"] = sum(parameter.numel() for parameter in model.parameters())
    return measured
