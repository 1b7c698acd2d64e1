"""Tiny multimodal models of transformers, one of every type in native_models.yaml."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

VOCABULARY = 320
TEXT = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 512,
    "tie_word_embeddings": False,
    "bos_token_id": None,
    "eos_token_id": 0,
    "pad_token_id": 0,
}
VISION = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 16,
    "patch_size": 4,
}
SIGLIP = {**VISION, "model_type": "siglip_vision_model"}
# The ids that the tiny tokenizer gives the tokens that stand for media.
MEDIUM, VIDEO, BEGIN, STOP = 310, 311, 312, 313

CONFIGS: dict[str, dict[str, Any]] = {
    "qwen2_audio": {
        "audio_config": {
            "model_type": "qwen2_audio_encoder",
            "d_model": 16,
            "encoder_layers": 1,
            "encoder_attention_heads": 2,
            "encoder_ffn_dim": 32,
            "num_mel_bins": 16,
            "max_source_positions": 50,
        },
        "text_config": {**TEXT, "model_type": "qwen2"},
        "audio_token_index": MEDIUM,
    },
    "qwen2_5_vl": {
        "vision_config": {
            "depth": 2,
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_heads": 2,
            "out_hidden_size": TEXT["hidden_size"],
            "patch_size": 4,
            "spatial_merge_size": 2,
            "window_size": 16,
            "fullatt_block_indexes": [1],
        },
        "text_config": {
            **TEXT,
            "rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2]},
        },
        "image_token_id": MEDIUM,
        "video_token_id": VIDEO,
        "vision_start_token_id": BEGIN,
        "vision_end_token_id": STOP,
    },
    "llava_onevision": {
        "vision_config": SIGLIP,
        "text_config": {**TEXT, "model_type": "qwen2"},
        "image_token_index": MEDIUM,
        "video_token_index": VIDEO,
        "image_grid_pinpoints": [[16, 16], [16, 32]],
    },
    "gemma3": {
        "vision_config": {**SIGLIP, "vision_use_head": False},
        "text_config": {**TEXT, "model_type": "gemma3_text", "head_dim": 8, "sliding_window": 16},
        "mm_tokens_per_image": 4,
        "image_token_index": MEDIUM,
        "boi_token_index": BEGIN,
        "eoi_token_index": STOP,
    },
    "smolvlm": {
        "vision_config": VISION,
        "text_config": {**TEXT, "model_type": "llama"},
        "image_token_id": MEDIUM,
        "scale_factor": 2,
    },
}


class Sounds:
    """Recordings of different lengths, as features of kind sound."""

    width = 1
    rate = 16_000

    def of(self, sample: str) -> Any:
        import torch

        random = torch.Generator().manual_seed(int(sample[1:]))
        return 0.1 * torch.randn(2000 + 900 * int(sample[1:]), 1, generator=random)


class Pictures:
    """Pictures, as features of kind pixels: a row of red, green and blue for each pixel."""

    width = 3
    rate = None

    def of(self, sample: str) -> Any:
        import torch

        random = torch.Generator().manual_seed(int(sample[1:]))
        side = VISION["image_size"]
        return 255 * torch.rand(side * side, 3, generator=random)


def native_model(model_type: str, seed: int = 0, **config: Any) -> Any:
    """A model with random weights; every parameter is drawn, larger than by its initialisation."""
    import torch
    from transformers import AutoModelForMultimodalLM
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    settings = CONFIG_MAPPING[model_type](**(CONFIGS[model_type] | config))
    model = AutoModelForMultimodalLM.from_config(settings)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, one in sorted(model.named_parameters()):
            noise = torch.randn(one.shape, generator=generator)
            one.copy_(1 + 0.1 * noise if "norm" in name and one.dim() == 1 else 0.2 * noise)
    return model.eval()


def audio_processor() -> Any:
    """A processor of Qwen2-Audio with a tokenizer of bytes, whose special tokens fit `CONFIGS`."""
    from transformers import Qwen2AudioProcessor, WhisperFeatureExtractor

    names = ("<|AUDIO|>", "<|audio_bos|>", "<|audio_eos|>")
    tokenizer = byte_tokenizer(
        dict(zip(names, (MEDIUM, BEGIN, STOP), strict=True)),
        additional_special_tokens=list(names),
    )
    extractor = WhisperFeatureExtractor(
        feature_size=16, chunk_length=1, n_fft=400, hop_length=160, sampling_rate=16_000
    )
    return Qwen2AudioProcessor(extractor, tokenizer)


def picture_processor() -> Any:
    """A processor of Gemma 3 that needs no torchvision, with the same tokenizer."""
    from transformers import Gemma3Processor
    from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil

    names = {
        "image_token": "<image_soft_token>",
        "boi_token": "<start_of_image>",
        "eoi_token": "<end_of_image>",
    }
    tokenizer = byte_tokenizer(
        dict(zip(names.values(), (MEDIUM, BEGIN, STOP), strict=True)), extra_special_tokens=names
    )
    side = VISION["image_size"]
    images = Gemma3ImageProcessorPil(size={"height": side, "width": side})
    return Gemma3Processor(images, tokenizer, image_seq_length=4)


def byte_tokenizer(special: dict[str, int], **more: Any) -> Any:
    """A tokenizer of bytes with tokens that stand for media."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {"<|endoftext|>": 0}
    vocabulary |= {
        one: at + 1 for at, one in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))
    }
    vocabulary |= {f"<unused{at}>": at for at in range(len(vocabulary), MEDIUM)} | special
    text = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    text.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    text.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=text, eos_token="<|endoftext|>", pad_token="<|endoftext|>", **more
    )


@dataclass(frozen=True)
class Reader:
    """How the processor of a model type reads a medium.

    Attributes:
        placeholder: the text at whose place the processor puts the tokens of a medium.
        features: the decoded media of the samples.
        given: the processor's arguments for decoded values.
    """

    medium: str
    model_type: str
    placeholder: str
    features: Any
    processor: Callable[[], Any]
    given: Callable[[Any], dict[str, Any]]


def _sound(values: Any) -> dict[str, Any]:
    return {"audio": [values[:, 0]], "sampling_rate": 16_000}


def _picture(values: Any) -> dict[str, Any]:
    side = VISION["image_size"]
    return {"images": [[values.reshape(side, side, 3).round().astype("uint8")]]}


_HEARD, _SEEN = "<|audio_bos|><|AUDIO|><|audio_eos|>", "<start_of_image>"
READERS = {
    one.model_type: one
    for one in (
        Reader("voice", "qwen2_audio", _HEARD, Sounds(), audio_processor, _sound),
        Reader("face", "gemma3", _SEEN, Pictures(), picture_processor, _picture),
    )
}
"""The model types whose processors need no torchvision."""


def save(folder: Path, model_type: str, seed: int = 0) -> None:
    """A model with its processor, in a folder."""
    native_model(model_type, seed).save_pretrained(folder)
    READERS[model_type].processor().save_pretrained(folder)


def answer_log(
    reader: Reader, model: Any, processor: Any, prompt: str, sample: str, answer: str
) -> tuple[float, int]:
    """With transformers alone: log p(answer) in nats, and its number of tokens."""
    import torch

    start = prompt.replace(f"<{reader.medium}>", reader.placeholder)
    given = reader.given(reader.features.of(sample).numpy())
    both = [
        processor(text=[text], return_tensors="pt", **given) for text in (start, start + answer)
    ]
    first = both[0]["input_ids"].shape[1]
    with torch.inference_mode():
        logs = model(**both[1]).logits[0, first - 1 : -1].log_softmax(-1)
    learned = both[1]["input_ids"][0, first:]
    return float(logs.gather(1, learned[:, None]).sum()), len(learned)
