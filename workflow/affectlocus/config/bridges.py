"""Section `bridges`: what turns the features of media into soft tokens of a language model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from affectlocus.config.fields import Count, Name, Positive, Strict, one_of
from affectlocus.config.messages import ParameterError


@dataclass(frozen=True)
class BridgeKind:
    """A kind of bridge, as the parameters know it.

    Attributes:
        about: what it computes.
        fused: its placeholders that are not the name of a medium, but made of media.
        media: the media that it reads, if these are not its other placeholders.
        required: alternatives, of each of which it needs a placeholder; it has no other ones than
            these and the fused ones. Empty: any.
        fixed: placeholder → the only possible number of its soft tokens.
        settings: the keys of `BridgeConfig` that only some kinds have.
        own: whether it is a part of the multimodal model, which reads the media itself.
    """

    about: str
    fused: tuple[str, ...] = ()
    media: tuple[str, ...] = ()
    required: tuple[tuple[str, ...], ...] = ()
    settings: tuple[str, ...] = ()
    fixed: Mapping[str, int] = field(default_factory=dict)
    own: bool = False


NATIVE = "native"
KINDS = {
    "linear": BridgeKind("one linear layer for each medium", settings=("standardise",)),
    "mlp": BridgeKind(
        "two linear layers with a GELU between them for each medium, as in LLaVA",
        settings=("width", "standardise"),
    ),
    "affectgpt": BridgeKind(
        "the fusion of AffectGPT, with the placeholders multi, audio, and face or frame",
        fused=("multi",),
        required=(("audio",), ("face", "frame")),
    ),
    "emotion-llama": BridgeKind(
        "the projections of Emotion-LLaMA, with the placeholders image and features",
        fused=("image", "features"),
        media=("eva", "facemae", "videomae", "hubert"),
        required=(("image",), ("features",)),
        fixed={"features": 4},
    ),
    NATIVE: BridgeKind(
        "the projector of a multimodal model of transformers, whose processor reads media of kind "
        "pixels or sound; tokens names the media, each with 1",
        own=True,
    ),
}
"""The kinds of bridges; `lm.bridges` has the class of each."""

FUSED = tuple(dict.fromkeys(name for kind in KINDS.values() for name in kind.fused))
"""The placeholders that are made of media with other names, of all kinds."""


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
    standardise: bool | None = Field(
        None,
        description="linear, mlp: whether the features get mean 0 and deviation 1 in each "
        "dimension over the training samples; by default true. Otherwise a bridge learns little "
        "from an encoder that gives nearly the same vector for every file",
    )
    learning_rate: Positive | None = Field(
        None,
        description="maximum learning rate of the bridge; by default that of the language model's "
        "recipe",
    )

    @property
    def media(self) -> list[str]:
        """The media that the bridge reads."""
        kind = KINDS[self.kind]
        return list(kind.media) or [name for name in self.tokens if name not in kind.fused]

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of its kind that are given, and `standardise` if it is true."""
        values = {name: getattr(self, name) for name in KINDS[self.kind].settings}
        if "standardise" in values:
            values["standardise"] = self.standardise is not False or None
        return {name: value for name, value in values.items() if value is not None}

    @model_validator(mode="after")
    def _uses_its_settings(self) -> Self:
        for kind in KINDS.values():
            for name in kind.settings:
                if getattr(self, name) is not None and name not in KINDS[self.kind].settings:
                    raise ParameterError(
                        "bridge.unused-setting",
                        f"{name} has no meaning for kind {self.kind}; remove it",
                        found=name,
                        kind=self.kind,
                    )
        return self

    @model_validator(mode="after")
    def _has_its_tokens(self) -> Self:
        kind = KINDS[self.kind]
        for choice in kind.required:
            if not set(choice) & set(self.tokens):
                raise ParameterError(
                    "bridge.missing-token",
                    f"tokens has no {' or '.join(choice)}, which kind {self.kind} needs; add it",
                    found=list(self.tokens),
                    expected=list(choice),
                )
        known = {*kind.fused, *(name for choice in kind.required for name in choice)}
        for name, number in self.tokens.items():
            if kind.required and name not in known:
                raise ParameterError(
                    "bridge.unknown-token",
                    f"tokens has {name}, which kind {self.kind} does not make; remove it",
                    found=name,
                    expected=sorted(known),
                )
            if number != (1 if kind.own else kind.fixed.get(name, number)):
                raise ParameterError(
                    "bridge.fixed-token",
                    f"tokens has {number} of {name}; kind {self.kind} makes "
                    f"{kind.fixed.get(name, 1)}",
                    found=number,
                    expected=kind.fixed.get(name, 1),
                )
        return self
