"""Types of single values in params.yaml: names, counts, patterns, addresses, module sets."""

from __future__ import annotations

import codecs
import json
import re
from collections import Counter
from collections.abc import Collection, Iterable
from typing import Annotated, Any
from urllib.parse import parse_qsl, urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from affectlocus.config.messages import SHORT, ParameterError
from affectlocus.core.errors import InputError, nearest
from affectlocus.core.projections import layers_text, parse_layers, parse_modules

# Keys in an address's query whose values are secrets; others, as download=1 of Zenodo, are not.
_SECRET = re.compile(r"token|key|sig|secret|pass|pw|auth|credential|session|jwt", re.IGNORECASE)


_LONGEST_NAME = 80  # a figure's file name may contain two names; file systems allow 255


def file_name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", text):
        raise ParameterError(
            "params.not-a-file-name",
            f"{text!r} cannot be the name of a folder of results; "
            "expected letters, digits, '.', '_' and '-', a letter or digit first",
            found=text,
        )
    if len(text) > _LONGEST_NAME:
        raise ParameterError(
            "params.name-too-long",
            f"{text!r} cannot be the name of a folder of results; expected {_LONGEST_NAME} "
            f"characters at most, found {len(text)}",
            found=text,
            expected=_LONGEST_NAME,
        )
    if text.lower() in _NO_TEXT or _NUMBER.fullmatch(text):
        raise ParameterError(
            "params.name-like-a-number",
            f"the name {text!r} would be read from a csv as a number or a boolean; start it with "
            "another letter",
            found=text,
        )
    return text


# Texts that pandas and spreadsheets read as a boolean or a number.
_NO_TEXT = ("true", "false", "nan", "inf", "infinity")
_NUMBER = re.compile(r"\d[\d_]*\.?\d*(?:[eE][+-]?\d+)?")


def module_set(text: str) -> str:
    try:
        return str(parse_modules(text))
    except InputError as error:
        raise ParameterError(error.code, str(error), **error.fields) from None


def layer_band(text: str) -> str:
    try:
        return layers_text(parse_layers(text))
    except InputError as error:
        raise ParameterError(error.code, str(error), **error.fields) from None


def distinct(values: list[Any]) -> list[Any]:
    for value, count in Counter(values).items():
        if count > 1:
            raise ParameterError(
                "params.listed-twice", f"{value!r} is listed twice; list it once", found=value
            )
    return values


def unknown_name(what: str, name: str, names: Iterable[str], **fields: object) -> ParameterError:
    """The error for a name that is not in a registry or in a section."""
    known = list(names)
    near = nearest(name, known)
    return ParameterError(
        "params.unknown-name",
        f"unknown {what} {name!r}; {f'{near}? ' if near else ''}expected one of {', '.join(known)}",
        found=name,
        expected=known,
        **fields,
    )


def one_of(what: str, names: Collection[str]) -> tuple[AfterValidator, WithJsonSchema]:
    """The annotations of a text that must be one of these names.

    Args:
        what: what the names are, for messages.
    """

    def known(name: str) -> str:
        if name not in names:
            raise unknown_name(what, name, names)
        return name

    return AfterValidator(known), WithJsonSchema({"type": "string", "enum": list(names)})


def draws_count(number: int) -> int:
    if number == 2:
        raise ParameterError(
            "params.two-draws",
            "found 2; an interval from two draws is as wide as the scale (Student's t with one "
            "degree of freedom); expected 1, or 3 or more",
            found=number,
        )
    return number


def labels_map(value: Any) -> Any:
    """Turns a list of labels into a map of each to itself, and numbers and booleans into text."""
    if isinstance(value, list):
        words = distinct([plain(item) for item in value])
        return dict(zip(words, words, strict=True))
    if isinstance(value, dict):
        distinct([plain(key) for key in value])
        for label, word in value.items():
            if word is None:
                raise ParameterError(
                    "params.label-without-word",
                    f"the label {label!r} has no word; write {label}: WORD, or, if it is part of a "
                    "text with a comma, put that text in quotes",
                    found=label,
                )
        return {plain(key): plain(word) for key, word in value.items()}
    return value


def plain(value: Any) -> Any:
    if value is None:
        raise ParameterError(
            "params.null-as-text", "found null; for the word null, put it in quotes"
        )
    # The table reader writes the booleans of jsonl and parquet in the same way.
    if isinstance(value, bool):
        return json.dumps(value)
    if not isinstance(value, str | int | float):
        raise ParameterError(
            "params.not-plain-text",
            f"found {SHORT.repr(value)}; expected text or a number",
            found=value,
        )
    return str(value)


def public_address(url: str) -> str:
    """Checks that an http(s) address has no secrets, because logs and result files show it."""
    # Values of environment variables are not in params.yaml.
    try:
        parts = urlsplit(re.sub(r"\$\{\w+\}", "", url))
        whole = parts.scheme in ("http", "https") and parts.hostname is not None
        _ = parts.port
    except ValueError:
        whole = False  # the exception's message may contain a part of a password
    if not whole:
        raise ParameterError(
            "params.not-an-address", "expected an address such as https://host/path"
        )
    secrets = [key for key, value in parse_qsl(parts.query) if value and _SECRET.search(key)]
    if parts.netloc.rpartition("@")[0].strip(":"):
        secrets.append("user and password")
    if secrets:
        raise ParameterError(
            "params.secret-in-address",
            f"the address contains a secret ({secrets[0]}), which logs would show; "
            "put it into an environment variable NAME and write ${NAME} in its place",
            secret=secrets[0],
        )
    return url


def as_folder(value: Any) -> Any:
    """Turns a path into a source on disk."""
    return {"folder": value} if isinstance(value, str) else value


def as_file(value: Any) -> Any:
    """Turns a path into a file on disk."""
    return {"file": value} if isinstance(value, str) else value


def listed(value: Any) -> Any:
    """Turns a single value into a list of one, and numbers into text as in a file."""
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value if value is None else [plain(value)]


def named_groups(pattern: str) -> str:
    if not re.compile(regular_expression(pattern)).groupindex:
        raise ParameterError(
            "pattern.no-named-group",
            "the pattern names no column; write (?P<column>...) around the text of each column",
        )
    return pattern


def regular_expression(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ParameterError(
            "pattern.not-a-pattern", f"not a regular expression: {error}", found=pattern
        ) from None
    return pattern


def one_group(pattern: str) -> str:
    groups = re.compile(regular_expression(pattern)).groups
    if groups != 1:
        raise ParameterError(
            "pattern.not-one-group",
            f"found {groups} groups in {pattern!r}; expected one group, around the id",
            found=pattern,
            groups=groups,
        )
    return pattern


def codec(name: str) -> str:
    try:
        "".encode(name)
        found = codecs.lookup(name).name
    except (LookupError, ValueError):
        found = ""
    # These codecs transform text, and some need hours for a long text.
    if not found or found in ("idna", "punycode", "unicode_escape", "raw_unicode_escape"):
        raise ParameterError(
            "params.unknown-encoding",
            f"unknown encoding {name!r}; expected utf-8, gb18030, cp1252, …",
            found=name,
        )
    return found


def whole(value: Any) -> Any:
    """Turns text with an exponent or a base into a number; pydantic converts other text."""
    if isinstance(value, str):
        if _WITH_BASE.fullmatch(value):
            return int(value, 0)
        if _WITH_EXPONENT.fullmatch(value):
            return float(value)
    return value


_WITH_BASE = re.compile("0o[0-7]+|0x[0-9a-fA-F]+")
_WITH_EXPONENT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)[eE][-+]?[0-9]+")

WHOLE = BeforeValidator(whole)
"""Last in the annotation of an int, because the JSON schema loses limits that follow it."""
Name = Annotated[str, AfterValidator(file_name)]
Count = Annotated[int, Field(gt=0, le=2**31 - 1), WHOLE]
Seed = Annotated[int, Field(ge=0, le=2**32 - 1), WHOLE]
Pattern = Annotated[str, AfterValidator(named_groups)]
Listed = Annotated[
    list[str],
    AfterValidator(distinct),
    BeforeValidator(listed, json_schema_input_type=str | int | list[str | int]),
]
ModuleSet = Annotated[
    str,
    AfterValidator(module_set),
    Field(examples=["gate", "q+k+v+o+gate", "all", "gate@0-9", "q@0-3,8+down@3"]),
]
ModuleSets = Annotated[list[ModuleSet], AfterValidator(distinct)]
LayerBands = Annotated[
    list[Annotated[str, AfterValidator(layer_band), Field(examples=["0-9", "3", "0-3,8"])]],
    AfterValidator(distinct),
    # YAML reads the band of one layer as a number.
    BeforeValidator(
        lambda values: (
            [str(one) if type(one) is int else one for one in values]
            if isinstance(values, list)
            else values
        ),
        json_schema_input_type=list[str | int],
    ),
]
Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]


class Strict(BaseModel):
    """A group of keys; unknown keys are refused, and values do not change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def check_heads(hidden_size: int, heads: int) -> None:
    """Refuses a width that the heads of attention cannot share evenly."""
    if hidden_size % heads:
        raise ParameterError(
            "model.uneven-heads",
            f"hidden_size {hidden_size} is not a multiple of heads {heads}",
            found=hidden_size,
            expected=heads,
        )
