"""Adapter types that are not read, and what to do with each.

An adapter is read if its tensors alone determine how it changes the weights. Every other type is
refused by name. peft can merge some of these into their base; others change no weights, or change
them depending on the input.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

from affectlocus.checkpoints.architectures import in_other_tower, place
from affectlocus.core.files import read_data_file

MERGE = "merge it into its base with peft (merge_and_unload) and give the merged folder"
_CONVERT = (
    "convert it to plain LoRA with peft (save_pretrained with "
    "path_initial_model_for_weight_conversion), or give the merged model that the training saved"
)
_NO_WEIGHTS = "it trains inputs or prompts and changes no weights, so there is no delta to measure"
_BY_INPUT = "its change depends on the input, so there is no single delta of the weights"

_KNOWN = read_data_file(Path(__file__).with_name("known_names.yaml"))
_NO_MERGE = {
    **dict.fromkeys(_KNOWN["not_merged"]["no_weights"], _NO_WEIGHTS),
    **dict.fromkeys(_KNOWN["not_merged"]["by_input"], _BY_INPUT),
}
# A configuration may say LoRA and the tensors may be of another type.
_PREFIXES: dict[str, str] = _KNOWN["tensor_prefixes"]
_EXACT_NAMES: dict[str, str] = _KNOWN["tensor_names"]
_LONGEST_FIRST = sorted(_PREFIXES, key=len, reverse=True)
_QUANTISED = frozenset(("absmax", "quant_map", "nested_absmax", "nested_quant_map", "qweight"))

# Buffers that only training uses. peft does not read them when it merges.
_TRAINING_ONLY = re.compile(r"\.(?:lora_velora_embed|lora_monteclora_sampler)(?:\.|$)")


def unsupported_settings(config: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yields (key, reason and remedy) for each setting of a peft configuration that is not read."""
    kind = config.get("peft_type", "LORA")
    if kind != "LORA":
        why = _NO_MERGE.get(str(kind))
        yield "peft_type", why if why else f"only LoRA is read; {MERGE}"
    for key, why in (
        ("alora_invocation_tokens", "it acts on some tokens only, so there is no single delta"),
        (
            "layer_replication",
            "the tuned model repeats layers of its base, so the two have no layers to compare",
        ),
        ("use_qalora", "it pools its input, so B·A is not the delta, and peft cannot merge it"),
        ("use_bdlora", f"its factors are block-diagonal, which is not read; {MERGE}"),
        ("arrow_config", _BY_INPUT),
        ("kasa_config", f"it truncates its base and has a diagonal between A and B; {MERGE}"),
        ("lora_ga_config", f"it starts from a changed base, so B·A is not the delta; {_CONVERT}"),
    ):
        if config.get(key):
            yield key, why
    start = str(config.get("init_lora_weights")).lower()
    if start.startswith(("pissa", "olora", "corda", "loftq", "lora_ga")):
        yield (
            "init_lora_weights",
            f"it starts from a changed base, so B·A is not the delta; {_CONVERT}",
        )


def training_only(name: str) -> bool:
    """Whether only training uses a stored tensor, so that it does not change the weights."""
    return _TRAINING_ONLY.search(name) is not None


def unsupported_tensor(
    names: Iterable[str], modules: Collection[str], everywhere: bool = True
) -> tuple[str, str] | None:
    """The first tensor of an adapter type that is not read, and a description of it.

    Args:
        names: tensors that are not LoRA factors, without the prefix of peft's wrapper.
        modules: modules with LoRA factors.
        everywhere: also judge tensors outside adapted modules and projections, by name.
    """
    for name in sorted(names):
        if in_other_tower(name):
            continue
        words = name.split(".")
        kind = _kind(words)
        if kind and everywhere:
            return name, kind
        for count in range(1, len(words)):
            module, rest = ".".join(words[:count]), words[count:]
            inside = module in modules or place(f"{module}.weight") is not None
            if inside and rest not in (["weight"], ["bias"]):
                quantised = not _QUANTISED.isdisjoint(rest)
                other = "part of a quantised weight" if quantised else "of an unknown kind"
                return name, kind or other
    return None


def _kind(words: list[str]) -> str | None:
    for word in words:
        if word in _EXACT_NAMES:
            return f"a tensor of {_EXACT_NAMES[word]}"
        for prefix in _LONGEST_FIRST:
            if word.startswith(f"{prefix}_"):
                return f"a tensor of {_PREFIXES[prefix]}"
        if word.startswith("lora_") or "_lora_" in word:
            return "a LoRA tensor of an unknown kind"
    return None
