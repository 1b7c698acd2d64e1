"""Adapters: what a checkpoint that is no whole model does to the tensors of its base.

Three layouts are read: peft's directory, MLX's directory, and the file of trained tensors only that
AffectGPT and MiniGPT-4 save. All become low-rank factors and replaced tensors, by the name of the
tensor that they change.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from affectlocus.architectures import Rows, place
from affectlocus.errors import InputError
from affectlocus.files import read_json
from affectlocus.spectra import LowRank
from affectlocus.stored import Tensors

CONFIG = "adapter_config.json"
PEFT = "adapter_model"
MLX = "adapters.safetensors"

_LORA = re.compile(
    r"(?P<module>.+)\.lora_(?P<factor>A|B|embedding_A|embedding_B|magnitude_vector|a|b)"
    r"(?:\.(?P<adapter>(?!weight$|bias$)[^.]+))?(?P<leaf>\.weight|\.bias)?"
)
# A wrapper of peft's: whatever stands before it belongs to the model around the language model.
_WRAPPER = "base_model.model."
_SAVED = re.compile(r"\.modules_to_save(?:\.[^.]+)?(?=\.)|\.base_layer(?=\.)")


@dataclass(frozen=True)
class Factors:
    """The stored tensors of one module's low-rank change, by their names in the adapter's file."""

    a: str
    b: str
    layout: str = "linear"  # or "embedding" (of the transposed weight), "mlx" (both transposed)
    magnitude: str | None = None  # DoRA
    bias: str | None = None  # added to the module's bias, scaled as B·A is


@dataclass(frozen=True)
class Change:
    """What becomes of one tensor of the base: a low-rank sum, a replacement, or both not."""

    low_rank: LowRank | None = None
    magnitude: torch.Tensor | None = None  # DoRA: (d_out,), float64
    replacement: str | None = None  # name of a whole tensor in the adapter's file
    added: torch.Tensor | None = None  # float64, for biases


def _refusals(config: dict[str, Any]) -> Iterable[tuple[str, bool, str]]:
    """(key, whether it stands in the way, why), for a peft configuration."""
    yield "peft_type", config.get("peft_type", "LORA") != "LORA", "only LoRA is read"
    for key, why in (
        (
            "alora_invocation_tokens",
            "it acts on some tokens only, so no change of weights tells it",
        ),
        ("layer_replication", "its layers are not those of its base"),
        ("trainable_token_indices", "single rows of the embedding are not read"),
        ("target_parameters", "LoRA on parameters that are no modules is not read"),
        ("use_qalora", "it pools its input, so B·A is not the delta"),
        ("use_bdlora", "its factors are block-diagonal, which is not read"),
        ("velora_config", "its layout is not read"),
        ("monteclora_config", "its layout is not read"),
        ("arrow_config", "it routes between adapters, so no single delta tells it"),
        ("kasa_config", "its singular values are apart, which is not read"),
        ("lora_ga_config", "it begins from a changed base, so that B·A is not the whole delta"),
    ):
        yield key, bool(config.get(key)), why
    begins = str(config.get("init_lora_weights")).lower()
    yield (
        "init_lora_weights",
        begins.startswith(("pissa", "olora", "corda", "loftq", "lora_ga")),
        "it begins from a changed base, so that B·A is not the whole delta",
    )


class Adapter:
    """A LoRA adapter or a file of trained tensors, read lazily.

    Args:
        path: a directory of peft's or MLX's, or a .pth, .pt or .bin file.
        alpha: LoRA alpha, for a file that does not tell its own.

    Attributes:
        layout: `peft`, `mlx` or `trained-only`.
        factors: module → its low-rank factors, by the module's name as the file has it, without
            peft's wrapper.
        replaced: tensor → the stored tensor that takes its place, likewise.

    Raises:
        InputError: a kind of adapter whose change of the weights cannot be told from its tensors.
    """

    def __init__(self, path: Path, alpha: float | None = None) -> None:
        self.path = path
        self._alpha = alpha
        self.config: dict[str, Any] = {}
        if path.is_dir():
            self.config = read_json(path / CONFIG)
            if "fine_tune_type" in self.config or "lora_parameters" in self.config:
                self.layout = "mlx"
                self.tensors = Tensors([path / MLX])
            else:
                self.layout = "peft"
                self.tensors = Tensors([_peft_weights(path)])
                for key, refused, why in _refusals(self.config):
                    if refused:
                        raise InputError(
                            f"{path / CONFIG}: {key} is {self.config.get(key)!r}: {why}; merge it "
                            "into its base with peft and give that folder"
                        )
        else:
            self.layout = "trained-only"
            self.tensors = Tensors([path])
        self.factors: dict[str, Factors] = {}
        self.replaced: dict[str, str] = {}
        self._read_names()

    def _read_names(self) -> None:
        found: dict[str, dict[str, str]] = {}
        adapters: set[str] = set()
        for name in self.tensors.names():
            match = _LORA.fullmatch(name)
            if match is None:
                if self.layout == "mlx" and name.endswith(".m"):
                    found.setdefault(name.removesuffix(".m"), {})["magnitude"] = name
                    continue
                self.replaced[_SAVED.sub("", _unwrapped(name))] = name
                continue
            adapters |= {match["adapter"]} - {None}
            key = match["factor"] + (".bias" if match["leaf"] == ".bias" else "")
            found.setdefault(_unwrapped(match["module"]), {})[key] = name
        if len(adapters) > 1:
            raise InputError(
                f"{self.path}: it holds the adapters {', '.join(sorted(adapters))}; expected one"
            )
        for module, names in found.items():
            self.factors[module] = self._factors(names)

    def _factors(self, names: dict[str, str]) -> Factors:
        for layout, first, second in (
            ("linear", "A", "B"),
            ("embedding", "embedding_A", "embedding_B"),
            ("mlx", "a", "b"),
        ):
            if first in names and second in names:
                return Factors(
                    names[first],
                    names[second],
                    layout,
                    names.get("magnitude_vector") or names.get("magnitude"),
                    names.get("B.bias"),
                )
        there = next(iter(names.values()))
        raise InputError(f"{self.path}: {there!r} has no twin; expected both LoRA factors")

    @property
    def base_name(self) -> str | None:
        """The base as the adapter's configuration names it: a hub id, a path, or nothing."""
        return self.config.get("base_model_name_or_path") or self.config.get("model")

    @property
    def base_config(self) -> dict[str, Any] | None:
        """The base's config.json where the adapter's folder holds a copy of it."""
        file = self.path / "config.json"
        config = read_json(file) if file.is_file() else {}
        return config if "num_attention_heads" in config else None

    def rank(self, module: str) -> int:
        """The rank r of a module's factors, by their shapes."""
        factors = self.factors[module]
        return self.tensors.shape(factors.a)[1 if factors.layout == "mlx" else 0]

    def scaling(self, module: str) -> float:
        """What B·A is multiplied by: alpha / r, alpha / √r with rsLoRA, or MLX's `scale`."""
        rank = self.rank(module)
        if self.layout == "mlx":
            recipe = self.config.get("lora_parameters") or {}
            if "scale" in recipe:
                return float(recipe["scale"])
            if "alpha" in recipe:
                return float(recipe["alpha"]) / rank
            raise InputError(f"{self.path / CONFIG}: lora_parameters has no scale; expected one")
        if self.layout == "trained-only":
            return self.alpha() / rank
        alpha = float(self.config.get("lora_alpha", rank))
        # As peft does it: a key is a regular expression for the end of a module's name.
        for pattern, value in (self.config.get("alpha_pattern") or {}).items():
            if re.match(rf"(?:.*\.)?({pattern})$", module):
                alpha = float(value)
                break
        return alpha / (rank**0.5 if self.config.get("use_rslora") else rank)

    def alpha(self) -> float:
        """A trained-only file's LoRA alpha: the caller's, or the one in its saved configuration."""
        found = _sought(self.tensors.extra, "lora_alpha")
        if self._alpha is not None:
            if found is not None and found != self._alpha:
                raise InputError(
                    f"{self.path}: its configuration says lora_alpha {found:g}, not the given "
                    f"{self._alpha:g}; leave alpha out, or correct it"
                )
            return self._alpha
        if found is None:
            raise InputError(
                f"{self.path}: it does not say its LoRA alpha; give it (--alpha, or alpha below "
                "the pair in params.yaml), as the training code set it"
            )
        return found

    def low_rank(self, module: str, rows: Rows | None = None) -> LowRank:
        """The change of a module's weight (d_out, d_in), or of some of its rows."""
        factors = self.factors[module]
        a = self.tensors.tensor(factors.a).double()
        b = self.tensors.tensor(factors.b).double()
        if factors.layout == "mlx":
            a, b = a.T, b.T
        elif factors.layout == "embedding":
            # peft's B·A is (width, vocabulary), the embedding's weight (vocabulary, width).
            a, b = b.T, a.T
        if rows is not None:
            b = torch.cat([b[start:stop] for start, stop in rows])
        return LowRank(a.contiguous(), b.contiguous(), self.scaling(module))

    def magnitude(self, module: str, rows: Rows | None = None) -> torch.Tensor | None:
        """DoRA's norms of the tuned weight's rows, (d_out,) float64; None for plain LoRA."""
        name = self.factors[module].magnitude
        if name is None:
            return None
        values = self.tensors.tensor(name).double().flatten()
        return values if rows is None else torch.cat([values[start:stop] for start, stop in rows])

    def changed(self) -> dict[str, str]:
        """Tensor (as the adapter names it) → its module or stored tensor, for all it may change."""
        names = {f"{module}.weight": module for module in self.factors}
        for module, factors in self.factors.items():
            if factors.bias is not None:
                names[f"{module}.bias"] = module
        return names | self.replaced


def _peft_weights(folder: Path) -> Path:
    for suffix in (".safetensors", ".bin"):
        if (folder / f"{PEFT}{suffix}").is_file():
            return folder / f"{PEFT}{suffix}"
    raise InputError(
        f"{folder}: {CONFIG} is there, {PEFT}.safetensors is not; the adapter is incomplete"
    )


def _unwrapped(name: str) -> str:
    return name.rpartition(_WRAPPER)[2]


def _sought(value: Any, key: str) -> float | None:
    """The first number under `key`, however deep a saved configuration nests it."""
    if isinstance(value, dict):
        if isinstance(value.get(key), int | float):
            return float(value[key])
        for inner in value.values():
            found = _sought(inner, key)
            if found is not None:
                return found
    return None


def aligned(names: Iterable[str], base: Collection[str]) -> dict[str, str]:
    """Names of an adapter's tensors → the base's, where the two differ by a wrapper's prefix alone.

    A name that the base has stands for itself. Any other is found by what follows the prefix: the
    part from `layers.N.` on, or the last two words (`embed_tokens.weight`). What the base does not
    have, or has twice, is left out.
    """
    known = set(base)
    by_tail: dict[str, set[str]] = {}
    for name in known:
        by_tail.setdefault(_tail(name), set()).add(name)
    found = {}
    for name in names:
        if name in known:
            found[name] = name
            continue
        candidates = by_tail.get(_tail(name), set())
        if len(candidates) > 1:
            candidates = {other for other in candidates if place(other) is not None}
        if len(candidates) == 1:
            (found[name],) = candidates
    return found


_LAYERS = re.compile(r"(?:^|.*?\.)(layers\.\d+\..+)")


def _tail(name: str) -> str:
    match = _LAYERS.fullmatch(name)
    return match[1] if match else ".".join(name.split(".")[-2:])
