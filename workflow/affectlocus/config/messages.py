"""Errors in params.yaml and in settings: the place, the key and one sentence."""

from __future__ import annotations

import copy
import re
import reprlib
from contextlib import suppress
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from typing_extensions import TypeAliasType

from affectlocus.core.errors import InputError, nearest

SHORT = reprlib.Repr()
SHORT.maxlevel, SHORT.maxstring, SHORT.maxother, SHORT.maxlong = 3, 300, 300, 40
SHORT.maxlist = SHORT.maxtuple = SHORT.maxset = SHORT.maxdict = 12


_TAG = re.compile(r"\[\w+\]")


class ParameterError(InputError, ValueError):
    """A value that is not allowed; a ValueError, so that pydantic adds the key of the value."""


def problems(error: ValidationError, model: type[BaseModel] | None = None) -> list[InputError]:
    """Every error that pydantic reports, each with its key in the field `key`.

    A missing key is left out if an unknown key next to it looks like a misspelling of it.

    Args:
        model: the model that was validated, whose keys are suggested.
    """
    details = error.errors(include_url=False)
    meant = {
        (*one["loc"][:-1], near)
        for one in details
        if one["type"] == "extra_forbidden" and (near := near_key(model, one["loc"]))
    }
    kept = [one for one in details if one["type"] != "missing" or one["loc"] not in meant]
    return [_problem(one, model) for one in kept]


def first_problem(error: ValidationError, model: type[BaseModel] | None = None) -> InputError:
    """The first error that pydantic reports, with its key in the field `key`."""
    return problems(error, model)[0]


def without_unknown_keys(
    config: dict[str, Any], error: ValidationError, model: type[BaseModel]
) -> dict[str, Any] | None:
    """A config without its unknown keys; one that looks like a misspelling is corrected instead.

    Args:
        error: what pydantic reports of the config.

    Returns:
        A copy; None if something else than keys is wrong.
    """
    meant = copy.deepcopy(config)
    unknown = [one["loc"] for one in error.errors() if one["type"] == "extra_forbidden"]
    if len(problems(error, model)) > len(unknown):
        return None
    for place in unknown:
        holder: Any = meant
        for part in place[:-1]:
            # A part that leads nowhere is the tag of one form of a value.
            with suppress(KeyError, IndexError, TypeError):
                holder = holder[part]
        value = holder.pop(place[-1])
        near = near_key(model, place)
        if near is not None:
            holder.setdefault(near, value)
    return meant


def near_key(model: type[BaseModel] | None, place: tuple[int | str, ...]) -> str | None:
    """The key of a model that an unknown key is probably a misspelling of.

    Args:
        place: where the unknown key is, as pydantic reports it.
    """
    if model is None:
        return None
    kinds = _models_at(model, place[:-1])
    names = [name for kind in kinds for name in kind.model_fields]
    return nearest(str(place[-1]), names)


def _models_at(model: type[BaseModel], place: tuple[int | str, ...]) -> list[type[BaseModel]]:
    """The models whose keys may be at a place; several where a value has several forms."""
    kinds: list[Any] = [model]
    for part in place:
        inner = [found for kind in kinds for found in _inner(kind, part)]
        # A part that leads nowhere is the tag of one form of a value.
        kinds = inner or kinds
    return [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]


def _inner(kind: Any, part: int | str) -> list[Any]:
    """The types of what a value of a type has at a key or an index."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        field = kind.model_fields.get(str(part))
        return _forms(field.annotation) if field is not None else []
    arguments = get_args(kind)
    if get_origin(kind) is dict:
        return _forms(arguments[1])
    if get_origin(kind) is list and isinstance(part, int):
        return _forms(arguments[0])
    return []


def _forms(annotation: Any) -> list[Any]:
    """The types of an annotation without `Annotated`, one for each part of a union."""
    if isinstance(annotation, TypeAliasType):
        return _forms(annotation.__value__)
    origin = get_origin(annotation)
    if origin is Annotated:
        return _forms(get_args(annotation)[0])
    if origin in (Union, UnionType):
        return [form for one in get_args(annotation) for form in _forms(one)]
    return [annotation]


def _problem(first: Any, model: type[BaseModel] | None) -> InputError:
    # pydantic's "[key]", and the tags of `claim_kinds`.
    key = ".".join(str(part) for part in first["loc"] if not _TAG.fullmatch(str(part)))
    if first["type"] == "extra_forbidden":
        near = near_key(model, first["loc"])
        advice = f"{near}?" if near else "remove it or correct its spelling"
        return InputError("params.unknown-key", f"unknown key; {advice}", key=key, near=near)
    if first["type"] == "missing":
        return InputError("params.missing-key", "missing; expected a value", key=key)
    problem = first.get("ctx", {}).get("error")
    if isinstance(problem, InputError):
        return InputError(problem.code, str(problem), **{**problem.fields, "key": key})
    message = first["msg"].removeprefix("Value error, ")
    return InputError(
        "params.invalid-value",
        f"found {SHORT.repr(first['input'])}; {message[0].lower()}{message[1:]}",
        key=key,
        found=first["input"],
        rule=first["type"],
    )


def located(problem: InputError, source: str) -> InputError:
    """The problem with the file or the option, and the key, before its message."""
    key = problem.fields.get("key")
    return problem.within(f"{source}: {key}" if key else source, file=source)
