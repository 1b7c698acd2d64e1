"""Frozen encoders of transformers: what they are given of a file, and what becomes its features.

Each file is a forward pass of its own, in float32. So its features depend neither on other files
nor on their order, and nothing is padded to the length of another file.

Shapes: N pictures or clips, T positions, W width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from torch import nn
from transformers import AutoConfig, PreTrainedModel
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from affectlocus.config.media import PICTURES, Medium
from affectlocus.core.errors import InputError
from affectlocus.data.unusable import UnusableError
from affectlocus.lm.config_limits import loading_errors
from affectlocus.lm.devices import main_device, make_deterministic


@dataclass(frozen=True)
class Family:
    """How the encoders of a model type are loaded and called.

    Attributes:
        model: the name of the class in transformers.
        reads: what it is given: pictures one by one, video, sound, or log-mel (Whisper).
        pooled: the attribute of its output for the whole picture; empty if it has none.
        first: whether its first position stands for the whole picture.
    """

    model: str
    reads: str
    pooled: str = ""
    first: bool = False


_CLIP = Family("CLIPVisionModelWithProjection", "pictures", "image_embeds", first=True)
_SIGLIP = Family("SiglipVisionModel", "pictures", "pooler_output")
FAMILIES: dict[str, Family] = {
    "clip": _CLIP,
    "clip_vision_model": _CLIP,
    "siglip": _SIGLIP,
    "siglip_vision_model": _SIGLIP,
    "dinov2": Family("Dinov2Model", "pictures", "pooler_output", first=True),
    "videomae": Family("VideoMAEModel", "video"),
    "hubert": Family("HubertModel", "sound"),
    "wav2vec2": Family("Wav2Vec2Model", "sound"),
    "wavlm": Family("WavLMModel", "sound"),
    "whisper": Family("WhisperEncoder", "log-mel"),
}
"""Model type in config.json → how its encoders are loaded and called."""

_SHORTEST = 400  # samples: the receptive field of the first convolutions of wav2vec 2.0
_STEP = 320  # samples of a position of Whisper
# Weights that only training uses; transformers draws them where a checkpoint has none.
_UNUSED = ("masked_spec_embed",)


def as_stored(read: np.ndarray) -> torch.Tensor:
    """The features of a file of kind features: the array in it (tokens, W)."""
    return torch.from_numpy(read)


class MediaEncoder:
    """A frozen encoder with the settings of a medium.

    Args:
        folder: configuration, preprocessor_config.json and weights in the Hugging Face layout.
        medium: what it is given, and what becomes the features.

    Raises:
        InputError: another kind of model, files are missing, or settings do not fit the model.
    """

    def __init__(self, folder: Path, medium: Medium) -> None:
        self._folder, self._medium = folder, medium
        with loading_errors(folder):
            config = AutoConfig.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
        family = FAMILIES.get(config.model_type)
        if family is None:
            raise InputError(
                "encoder.unknown-type",
                f"{folder}: model type {config.model_type!r}; expected an encoder of type "
                f"{', '.join(FAMILIES)}",
                file=folder,
                found=config.model_type,
                expected=list(FAMILIES),
            )
        self._family = family
        self._check_settings()
        self._prepare = self._preprocessor()
        self._model = self._loaded()
        self._check_layers()

    def _check_settings(self) -> None:
        medium, family = self._medium, self._family
        pictures = medium.kind in PICTURES
        wrong = ""
        if pictures != (family.reads in ("pictures", "video")):
            wrong = f"kind {medium.kind} with {family.model}, which reads {family.reads}"
        elif medium.kind == "image" and family.reads == "video":
            wrong = f"kind image with {family.model}, which reads videos"
        elif medium.pool == "encoder" and not family.pooled:
            wrong = f"pool encoder with {family.model}, which has no output for the whole"
        elif medium.pool == "first" and not family.first:
            wrong = f"pool first with {family.model}, whose first position is like the others"
        elif medium.window != "trained" and family.reads != "log-mel":
            wrong = f"window {medium.window} with {family.model}; only Whisper has a window"
        elif family.reads == "video" and medium.short == "keep":
            wrong = f"short keep with {family.model}, which reads a fixed number of frames"
        elif family.reads == "log-mel" and medium.normalise in ("clip", "sample"):
            wrong = f"normalise {medium.normalise} with {family.model}, which reads a spectrum"
        if wrong:
            raise InputError(
                "encoder.settings",
                f"{self._folder}: found {wrong}; correct the medium's settings, or its encoder",
                file=self._folder,
                found=wrong,
            )

    def _preprocessor(self) -> Callable[[Any], dict[str, torch.Tensor]]:
        """The preprocessing that the encoder was trained with."""
        path = self._folder / "preprocessor_config.json"
        if self._family.reads == "sound" and self._medium.normalise != "encoder":
            return self._sound
        if not path.is_file():
            hint = ", or set normalise" if self._family.reads == "sound" else ""
            raise InputError(
                "encoder.no-preprocessor",
                f"{path}: no such file; it says how the encoder's inputs are prepared: fetch it "
                f"with the encoder{hint}",
                file=path,
            )
        with loading_errors(self._folder):
            if self._family.reads in ("pictures", "video"):
                images = transformers.AutoImageProcessor.from_pretrained(
                    self._folder, local_files_only=True, trust_remote_code=False, backend="pil"
                )
                return lambda pictures: images(
                    list(pictures) if self._family.reads == "pictures" else [list(pictures)],
                    return_tensors="pt",
                    input_data_format="channels_last",
                )
            sounds = transformers.AutoFeatureExtractor.from_pretrained(
                self._folder, local_files_only=True, trust_remote_code=False
            )
        if sounds.sampling_rate != self._medium.rate:
            raise InputError(
                "encoder.other-rate",
                f"{path}: the encoder reads {sounds.sampling_rate} samples per second, found rate "
                f"{self._medium.rate}; set rate: {sounds.sampling_rate}",
                file=path,
                found=self._medium.rate,
                expected=sounds.sampling_rate,
            )
        if self._family.reads == "sound":
            self._normalises = bool(sounds.do_normalize)
            return self._sound
        self._longest = int(sounds.n_samples)
        padding = "max_length" if self._medium.window == "trained" else "do_not_pad"
        return lambda clips: sounds(
            list(clips), sampling_rate=self._medium.rate, padding=padding, return_tensors="pt"
        )

    def _sound(self, clips: np.ndarray) -> dict[str, torch.Tensor]:
        how = self._medium.normalise
        if how == "encoder":
            how = "clip" if self._normalises else "none"
        if how != "none":
            axis = None if how == "sample" else 1
            mean = clips.mean(axis=axis, keepdims=True)
            # As transformers' feature extractors do.
            clips = (clips - mean) / np.sqrt(clips.var(axis=axis, keepdims=True) + 1e-7)
        return {"input_values": torch.from_numpy(clips.astype(np.float32))}

    def _loaded(self) -> PreTrainedModel:
        whisper = self._family.reads == "log-mel"
        kind = WhisperEncoder if whisper else getattr(transformers, self._family.model)
        # A checkpoint of Whisper holds the decoder too.
        names = {"key_mapping": {r"^(model\.)?encoder\.": ""}} if whisper else {}
        if torch.cuda.is_available():
            make_deterministic()
        with loading_errors(self._folder):
            model, loading = kind.from_pretrained(
                self._folder,
                local_files_only=True,
                trust_remote_code=False,
                dtype=torch.float32,
                output_loading_info=True,
                **names,
            )
        missing = [name for name in loading["missing_keys"] if not name.endswith(_UNUSED)]
        if missing:
            raise InputError(
                "model.missing-weight",
                f"{self._folder}: the model needs {min(missing)}, which no file of the checkpoint "
                "holds; restore the file that holds it",
                file=self._folder,
                tensor=min(missing),
            )
        model = model.eval().requires_grad_(False).to(main_device())
        if whisper:
            self._positions = model.embed_positions.weight
        return model

    def _check_layers(self) -> None:
        config = self._model.config
        layers = getattr(config, "num_hidden_layers", None) or config.encoder_layers
        outside = [one for one in self._medium.layers if not -layers - 1 <= one <= layers]
        if outside:
            raise InputError(
                "encoder.no-such-layer",
                f"{self._folder}: found layer {outside[0]}; the encoder has layers 0 (the "
                f"embeddings) to {layers}, or -1 to {-layers - 1}; correct layers",
                file=self._folder,
                found=outside[0],
                expected=layers,
            )
        frames = getattr(config, "num_frames", None)
        if self._family.reads == "video" and frames != self._medium.frames:
            raise InputError(
                "encoder.other-frames",
                f"{self._folder}: the encoder reads {frames} frames, found {self._medium.frames}; "
                f"set frames: {frames}",
                file=self._folder,
                found=self._medium.frames,
                expected=frames,
            )

    @torch.inference_mode()
    def __call__(self, read: np.ndarray) -> torch.Tensor:
        """The features of a file: (tokens, W), float32, on the CPU.

        Args:
            read: what `data.media_files.read_media` gives for the medium.

        Raises:
            UnusableError: the sound is too short or too long for the encoder.
        """
        kept = self._fits(read)
        if kept is not None and self._medium.window == "none":
            # Whisper's positions are those of as many frames as it was built for.
            read = np.pad(read, ((0, 0), (0, kept * _STEP - read.shape[1])))
            self._model.config.max_source_positions = kept
            self._model.embed_positions = nn.Embedding.from_pretrained(self._positions[:kept])
        inputs = {
            name: value.to(self._model.device)
            for name, value in self._prepare(read).items()
            if name in ("pixel_values", "input_values", "input_features")
        }
        if self._medium.pool == "encoder":
            found = getattr(self._model(**inputs), self._family.pooled)  # (N, W)
            return found.float().cpu()
        states = self._model(**inputs, output_hidden_states=True).hidden_states
        # (N, T, W)
        mean = torch.stack([states[layer] for layer in self._medium.layers]).mean(dim=0)
        return self._pooled(mean[:, :kept].float()).cpu()

    def _fits(self, read: np.ndarray) -> int | None:
        """The number of positions of the sound itself; None for all. Refuses a wrong length."""
        if self._family.reads == "sound" and read.shape[1] < _SHORTEST:
            raise UnusableError("short", f"{read.shape[1]} samples, expected {_SHORTEST} or more")
        if self._family.reads != "log-mel":
            return None
        if read.shape[1] > self._longest:
            most = self._longest / self._medium.rate
            raise UnusableError(
                "long",
                f"{read.shape[1] / self._medium.rate:.4g} s, expected {most:g} s at most; set "
                "seconds to hear the beginning, or clips",
            )
        return -(-read.shape[1] // _STEP)

    def _pooled(self, states: torch.Tensor) -> torch.Tensor:
        """(N, T, W) → (tokens, W)."""
        if self._medium.pool == "first":
            return states[:, 0]
        if self._medium.pool == "none":
            return states.flatten(0, 1)
        parts = min(self._medium.parts, states.shape[1])
        split = torch.tensor_split(states, parts, dim=1)
        return torch.stack([part.mean(dim=1) for part in split], dim=1).flatten(0, 1)
