"""The bridges of released systems as data: which tensors they have, of which sizes.

A system of this lineage saves one file with all trained tensors: the LoRA factors of the language
model, and the tensors of its bridge. The names below are those of the file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from affectlocus.checkpoints.bridge_files import Description, check_float
from affectlocus.checkpoints.tensor_files import Tensors
from affectlocus.core.errors import InputError

Size = int | str | tuple[int, str]
"""A number, the name of a width, or a multiple of a named width."""

HIDDEN, FUSION = "hidden", "fusion"
VISUAL = "visual"
"""The width of the medium that AffectGPT sees: `face` or `frame`."""


@dataclass(frozen=True)
class BridgeLayout:
    """The tensors of a kind of bridge and of the file that it is released in.

    Attributes:
        system: the system's name, for messages.
        maps: linear map → the sizes of its input and of its output. Each has a weight and a bias.
        media: medium → the name of the width of its features.
        tokens: placeholder → the number of its soft tokens in the released system.
        adapted: the projections with LoRA factors, in every layer.
        unused: pattern of other tensors in the file → why the bridge does not need them.
    """

    system: str
    maps: Mapping[str, tuple[Size, Size]]
    media: Mapping[str, str]
    tokens: Mapping[str, int]
    adapted: Sequence[str]
    unused: Mapping[str, str] = field(default_factory=dict)

    @property
    def tensors(self) -> list[str]:
        """The names of the bridge's tensors."""
        return [f"{name}.{leaf}" for name in self.maps for leaf in ("weight", "bias")]

    def reason_unused(self, name: str) -> str | None:
        """Why the bridge does not need a tensor of the file; None if the pattern is unknown."""
        found = (why for pattern, why in self.unused.items() if re.fullmatch(pattern, name))
        return next(found, None)


LAYOUTS = {
    "affectgpt": BridgeLayout(
        system="AffectGPT",
        maps={
            "affectgpt_proj": (VISUAL, HIDDEN),
            "video_attention_mlp": (VISUAL, 1),
            "audio_llama_proj": ("audio", HIDDEN),
            "audio_attention_mlp": ("audio", 1),
            "multi_video_embs": (VISUAL, FUSION),
            "multi_audio_embs": ("audio", FUSION),
            "attention_mlp": ((2, FUSION), FUSION),
            "fc_att": (FUSION, 2),
            "multi_llama_proj": (FUSION, HIDDEN),
        },
        media={"face": VISUAL, "audio": "audio"},
        tokens={"multi": 1, "audio": 1, "face": 1},
        adapted=("q", "k", "v", "o", "gate", "up", "down"),
        unused={
            r"image_llama_proj\.(weight|bias)": "for single images; the released recipes do not "
            "train it"
        },
    ),
    "emotion-llama": BridgeLayout(
        system="Emotion-LLaMA",
        maps={
            "llama_proj": ((4, "eva"), HIDDEN),
            "feats_llama_proj1": ("facemae", HIDDEN),
            "feats_llama_proj2": ("videomae", HIDDEN),
            "feats_llama_proj3": ("hubert", HIDDEN),
            "cls_tk_llama_proj": ("eva", HIDDEN),
        },
        media={name: name for name in ("eva", "facemae", "videomae", "hubert")},
        tokens={"image": 256, "features": 4},
        adapted=("q", "v"),
        unused={r"attention\..+": "a classifier that the released forward pass does not use"},
    ),
}
"""Kind of bridge → its layout."""


def sizes(layout: BridgeLayout, file: Path, tensors: Tensors) -> dict[str, int]:
    """The named widths of a stored bridge, from the shapes of its tensors.

    Raises:
        InputError: a tensor is not a float, or two tensors contradict each other.
    """
    found: dict[str, tuple[int, str]] = {}
    for name, (inputs, outputs) in layout.maps.items():
        for leaf, axes in (("weight", (outputs, inputs)), ("bias", (outputs,))):
            tensor = f"{name}.{leaf}"
            check_float(file, tensors, tensor)
            shape = tensors.shape(tensor)
            if len(shape) != len(axes):
                raise InputError(
                    "bridge.not-a-linear-map",
                    f"{file}: {tensor} has shape {shape}; expected {len(axes)} axes, the {leaf} "
                    "of a linear map",
                    file=file,
                    tensor=tensor,
                    found=shape,
                )
            for size, axis in zip(shape, axes, strict=True):
                times, width = axis if isinstance(axis, tuple) else (1, axis)
                known, origin = (width, layout.system) if isinstance(width, int) else (0, "")
                if isinstance(width, str):
                    if width not in found and size % times == 0 and size:
                        found[width] = size // times, tensor
                    known, origin = found.get(width, (0, tensor))
                if size != times * known:
                    raise InputError(
                        "bridge.sizes-differ",
                        f"{file}: {tensor} has shape {shape}, which does not fit {origin}: "
                        f"expected {times * known or f'a multiple of {times}'} in place of {size}",
                        file=file,
                        tensor=tensor,
                        found=shape,
                        expected=times * known,
                    )
    return {width: size for width, (size, _) in found.items()}


def description(
    kind: str, widths: Mapping[str, int], visual: Sequence[str] = ("face",)
) -> Description:
    """The description of a released system's bridge with these widths.

    Args:
        visual: what AffectGPT sees: `face`, `frame` or both, which share their weights.
    """
    layout = LAYOUTS[kind]
    media = dict(layout.media)
    tokens = dict(layout.tokens)
    if VISUAL in media.values():
        media = dict.fromkeys(visual, VISUAL) | {"audio": "audio"}
        tokens = {"multi": 1, "audio": 1} | dict.fromkeys(visual, 1)
    return Description(
        kind,
        widths[HIDDEN],
        {medium: widths[width] for medium, width in media.items()},
        tokens,
        {FUSION: widths[FUSION]} if FUSION in widths else {},
    )


def visual_media(text: object) -> tuple[str, ...]:
    """What AffectGPT sees, by the name of its modalities in a released configuration.

    Such a name is `multiface_audio_face_text` or `multiframe_audio_frame_text`; without one it is
    the face.
    """
    parts = text.split("_") if isinstance(text, str) else []
    return tuple(name for name in ("face", "frame") if name in parts) or ("face",)
