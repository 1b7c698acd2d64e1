"""Section `bridges`: what turns the features of media into soft tokens of a language model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from affectlocus.config.fields import Count, Name, Positive, Strict, one_of


@dataclass(frozen=True)
class BridgeKind:
    """A kind of bridge, as the parameters know it.

    Attributes:
        about: what it computes.
        fused: its placeholders that are not the name of a medium, because they join several media.
    """

    about: str
    fused: tuple[str, ...] = ()


KINDS = {
    "linear": BridgeKind("one linear layer for each medium"),
    "mlp": BridgeKind("two linear layers with a GELU between them for each medium, as in LLaVA"),
}
"""The kinds of bridges; `lm.bridges` has the class of each."""


class BridgeConfig(Strict):
    """A bridge: its kind, its soft tokens, and how it is trained."""

    kind: Annotated[str, *one_of("kind of bridge", KINDS)] = Field(
        description="; ".join(f"{name}: {kind.about}" for name, kind in KINDS.items())
    )
    tokens: Annotated[dict[Name, Count], Field(min_length=1)] = Field(
        description="placeholder → number of soft tokens that replace it in a prompt; <face> in a "
        "prompt is the placeholder face, which is the name of a medium"
    )
    width: Count | None = Field(
        None,
        description="mlp: width between the two layers; by default the width of the language model",
    )
    learning_rate: Positive | None = Field(
        None,
        description="maximum learning rate of the bridge; by default that of the language model's "
        "recipe",
    )

    @property
    def media(self) -> list[str]:
        """The media that the bridge reads."""
        return [name for name in self.tokens if name not in KINDS[self.kind].fused]
