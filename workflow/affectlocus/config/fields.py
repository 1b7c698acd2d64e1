"""Types of single values in params.yaml: names, counts, patterns, addresses, module sets."""

from __future__ import annotations

import codecs
import json
import re
from collections import Counter
from typing import Annotated, Any
from urllib.parse import parse_qsl, urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from affectlocus.config.messages import SHORT
from affectlocus.core.errors import InputError
from affectlocus.core.projections import format_modules, parse_modules

# Query keys of an address whose values open it; Zenodo's download=1 and an id do not.
_SECRET = re.compile(r"token|key|sig|secret|pass|pw|auth|credential|session|jwt", re.IGNORECASE)


_LONGEST_NAME = 80  # two of them stand in a figure's file name, of which a disk allows 255


def file_name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", text):
        raise ValueError(
            f"the name {text!r} becomes a folder; "
            "expected letters, digits, '.', '_' and '-', a letter or digit first"
        )
    if len(text) > _LONGEST_NAME:
        raise ValueError(
            f"the name {text!r} becomes a folder; expected {_LONGEST_NAME} characters at most, "
            f"found {len(text)}"
        )
    if text.lower() in _NO_TEXT or _NUMBER.fullmatch(text):
        raise ValueError(
            f"the name {text!r} would be read out of a csv as a number or a boolean; put another "
            "letter in front"
        )
    return text


# What pandas and spreadsheets take for a boolean or a number.
_NO_TEXT = ("true", "false", "nan", "inf", "infinity")
_NUMBER = re.compile(r"\d[\d_]*\.?\d*(?:[eE][+-]?\d+)?")


def module_set(text: str) -> str:
    try:
        return format_modules(parse_modules(text))
    except InputError as error:
        raise ValueError(str(error)) from None


def distinct(values: list[Any]) -> list[Any]:
    for value, count in Counter(values).items():
        if count > 1:
            raise ValueError(f"{value!r} is listed twice; list it once")
    return values


def draws_count(number: int) -> int:
    if number == 2:
        raise ValueError(
            "two draws give an interval as wide as the scale (Student's t with one degree of "
            "freedom); expected 1, or 3 or more"
        )
    return number


def labels_map(value: Any) -> Any:
    """A list of labels is a map of each to itself; YAML's numbers and booleans become text."""
    if isinstance(value, list):
        words = distinct([plain(item) for item in value])
        return dict(zip(words, words, strict=True))
    if isinstance(value, dict):
        distinct([plain(key) for key in value])
        return {plain(key): plain(word) for key, word in value.items()}
    return value


def plain(value: Any) -> Any:
    if value is None:
        raise ValueError("found null; to mean the word null, put it in quotes")
    # As the reader of tables writes the booleans of jsonl and parquet.
    if isinstance(value, bool):
        return json.dumps(value)
    if not isinstance(value, str | int | float):
        raise ValueError(f"found {SHORT.repr(value)}; expected text or a number")
    return str(value)


def public_address(url: str) -> str:
    """An http(s) address without secrets: what params.yaml holds, logs and ledgers hold too."""
    # What comes from the environment is no secret here.
    try:
        parts = urlsplit(re.sub(r"\$\{\w+\}", "", url))
        whole = parts.scheme in ("http", "https") and parts.hostname is not None
        _ = parts.port
    except ValueError:
        whole = False  # its message could hold a part of a password
    if not whole:
        raise ValueError("expected an address: https://host/path, or http://")
    secrets = [key for key, value in parse_qsl(parts.query) if value and _SECRET.search(key)]
    if parts.netloc.rpartition("@")[0].strip(":"):
        secrets.append("user and password")
    if secrets:
        raise ValueError(
            f"the address holds a secret ({secrets[0]}), which logs would show; "
            "put it into an environment variable NAME, and write ${NAME} in its place"
        )
    return url


def as_folder(value: Any) -> Any:
    """A path alone is a source on disk."""
    return {"folder": value} if isinstance(value, str) else value


def as_file(value: Any) -> Any:
    """A path alone is a file on disk."""
    return {"file": value} if isinstance(value, str) else value


def listed(value: Any) -> Any:
    """One value alone is a list of one; numbers become the text that a file holds."""
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value if value is None else [plain(value)]


def named_groups(pattern: str) -> str:
    try:
        groups = re.compile(pattern).groupindex
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from None
    if not groups:
        raise ValueError("it names no column; write (?P<column>...) around what becomes one")
    return pattern


def regular_expression(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from None
    return pattern


def one_group(pattern: str) -> str:
    groups = re.compile(regular_expression(pattern)).groups
    if groups != 1:
        raise ValueError(f"{groups} groups in {pattern!r}; expected one, around the id")
    return pattern


def codec(name: str) -> str:
    try:
        "".encode(name)
        found = codecs.lookup(name).name
    except (LookupError, ValueError):
        found = ""
    # Transformations of text, of which some take hours for a long one.
    if not found or found in ("idna", "punycode", "unicode_escape", "raw_unicode_escape"):
        raise ValueError(f"unknown encoding {name!r}; expected utf-8, gb18030, cp1252, …")
    return found


Name = Annotated[str, AfterValidator(file_name)]
Count = Annotated[int, Field(gt=0, le=2**31 - 1)]
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]
Pattern = Annotated[str, AfterValidator(named_groups)]
Listed = Annotated[
    list[str],
    AfterValidator(distinct),
    BeforeValidator(listed, json_schema_input_type=str | int | list[str | int]),
]
ModuleSet = Annotated[
    str, AfterValidator(module_set), Field(examples=["gate", "q+k+v+o+gate", "all"])
]
ModuleSets = Annotated[list[ModuleSet], AfterValidator(distinct)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]


class Strict(BaseModel):
    """A group of keys: unknown ones are refused, values never change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
