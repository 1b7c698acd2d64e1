"""The bridge of Emotion-LLaMA: linear maps of four media into 260 soft tokens.

The patches of one frame, four neighbours joined to one vector, become the placeholder `image`.
FaceMAE's, VideoMAE's and HuBERT's vectors of the whole clip and the frame's class token become the
placeholder `features`.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from affectlocus.core.errors import InputError

JOINED = 4
"""Neighbouring patches that become one soft token."""


class EmotionLlamaBridge(nn.Module):
    """Emotion-LLaMA's projections. Its parameters are named as in the released checkpoint.

    Shapes: B samples, P patches, W the width of a medium, H that of the language model.

    Args:
        hidden: H.
        widths: the width W of `eva`, `facemae`, `videomae` and `hubert`.
        tokens: `image` → the number of its soft tokens, a quarter of the patches; `features` → 4.
    """

    def __init__(self, hidden: int, widths: Mapping[str, int], tokens: Mapping[str, int]) -> None:
        super().__init__()
        self.tokens = dict(tokens)
        self.llama_proj = nn.Linear(JOINED * widths["eva"], hidden)
        self.feats_llama_proj1 = nn.Linear(widths["facemae"], hidden)
        self.feats_llama_proj2 = nn.Linear(widths["videomae"], hidden)
        self.feats_llama_proj3 = nn.Linear(widths["hubert"], hidden)
        self.cls_tk_llama_proj = nn.Linear(widths["eva"], hidden)

    def forward(self, features: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The soft tokens of a batch.

        Args:
            features: `eva` → the output of its last layer norm (B, 1 + P, W), the class token
                first; `facemae`, `videomae`, `hubert` → one vector (B, 1, W) each.

        Returns:
            Placeholder → soft tokens (B, number, H), for those whose media are given: `image`
            needs `eva`, and `features` all four.

        Raises:
            InputError: the number of patches does not give the number of soft tokens.
        """
        image = features.get("eva")
        if image is None:
            return {}
        first, patches = image[:, :1], image[:, 1:]
        if patches.shape[1] != JOINED * self.tokens["image"]:
            raise InputError(
                "bridge.other-patches",
                f"the features of eva have {image.shape[1]} vectors for a sample; expected "
                f"{1 + JOINED * self.tokens['image']}: the class token, then {JOINED} patches for "
                f"each of the {self.tokens['image']} soft tokens",
                found=image.shape[1],
                expected=1 + JOINED * self.tokens["image"],
            )
        found = {"image": self.llama_proj(patches.unflatten(1, (-1, JOINED)).flatten(2))}
        maps = {
            "facemae": self.feats_llama_proj1,
            "videomae": self.feats_llama_proj2,
            "hubert": self.feats_llama_proj3,
        }
        if all(name in features for name in maps):
            vectors = [project(features[name]) for name, project in maps.items()]
            found["features"] = torch.cat([*vectors, self.cls_tk_llama_proj(first)], dim=1)
        return found
