"""Adapters: checkpoints that store changes of a base model.

Three layouts are read: the directory of peft, the directory of MLX (mlx-lm and mlx-vlm), and the
file of AffectGPT and MiniGPT-4, which holds the trained tensors only. Each becomes low-rank factors
and replacement tensors, by the name of the tensor that they change.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from affectlocus.checkpoints.adapter_kinds import (
    training_only,
    unsupported_settings,
    unsupported_tensor,
)
from affectlocus.checkpoints.architectures import Rows, in_other_tower, place
from affectlocus.checkpoints.fused_experts import split_experts
from affectlocus.checkpoints.spectra import LowRank
from affectlocus.checkpoints.tensor_files import EPS, Tensors
from affectlocus.checkpoints.unsupported_formats import refuse_empty
from affectlocus.core.checkpoint_files import TRAINED_WITH_LORA, whole_weights
from affectlocus.core.errors import InputError, shortened
from affectlocus.core.files import read_json
from affectlocus.core.regex_timeout import time_limit

CONFIG = "adapter_config.json"
PEFT = "adapter_model"
_PATTERN_SECONDS = 10  # seconds
_LARGEST = 10**15
# As in peft: a key is a regular expression for the end of a module's name.
_ENDS = r"(?:.*\.)?({})$"
_PEFT_ALPHA = 8  # peft's default
MLX = "adapters.safetensors"

_LORA = re.compile(
    r"(?P<module>.+)\.lora_(?P<factor>A|B|embedding_A|embedding_B|magnitude_vector|a|b)"
    r"(?:\.(?P<adapter>(?!weight$|bias$)[^.]+))?(?P<leaf>\.weight|\.bias)?"
)
# The names of factors in mlx-vlm.
_VLM = re.compile(r"(?P<module>.+)\.(?P<factor>[AB])")
# LoRA-XS: an r×r matrix between A and B. peft removes `.default` from the name when it saves it.
_LATENT = re.compile(r"(?P<owner>.+)[._]lora_latent_mapping(?:\.[^.]+)??(?:\.weight)?")
# The prefix of peft's wrapper. Anything before it belongs to the model around the wrapped one.
_WRAPPER = "base_model.model."
_ORIGINAL = re.compile(r"\.(?:original_module|modules_to_save(?:\.[^.]+)?)(?=\.)")
_SAVED = re.compile(
    r"\.modules_to_save(?:\.[^.]+)?(?=\.)|\.token_adapter(?=\.base_layer\.)|\.base_layer(?=\.)"
)
_ROWS = re.compile(r"(?P<module>.+?)\.token_adapter\.trainable_tokens_delta(?:\.[^.]+)?")
_TABLES = ("embed_tokens", "tok_embeddings", "wte", "word_embeddings")


@dataclass(frozen=True)
class Factors:
    """The stored tensors of one module's low-rank change, by their names in the adapter's file."""

    a: str
    b: str
    # "embedding": of the transposed weight; "mlx": both transposed; "mlx embedding": A·B
    layout: str = "linear"
    magnitude: str | None = None  # DoRA
    bias: str | None = None  # added to the module's bias, with the scaling of B·A
    latent: str | None = None  # LoRA-XS: R of B·R·A


@dataclass(frozen=True)
class Change:
    """What becomes of one tensor of the base: a low-rank sum, a replacement, or both not."""

    low_rank: LowRank | None = None
    magnitude: np.ndarray | None = None  # DoRA: (d_out,), float64
    replacement: str | None = None  # name of a whole tensor in the adapter's file
    added: np.ndarray | None = None  # float64, for biases


class Adapter:
    """A LoRA adapter or a file of trained tensors, read lazily.

    Args:
        path: a peft or MLX directory; a .pth, .pt or .bin file; or the folder or file of a whole
            model that was saved with unmerged LoRA factors.
        alpha: LoRA alpha, for a file that does not store it.

    Attributes:
        layout: `peft`, `mlx` or `trained-only`.
        factors: module → its low-rank factors. Modules have their names in the file, without the
            prefix of peft's wrapper.
        replaced: tensor → the stored tensor that replaces it, with the same kind of names.
        notes: sentences about how the adapter was read.
        rows: tensor → the stored rows that replace some of its rows (`row_indices`).

    Raises:
        InputError: the adapter's tensors do not determine its change of the weights; or tensors
            contradict each other or the configuration.
    """

    def __init__(self, path: Path, alpha: float | None = None) -> None:
        self.path = path
        self._alpha = None if alpha is None else _positive(alpha, path, "the given alpha")
        self.config: dict[str, Any] = {}
        if (path / CONFIG).is_file():
            self.config = read_json(path / CONFIG)
            if not isinstance(self.config, dict):
                raise InputError(
                    "adapter.settings-not-object",
                    f"{path / CONFIG}: holds a {type(self.config).__name__}; expected an object "
                    "with the adapter's settings, as peft or MLX writes it",
                    file=path / CONFIG,
                    found=type(self.config).__name__,
                )
            if _is_mlx(path, self.config):
                self.layout = "mlx"
                self.tensors = Tensors([path / MLX])
            else:
                self.layout = "peft"
                for key, why in unsupported_settings(self.config):
                    raise InputError(
                        "adapter.unsupported-setting",
                        f"{path / CONFIG}: {key} is {shortened(repr(self.config.get(key)))}: {why}",
                        file=path / CONFIG,
                        key=key,
                        found=self.config.get(key),
                    )
                self.tensors = Tensors(_peft_weights(path))
        else:
            self.layout = "trained-only"
            self.tensors = Tensors(whole_weights(path) if path.is_dir() else [path])
        split_experts(self.tensors, None, path)
        refuse_empty(path, self.tensors)
        self.factors: dict[str, Factors] = {}
        self.replaced: dict[str, str] = {}
        self.notes: list[str] = []
        self.rows: dict[str, str] = {}
        self._read_names()
        self._check_config()
        with self._pattern_time_limit():
            for module, factors in self.factors.items():
                self._check_factors(module, factors)
        if self.config.get("trainable_token_indices") and not self.rows:
            raise InputError(
                "adapter.no-token-rows",
                f"{path / CONFIG}: trainable_token_indices is "
                f"{self.config['trainable_token_indices']!r}, but the adapter holds no rows for "
                "them (trainable_tokens_delta); it is incomplete: fetch it again",
                file=path / CONFIG,
                key="trainable_token_indices",
                found=self.config["trainable_token_indices"],
            )
        for name in self.rows:
            self._check_rows(name)

    def _pattern_time_limit(self) -> AbstractContextManager[None]:
        """A time limit for matching the configuration's patterns with the modules."""
        return time_limit(
            _PATTERN_SECONDS,
            InputError(
                "adapter.slow-pattern",
                f"{self.path / CONFIG}: its patterns take longer than {_PATTERN_SECONDS} s to "
                "match; simplify rank_pattern, alpha_pattern and exclude_modules",
                file=self.path / CONFIG,
            ),
        )

    def _read_names(self) -> None:
        found: dict[str, dict[str, str]] = {}

        def keep(names: dict[str, str], key: str, name: str) -> None:
            if key in names:
                raise InputError(
                    "adapter.two-changes",
                    f"{self.path}: {names[key]!r} and {name!r} change the same module; expected "
                    "one of them",
                    file=self.path,
                    first=names[key],
                    second=name,
                )
            names[key] = name

        adapters: set[str] = set()
        latents: list[str] = []
        stored = self.tensors.names()
        saved = {_ORIGINAL.sub("", name) for name in stored if ".modules_to_save." in name}
        # With several wrapped models, the prefix before the wrapper tells them apart.
        several = len({name.rpartition(_WRAPPER)[0] for name in stored if _WRAPPER in name}) > 1
        for name in stored:
            if training_only(name):
                continue
            match = _LORA.fullmatch(name)
            if self.layout == "mlx" and (own := _VLM.fullmatch(name)):
                keep(found.setdefault(own["module"], {}), own["factor"].lower(), name)
                continue
            if match is None:
                if _LATENT.fullmatch(name):
                    latents.append(name)
                    continue
                if ".original_module." in name and _ORIGINAL.sub("", name) in saved:
                    continue  # peft's copy of the module that the trained one replaces
                if self.layout == "mlx" and name.endswith(".m"):
                    keep(found.setdefault(name.removesuffix(".m"), {}), "magnitude", name)
                    continue
                single = self.config.get("trainable_token_indices")
                if single and (found_rows := _ROWS.fullmatch(name)):
                    tensor = f"{_unwrapped(found_rows['module'], several)}.weight"
                    keep(self.rows, tensor, name)
                    continue
                plain = _SAVED.sub("", _unwrapped(name, several))
                # peft saves the embeddings twice: trained and original. The trained copy comes
                # first in the order of names.
                if ".modules_to_save." not in self.replaced.get(plain, ""):
                    keep(self.replaced, plain, name)
                continue
            adapters |= {match["adapter"]} - {None}
            if len(adapters) > 1:
                raise InputError(
                    "adapter.several-adapters",
                    f"{self.path}: it holds several adapters ({', '.join(sorted(adapters))}); "
                    "expected one",
                    file=self.path,
                    found=sorted(adapters),
                )
            key = match["factor"] + (".bias" if match["leaf"] == ".bias" else "")
            if self.layout == "mlx" and key in ("A", "B"):
                key = key.lower()  # mlx-vlm, in adapters that have a name
            keep(found.setdefault(_unwrapped(match["module"], several), {}), key, name)
        for name in latents:
            self._keep_latent(name, found, several)
        self._refuse_unknown(found)
        for module, names in found.items():
            self.factors[module] = self._factors(module, names)
        without = sorted(module for module, names in found.items() if "latent" not in names)
        if latents and without:
            raise InputError(
                "adapter.no-latent-mapping",
                f"{self.path}: {without[0]} has no lora_latent_mapping, though other modules have "
                "one (LoRA-XS); the adapter is incomplete",
                file=self.path,
                module=without[0],
            )

    def _keep_latent(self, name: str, found: dict[str, dict[str, str]], several: bool) -> None:
        """Assigns the matrix of LoRA-XS to its module."""
        match = _LATENT.fullmatch(name)
        assert match is not None
        owner = _unwrapped(match["owner"], several)
        for module in (owner, owner.rpartition(".")[0]):
            names = found.get(module)
            if names is not None and "latent" not in names:
                names["latent"] = name
                return
        raise InputError(
            "adapter.stray-latent-mapping",
            f"{self.path}: {name!r} belongs to no module with one lora_A and one lora_B; expected "
            "all three in the same module, as LoRA-XS saves them",
            file=self.path,
            tensor=name,
        )

    def _refuse_unknown(self, modules: Collection[str]) -> None:
        """Refuses tensors of another adapter type, whatever the configuration says."""
        strange = unsupported_tensor(self.replaced, modules, everywhere=self.layout == "peft")
        if strange is not None:
            plain, kind = strange
            raise InputError(
                "adapter.unsupported-tensor",
                f"{self.path}: {self.replaced[plain]!r} is {kind}, so the change of its module is "
                "not known; merge the adapter into its base with the tool that made it, and give "
                "the merged model",
                file=self.path,
                tensor=self.replaced[plain],
                found=kind,
            )

    def _factors(self, module: str, names: dict[str, str]) -> Factors:
        for layout, first, second in (
            ("linear", "A", "B"),
            ("embedding", "embedding_A", "embedding_B"),
            ("mlx", "a", "b"),
        ):
            if first in names and second in names:
                read = {first, second, "magnitude_vector", "magnitude", "B.bias"}
                if layout == "linear" and not {"magnitude_vector", "B.bias"} & set(names):
                    read |= {"latent"}
                if unread := sorted(set(names) - read):
                    raise InputError(
                        "adapter.unsupported-factor",
                        f"{self.path}: {names[unread[0]]!r} is not read together with "
                        f"{names[first]!r}; merge the adapter into its base with its own tool and "
                        "give that folder",
                        file=self.path,
                        tensor=names[unread[0]],
                    )
                if layout == "mlx" and module.endswith(_TABLES):
                    layout = "mlx embedding"
                return Factors(
                    names[first],
                    names[second],
                    layout,
                    names.get("magnitude_vector") or names.get("magnitude"),
                    names.get("B.bias"),
                    names.get("latent"),
                )
        single = next(iter(names.values()))
        raise InputError(
            "adapter.lone-factor",
            f"{self.path}: {single!r} is without the other LoRA factor; expected both factors of a "
            "module",
            file=self.path,
            tensor=single,
        )

    def _check_config(self) -> None:
        """Refuses settings that are not valid numbers, mappings or patterns, by file and key."""
        file = self.path / CONFIG
        if self.layout == "mlx":
            recipe = self._recipe()
            where = "lora_parameters." if "lora_parameters" in self.config else ""
            for key in ("scale", "alpha"):
                if key in recipe:
                    _positive(recipe[key], file, f"{where}{key}")
            self._refuse_two_scales(recipe)
            self._note_scale(recipe)
        elif self.layout == "peft":
            if "lora_alpha" in self.config:
                _positive(self.config["lora_alpha"], file, "lora_alpha")
            for key in ("alpha_pattern", "rank_pattern"):
                patterns = self.config.get(key) or {}
                if not isinstance(patterns, dict):
                    raise InputError(
                        "adapter.setting-type",
                        f"{file}: {key} is {patterns!r}; expected an object, module → number",
                        file=file,
                        key=key,
                        found=patterns,
                        expected="an object, module → number",
                    )
                for pattern, value in patterns.items():
                    _positive(value, file, f"{key}[{pattern!r}]")
                    _check_pattern(pattern, file, key)
            excluded = self.config.get("exclude_modules")
            if isinstance(excluded, str):
                _check_pattern(excluded, file, "exclude_modules")
            elif not isinstance(excluded, list | None):
                raise InputError(
                    "adapter.setting-type",
                    f"{file}: exclude_modules is {excluded!r}; expected names or a pattern",
                    file=file,
                    key="exclude_modules",
                    found=excluded,
                    expected="names or a pattern",
                )

    def _check_factors(self, module: str, factors: Factors) -> None:
        """Refuses factors that cannot be multiplied or that contradict the configuration."""
        tensors = self.tensors
        a, b = tensors.shape(factors.a), tensors.shape(factors.b)
        if len(a) != 2 or len(b) != 2:
            raise InputError(
                "adapter.factors-not-matrices",
                f"{self.path}: {factors.a} has shape {a} and {factors.b} {b}; expected matrices",
                file=self.path,
                tensor=factors.a,
                found=(a, b),
            )
        # The sizes of the axes that hold the rank.
        inner = (a[1], b[0]) if factors.layout.startswith("mlx") else (a[0], b[1])
        if inner[0] != inner[1] or not inner[0]:
            raise InputError(
                "adapter.factor-ranks-differ",
                f"{self.path}: {factors.a} has shape {a} and {factors.b} {b}: ranks {inner[0]} and "
                f"{inner[1]}; expected the same, above 0",
                file=self.path,
                tensor=factors.a,
                found=inner,
            )
        if factors.latent is not None and tensors.shape(factors.latent) != (inner[0],) * 2:
            raise InputError(
                "adapter.latent-mapping-shape",
                f"{self.path}: {factors.latent} has shape {tensors.shape(factors.latent)}; "
                f"expected {(inner[0],) * 2}, as LoRA-XS's matrix between {factors.a} and "
                f"{factors.b}",
                file=self.path,
                tensor=factors.latent,
                expected=(inner[0],) * 2,
            )
        for name in (factors.a, factors.b, factors.magnitude, factors.bias, factors.latent):
            if name is not None and tensors.dtype(name) not in EPS:
                raise InputError(
                    "tensor.not-float",
                    f"{self.path}: {name} is stored as {tensors.dtype(name)}; expected float64, "
                    "float32, float16 or bfloat16",
                    file=self.path,
                    tensor=name,
                    found=tensors.dtype(name),
                )
        width = b[1] if factors.layout.startswith("mlx") else b[0]
        for name in (factors.magnitude, factors.bias):
            if name is not None and math.prod(tensors.shape(name)) != width:
                raise InputError(
                    "adapter.vector-length",
                    f"{self.path}: {name} has shape {tensors.shape(name)}, and {factors.b} has "
                    f"shape {b}; expected {width} entries",
                    file=self.path,
                    tensor=name,
                    found=tensors.shape(name),
                    expected=width,
                )
        dora = self.config.get("use_dora") or self.config.get("fine_tune_type") == "dora"
        if dora and factors.magnitude is None:
            raise InputError(
                "adapter.no-magnitude",
                f"{self.path}: {module} has no DoRA magnitude, but {CONFIG} says DoRA; the "
                "adapter is incomplete",
                file=self.path,
                module=module,
            )
        configured = self._configured_rank(module)
        if configured is not None and configured != inner[0]:
            raise InputError(
                "adapter.other-rank",
                f"{self.path}: {module} has rank {inner[0]}, but its configuration says "
                f"{configured:g}; the rank decides the scaling: give the tensors and the "
                "configuration of one adapter",
                file=self.path,
                module=module,
                found=inner[0],
                expected=configured,
            )

    def _check_rows(self, name: str) -> None:
        indices, shape = self.row_indices(name), self.tensors.shape(self.rows[name])
        if len(shape) != 2 or len(indices) != shape[0]:
            raise InputError(
                "adapter.token-row-count",
                f"{self.path}: {self.rows[name]} has shape {shape}, and trainable_token_indices of "
                f"{CONFIG} names {len(indices)} tokens for it; expected one row for each",
                file=self.path,
                tensor=self.rows[name],
                found=shape,
                expected=len(indices),
            )

    def row_indices(self, name: str) -> list[int]:
        """The indices of the rows that `rows` replaces in a tensor (peft: trainable_token_indices).

        Raises:
            InputError: the configuration has no such list.
        """
        indices = self.config.get("trainable_token_indices")
        module = f".{name.removesuffix('.weight')}"
        if isinstance(indices, dict):
            named = [key for key in indices if module.endswith(f".{key}")]
            # A tied head is saved with the embeddings, and only the embeddings are named.
            indices = indices[named[0]] if named else next(iter(indices.values()), None)
        if not isinstance(indices, list) or not all(
            type(index) is int and index >= 0 for index in indices
        ):
            raise InputError(
                "adapter.setting-type",
                f"{self.path / CONFIG}: trainable_token_indices is {indices!r} for {name}; "
                "expected a list of token ids",
                file=self.path / CONFIG,
                key="trainable_token_indices",
                found=indices,
                expected="a list of token ids",
            )
        return indices

    def copied(self, name: str) -> bool:
        """Whether a stored tensor belongs to a trained copy of a module (peft: modules_to_save)."""
        if ".modules_to_save." in self.replaced.get(name, ""):
            return True
        saved = self.config.get("modules_to_save") or ()
        module = name.rpartition(".")[0]
        return isinstance(saved, list) and any(module.endswith(str(one)) for one in saved)

    def _configured_rank(self, module: str) -> float | None:
        """The rank that the configuration gives a module; None where it gives none."""
        if in_other_tower(module):
            return None
        if self.layout == "mlx":
            rank = self._recipe().get("rank")
        elif self.layout == "peft":
            rank = self._patterned("rank_pattern", module, self.config.get("r"))
        else:
            rank = _find_nested(self.tensors.extra, "lora_r")
        if rank is None:
            return None
        return _positive(rank, self.path, "the rank of its configuration")

    @property
    def _vlm(self) -> bool:
        """Whether mlx-vlm wrote an MLX adapter: settings at the top level, alpha as the scale."""
        return not {"fine_tune_type", "lora_parameters"} & set(self.config)

    def _recipe(self) -> dict[str, Any]:
        if self._vlm:
            return {key: self.config[key] for key in ("rank", "alpha") if key in self.config}
        recipe = self.config.get("lora_parameters") or {}
        if not isinstance(recipe, dict):
            raise InputError(
                "adapter.setting-type",
                f"{self.path / CONFIG}: lora_parameters is {recipe!r}; expected an object",
                file=self.path / CONFIG,
                key="lora_parameters",
                found=recipe,
                expected="an object",
            )
        return recipe

    def _patterned(self, key: str, module: str, default: Any) -> Any:
        for pattern, value in (self.config.get(key) or {}).items():
            if re.match(_ENDS.format(pattern), module):
                return value
        return default

    def untouched_targets(self) -> list[str]:
        """The target modules of a peft configuration for which the adapter holds no factors."""
        targets = self.config.get("target_modules")
        if self.layout != "peft" or not isinstance(targets, list):
            return []
        return [
            target
            for target in targets
            if isinstance(target, str)
            and not any(f".{module}".endswith(f".{target}") for module in self.factors)
        ]

    def targets(self, module: str) -> bool:
        """Whether layers_to_transform and exclude_modules allow LoRA on a module of the base."""
        layers, excluded = (
            self.config.get(key) for key in ("layers_to_transform", "exclude_modules")
        )
        found = re.search(r"(?:^|\.)layers\.(\d+)\.", module)
        if layers is not None and layers != [] and found is not None:
            chosen = layers if isinstance(layers, list) else [layers]
            if int(found[1]) not in chosen:
                return False
        if isinstance(excluded, str):
            with self._pattern_time_limit():
                return re.fullmatch(excluded, module) is None
        return not any(f".{module}".endswith(f".{name}") for name in excluded or ())

    @property
    def base_name(self) -> str | None:
        """The base that the adapter's configuration names: a hub id, a path, or None."""
        named = self.config.get("base_model_name_or_path") or self.config.get("model")
        return named if isinstance(named, str) else None

    @property
    def base_config(self) -> dict[str, Any] | None:
        """The copy of the base's config.json in the adapter's folder; None if it has no copy."""
        file = self.path / "config.json"
        config = read_json(file) if file.is_file() else {}
        return config if isinstance(config, dict) and "num_attention_heads" in config else None

    def rank(self, module: str) -> int:
        """The rank r of a module's factors, from their shapes."""
        factors = self.factors[module]
        return self.tensors.shape(factors.a)[1 if factors.layout.startswith("mlx") else 0]

    def scaling(self, module: str) -> float:
        """The factor of B·A: alpha / r, alpha / √r with rsLoRA, or `scale` of MLX."""
        rank = self.rank(module)
        if self.layout == "mlx":
            return self._mlx_scaling(rank)
        if self.layout == "trained-only":
            return self.alpha() / rank
        given = self.config.get("lora_alpha", _PEFT_ALPHA)
        alpha = float(self._patterned("alpha_pattern", module, given))
        return alpha / (rank**0.5 if self.config.get("use_rslora") else rank)

    def _mlx_scaling(self, rank: int) -> float:
        recipe = self._recipe()
        if self._vlm and "alpha" not in recipe:
            raise InputError(
                "adapter.no-alpha",
                f"{self.path / CONFIG}: no alpha; expected the one that mlx-vlm writes",
                file=self.path / CONFIG,
                key="alpha",
            )
        if self._vlm:
            return float(recipe["alpha"])
        scale = float(recipe.get("scale", 1.0))
        # Until 2024 the factor of mlx-lm was scale · alpha / rank. Later alpha had no effect.
        if "alpha" in recipe and ("scale" not in recipe or self._oldest(recipe)):
            return scale * float(recipe["alpha"]) / rank
        if "scale" in recipe:
            return scale
        raise InputError(
            "adapter.no-scale",
            f"{self.path / CONFIG}: lora_parameters has no scale; expected one",
            file=self.path / CONFIG,
            key="lora_parameters.scale",
        )

    def _oldest(self, recipe: dict[str, Any]) -> bool:
        """Whether the keys show that mlx-lm trained it with the factor scale · alpha / rank."""
        both = "scale" in recipe and "alpha" in recipe
        return both and not {"fine_tune_type", "use_dora"} & set(self.config)

    def _refuse_two_scales(self, recipe: dict[str, Any]) -> None:
        """Refuses a second number for the factor of B·A, in a key that its writer does not use."""
        own = "scale" if "scale" in recipe else "alpha"
        where = own if self._vlm else f"lora_parameters.{own}"
        for other in ("scale", "alpha"):
            if own not in recipe or other not in self.config or where == other:
                continue
            if self.config[other] not in (recipe[own], recipe.get(other)):
                raise InputError(
                    "adapter.two-scales",
                    f"{self.path / CONFIG}: both {where} {recipe[own]} and {other} "
                    f"{self.config[other]}, two numbers for one factor; keep {where} alone, with "
                    "the number that the training used",
                    file=self.path / CONFIG,
                    key=(where, other),
                    found=(recipe[own], self.config[other]),
                )

    def _note_scale(self, recipe: dict[str, Any]) -> None:
        if not ("scale" in recipe and "alpha" in recipe) or "fine_tune_type" in self.config:
            return
        file = self.path / CONFIG
        if self._oldest(recipe):
            self.notes.append(
                f"{file} has both scale and alpha, as mlx-lm wrote it while the factor was "
                "scale · alpha / rank; it is read with this factor"
            )
        else:
            self.notes.append(
                f"{file} has scale, alpha and use_dora: the factor of mlx-lm was scale · alpha / "
                "rank in early versions and scale alone later, and the file does not say which; "
                f"it is read as scale alone ({recipe['scale']:g})"
            )

    def alpha(self) -> float:
        """LoRA alpha of a trained-only file: as given, or from its saved configuration."""
        found = _find_nested(self.tensors.extra, "lora_alpha")
        if self._alpha is not None:
            if isinstance(found, int | float) and found != self._alpha:
                raise InputError(
                    "adapter.two-alphas",
                    f"{self.path}: its configuration says lora_alpha {found:g}, not the given "
                    f"{self._alpha:g}; leave alpha out, or correct it",
                    file=self.path,
                    key="lora_alpha",
                    found=self._alpha,
                    expected=found,
                )
            return self._alpha
        if found is None:
            raise InputError(
                "adapter.no-alpha",
                f"{self.path}: it does not say its LoRA alpha; give it (--alpha, or alpha below "
                "the pair in params.yaml), as the training code set it",
                file=self.path,
                option="alpha",
            )
        return _positive(found, self.path, "lora_alpha of its configuration")

    def low_rank(self, module: str, rows: Rows | None = None) -> LowRank:
        """The low-rank delta of a module's weight (d_out, d_in), or of some of its rows."""
        factors = self.factors[module]
        a, b = self.tensors.array(factors.a), self.tensors.array(factors.b)
        if factors.latent is not None:
            b = b @ self.tensors.array(factors.latent)
        if factors.layout == "mlx":
            a, b = a.T, b.T
        elif factors.layout == "mlx embedding":
            a, b = b, a
        elif factors.layout == "embedding":
            # B·A of peft is (width, vocabulary); the embedding's weight is (vocabulary, width).
            a, b = b.T, a.T
        if rows is not None:
            b = np.concatenate([b[start:stop] for start, stop in rows])
        return LowRank(np.ascontiguousarray(a), np.ascontiguousarray(b), self.scaling(module))

    def magnitude(self, module: str, rows: Rows | None = None) -> np.ndarray | None:
        """The norms of the tuned weight's rows (DoRA), (d_out,) float64; None for plain LoRA."""
        name = self.factors[module].magnitude
        if name is None:
            return None
        values = self.tensors.array(name).reshape(-1)
        if rows is None:
            return values
        return np.concatenate([values[start:stop] for start, stop in rows])

    @property
    def whole(self) -> list[str]:
        """The stored tensors that are not low-rank factors, sorted."""
        used = {
            name
            for module in self.factors.values()
            for name in (module.a, module.b, module.magnitude, module.bias, module.latent)
        }
        return sorted(set(self.tensors.names()) - used)

    def changed(self) -> dict[str, str]:
        """Changed tensor, by the adapter's name → its module or stored tensor."""
        names = {f"{module}.weight": module for module in self.factors}
        for module, factors in self.factors.items():
            if factors.bias is not None:
                names[f"{module}.bias"] = module
        return names | self.replaced


def outside_notes(path: Path, modules: Iterable[str], whole: Iterable[str] = ()) -> list[str]:
    """Sentences about what an adapter changes outside the seven projections.

    Args:
        modules: modules with low-rank factors.
        whole: tensors that the adapter stores whole.
    """
    modules = [name for name in modules if place(f"{name}.weight") is None]
    whole = [name for name in whole if place(name) is None]
    towers = sorted({name for name in (*modules, *whole) if in_other_tower(name)})
    notes = []
    for verb, names in (
        ("also adapts", modules),
        ("also holds whole", [name.rpartition(".")[0] for name in whole]),
    ):
        short = {
            name.rpartition("layers.")[2].partition(".")[2] or name
            for name in names
            if not in_other_tower(name)
        }
        if short:
            notes.append(
                f"{path} {verb} {', '.join(sorted(short))}: outside the seven projections, so not "
                "measured"
            )
    if towers:
        notes.append(
            f"{path} tunes {counted(towers, 'module')} outside the language model, as "
            f"{towers[0]!r}: not measured"
        )
    return notes


def counted(things: Collection[Any], name: str) -> str:
    """A count with its noun: `1 module`, `2 modules`."""
    return f"{len(things)} {name}{'' if len(things) == 1 else 's'}"


def _is_mlx(folder: Path, config: dict[str, Any]) -> bool:
    """Whether MLX wrote a folder: it has the settings of mlx-lm or the file of mlx-vlm."""
    if "peft_type" in config:
        return False
    settings = "fine_tune_type" in config or "lora_parameters" in config
    return settings or (folder / MLX).is_file()


def _peft_weights(folder: Path) -> list[Path]:
    """The files of a peft adapter, or of the whole model that it was saved in."""
    for suffix in (".safetensors", ".bin"):
        if (folder / f"{PEFT}{suffix}").is_file():
            more = folder / TRAINED_WITH_LORA
            return [folder / f"{PEFT}{suffix}", *([more] if more.is_file() else [])]
    if gguf := sorted(folder.glob("*.gguf")):
        raise InputError(
            "checkpoint.gguf",
            f"{folder}: its weights are in {gguf[0].name}, a GGUF file, which is not read; give "
            "the adapter as peft saved it",
            file=gguf[0],
        )
    if holds_factors(folder):
        return whole_weights(folder)
    raise InputError(
        "adapter.no-weights",
        f"{folder}: {CONFIG} exists, but {PEFT}.safetensors does not; the adapter is incomplete",
        file=folder,
        expected=f"{PEFT}.safetensors",
    )


def holds_factors(folder: Path) -> bool:
    """Whether the whole model in a folder was saved with unmerged LoRA factors."""
    return any(_LORA.fullmatch(name) for name in Tensors(whole_weights(folder)).names())


def _unwrapped(name: str, several: bool) -> str:
    before, _, rest = name.rpartition(_WRAPPER)
    return f"{before}{rest}" if several or in_other_tower(before) else rest


def _check_pattern(pattern: str, file: Path, key: str) -> None:
    try:
        re.compile(pattern)
        re.compile(_ENDS.format(pattern))
    except (re.error, RecursionError, OverflowError) as error:
        raise InputError(
            "adapter.bad-pattern",
            f"{file}: {key}: {pattern!r} is not a regular expression ({error})",
            file=file,
            key=key,
            found=pattern,
        ) from None


def _positive(value: Any, file: Path, key: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        found = repr(value)
    elif isinstance(value, int) and abs(value) > _LARGEST:
        found = "too large"
    elif math.isfinite(value) and value > 0:
        return float(value)
    else:
        found = f"{value:g}"
    raise InputError(
        "adapter.not-positive",
        f"{file}: {key} is {found}; expected a number above 0",
        file=file,
        key=key,
        found=value,
    )


def _find_nested(value: Any, key: str, seen: set[int] | None = None) -> Any:
    """The first value of `key` at any depth of a saved configuration."""
    # A pickled dict may occur in many places, also inside itself.
    seen = set() if seen is None else seen
    if isinstance(value, dict) and id(value) not in seen:
        seen.add(id(value))
        if value.get(key) is not None and not isinstance(value[key], dict):
            return value[key]
        for inner in value.values():
            found = _find_nested(inner, key, seen)
            if found is not None:
                return found
    return None


def continues_training(adapter: Adapter) -> bool:
    """Whether an adapter replaces the change of an earlier one instead of adding to it."""
    return adapter.layout == "trained-only"
