"""The bridge of AffectGPT: its fusion named `attention`, with three kinds of soft tokens.

The audio and the visual medium (`face` or `frame`) each become one vector: a linear map gives a
weight to each clip or frame, without a softmax; the weighted sum is projected to the width of the
language model. The token `multi` is made of both: their means over time are mapped to one width and
added with two weights, which depend on both and again have no softmax.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from affectlocus.core.errors import InputError

VISUAL = ("face", "frame")
"""The media that can be the visual one; the bridge has the same weights for both."""


class AffectGptBridge(nn.Module):
    """AffectGPT's fusion. Its parameters are named as in the released checkpoints.

    Shapes: B samples, T clips or frames, W the width of a medium, H that of the language model.

    Args:
        hidden: H.
        widths: the width W of `audio`, and of `face`, `frame` or both. With both, `multi` is made
            of the face.
        tokens: placeholder (`multi`, `audio`, `face` or `frame`) → the number of its soft tokens,
            which are copies of one vector; each is 1 in the released checkpoints.
        fusion: the width in which both media are added; by default the larger one of the media.

    Raises:
        InputError: face and frame have different widths.
    """

    def __init__(
        self,
        hidden: int,
        widths: Mapping[str, int],
        tokens: Mapping[str, int],
        fusion: int | None = None,
    ) -> None:
        super().__init__()
        self.visual = [name for name in VISUAL if name in widths]
        self.tokens = dict(tokens)
        seen, heard = widths[self.visual[0]], widths["audio"]
        for name in self.visual:
            if widths[name] != seen:
                raise InputError(
                    "bridge.visual-widths",
                    f"the features of {self.visual[0]} have width {seen}, those of {name} "
                    f"{widths[name]}; AffectGPT has one map for both: use one encoder",
                    found=widths[name],
                    expected=seen,
                )
        width = fusion or max(seen, heard)
        self.affectgpt_proj = nn.Linear(seen, hidden)
        self.video_attention_mlp = nn.Linear(seen, 1)
        self.audio_llama_proj = nn.Linear(heard, hidden)
        self.audio_attention_mlp = nn.Linear(heard, 1)
        self.multi_video_embs = nn.Linear(seen, width)
        self.multi_audio_embs = nn.Linear(heard, width)
        self.attention_mlp = nn.Linear(2 * width, width)
        self.fc_att = nn.Linear(width, 2)
        self.multi_llama_proj = nn.Linear(width, hidden)

    def forward(self, features: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The soft tokens of a batch.

        Args:
            features: medium → its features (B, T, W).

        Returns:
            Placeholder → soft tokens (B, number, H), for those placeholders whose media are given:
            `multi` needs both.
        """
        found = {}
        for name in self.visual:
            if name in features:
                pooled = _pooled(features[name], self.video_attention_mlp)
                found[name] = self.affectgpt_proj(pooled)
        if "audio" in features:
            pooled = _pooled(features["audio"], self.audio_attention_mlp)
            found["audio"] = self.audio_llama_proj(pooled)
        if self.visual[0] in features and "audio" in features:
            fused = self._fused(features[self.visual[0]], features["audio"])
            found["multi"] = self.multi_llama_proj(fused)
        return {
            name: found[name][:, None].expand(-1, number, -1)  # (B, number, H)
            for name, number in self.tokens.items()
            if name in found
        }

    def _fused(self, seen: torch.Tensor, heard: torch.Tensor) -> torch.Tensor:
        """Both media in one vector (B, fusion)."""
        video = self.multi_video_embs(seen.mean(dim=1))
        audio = self.multi_audio_embs(heard.mean(dim=1))
        weights = self.fc_att(self.attention_mlp(torch.cat([video, audio], dim=1)))  # (B, 2)
        return (torch.stack([video, audio], dim=2) @ weights[:, :, None]).squeeze(2)


def _pooled(features: torch.Tensor, weigh: nn.Linear) -> torch.Tensor:
    """The weighted sum of features (B, T, W) over time: (B, W)."""
    return (features.transpose(1, 2) @ weigh(features)).squeeze(2)
