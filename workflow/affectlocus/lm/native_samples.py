"""Samples with media as a multimodal model of transformers reads them, through its own processor.

One forward pass for each sample, and for each start of its candidates without their last token: the
model puts media and text together itself, with its own positions and masks, and no sample depends
on another one.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoProcessor, PreTrainedModel

from affectlocus.checkpoints.native_models import NativeModel
from affectlocus.core.errors import InputError
from affectlocus.lm.config_limits import loading_errors
from affectlocus.lm.sample_media import SampleMedia
from affectlocus.lm.soft_tokens import placeholder

_KINDS = {3: ("image", "images"), 1: ("audio", "audio")}
"""Width of decoded media → their kind, and the processor's argument."""
_BY_TOKEN = {"attention_mask": 1, "token_type_ids": 0, "mm_token_type_ids": 0}
"""The processor's outputs with a number for each token → that of a token of text."""


def load_processor(folder: Path) -> Any:
    """The processor in the folder of a multimodal model.

    Raises:
        InputError: transformers cannot load it.
    """
    with loading_errors(folder):
        return AutoProcessor.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


@dataclass(frozen=True)
class NativeSamples:
    """The samples of a task.

    Attributes:
        texts: the prompts, with placeholders of media.
        names: the media that the model reads; without one, `texts` are plain text.
        media: what the samples have at the placeholders.
    """

    processor: Any
    native: NativeModel
    texts: Sequence[str]
    names: Sequence[str]
    media: SampleMedia

    def inputs(self, row: int) -> dict[str, torch.Tensor]:
        """The model's inputs for one sample.

        Raises:
            InputError: the model reads no media of a kind, or a recording has another rate than it
                reads, or more seconds.
        """
        text = self.texts[row]
        given: dict[str, list[Any]] = {}
        pattern = "|".join(re.escape(placeholder(name)) for name in self.names)
        order = [found[1:-1] for found in re.findall(pattern, text)] if pattern else []
        arrays = self.media.of(row, list(dict.fromkeys(order)))
        for name in order:
            kind, argument = self._kind(name, arrays[name].shape[1])
            if kind == "audio":
                self._check_recording(row, name, len(arrays[name]))
            given.setdefault(argument, []).append(_decoded(arrays[name], kind))
            text = text.replace(placeholder(name), self.native.placeholders[kind], 1)
        more: dict[str, Any] = {}
        if "images" in given:
            more["images"] = [given["images"]]  # those of the only text
        if "audio" in given:
            more["audio"] = given["audio"]
            more["sampling_rate"] = self.processor.feature_extractor.sampling_rate
        return dict(self.processor(text=[text], return_tensors="pt", **more))

    def _check_recording(self, row: int, name: str, length: int) -> None:
        """Refuses a recording that the model's feature extractor would misread or cut."""
        extractor = self.processor.feature_extractor
        rate, most = self.media.features[name].rate, getattr(extractor, "n_samples", length)
        if rate is None or rate != extractor.sampling_rate:
            raise InputError(
                "native.other-rate",
                f"{name} was read at {rate} samples per second, and the model reads "
                f"{extractor.sampling_rate}; set media.{name}.rate to that",
                medium=name,
                found=rate,
                expected=extractor.sampling_rate,
            )
        if length > most:
            raise InputError(
                "native.long-recording",
                f"sample {self.media.samples[row]}: {name} has {length / rate:.1f} s, and the "
                f"model reads {most / rate:g} s at most; set media.{name}.seconds, which cuts "
                "recordings, or leave the sample out",
                medium=name,
                sample=self.media.samples[row],
                found=length / rate,
                expected=most / rate,
            )

    def _kind(self, name: str, width: int) -> tuple[str, str]:
        kind, argument = _KINDS[width]
        if kind not in self.native.placeholders:
            raise InputError(
                "native.no-such-medium",
                f"{name} is of kind {kind}, and models of type {self.native.model_type} read "
                f"{', '.join(self.native.placeholders)}; leave it out of the prompt",
                medium=name,
                found=kind,
                expected=list(self.native.placeholders),
            )
        return kind, argument

    @torch.inference_mode()
    def log_likelihoods(
        self,
        model: PreTrainedModel,
        candidates: Sequence[Sequence[int]],
        progress: Callable[[int], None] = lambda _: None,
    ) -> torch.Tensor:
        """log p(candidate | sample) in nats: float32 (samples, candidates), on the CPU."""
        found = torch.empty(len(self.texts), len(candidates))
        few = "logits_to_keep" in inspect.signature(model.forward).parameters
        # A pass that reads all of a candidate but its last token predicts every token of it.
        starts: dict[tuple[int, ...], list[int]] = {}
        for column, candidate in enumerate(candidates):
            starts.setdefault(tuple(candidate[:-1]), []).append(column)
        for row in range(len(self.texts)):
            prompt = on_device(model, self.inputs(row))
            for start, columns in starts.items():
                length = len(start)
                more = {"logits_to_keep": length + 1} if few else {}
                logits = model(**followed(prompt, start), use_cache=False, **more).logits[0]
                logs = logits[-length - 1 :].float().log_softmax(-1).cpu()
                begun = logs[range(length), list(start)].sum()
                last = [candidates[column][-1] for column in columns]
                found[row, columns] = begun + logs[-1, last]
            progress(1)
        return found


def _decoded(values: torch.Tensor, kind: str) -> np.ndarray:
    """A picture (H, W, 3), uint8, or sound (samples), float32, from how features store it."""
    array = values.numpy()
    if kind == "audio":
        return array[:, 0]
    side = math.isqrt(len(array))
    return array.reshape(side, side, 3).round().clip(0, 255).astype(np.uint8)


def on_device(
    model: PreTrainedModel, inputs: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """A model's inputs on its device; floats in its dtype."""
    return {
        name: one.to(model.device, model.dtype if one.is_floating_point() else one.dtype)
        for name, one in inputs.items()
    }


def followed(prompt: Mapping[str, torch.Tensor], answer: Sequence[int]) -> dict[str, torch.Tensor]:
    """Inputs of a prompt, (1, T), with an answer after it: its tokens are text, and seen."""
    ids = prompt["input_ids"]
    more = torch.tensor([list(answer)], dtype=ids.dtype, device=ids.device)
    found = {}
    for name, value in prompt.items():
        if name == "input_ids":
            value = torch.cat([ids, more], dim=1)
        elif name in _BY_TOKEN:
            own = torch.full_like(more, _BY_TOKEN[name])
            value = torch.cat([value, own.to(value.dtype)], dim=1)
        found[name] = value
    return found
