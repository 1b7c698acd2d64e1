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
        None, pattern="^[0-9a-fA-F]{64}$", description="SHA-256 of the file at the URL"
    )
    awaited: bool = Field(
        False,
        description="the folder does not exist yet; a dry run plans without it, a run refuses",
    )

    places: ClassVar[tuple[str, ...]] = ("folder", "hub", "url")

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if sum(getattr(self, place) is not None for place in self.places) != 1:
            raise ParameterError(
                "checkpoint.not-one-source",
                f"expected one of {', '.join(self.places)}",
                expected=list(self.places),
            )
        for key, of, what in (
            ("revision", "hub", "the 40 hex digits of a commit, or a branch or tag"),
            ("sha256", "url", "the SHA-256 of the file, 64 hex digits"),
        ):
            if getattr(self, of) is not None and getattr(self, key) is None:
                raise ParameterError(
                    "checkpoint.missing-key",
                    f"{key} is missing; {of} needs {what}",
                    missing=key,
                    needed_by=of,
                )
            if getattr(self, of) is None and getattr(self, key) is not None:
                raise ParameterError(
                    "checkpoint.unused-key",
                    f"{key} can only be used with {of}; remove it",
                    unused=key,
                    expected=of,
                )
        return self


SourceOrPath = Annotated[Source, BeforeValidator(as_folder, json_schema_input_type=str | Source)]
"""A source; a plain path means a folder or a file on disk."""


class Base(Source):
    """A base checkpoint: a Hugging Face model, or one that is pre-trained here.

    With {seed} in its folder, or with seed: each in its pre-training, it is a model of its own for
    each of the experiment's seeds. Then a replicate is a base and its tunings.
    """

    pretrain: Pretraining | None = None
    then: list[str] = Field(
        [], description="a chain of adapters on disk that are applied to it; the result is the base"
    )

    places: ClassVar[tuple[str, ...]] = (*Source.places, "pretrain")

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
