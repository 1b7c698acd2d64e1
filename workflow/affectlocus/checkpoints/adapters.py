"""Adapters: checkpoints that store changes of a base model.

Three layouts are read: the directory of peft, the directory of MLX (mlx-lm and mlx-vlm), and the
file of AffectGPT and MiniGPT-4, which holds the trained tensors only. Each becomes low-rank factors
and replacement tensors, by the name of the tensor that they change.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from affectlocus.checkpoints.adapter_settings import (
    CONFIG,
    MlxSettings,
    PeftSettings,
    Settings,
    TrainedOnlySettings,
    pattern_time_limit,
    positive,
    read_settings,
)
from affectlocus.checkpoints.adapter_tensors import LORA, AdapterTensors, Factors, Layout
from affectlocus.checkpoints.architectures import Rows, in_other_tower, place
from affectlocus.checkpoints.fused_experts import alternates, split_experts
from affectlocus.checkpoints.parameter_factors import split_parameter_factors
from affectlocus.checkpoints.spectra import LowRank
from affectlocus.checkpoints.tensor_files import EPS, Tensors
from affectlocus.checkpoints.unsupported_formats import refuse_empty
from affectlocus.core.checkpoint_files import TRAINED_WITH_LORA, whole_weights
from affectlocus.core.errors import InputError
from affectlocus.core.files import read_json
from affectlocus.core.phrases import counted

PEFT = "adapter_model"
MLX = "adapters.safetensors"


class Adapter:
    """A LoRA adapter or a file of trained tensors, read lazily.

    Args:
        path: a peft or MLX directory; a .pth, .pt or .bin file; or the folder or file of a whole
            model that was saved with unmerged LoRA factors.
        alpha: LoRA alpha, for a file that does not store it.
        base_config: config.json of the base, which LoRA on fused experts needs.

    Attributes:
        layout: `peft`, `mlx` or `trained-only`.
        settings: its settings, such as the scaling of its factors.
        factors, replaced, rows: its tensors by their role, as `AdapterTensors` has them.
        notes: sentences about how the adapter was read.

    Raises:
        InputError: the adapter's tensors do not determine its change of the weights; or tensors
            contradict each other or the settings.
    """

    def __init__(
        self,
        path: Path,
        alpha: float | None = None,
        base_config: Mapping[str, Any] | None = None,
    ) -> None:
        self.path = path
        given = None if alpha is None else positive(alpha, path, "the given alpha")
        self.layout: Layout = "trained-only"
        if (path / CONFIG).is_file():
            values = read_settings(path)
            self.layout = "mlx" if _is_mlx(path, values) else "peft"
            kind = MlxSettings if self.layout == "mlx" else PeftSettings
            self.settings: Settings = kind(path / CONFIG, values)
            self.tensors = Tensors([path / MLX] if self.layout == "mlx" else _peft_weights(path))
        else:
            self.tensors = Tensors(whole_weights(path) if path.is_dir() else [path])
            self.settings = TrainedOnlySettings(path, self.tensors.extra, given)
        self.notes = self.settings.notes
        split_experts(self.tensors, None, path)
        # Module of an expert's matrix → the fused parameter that the settings name.
        self._parameters = split_parameter_factors(
            self.tensors,
            self.settings.values.get("target_parameters"),
            self.settings.rank,
            alternates(base_config or self.base_config),
            path,
        )
        refuse_empty(path, self.tensors)
        token_rows = self.settings.values.get("trainable_token_indices")
        found = AdapterTensors(path, self.tensors.names(), self.layout, bool(token_rows))
        self.factors, self.replaced, self.rows = found.factors, found.replaced, found.rows
        self._refuse_missing_parameters()
        with pattern_time_limit(path / CONFIG):
            for module, factors in self.factors.items():
                self._check_factors(module, factors)
        if token_rows and not self.rows:
            raise InputError(
                "adapter.no-token-rows",
                f"{path / CONFIG}: trainable_token_indices is {token_rows!r}, but the adapter "
                "holds no rows for them (trainable_tokens_delta); it is incomplete: fetch it again",
                file=path / CONFIG,
                key="trainable_token_indices",
                found=token_rows,
            )
        for name in self.rows:
            self._check_rows(name)

    def _refuse_missing_parameters(self) -> None:
        """Refuses an adapter without factors for a parameter that the settings target."""
        adapted = [*self._parameters.values(), *(f"{module}.weight" for module in self.factors)]
        targets = self.settings.values.get("target_parameters")
        for target in targets if isinstance(targets, list) else []:
            if not any(f".{name}".endswith(f".{target}") for name in adapted):
                raise InputError(
                    "adapter.target-without-factors",
                    f"{self.path / CONFIG}: target_parameters names {target!r}, but the adapter "
                    "holds no factors of it; it is incomplete: fetch it again",
                    file=self.path / CONFIG,
                    key="target_parameters",
                    found=target,
                )

    def _check_factors(self, module: str, factors: Factors) -> None:
        """Refuses factors that cannot be multiplied or that contradict the settings."""
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
        ranks = (a[1], b[0]) if factors.transposed else (a[0], b[1])
        if ranks[0] != ranks[1] or not ranks[0]:
            raise InputError(
                "adapter.factor-ranks-differ",
                f"{self.path}: {factors.a} has shape {a} and {factors.b} {b}: ranks {ranks[0]} and "
                f"{ranks[1]}; expected the same, above 0",
                file=self.path,
                tensor=factors.a,
                found=ranks,
            )
        rank = ranks[0]
        if factors.latent is not None and tensors.shape(factors.latent) != (rank, rank):
            raise InputError(
                "adapter.latent-mapping-shape",
                f"{self.path}: {factors.latent} has shape {tensors.shape(factors.latent)}; "
                f"expected {(rank, rank)}, as LoRA-XS's matrix between {factors.a} and {factors.b}",
                file=self.path,
                tensor=factors.latent,
                expected=(rank, rank),
            )
        for name in factors.names:
            if tensors.dtype(name) not in EPS:
                raise InputError(
                    "tensor.not-float",
                    f"{self.path}: {name} is stored as {tensors.dtype(name)}; expected float64, "
                    "float32, float16 or bfloat16",
                    file=self.path,
                    tensor=name,
                    found=tensors.dtype(name),
                )
        width = b[1] if factors.transposed else b[0]
        for name in filter(None, (factors.magnitude, factors.bias)):
            if math.prod(tensors.shape(name)) != width:
                raise InputError(
                    "adapter.vector-length",
                    f"{self.path}: {name} has shape {tensors.shape(name)}, and {factors.b} has "
                    f"shape {b}; expected {width} entries",
                    file=self.path,
                    tensor=name,
                    found=tensors.shape(name),
                    expected=width,
                )
        if self.settings.says_dora and factors.magnitude is None:
            raise InputError(
                "adapter.no-magnitude",
                f"{self.path}: {module} has no DoRA magnitude, but {CONFIG} says DoRA; the "
                "adapter is incomplete",
                file=self.path,
                module=module,
            )
        configured = self.settings.rank(self._parameters.get(module, module))
        if configured is not None and configured != rank:
            raise InputError(
                "adapter.other-rank",
                f"{self.path}: {module} has rank {rank}, but its configuration says "
                f"{configured:g}; the rank decides the scaling: give the tensors and the "
                "configuration of one adapter",
                file=self.path,
                module=module,
                found=rank,
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
        """The indices of the rows that `rows` replaces in a tensor."""
        assert isinstance(self.settings, PeftSettings)
        return self.settings.row_indices(name)

    def copied(self, name: str) -> bool:
        """Whether a stored tensor belongs to a trained copy of a module (peft: modules_to_save)."""
        if ".modules_to_save." in self.replaced.get(name, ""):
            return True
        settings = self.settings
        return isinstance(settings, PeftSettings) and settings.saves_whole(name.rpartition(".")[0])

    def untouched_targets(self) -> list[str]:
        """The target modules of peft's settings for which the adapter holds no factors."""
        settings = self.settings
        return (
            settings.untouched_targets(self.factors) if isinstance(settings, PeftSettings) else []
        )

    def targets(self, module: str) -> bool:
        """Whether peft's settings allow LoRA on a module of the base."""
        return not isinstance(self.settings, PeftSettings) or self.settings.allows(module)

    @property
    def base_name(self) -> str | None:
        """The base that the settings name: a hub id, a path, or None."""
        return self.settings.base_name

    @property
    def continues_training(self) -> bool:
        """Whether it replaces the change of an earlier adapter instead of adding to it."""
        return self.layout == "trained-only"

    @property
    def base_config(self) -> dict[str, Any] | None:
        """The copy of the base's config.json in the adapter's folder; None if it has no copy."""
        file = self.path / "config.json"
        config = read_json(file) if file.is_file() else {}
        return config if isinstance(config, dict) and "num_attention_heads" in config else None

    def rank(self, module: str) -> int:
        """The rank r of a module's factors, from their shapes."""
        factors = self.factors[module]
        return self.tensors.shape(factors.a)[1 if factors.transposed else 0]

    def shape(self, module: str) -> tuple[int, int]:
        """The shape of the weight that a module's factors change, (d_out, d_in)."""
        factors = self.factors[module]
        a, b = self.tensors.shape(factors.a), self.tensors.shape(factors.b)
        return {
            "linear": (b[0], a[-1]),
            "embedding": (a[-1], b[0]),
            "mlx": (b[-1], a[0]),
            "mlx embedding": (a[0], b[-1]),
        }[factors.layout]

    def scaling(self, module: str) -> float:
        """The factor of B·A: alpha / r, alpha / √r with rsLoRA, or `scale` of MLX."""
        return self.settings.scaling(self._parameters.get(module, module), self.rank(module))

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

    def bias(self, module: str) -> np.ndarray:
        """The change of a module's bias, (d_out,) float64."""
        name = self.factors[module].bias
        assert name is not None
        return self.tensors.array(name) * self.scaling(module)

    @property
    def whole(self) -> list[str]:
        """The stored tensors that are not low-rank factors, sorted."""
        used = {name for factors in self.factors.values() for name in factors.names}
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
    return any(LORA.fullmatch(name) for name in Tensors(whole_weights(folder)).names())
