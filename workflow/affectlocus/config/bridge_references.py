"""Checks of pairs with a bridge: their tasks have the media that the bridge reads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from affectlocus.config.bridges import KINDS
from affectlocus.config.media import DECODED, SUFFIXES
from affectlocus.config.tuning import Recipe
from affectlocus.core.errors import InputError
from affectlocus.core.projections import BRIDGE

if TYPE_CHECKING:
    from affectlocus.config.bridges import BridgeConfig
    from affectlocus.config.experiment import Parameters
    from affectlocus.config.pairs import PairConfig


def media_of_pairs(parameters: Parameters) -> Iterator[InputError]:
    """A problem for a pair with a bridge whose tasks do not have the media that it reads."""
    # AffectGPT's template has placeholders of its own, and takes the text alone.
    own = parameters.spoken if parameters.evaluate.generation.template == "affectgpt" else []
    for name, pair in parameters.pairs.items():
        bridge = parameters.bridges.get(pair.bridge or "")
        if bridge is None:
            continue
        if pair.tuning is not None and pair.tuning.modules == BRIDGE:
            yield InputError(
                "pair.bridge-alone",
                f"found {BRIDGE}; a pair changes the language model, and the bridge alone is "
                "tuned for the tune cells of every pair with a bridge: name projections",
                key=f"pairs.{name}.tuning.modules",
                found=BRIDGE,
            )
        yield from _native(parameters, name, pair, bridge)
        learned = [] if pair.tuning is None else pair.tuning.data
        recipe = parameters.tune
        if recipe is not None and parameters.matrix.tune and name in parameters.matrix.pairs:
            learned = [*learned, *recipe.data]
        read = dict.fromkeys([*learned, *parameters.columns_of(name)])
        tasks = {one: parameters.tasks[one] for one in read if one in parameters.tasks}
        seen = {one: task for one, task in tasks.items() if task.media}
        for group, names in (("tuned on", learned), ("a benchmark", parameters.columns_of(name))):
            if names and not set(names) & set(seen):
                yield InputError(
                    "pair.no-media",
                    f"the pair has a bridge, and none of the tasks that it is {group} "
                    f"({', '.join(names)}) has media; give one of them media, or remove bridge",
                    key=f"pairs.{name}.bridge",
                    found=names,
                )
        for one, task in seen.items():
            missing = [medium for medium in bridge.media if medium not in task.media]
            if missing:
                yield InputError(
                    "task.no-medium",
                    f"has no {missing[0]}, which bridge {pair.bridge} of pair {name} reads; add "
                    f"it, or remove media so that the task is text alone",
                    key=f"tasks.{one}.media",
                    found=list(task.media),
                    expected=missing[0],
                )
            elif (one not in own or one in learned) and not any(
                f"<{token}>" in task.prompt for token in bridge.tokens
            ):
                places = ", ".join(f"<{token}>" for token in bridge.tokens)
                yield InputError(
                    "prompt.no-placeholder",
                    f"has none of {places}, at which bridge {pair.bridge} of pair {name} puts what "
                    "it makes of the media; add them",
                    key=f"tasks.{one}.prompt",
                    found=task.prompt,
                    expected=list(bridge.tokens),
                )


def _native(
    parameters: Parameters, name: str, pair: PairConfig, bridge: BridgeConfig
) -> Iterator[InputError]:
    """A problem for media and arms that do not fit a bridge of a multimodal model, or need one."""
    own = KINDS[bridge.kind].own
    for medium in bridge.media:
        kind = parameters.media[medium].kind if medium in parameters.media else None
        if kind is not None and (kind in DECODED) != own:
            expected = DECODED if own else tuple(one for one in SUFFIXES if one not in DECODED)
            yield InputError(
                "bridge.other-media",
                f"bridge {pair.bridge} of kind {bridge.kind} reads {medium}, which is of kind "
                f"{kind}; expected {', '.join(expected)}",
                key=f"media.{medium}.kind",
                found=kind,
                expected=expected,
            )
    if not own:
        return
    if pair.initial is not None:
        yield InputError(
            "pair.native-initial",
            f"pair {name!r} has a bridge of kind native, whose initial bridge is the base's own; "
            "remove it",
            key=f"pairs.{name}.initial",
            pair=name,
        )
    recipes: dict[str, Recipe | None] = {f"pairs.{name}.tuning": pair.tuning}
    if name in parameters.matrix.pairs and parameters.matrix.tune:
        recipes["tune"] = parameters.tune
    for where, recipe in recipes.items():
        if recipe is not None and recipe.start is not None:
            yield InputError(
                "tuning.native-start",
                f"found {recipe.start!r}; pair {name!r} has a bridge of kind native, whose model's "
                "processor begins each prompt; remove it",
                key=f"{where}.start",
                found=recipe.start,
                pair=name,
            )
    if parameters.matrix.forecast and any(recipes.values()):
        yield InputError(
            "matrix.native-forecast",
            f"pair {name!r} has a bridge of kind native, and measures before tuning read text and "
            "soft tokens only; remove it",
            key="matrix.forecast",
            pair=name,
        )
    spoken = [task for task in parameters.columns_of(name) if task in parameters.spoken]
    for task in spoken:
        if parameters.tasks[task].media:
            yield InputError(
                "native.no-free-text",
                f"{task} has media and is answered with free text, and pair {name!r} has a bridge "
                "of kind native, whose model is asked by candidates alone; set the task's readout "
                "to candidates",
                key=f"evaluate.readouts.{task}",
                task=task,
                pair=name,
            )
