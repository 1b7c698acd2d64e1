"""Section `media`: what is read of audio, video, image and face files, and with which encoder."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from affectlocus.config.encoder_recipes import EncoderRecipe
from affectlocus.config.fields import WHOLE, Count, Positive, Strict, as_folder, distinct, one_of
from affectlocus.config.messages import ParameterError
from affectlocus.config.sources import PACKAGE, Source
from affectlocus.config.yaml_text import parsed

Kind = Literal["image", "frames", "video", "audio", "features", "pixels", "sound"]
"""What a medium's files hold."""

PICTURES: tuple[Kind, ...] = ("image", "frames", "video")
"""Kinds that are read as pictures."""

DECODED: tuple[Kind, ...] = ("pixels", "sound")
"""Kinds that a multimodal model reads through its own processor (bridges of kind native)."""

BARE: tuple[Kind, ...] = ("features", *DECODED)
"""Kinds without an encoder."""

SUFFIXES: dict[Kind, tuple[str, ...]] = {
    "image": (".png", ".jpg", ".jpeg"),
    "frames": (".npy",),
    "video": (".mp4", ".avi"),
    "audio": (".wav", ".flac", ".mp3", ".mp4", ".avi"),
    "features": (".npy",),
    "pixels": (".png", ".jpg", ".jpeg"),
    "sound": (".wav", ".flac", ".mp3", ".mp4", ".avi"),
}
"""Kind → the suffixes of its files, in lower case."""

FOLDER = Path(__file__).parent / "media_presets"
"""The folder of the presets; a file's name is the name of the preset."""

PRESETS: dict[str, dict[str, Any]] = {
    file.stem: parsed(file.read_text(encoding="utf-8"), str(file))
    for file in sorted(FOLDER.glob("*.yaml"))
}
"""Preset → the keys of a medium, as in params.yaml."""


class Encoder(Source):
    """A frozen model that turns a recording or a picture into features.

    A Hugging Face model with its configuration, its preprocessor's configuration and its weights.
    """

    pretrain: EncoderRecipe | None = Field(
        None, description="a tiny encoder of drawn faces or synthetic voices, which is made here"
    )
    package: str | None = Field(
        None,
        pattern=PACKAGE,
        description="an installed Python package and its version, which contains the encoder",
    )
    file: str | None = Field(
        None,
        min_length=1,
        description="the encoder's config.json in the package; * and ? match any characters",
    )
    url: str | None = Field(None, description="not possible: an encoder is more than one file")
    sha256: str | None = Field(None, description="not possible, as url")

    places: ClassVar[tuple[str, ...]] = ("folder", "hub", "package", "pretrain")
    companions: ClassVar[dict[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
        "revision": (("hub",), ("hub",)),
        "sha256": (("url",), ()),
        "file": (("package",), ("package",)),
    }


class Medium(Strict):
    """How one medium of the samples is read, and what its features are.

    Pictures are chosen frames of an image, of an array or of a video. A recording is heard whole or
    in clips of equal length.
    """

    preset: Annotated[str, *one_of("preset", PRESETS)] | None = Field(
        None, description="released settings of a system, which supply the keys that are left out"
    )
    kind: Kind = Field(
        description="what the files hold. image: a picture (png, jpg); frames: pictures as an "
        "array (.npy); video: the pictures of a video (mp4, avi); audio: a recording (wav, flac, "
        "mp3), or the sound of a video; features: arrays that are used as they are (.npy), without "
        "an encoder; pixels, sound: a picture or a recording for a multimodal model that reads it "
        "itself (bridge of kind native), without an encoder"
    )
    encoder: Annotated[
        Encoder | None, BeforeValidator(as_folder, json_schema_input_type=str | Encoder)
    ] = Field(None, description="the frozen model; a plain path means a folder on disk")
    frames: Count = Field(8, description="number of pictures taken of frames and video")
    pick: Literal["start", "middle", "ends"] = Field(
        "middle",
        description="frames and video are divided into equal parts, one for each picture. start: "
        "the first frame of each part; middle: its middle frame; ends: from the first frame to the "
        "last one, evenly spaced",
    )
    size: Count | None = Field(
        None,
        description="pictures are first scaled to size x size pixels, whatever their shape. By "
        "default only the encoder's own preprocessing scales them",
    )
    array_channels: Literal["rgb", "bgr"] = Field(
        "rgb",
        description="order of the colours in .npy files. OpenCV writes bgr; such pictures are "
        "converted to rgb",
    )
    rate: Count = Field(16_000, description="samples per second that the encoder is given")
    clips: Count | None = Field(
        None, description="number of clips of a recording; by default it is heard as a whole"
    )
    seconds: Positive | None = Field(
        None,
        description="length of a clip. Without clips: at most so much of the beginning is heard; "
        "what follows is left out, and is not counted",
    )
    starts: Literal["exact", "float"] = Field(
        "exact",
        description="clips start evenly spaced from the beginning to the last possible start. "
        "exact: computed in samples; float: in seconds, as pytorchvideo 0.1.5 does",
    )
    centre: bool = Field(False, description="subtract its mean from each clip")
    normalise: Literal["encoder", "none", "clip", "sample"] = Field(
        "encoder",
        description="to mean 0 and variance 1: clip: each clip; sample: all clips of a recording "
        "together; encoder: as the configuration of the encoder's preprocessor says",
    )
    window: Literal["trained", "none"] = Field(
        "trained",
        description="of Whisper only. trained: silence is added up to the 30 s that it was trained "
        "on, and its positions are left out of the features; none: nothing is added, which is "
        "faster and gives other features",
    )
    short: Literal["fill", "keep", "absent"] = Field(
        "fill",
        description="with fewer frames than frames, or less sound than seconds. fill: the last "
        "frame is repeated, zeros follow the sound; keep: there are fewer frames, or the clip is "
        "shorter; absent: the sample is treated as without this medium",
    )
    silence: Annotated[float, Field(ge=0, lt=1)] = Field(
        1e-4,
        description="a recording is silent if no sample's amplitude is above it (full scale is 1)",
    )
    layers: Annotated[
        list[Annotated[int, Field(ge=-1000, le=1000), WHOLE]], AfterValidator(distinct)
    ] = Field(
        [-1],
        min_length=1,
        description="layers of the encoder whose hidden states are averaged; -1 is the last, 0 the "
        "embeddings",
    )
    pool: Literal["mean", "none", "first", "encoder"] = Field(
        "mean",
        description="over the positions of a picture or clip. mean: their mean; none: each is a "
        "token; first: the first position, the class token of CLIP and DINOv2; encoder: the "
        "encoder's own output for the whole (CLIP's projection, the pooled output of SigLIP and "
        "DINOv2), without layers",
    )
    parts: Count = Field(
        1,
        description="with pool mean: the positions are divided into so many equal parts, and the "
        "mean of each is a token",
    )
    store: Literal["float32", "float16"] = Field(
        "float32", description="type of the stored features; they are computed in float32"
    )

    @model_validator(mode="before")
    @classmethod
    def _with_preset(cls, keys: Any) -> Any:
        preset = keys.get("preset") if isinstance(keys, dict) else None
        if isinstance(preset, str) and preset in PRESETS:
            return {**PRESETS[preset], **keys}
        return keys

    @model_validator(mode="after")
    def _is_sound(self) -> Self:
        if (self.encoder is None) != (self.kind in BARE):
            if self.encoder is None:
                raise ParameterError(
                    "media.no-encoder",
                    f"encoder is missing; kind {self.kind} needs one: a folder, hub or package",
                    kind=self.kind,
                )
            raise ParameterError(
                "media.unused-encoder",
                f"kind {self.kind} has no encoder; remove encoder, or name another kind",
            )
        if self.kind == "pixels" and self.size is None:
            raise ParameterError(
                "media.no-size", "size is missing; pictures of kind pixels are scaled to it"
            )
        # Settings that a rule passes to its command name every key, so only values count.
        given = {
            name
            for name, one in type(self).model_fields.items()
            if getattr(self, name) != one.default
        }
        unused = given - {"kind", "encoder", "preset", *_KEYS[self.kind]}
        if unused:
            raise ParameterError(
                "media.unused-key",
                f"{min(unused)} has no meaning for kind {self.kind}; remove it",
                unused=sorted(unused),
                kind=self.kind,
            )
        if self.clips is not None and self.seconds is None:
            raise ParameterError(
                "media.no-seconds", "seconds is missing; clips needs the length of a clip"
            )
        if self.clips is None and {"starts", "centre"} & given:
            raise ParameterError(
                "media.no-clips", "clips is missing; starts and centre are settings of clips"
            )
        if self.parts > 1 and self.pool != "mean":
            raise ParameterError(
                "media.parts-without-mean", f"parts needs pool mean; found {self.pool}"
            )
        return self


_OUTPUT = ("layers", "pool", "parts", "store")
# Kind → the keys that have a meaning for it.
_KEYS: dict[Kind, tuple[str, ...]] = {
    "image": ("size", *_OUTPUT),
    "frames": ("frames", "pick", "size", "array_channels", "short", *_OUTPUT),
    "video": ("frames", "pick", "size", "short", *_OUTPUT),
    "audio": (
        *("rate", "clips", "seconds", "starts", "centre", "normalise", "window"),
        *("short", "silence"),
        *_OUTPUT,
    ),
    "features": ("store",),
    "pixels": ("size", "store"),
    "sound": ("rate", "seconds", "short", "silence", "store"),
}


def media_pattern(pattern: str) -> str:
    """Checks the path of a sample's file: relative, with columns in braces."""
    try:
        pieces = list(string.Formatter().parse(pattern))
    except ValueError as error:
        raise ParameterError(
            "media.not-a-pattern",
            f"found {pattern!r}: {error}; write {{column}} for a column of the sample",
            found=pattern,
        ) from None
    fields = [field for _, field, _, _ in pieces if field is not None]
    for _, field, spec, conversion in pieces:
        if field is not None and (spec or conversion or not field or not field.isprintable()):
            raise ParameterError(
                "media.not-a-column",
                f"found {{{field}}} in {pattern!r}, which is not a column in braces; correct it",
                found=field,
            )
    if not fields:
        raise ParameterError(
            "media.no-column",
            f"found {pattern!r}, the same file for every sample; name a column in braces, such as "
            "faces/{id}.png",
            found=pattern,
        )
    return pattern


MediaPattern = Annotated[str, AfterValidator(media_pattern)]
"""The path of a sample's file, with columns in braces."""
