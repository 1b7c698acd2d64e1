"""Split LoRA on the fused experts of a mixture into the factors of each expert's matrices.

peft's `target_parameters` adapts a parameter (E, d_out, d_in), or (E, d_in, d_out), with one pair
of factors: A (E·r, d_in), expert after expert, and B (d_out, r·E), in which the experts alternate
(`ParamWrapper.get_delta_weight`). The change of expert e is B[:, e::E]·A[e·r:(e+1)·r]. Here it
becomes two factors of each matrix gate, up and down of the expert, as views.

E experts, r rank, H hidden, I intermediate.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from affectlocus.checkpoints.tensor_entries import StridedView
from affectlocus.checkpoints.tensor_files import Tensors
from affectlocus.core.errors import InputError

# The wrapper of a module's second parameter is around that of its first.
_EXPERTS = re.compile(
    r"(?P<module>(?:.*\.)?experts)(?P<inner>(?:\.base_layer)*)\.lora_(?P<factor>[AB])"
    r"(?:\.(?!weight$)[^.]+)?\.weight"
)
_WRAPPER = "base_model.model."
_PARAMETERS = ("gate_up_proj", "down_proj")
"""The parameters of a module, in the order in which peft wraps them, the innermost first."""


@dataclass(frozen=True)
class _Factors:
    """The stored names of one parameter's factors, and their shapes."""

    parameter: str
    a: str
    b: str
    a_shape: tuple[int, ...]
    b_shape: tuple[int, ...]


def split_parameter_factors(
    tensors: Tensors,
    targets: object,
    rank: Callable[[str], float | None],
    alternating: bool | None,
    path: Path,
) -> dict[str, str]:
    """Replaces the factors of fused experts by the factors of their matrices.

    Args:
        tensors: the adapter's tensors; changed in place.
        targets: peft's `target_parameters`.
        rank: the rank of a parameter by the settings, from its module and name.
        alternating: whether the rows of gate and up alternate in the base; None if not known.
        path: the adapter, for messages.

    Returns:
        Module of an expert's matrix → its parameter, whose name the settings know.

    Raises:
        InputError: the factors do not fit each other, the settings, or one layout of the experts.
    """
    if not isinstance(targets, list):
        return {}
    named: dict[str, str] = {}
    for module, found in _modules(tensors).items():
        wanted = [
            one
            for one in _PARAMETERS
            if any(f".{module}.{one}".endswith(f".{target}") for target in targets)
        ]
        if len(wanted) != len(found):
            raise InputError(
                "adapter.parameters-unknown",
                f"{path}: {module} has factors of {len(found)} parameters, and target_parameters "
                f"names {', '.join(wanted) or 'none'} of {', '.join(_PARAMETERS)}; merge the "
                "adapter into its base with peft and give the merged model",
                file=path,
                module=module,
                found=len(found),
                expected=wanted,
            )
        # The deepest wrapper, with most `base_layer`, holds the first parameter.
        ordered = [found[depth] for depth in sorted(found, reverse=True)]
        layers = [
            _Factors(name, pair["A"], pair["B"], tensors.shape(pair["A"]), tensors.shape(pair["B"]))
            for name, pair in zip(wanted, ordered, strict=True)
        ]
        swapped = _swapped(layers)
        for one in layers:
            views = _views(
                one, module, rank(f"{module}.{one.parameter}"), swapped, alternating, path
            )
            tensors.replace_by_strided_views((one.a, one.b), views)
            named |= {
                name.rpartition(".lora_")[0].rpartition(_WRAPPER)[2]: f"{module}.{one.parameter}"
                for name in views
            }
    return named


def _modules(tensors: Tensors) -> dict[str, dict[int, dict[str, str]]]:
    """Module of experts → depth of the wrapper → factor → stored name."""
    found: dict[str, dict[int, dict[str, str]]] = {}
    for name in tensors.names():
        if match := _EXPERTS.fullmatch(name):
            depth = match["inner"].count(".")
            found.setdefault(match["module"], {}).setdefault(depth, {})[match["factor"]] = name
    return {
        module: layers
        for module, layers in found.items()
        if all(set(pair) == {"A", "B"} for pair in layers.values())
    }


def _swapped(layers: list[_Factors]) -> bool:
    """Whether A has the output's width, as in peft before it knew the order of a parameter's axes.

    Gate and up read what down writes, the hidden state, so A of one is as wide as B of the other.
    """
    if len(layers) < 2:
        return False
    up, down = layers
    return up.a_shape[1] != down.b_shape[0] and up.b_shape[0] == down.a_shape[1]


def _views(
    one: _Factors,
    module: str,
    rank: float | None,
    swapped: bool,
    alternating: bool | None,
    path: Path,
) -> Mapping[str, tuple[str, StridedView]]:
    """Factor of an expert's matrix → the stored factor that holds it, and its place there."""
    total, inputs = one.a_shape
    outputs = one.b_shape[0]
    if rank is None or total % int(rank) or one.b_shape[1] != total:
        raise InputError(
            "adapter.parameter-rank",
            f"{path}: {one.a} has shape {one.a_shape} and {one.b} {one.b_shape}; expected as many "
            f"rows of the first as columns of the second, a multiple of the rank {rank}",
            file=path,
            tensor=one.a,
            found=(one.a_shape, one.b_shape),
            expected=rank,
        )
    r = int(rank)
    experts = total // r
    # A of expert e: rows e·r, e·r + 1, …; B: columns e, e + E, ….
    a_steps, b_steps = (inputs, 1), (total, experts)
    halves = ("gate_proj", "up_proj") if one.parameter == "gate_up_proj" else ("down_proj",)
    if len(halves) == 2 and alternating is None:
        raise InputError(
            "adapter.experts-need-base",
            f"{path}: {one.a} is of gate and up of {experts} experts, whose order is not known "
            "without the base; give the base as well",
            file=path,
            tensor=one.a,
        )
    width = outputs if not swapped else inputs
    rows = width // len(halves)
    found: dict[str, tuple[str, StridedView]] = {}
    for expert in range(experts):
        a_first, b_first = expert * r * inputs, expert
        for number, half in enumerate(halves):
            first, step = (number, len(halves)) if alternating else (number * rows, 1)
            if not swapped:
                a_view = StridedView(a_first, (r, inputs), a_steps)
                b_view = StridedView(
                    b_first + first * b_steps[0], (rows, r), (step * b_steps[0], b_steps[1])
                )
                places = (one.a, a_view), (one.b, b_view)
            else:
                # The change is (B·A) transposed: B's part is the new A, and A's the new B.
                a_view = StridedView(b_first, (r, outputs), (b_steps[1], b_steps[0]))
                b_view = StridedView(a_first + first, (rows, r), (step, inputs))
                places = (one.b, a_view), (one.a, b_view)
            stem = f"{module}.{expert}.{half}"
            found[f"{stem}.lora_A.weight"], found[f"{stem}.lora_B.weight"] = places
    return found
