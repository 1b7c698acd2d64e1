"""Tiny encoders with random weights, one of every family, as folders in the Hugging Face layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers

TRANSFORMER = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
}
PICTURES = {**TRANSFORMER, "image_size": 32, "patch_size": 8}
SOUND: dict[str, Any] = {
    **TRANSFORMER,
    "conv_dim": (8,) * 7,
    "num_feat_extract_layers": 7,
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 2,
}
WHISPER: dict[str, Any] = {
    "d_model": 16,
    "encoder_layers": 3,
    "encoder_attention_heads": 2,
    "encoder_ffn_dim": 24,
    "decoder_layers": 1,
    "decoder_attention_heads": 2,
    "decoder_ffn_dim": 24,
    "vocab_size": 64,
    "num_mel_bins": 80,
    "pad_token_id": 0,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "decoder_start_token_id": 0,
    "suppress_tokens": None,
    "begin_suppress_tokens": None,
}
SIZES = {"size": {"height": 32, "width": 32}, "crop_size": {"height": 32, "width": 32}}

ENCODERS = ("clip", "siglip", "dinov2", "videomae", "hubert", "wav2vec2", "wavlm", "whisper")
OF_PICTURES = ("clip", "siglip", "dinov2")
OF_SOUND = ("hubert", "wav2vec2", "wavlm")


def save_encoder(name: str, folder: Path, seed: int = 0, **own: Any) -> Path:
    """Saves a tiny encoder with its preprocessor's configuration."""
    t = transformers
    torch.manual_seed(seed)
    if name == "clip":
        text = {**TRANSFORMER, "vocab_size": 64, "pad_token_id": 0, "eos_token_id": 1}
        config = t.CLIPConfig(
            text_config=text, vision_config={**PICTURES, "projection_dim": 12}, projection_dim=12
        )
        model: Any = t.CLIPModel(config)
        prepare: Any = t.CLIPImageProcessorPil(**SIZES)
    elif name == "siglip":
        model = t.SiglipVisionModel(t.SiglipVisionConfig(**PICTURES))
        prepare = t.SiglipImageProcessorPil(size=SIZES["size"])
    elif name == "dinov2":
        model = t.Dinov2Model(t.Dinov2Config(**PICTURES))
        prepare = t.BitImageProcessorPil(**SIZES)
    elif name == "videomae":
        config = t.VideoMAEConfig(**PICTURES, num_frames=4, tubelet_size=2)
        model = t.VideoMAEModel(config)
        prepare = t.VideoMAEImageProcessorPil(**SIZES)
    elif name == "whisper":
        model = t.WhisperModel(t.WhisperConfig(**WHISPER))
        prepare = t.WhisperFeatureExtractor()
    else:
        kinds = {
            "hubert": (t.HubertConfig, t.HubertModel),
            "wav2vec2": (t.Wav2Vec2Config, t.Wav2Vec2Model),
            "wavlm": (t.WavLMConfig, t.WavLMModel),
        }
        make_config, make_model = kinds[name]
        model = make_model(make_config(**{**SOUND, **own}))
        prepare = t.Wav2Vec2FeatureExtractor(do_normalize=True)
    model.eval().save_pretrained(folder)
    prepare.save_pretrained(folder)
    return folder
