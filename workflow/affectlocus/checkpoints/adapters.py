"""Adapters: what a checkpoint that is no whole model does to the tensors of its base.

Three layouts are read: peft's directory, MLX's directory (of mlx-lm and mlx-vlm), and the file of
trained tensors only that AffectGPT and MiniGPT-4 save. All become low-rank factors and replaced
tensors, by the name of the tensor that they change.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Collection, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from affectlocus.checkpoints.adapter_kinds import refused, training_only, unknown
from affectlocus.checkpoints.architectures import Rows, in_other_tower, place
from affectlocus.checkpoints.fused_experts import split_experts
from affectlocus.checkpoints.spectra import LowRank
from affectlocus.checkpoints.tensor_files import EPS, Tensors
from affectlocus.checkpoints.unmerged import refuse_empty
from affectlocus.core.checkpoint_files import TRAINED_WITH_LORA, whole_weights
from affectlocus.core.errors import InputError, shortened
from affectlocus.core.files import read_json
from affectlocus.core.regex_timeout import time_limit

CONFIG = "adapter_config.json"
PEFT = "adapter_model"
_PATIENCE = 10  # seconds
_LARGEST = 10**15
# As peft does it: a key is a regular expression for the end of a module's name.
_ENDS = r"(?:.*\.)?({})$"
_PEFT_ALPHA = 8  # what peft takes where a configuration has none
MLX = "adapters.safetensors"

_LORA = re.compile(
    r"(?P<module>.+)\.lora_(?P<factor>A|B|embedding_A|embedding_B|magnitude_vector|a|b)"
    r"(?:\.(?P<adapter>(?!weight$|bias$)[^.]+))?(?P<leaf>\.weight|\.bias)?"
)
# mlx-vlm's names of its factors.
_VLM = re.compile(r"(?P<module>.+)\.(?P<factor>[AB])")
# LoRA-XS: an r×r matrix between A and B. peft drops `.default` from the name where it saves it.
_LATENT = re.compile(r"(?P<owner>.+)[._]lora_latent_mapping(?:\.[^.]+)??(?:\.weight)?")
# A wrapper of peft's: what stands before it belongs to the model around the wrapped one.
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
    # or "embedding" (of the transposed weight), "mlx" (both transposed), "mlx embedding" (A·B)
    layout: str = "linear"
    magnitude: str | None = None  # DoRA
    bias: str | None = None  # added to the module's bias, scaled as B·A is
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
        path: a directory of peft's or MLX's; a .pth, .pt or .bin file; or the folder or file of a
            whole model that was saved with its LoRA factors, not merged.
        alpha: LoRA alpha, for a file that does not tell its own.

    Attributes:
        layout: `peft`, `mlx` or `trained-only`.
        factors: module → its low-rank factors, by the module's name as the file has it, without
            peft's wrapper.
        replaced: tensor → the stored tensor that takes its place, likewise.
        notes: sentences about how it was read.
        rows: tensor → the stored rows that take the place of some of its own (`row_indices`).

    Raises:
        InputError: a kind of adapter whose change of the weights cannot be told from its tensors;
            tensors that contradict each other or the configuration.
    """

    def __init__(self, path: Path, alpha: float | None = None) -> None:
        self.path = path
        self._alpha = None if alpha is None else _positive(alpha, path, "the given alpha")
        self.config: dict[str, Any] = {}
        if (path / CONFIG).is_file():
            self.config = read_json(path / CONFIG)
            if not isinstance(self.config, dict):
                raise InputError(
                    f"{path / CONFIG}: holds a {type(self.config).__name__}; expected an object "
                    "with the adapter's settings, as peft or MLX writes it"
                )
            if _is_mlx(path, self.config):
                self.layout = "mlx"
                self.tensors = Tensors([path / MLX])
            else:
                self.layout = "peft"
                for key, why in refused(self.config):
                    raise InputError(
                        f"{path / CONFIG}: {key} is {shortened(repr(self.config.get(key)))}: {why}"
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
        with self._patient():
            for module, factors in self.factors.items():
                self._check_factors(module, factors)
        if self.config.get("trainable_token_indices") and not self.rows:
            raise InputError(
                f"{path / CONFIG}: trainable_token_indices is "
                f"{self.config['trainable_token_indices']!r}, and the adapter holds no rows for "
                "them (trainable_tokens_delta); it is incomplete: fetch it again"
            )
        for name in self.rows:
            self._check_rows(name)

    def _patient(self) -> AbstractContextManager[None]:
        """A limit for the patterns in the configuration, which are tried on every module."""
        return time_limit(
            _PATIENCE, f"{self.path / CONFIG}: its patterns take longer than {_PATIENCE} s to try"
        )

    def _read_names(self) -> None:
        found: dict[str, dict[str, str]] = {}

        def keep(names: dict[str, str], key: str, name: str) -> None:
            if key in names:
                raise InputError(
                    f"{self.path}: {names[key]!r} and {name!r} change the same module; expected "
                    "one of them"
                )
            names[key] = name

        adapters: set[str] = set()
        latents: list[str] = []
        stored = self.tensors.names()
        saved = {_ORIGINAL.sub("", name) for name in stored if ".modules_to_save." in name}
        # Several wrapped models stay told apart by where each of them stands.
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
                    continue  # peft's copy of what the trained module replaces
                if self.layout == "mlx" and name.endswith(".m"):
                    keep(found.setdefault(name.removesuffix(".m"), {}), "magnitude", name)
                    continue
                single = self.config.get("trainable_token_indices")
                if single and (found_rows := _ROWS.fullmatch(name)):
                    tensor = f"{_unwrapped(found_rows['module'], several)}.weight"
                    keep(self.rows, tensor, name)
                    continue
                plain = _SAVED.sub("", _unwrapped(name, several))
                # peft saves the embeddings a second time, as they were; the trained copy comes
                # first in the order of names.
                if ".modules_to_save." not in self.replaced.get(plain, ""):
                    keep(self.replaced, plain, name)
                continue
            adapters |= {match["adapter"]} - {None}
            if len(adapters) > 1:
                raise InputError(
                    f"{self.path}: it holds the adapters {', '.join(sorted(adapters))}; expected "
                    "one"
                )
            key = match["factor"] + (".bias" if match["leaf"] == ".bias" else "")
            if self.layout == "mlx" and key in ("A", "B"):
                key = key.lower()  # mlx-vlm's adapters with a name of their own
            keep(found.setdefault(_unwrapped(match["module"], several), {}), key, name)
        for name in latents:
            self._keep_latent(name, found, several)
        self._refuse_unknown(found)
        for module, names in found.items():
            self.factors[module] = self._factors(module, names)
        without = sorted(module for module, names in found.items() if "latent" not in names)
        if latents and without:
            raise InputError(
                f"{self.path}: {without[0]} has no lora_latent_mapping, though other modules have "
                "one (LoRA-XS); the adapter is incomplete"
            )

    def _keep_latent(self, name: str, found: dict[str, dict[str, str]], several: bool) -> None:
        """Gives LoRA-XS's matrix to the module that it lies in."""
        match = _LATENT.fullmatch(name)
        assert match is not None
        owner = _unwrapped(match["owner"], several)
        for module in (owner, owner.rpartition(".")[0]):
            names = found.get(module)
            if names is not None and "latent" not in names:
                names["latent"] = name
                return
        raise InputError(
            f"{self.path}: {name!r} belongs to no module with one lora_A and one lora_B; expected "
            "them in the same module, as LoRA-XS saves them"
        )

    def _refuse_unknown(self, modules: Collection[str]) -> None:
        """Refuses tensors of another kind of adapter, whatever the configuration says."""
        strange = unknown(self.replaced, modules, everywhere=self.layout == "peft")
        if strange is not None:
            plain, kind = strange
            raise InputError(
                f"{self.path}: {self.replaced[plain]!r} is {kind}, so the change of its module is "
                "not known; merge the adapter into its base with the tool that made it, and give "
                "the merged model"
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
                        f"{self.path}: {names[unread[0]]!r} is not read together with "
                        f"{names[first]!r}; merge the adapter into its base with its own tool and "
                        "give that folder"
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
        there = next(iter(names.values()))
        raise InputError(f"{self.path}: {there!r} has no twin; expected both LoRA factors")

    def _check_config(self) -> None:
        """Refuses settings that are no numbers, no mappings or no patterns, by file and key."""
        file = self.path / CONFIG
        if self.layout == "mlx":
            recipe = self._recipe()
            where = "lora_parameters." if "lora_parameters" in self.config else ""
            for key in ("scale", "alpha"):
                if key in recipe:
                    _positive(recipe[key], file, f"{where}{key}")
            self._note_scale(recipe)
        elif self.layout == "peft":
            if "lora_alpha" in self.config:
                _positive(self.config["lora_alpha"], file, "lora_alpha")
            for key in ("alpha_pattern", "rank_pattern"):
                patterns = self.config.get(key) or {}
                if not isinstance(patterns, dict):
                    raise InputError(
                        f"{file}: {key} is {patterns!r}; expected an object, module → number"
                    )
                for pattern, value in patterns.items():
                    _positive(value, file, f"{key}[{pattern!r}]")
                    _check_pattern(pattern, file, key)
            left_out = self.config.get("exclude_modules")
            if isinstance(left_out, str):
                _check_pattern(left_out, file, "exclude_modules")
            elif not isinstance(left_out, list | None):
                raise InputError(
                    f"{file}: exclude_modules is {left_out!r}; expected names or a pattern"
                )

    def _check_factors(self, module: str, factors: Factors) -> None:
        """Refuses factors that cannot be multiplied, or are not what the configuration says."""
        tensors = self.tensors
        a, b = tensors.shape(factors.a), tensors.shape(factors.b)
        if len(a) != 2 or len(b) != 2:
            raise InputError(
                f"{self.path}: {factors.a} has shape {a} and {factors.b} {b}; expected two matrices"
            )
        # Along which axis each has the rank.
        inner = (a[1], b[0]) if factors.layout.startswith("mlx") else (a[0], b[1])
        if inner[0] != inner[1] or not inner[0]:
            raise InputError(
                f"{self.path}: {factors.a} has shape {a} and {factors.b} {b}: ranks {inner[0]} and "
                f"{inner[1]}; expected the same, above 0"
            )
        if factors.latent is not None and tensors.shape(factors.latent) != (inner[0],) * 2:
            raise InputError(
                f"{self.path}: {factors.latent} has shape {tensors.shape(factors.latent)}; "
                f"expected {(inner[0],) * 2}, as LoRA-XS's matrix between {factors.a} and "
                f"{factors.b}"
            )
        for name in (factors.a, factors.b, factors.magnitude, factors.bias, factors.latent):
            if name is not None and tensors.dtype(name) not in EPS:
                raise InputError(
                    f"{self.path}: {name} is stored as {tensors.dtype(name)}; expected float64, "
                    "float32, float16 or bfloat16"
                )
        width = b[1] if factors.layout.startswith("mlx") else b[0]
        for name in (factors.magnitude, factors.bias):
            if name is not None and math.prod(tensors.shape(name)) != width:
                raise InputError(
                    f"{self.path}: {name} has shape {tensors.shape(name)} beside {factors.b} of "
                    f"shape {b}; expected {width} entries"
                )
        dora = self.config.get("use_dora") or self.config.get("fine_tune_type") == "dora"
        if dora and factors.magnitude is None:
            raise InputError(
                f"{self.path}: {module} has no DoRA magnitude, though {CONFIG} says DoRA; the "
                "adapter is incomplete"
            )
        told = self._told_rank(module)
        if told is not None and told != inner[0]:
            raise InputError(
                f"{self.path}: {module} has rank {inner[0]}, its configuration says {told:g}; the "
                "two do not belong together, and the rank decides the scaling"
            )

    def _check_rows(self, name: str) -> None:
        indices, shape = self.row_indices(name), self.tensors.shape(self.rows[name])
        if len(shape) != 2 or len(indices) != shape[0]:
            raise InputError(
                f"{self.path}: {self.rows[name]} has shape {shape}, and trainable_token_indices of "
                f"{CONFIG} names {len(indices)} tokens for it; expected one row for each"
            )

    def row_indices(self, name: str) -> list[int]:
        """The rows of a tensor that `rows` replaces: peft's trainable_token_indices.

        Raises:
            InputError: no such list in the configuration.
        """
        told = self.config.get("trainable_token_indices")
        module = f".{name.removesuffix('.weight')}"
        if isinstance(told, dict):
            named = [key for key in told if module.endswith(f".{key}")]
            # A tied head is saved together with the embeddings, and only these are named.
            told = told[named[0]] if named else next(iter(told.values()), None)
        if not isinstance(told, list) or not all(type(one) is int and one >= 0 for one in told):
            raise InputError(
                f"{self.path / CONFIG}: trainable_token_indices is {told!r} for {name}; expected a "
                "list of token ids"
            )
        return told

    def copied(self, name: str) -> bool:
        """Whether a stored tensor is that of a copy which peft trains beside the base's module."""
        if ".modules_to_save." in self.replaced.get(name, ""):
            return True
        saved = self.config.get("modules_to_save") or ()
        module = name.rpartition(".")[0]
        return isinstance(saved, list) and any(module.endswith(str(one)) for one in saved)

    def _told_rank(self, module: str) -> float | None:
        """The rank that the configuration gives a module; None where it gives none."""
        if in_other_tower(module):
            return None
        if self.layout == "mlx":
            told = self._recipe().get("rank")
        elif self.layout == "peft":
            told = self._patterned("rank_pattern", module, self.config.get("r"))
        else:
            told = _sought(self.tensors.extra, "lora_r")
        if told is None:
            return None
        return _positive(told, self.path, "the rank of its configuration")

    @property
    def _vlm(self) -> bool:
        """Whether an MLX adapter is mlx-vlm's: with alpha, at the top, as the scale."""
        return not {"fine_tune_type", "lora_parameters"} & set(self.config)

    def _recipe(self) -> dict[str, Any]:
        if self._vlm:
            return {key: self.config[key] for key in ("rank", "alpha") if key in self.config}
        recipe = self.config.get("lora_parameters") or {}
        if not isinstance(recipe, dict):
            raise InputError(
                f"{self.path / CONFIG}: lora_parameters is {recipe!r}; expected an object"
            )
        return recipe

    def _patterned(self, key: str, module: str, default: Any) -> Any:
        for pattern, value in (self.config.get(key) or {}).items():
            if re.match(_ENDS.format(pattern), module):
                return value
        return default

    def untouched_targets(self) -> list[str]:
        """Names in peft's list of target modules that no factor belongs to."""
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
        """Whether the settings that leave modules out let LoRA touch a module of the base."""
        layers, left_out = (
            self.config.get(key) for key in ("layers_to_transform", "exclude_modules")
        )
        found = re.search(r"(?:^|\.)layers\.(\d+)\.", module)
        if layers is not None and layers != [] and found is not None:
            chosen = layers if isinstance(layers, list) else [layers]
            if int(found[1]) not in chosen:
                return False
        if isinstance(left_out, str):
            with self._patient():
                return re.fullmatch(left_out, module) is None
        return not any(f".{module}".endswith(f".{name}") for name in left_out or ())

    @property
    def base_name(self) -> str | None:
        """The base as the adapter's configuration names it: a hub id, a path, or nothing."""
        named = self.config.get("base_model_name_or_path") or self.config.get("model")
        return named if isinstance(named, str) else None

    @property
    def base_config(self) -> dict[str, Any] | None:
        """The base's config.json where the adapter's folder holds a copy of it."""
        file = self.path / "config.json"
        config = read_json(file) if file.is_file() else {}
        return config if isinstance(config, dict) and "num_attention_heads" in config else None

    def rank(self, module: str) -> int:
        """The rank r of a module's factors, by their shapes."""
        factors = self.factors[module]
        return self.tensors.shape(factors.a)[1 if factors.layout.startswith("mlx") else 0]

    def scaling(self, module: str) -> float:
        """What B·A is multiplied by: alpha / r, alpha / √r with rsLoRA, or MLX's `scale`."""
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
            raise InputError(f"{self.path / CONFIG}: no alpha; expected one, as mlx-vlm writes it")
        if self._vlm:
            return float(recipe["alpha"])
        scale = float(recipe.get("scale", 1.0))
        # Until 2024 mlx-lm multiplied both. Later it kept alpha in its settings, without effect.
        if "alpha" in recipe and ("scale" not in recipe or self._oldest(recipe)):
            return scale * float(recipe["alpha"]) / rank
        if "scale" in recipe:
            return scale
        raise InputError(f"{self.path / CONFIG}: lora_parameters has no scale; expected one")

    def _oldest(self, recipe: dict[str, Any]) -> bool:
        """Whether mlx-lm trained it when the factor was scale · alpha / rank, as its keys tell."""
        both = "scale" in recipe and "alpha" in recipe
        return both and not {"fine_tune_type", "use_dora"} & set(self.config)

    def _note_scale(self, recipe: dict[str, Any]) -> None:
        if not ("scale" in recipe and "alpha" in recipe) or "fine_tune_type" in self.config:
            return
        file = self.path / CONFIG
        if self._oldest(recipe):
            self.notes.append(
                f"{file} has both scale and alpha, as mlx-lm wrote it while the factor was "
                "scale · alpha / rank: read so"
            )
        else:
            self.notes.append(
                f"{file} has scale, alpha and use_dora: mlx-lm took scale · alpha / rank at first "
                f"and scale alone later, and nothing tells which; read as scale alone "
                f"({recipe['scale']:g})"
            )

    def alpha(self) -> float:
        """A trained-only file's LoRA alpha: the caller's, or the one in its saved configuration."""
        found = _sought(self.tensors.extra, "lora_alpha")
        if self._alpha is not None:
            if isinstance(found, int | float) and found != self._alpha:
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
        return _positive(found, self.path, "lora_alpha of its configuration")

    def low_rank(self, module: str, rows: Rows | None = None) -> LowRank:
        """The change of a module's weight (d_out, d_in), or of some of its rows."""
        factors = self.factors[module]
        a, b = self.tensors.array(factors.a), self.tensors.array(factors.b)
        if factors.latent is not None:
            b = b @ self.tensors.array(factors.latent)
        if factors.layout == "mlx":
            a, b = a.T, b.T
        elif factors.layout == "mlx embedding":
            a, b = b, a
        elif factors.layout == "embedding":
            # peft's B·A is (width, vocabulary), the embedding's weight (vocabulary, width).
            a, b = b.T, a.T
        if rows is not None:
            b = np.concatenate([b[start:stop] for start, stop in rows])
        return LowRank(np.ascontiguousarray(a), np.ascontiguousarray(b), self.scaling(module))

    def magnitude(self, module: str, rows: Rows | None = None) -> np.ndarray | None:
        """DoRA's norms of the tuned weight's rows, (d_out,) float64; None for plain LoRA."""
        name = self.factors[module].magnitude
        if name is None:
            return None
        values = self.tensors.array(name).reshape(-1)
        if rows is None:
            return values
        return np.concatenate([values[start:stop] for start, stop in rows])

    @property
    def whole(self) -> list[str]:
        """The stored tensors that are no part of low-rank factors, sorted."""
        used = {
            name
            for one in self.factors.values()
            for name in (one.a, one.b, one.magnitude, one.bias, one.latent)
        }
        return sorted(set(self.tensors.names()) - used)

    def changed(self) -> dict[str, str]:
        """Tensor (as the adapter names it) → its module or stored tensor, for all it may change."""
        names = {f"{module}.weight": module for module in self.factors}
        for module, factors in self.factors.items():
            if factors.bias is not None:
                names[f"{module}.bias"] = module
        return names | self.replaced


def outside_notes(path: Path, modules: Iterable[str], whole: Iterable[str] = ()) -> list[str]:
    """Sentences about what an adapter changes outside the seven projections.

    Args:
        modules: those with low-rank factors.
        whole: tensors that the adapter holds whole.
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
                f"{path} {verb} {', '.join(sorted(short))}: none of the seven projections, and not "
                "measured"
            )
    if towers:
        notes.append(
            f"{path} tunes {counted(towers, 'module')} outside the language model, as "
            f"{towers[0]!r}: not measured"
        )
    return notes


def counted(things: Collection[Any], name: str) -> str:
    """How many things there are, in words: `1 module`, `2 modules`."""
    return f"{len(things)} {name}{'' if len(things) == 1 else 's'}"


def _is_mlx(folder: Path, config: dict[str, Any]) -> bool:
    """Whether a folder is MLX's: by mlx-lm's settings, or by the file that mlx-vlm writes."""
    if "peft_type" in config:
        return False
    told = "fine_tune_type" in config or "lora_parameters" in config
    return told or (folder / MLX).is_file()


def _peft_weights(folder: Path) -> list[Path]:
    """The files of a peft adapter; or those of the whole model that it was saved with."""
    for suffix in (".safetensors", ".bin"):
        if (folder / f"{PEFT}{suffix}").is_file():
            more = folder / TRAINED_WITH_LORA
            return [folder / f"{PEFT}{suffix}", *([more] if more.is_file() else [])]
    if gguf := sorted(folder.glob("*.gguf")):
        raise InputError(
            f"{folder}: its weights are in {gguf[0].name}, a GGUF file, which is not read; give "
            "the adapter as peft saved it"
        )
    if holds_factors(folder):
        return whole_weights(folder)
    raise InputError(
        f"{folder}: {CONFIG} is there, {PEFT}.safetensors is not; the adapter is incomplete"
    )


def holds_factors(folder: Path) -> bool:
    """Whether a folder's whole model has LoRA factors in it: it was saved without merging them."""
    return any(_LORA.fullmatch(name) for name in Tensors(whole_weights(folder)).names())


def _unwrapped(name: str, several: bool) -> str:
    before, _, rest = name.rpartition(_WRAPPER)
    return f"{before}{rest}" if several or in_other_tower(before) else rest


def _check_pattern(pattern: str, file: Path, key: str) -> None:
    try:
        re.compile(pattern)
        re.compile(_ENDS.format(pattern))
    except (re.error, RecursionError, OverflowError) as error:
        raise InputError(f"{file}: {key}: {pattern!r} is no regular expression ({error})") from None


def _positive(value: Any, file: Path, key: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        found = repr(value)
    elif isinstance(value, int) and abs(value) > _LARGEST:
        found = "too large"
    elif math.isfinite(value) and value > 0:
        return float(value)
    else:
        found = f"{value:g}"
    raise InputError(f"{file}: {key} is {found}; expected a number above 0")


def _sought(value: Any, key: str, seen: set[int] | None = None) -> Any:
    """The first value under `key`, however deep a saved configuration nests it."""
    # A pickled dict may stand in many places, each of which holds it in many.
    seen = set() if seen is None else seen
    if isinstance(value, dict) and id(value) not in seen:
        seen.add(id(value))
        if value.get(key) is not None and not isinstance(value[key], dict):
            return value[key]
        for inner in value.values():
            found = _sought(inner, key, seen)
            if found is not None:
                return found
    return None


def aligned(names: Iterable[str], base: Collection[str]) -> dict[str, str]:
    """Names of an adapter's tensors → the base's, where the two differ by a wrapper's prefix alone.

    A name that the base has stands for itself. Any other is found by what follows the prefix, for
    the one prefix that the adapter's language model has (see `prefixes`); what lies outside the
    layers by its last two words (`embed_tokens.weight`), beside the layers or above them on both
    sides. Other parts of the model, and what the base does not have, are left out.

    Raises:
        InputError: two names that stand for the same tensor, or two prefixes that may be the
            language model's.
    """
    names, known = list(names), set(base)
    found = {name: name for name in names if name in known}
    both = prefixes(names, known)
    if both is None:
        return found
    here, there = both
    outside: dict[tuple[str, bool], set[str]] = {}
    for name in known:
        if (key := _outside(name, there)) is not None:
            outside.setdefault(key, set()).add(name)
    for name in names:
        if name in known or in_other_tower(name):
            continue
        prefix, tail = layered(name)
        if tail is not None:
            if prefix == here and f"{there}{tail}" in known:
                found[name] = f"{there}{tail}"
        elif (key := _outside(name, here)) is not None and len(outside.get(key, ())) == 1:
            (found[name],) = outside[key]
    owners: dict[str, str] = {}
    for name, target in found.items():
        if target in owners:
            raise InputError(
                f"{owners[target]!r} and {name!r} would both change {target} of the base; expected "
                "one: leave the other part of the model out, or give the model that has both"
            )
        owners[target] = name
    return found


def prefixes(names: Iterable[str], base: Collection[str]) -> tuple[str, str] | None:
    """What stands before `layers.N.` in the language model, in an adapter's names and its base's.

    The base's is the one that most of its projections have. The adapter's is the same where it has
    that; or else the one under which most of its tensors are the base's, those first that differ
    by nothing but how transformers called the language model at the time, then those that are the
    base's prefix and something in front or less (`llama_model.model.`). None: nothing fits.

    Raises:
        InputError: two prefixes fit equally well, so it is not told which one the base's is.
    """
    located = Counter(layered(name)[0] for name in base if place(name) is not None)
    if not located:
        return None
    there = max(located, key=lambda prefix: (located[prefix], -len(prefix)))
    fitting: dict[str, list[str]] = {}
    for name in names:
        prefix, tail = layered(name)
        if tail is not None and not in_other_tower(prefix) and f"{there}{tail}" in base:
            fitting.setdefault(prefix, []).append(name)
    if there in fitting:
        return there, there
    if not fitting:
        return None

    def fit(prefix: str) -> tuple[bool, bool, int]:
        one, other = f".{prefix}", f".{there}"
        longer = one.endswith(other) or other.endswith(one)
        return _around(prefix) == _around(there), longer, len(fitting[prefix])

    first, *rest = sorted(fitting, key=fit, reverse=True)
    if rest and fit(rest[0]) == fit(first):
        raise InputError(
            f"{fitting[first][0]!r} and {fitting[rest[0]][0]!r} may both stand for the language "
            f"model's {there}layers of the base, and nothing tells which; give the base that has "
            "both parts"
        )
    return first, there


def _around(prefix: str) -> list[str]:
    """The words of a prefix that stay when a version of transformers renames the model's parts.

    `language_model.model.` became `model.language_model.`, Qwen-VL's `model.` did as well.
    """
    return [word for word in prefix.split(".") if word not in ("model", "language_model")]


_LAYERS = re.compile(r"(?P<prefix>(?:.*\.)?)(?P<tail>layers\.\d+\..+)")


def layered(name: str) -> tuple[str, str | None]:
    """What stands before `layers.N.`, and the rest from there on; None outside layers."""
    match = _LAYERS.fullmatch(name)
    return (match["prefix"], match["tail"]) if match else (name, None)


def _outside(name: str, prefix: str) -> tuple[str, bool] | None:
    """The last two words of a name outside layers, and whether it stands right beside them.

    None for a name that is neither beside the layers with this prefix nor above them.
    """
    if layered(name)[1] is not None:
        return None
    words = name.split(".")
    before = "".join(f"{word}." for word in words[:-2])
    if not prefix.startswith(before):
        return None
    return ".".join(words[-2:]), before == prefix
