"""Kinds of adapters: which have a change of the weights that follows from their tensors alone.

Every kind that is not read is refused by its own name, with the way out that it has: some can be
merged into their base by peft, others change no weights, or have no single change.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from typing import Any

from affectlocus.checkpoints.architectures import in_other_tower, place

MERGE = "merge it into its base with peft (merge_and_unload) and give the merged folder"
_CONVERT = (
    "convert it to plain LoRA with peft (save_pretrained with "
    "path_initial_model_for_weight_conversion), or give the merged model that the training saved"
)
_NO_WEIGHTS = "it trains inputs or prompts and changes no weights, so there is no delta to measure"
_BY_INPUT = "what it adds depends on the input, so there is no single delta of the weights"

# peft's types whose adapters peft cannot merge, and why; all others can be merged.
_NO_MERGE = {
    **dict.fromkeys(
        (
            *("PROMPT_TUNING", "MULTITASK_PROMPT_TUNING", "P_TUNING", "PREFIX_TUNING"),
            *("ADAPTION_PROMPT", "CPT", "CARTRIDGE"),
        ),
        _NO_WEIGHTS,
    ),
    **dict.fromkeys(("XLORA", "POLY", "LILY", "SHADOW"), _BY_INPUT),
}

# How the names of each kind's tensors begin, for adapters whose configuration says LoRA.
_PREFIXES = {
    "adamss": "AdaMSS",
    "adaption": "Adaption Prompt",
    "beft": "BEFT",
    "boft": "BOFT",
    "bone": "Bone",
    "c3a": "C3A",
    "deft": "DEFT",
    "delora": "DeLoRA",
    "dora": "DoRA in another layout",
    "fourierft": "FourierFT",
    "frod": "FRoD",
    "glora": "GLoRA",
    "gralora": "GraLoRA",
    "hada": "LoHa",
    "hira": "HiRA",
    "hra": "HRA",
    "ia3": "IA3",
    "lily": "Lily",
    "ln_tuning": "LN Tuning",
    "lokr": "LoKr",
    "miss": "MiSS",
    "oft": "OFT",
    "osf": "OSF",
    "peanut": "PEANuT",
    "poly": "Poly",
    "prefix_task": "multitask prompt tuning",
    "psoft": "PSOFT",
    "pvera": "PVeRA",
    "randlora": "RandLoRA",
    "road": "RoAd",
    "shadow": "ShadowPEFT",
    "shira": "SHiRA",
    "supertuning": "SuperTuning",
    "tinylora": "TinyLoRA",
    "trainable_tokens": "trainable tokens",
    "unilora": "Uni-LoRA",
    "vblora": "VB-LoRA",
    "vera": "VeRA",
    "waveft": "WaveFT",
    "xlora": "X-LoRA",
}
_OWN = {
    "lora_E": "AdaLoRA",
    "lora_ranknum": "AdaLoRA",
    "ranknum": "AdaLoRA",
    "lora_diag": "KaSA",
    "lora_down": "LoRA in kohya's layout",
    "lora_up": "LoRA in kohya's layout",
    "lora_mid": "LoCon",
    "lora_latent_mapping": "LoRA-XS",
    "prompt_embeddings": "prompt tuning",
    "prompt_encoder": "P-tuning",
    "token_adapter": "trainable tokens",
}
_BEGINS = sorted(_PREFIXES, key=len, reverse=True)
_QUANTISED = frozenset(("absmax", "quant_map", "nested_absmax", "nested_quant_map", "qweight"))

# Buffers that only training uses: peft's merge does not read them.
_TRAINING_ONLY = re.compile(r"\.(?:lora_velora_embed|lora_monteclora_sampler)(?:\.|$)")


def refused(config: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """(key, why and what to do) for what a peft configuration says that cannot be read."""
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
        ("target_parameters", f"LoRA on parameters instead of modules is not read; {MERGE}"),
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
    """Whether a stored tensor has no part in the adapter's change of the weights."""
    return _TRAINING_ONLY.search(name) is not None


def unknown(
    names: Iterable[str], modules: Collection[str], everywhere: bool = True
) -> tuple[str, str] | None:
    """The first tensor that belongs to an adapter of a kind that is not read, and what it is.

    Args:
        names: tensors that are no LoRA factors, without peft's wrapper.
        modules: those with LoRA factors.
        everywhere: whether a name alone counts, outside of adapted modules and projections too.
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
                other = "part of a quantised weight" if quantised else "of a kind that is not known"
                return name, kind or other
    return None


def _kind(words: list[str]) -> str | None:
    for word in words:
        if word in _OWN:
            return f"a tensor of {_OWN[word]}"
        for begin in _BEGINS:
            if word.startswith(f"{begin}_"):
                return f"a tensor of {_PREFIXES[begin]}"
        if word.startswith("lora_") or "_lora_" in word:
            return "a LoRA tensor of a kind that is not known"
    return None
