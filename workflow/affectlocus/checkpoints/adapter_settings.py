"""The settings of adapters: the scaling of the factors, their ranks, and the adapted modules.

peft and MLX write them as adapter_config.json. A file of trained tensors may hold a copy of the
training's configuration.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from affectlocus.checkpoints.adapter_kinds import unsupported_settings
from affectlocus.checkpoints.architectures import in_other_tower
from affectlocus.core.errors import InputError, shortened
from affectlocus.core.files import read_object
from affectlocus.core.regex_timeout import time_limit

CONFIG = "adapter_config.json"
_PATTERN_SECONDS = 10  # seconds
_LARGEST = 10**15
# As in peft: a key is a regular expression for the end of a module's name.
_ENDS = r"(?:.*\.)?({})$"
_PEFT_ALPHA = 8  # peft's default


class Settings:
    """An adapter's settings.

    Attributes:
        file: the file with the settings.
        values: its content.
        says_dora: whether all modules have DoRA magnitudes.
        notes: sentences about how the settings are read.
    """

    rank_key = "r"

    def __init__(self, file: Path, values: dict[str, Any]) -> None:
        self.file, self.values = file, values
        self.notes: list[str] = []
        self.says_dora = bool(values.get("use_dora") or values.get("fine_tune_type") == "dora")

    @property
    def base_name(self) -> str | None:
        """The base that the settings name: a hub id, a path, or None."""
        name = self.values.get("base_model_name_or_path") or self.values.get("model")
        return name if isinstance(name, str) else None

    def rank(self, module: str) -> float | None:
        """The rank of a module's factors; None if the settings do not say it."""
        rank = None if in_other_tower(module) else self._rank(module)
        return None if rank is None else positive(rank, self.file, self.rank_key)

    def _rank(self, module: str) -> Any:
        raise NotImplementedError

    def scaling(self, module: str, rank: int) -> float:
        """The factor of B·A for a module whose factors have this rank."""
        raise NotImplementedError

    def _wrong_type(self, key: str, found: object, expected: str, where: str = "") -> InputError:
        return InputError(
            "adapter.setting-type",
            f"{self.file}: {key} is {found!r}{where}; expected {expected}",
            file=self.file,
            key=key,
            found=found,
            expected=expected,
        )


class PeftSettings(Settings):
    """adapter_config.json as peft writes it.

    Raises:
        InputError: a setting is not read (`unsupported_settings`), or is not a valid number,
            mapping or pattern.
    """

    def __init__(self, file: Path, values: dict[str, Any]) -> None:
        super().__init__(file, values)
        for key, why in unsupported_settings(values):
            found = values.get(key)
            raise InputError(
                "adapter.unsupported-setting",
                f"{file}: {key} is {shortened(repr(found))}: {why}",
                file=file,
                key=key,
                found=found,
            )
        if "lora_alpha" in values:
            positive(values["lora_alpha"], file, "lora_alpha")
        for key in ("alpha_pattern", "rank_pattern"):
            patterns = values.get(key) or {}
            if not isinstance(patterns, dict):
                raise self._wrong_type(key, patterns, "an object, module → number")
            for pattern, value in patterns.items():
                positive(value, file, f"{key}[{pattern!r}]")
                self._check_pattern(pattern, key)
        excluded = values.get("exclude_modules")
        if isinstance(excluded, str):
            self._check_pattern(excluded, "exclude_modules")
        elif not isinstance(excluded, list | None):
            raise self._wrong_type("exclude_modules", excluded, "names or a pattern")

    def _check_pattern(self, pattern: str, key: str) -> None:
        try:
            re.compile(pattern)
            re.compile(_ENDS.format(pattern))
        except (re.error, RecursionError, OverflowError) as error:
            raise InputError(
                "adapter.bad-pattern",
                f"{self.file}: {key}: {pattern!r} is not a regular expression ({error})",
                file=self.file,
                key=key,
                found=pattern,
            ) from None

    def _rank(self, module: str) -> Any:
        return self._patterned("rank_pattern", module, self.values.get("r"))

    def scaling(self, module: str, rank: int) -> float:
        """alpha / r, or alpha / √r with rsLoRA."""
        default = self.values.get("lora_alpha", _PEFT_ALPHA)
        alpha = float(self._patterned("alpha_pattern", module, default))
        return alpha / (rank**0.5 if self.values.get("use_rslora") else rank)

    def _patterned(self, key: str, module: str, default: Any) -> Any:
        for pattern, value in (self.values.get(key) or {}).items():
            if re.match(_ENDS.format(pattern), module):
                return value
        return default

    def untouched_targets(self, modules: Iterable[str]) -> list[str]:
        """The target modules that none of the adapted modules is."""
        targets = self.values.get("target_modules")
        ends = tuple(f".{module}" for module in modules)
        return [
            target
            for target in (targets if isinstance(targets, list) else [])
            if isinstance(target, str) and not any(end.endswith(f".{target}") for end in ends)
        ]

    def allows(self, module: str) -> bool:
        """Whether layers_to_transform and exclude_modules allow LoRA on a module of the base."""
        layers = self.values.get("layers_to_transform")
        excluded = self.values.get("exclude_modules")
        layer = re.search(r"(?:^|\.)layers\.(\d+)\.", module)
        if layers is not None and layers != [] and layer is not None:
            chosen = layers if isinstance(layers, list) else [layers]
            if int(layer[1]) not in chosen:
                return False
        if isinstance(excluded, str):
            with pattern_time_limit(self.file):
                return re.fullmatch(excluded, module) is None
        return not any(f".{module}".endswith(f".{name}") for name in excluded or ())

    def saves_whole(self, module: str) -> bool:
        """Whether a trained copy of a module is saved (modules_to_save)."""
        saved = self.values.get("modules_to_save") or ()
        return isinstance(saved, list) and any(module.endswith(str(name)) for name in saved)

    def row_indices(self, name: str) -> list[int]:
        """The indices of a tensor's rows that are trained (trainable_token_indices).

        Raises:
            InputError: the settings have no such list.
        """
        key = "trainable_token_indices"
        indices = self.values.get(key)
        module = f".{name.removesuffix('.weight')}"
        if isinstance(indices, dict):
            named = [key for key in indices if module.endswith(f".{key}")]
            # A tied head is saved with the embeddings, and only the embeddings are named.
            indices = indices[named[0]] if named else next(iter(indices.values()), None)
        if not isinstance(indices, list) or not all(
            type(index) is int and index >= 0 for index in indices
        ):
            raise self._wrong_type(key, indices, "a list of token ids", f" for {name}")
        return indices


class MlxSettings(Settings):
    """adapter_config.json as mlx-lm or mlx-vlm writes it.

    mlx-lm keeps rank and scale under lora_parameters. mlx-vlm has rank and alpha at the top level;
    its alpha is the scale.

    Raises:
        InputError: a setting is not a number, or two settings give different scales.
    """

    rank_key = "rank"

    def __init__(self, file: Path, values: dict[str, Any]) -> None:
        super().__init__(file, values)
        self._vlm = not {"fine_tune_type", "lora_parameters"} & set(values)
        self._recipe = values if self._vlm else values.get("lora_parameters") or {}
        if not isinstance(self._recipe, dict):
            raise self._wrong_type("lora_parameters", self._recipe, "an object")
        if self._vlm:
            self._recipe = {key: values[key] for key in ("rank", "alpha") if key in values}
        where = "lora_parameters." if "lora_parameters" in values else ""
        for key in ("scale", "alpha"):
            if key in self._recipe:
                positive(self._recipe[key], file, f"{where}{key}")
        both = "scale" in self._recipe and "alpha" in self._recipe
        # Until 2024 the factor of mlx-lm was scale · alpha / rank. Later alpha had no effect.
        self._early = both and not {"fine_tune_type", "use_dora"} & set(values)
        self._refuse_two_scales()
        if self._early:
            self.notes.append(
                f"{file} has both scale and alpha, as mlx-lm wrote it while the factor was "
                "scale · alpha / rank; it is read with this factor"
            )
        elif both and "fine_tune_type" not in values:
            self.notes.append(
                f"{file} has scale, alpha and use_dora: the factor of mlx-lm was scale · alpha / "
                "rank in early versions and scale alone later, and the file does not say which; "
                f"it is read as scale alone ({self._recipe['scale']:g})"
            )

    def _refuse_two_scales(self) -> None:
        """Refuses a second number for the factor of B·A, in a key that its writer does not use."""
        recipe = self._recipe
        own = "scale" if "scale" in recipe else "alpha"
        where = own if self._vlm else f"lora_parameters.{own}"
        for other in ("scale", "alpha"):
            if own not in recipe or other not in self.values or where == other:
                continue
            if self.values[other] not in (recipe[own], recipe.get(other)):
                raise InputError(
                    "adapter.two-scales",
                    f"{self.file}: both {where} {recipe[own]} and {other} {self.values[other]}, "
                    f"two numbers for one factor; keep {where} alone, with the number that the "
                    "training used",
                    file=self.file,
                    key=(where, other),
                    found=(recipe[own], self.values[other]),
                )

    def _rank(self, module: str) -> Any:  # noqa: ARG002
        return self._recipe.get("rank")

    def scaling(self, module: str, rank: int) -> float:  # noqa: ARG002
        """The factor of A·B: `scale`, or in early versions of mlx-lm scale · alpha / rank."""
        recipe = self._recipe
        if self._vlm:
            if "alpha" not in recipe:
                raise InputError(
                    "adapter.no-alpha",
                    f"{self.file}: no alpha; expected the one that mlx-vlm writes",
                    file=self.file,
                    key="alpha",
                )
            return float(recipe["alpha"])
        scale = float(recipe.get("scale", 1.0))
        if "alpha" in recipe and ("scale" not in recipe or self._early):
            return scale * float(recipe["alpha"]) / rank
        if "scale" in recipe:
            return scale
        raise InputError(
            "adapter.no-scale",
            f"{self.file}: lora_parameters has no scale; expected one",
            file=self.file,
            key="lora_parameters.scale",
        )


class TrainedOnlySettings(Settings):
    """The configuration that a file of trained tensors holds, if any.

    Args:
        file: the file of trained tensors.
        values: its content without tensors.
        alpha: LoRA alpha as the user gives it, for a file that does not store it.
    """

    rank_key = "lora_r of its configuration"

    def __init__(self, file: Path, values: dict[str, Any], alpha: float | None) -> None:
        super().__init__(file, {})
        self._saved, self._given = values, alpha

    def _rank(self, module: str) -> Any:  # noqa: ARG002
        return find_nested(self._saved, "lora_r")

    def scaling(self, module: str, rank: int) -> float:  # noqa: ARG002
        """alpha / r."""
        return self.alpha() / rank

    def alpha(self) -> float:
        """LoRA alpha: as the user gives it, or from the saved configuration.

        Raises:
            InputError: neither says it, or they differ.
        """
        saved = find_nested(self._saved, "lora_alpha")
        if self._given is not None:
            if isinstance(saved, int | float) and saved != self._given:
                raise InputError(
                    "adapter.two-alphas",
                    f"{self.file}: its configuration says lora_alpha {saved:g}, not the given "
                    f"{self._given:g}; leave alpha out, or correct it",
                    file=self.file,
                    key="lora_alpha",
                    found=self._given,
                    expected=saved,
                )
            return self._given
        if saved is None:
            raise InputError(
                "adapter.no-alpha",
                f"{self.file}: it does not say its LoRA alpha; give it (--alpha, or alpha below "
                "the pair in params.yaml), as the training code set it",
                file=self.file,
                option="alpha",
            )
        return positive(saved, self.file, "lora_alpha of its configuration")


def read_settings(folder: Path) -> dict[str, Any]:
    """The content of a folder's adapter_config.json.

    Raises:
        InputError: no such file, or not a JSON object.
    """
    return read_object(folder / CONFIG, "the adapter's settings, as peft or MLX writes them")


def pattern_time_limit(file: Path) -> AbstractContextManager[None]:
    """A time limit for matching the patterns of a file with modules."""
    return time_limit(
        _PATTERN_SECONDS,
        InputError(
            "adapter.slow-pattern",
            f"{file}: its patterns take longer than {_PATTERN_SECONDS} s to match; simplify "
            "rank_pattern, alpha_pattern and exclude_modules",
            file=file,
        ),
    )


def positive(value: Any, file: Path, key: str) -> float:
    """A setting as a number above 0.

    Raises:
        InputError: it is not such a number.
    """
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


def find_nested(value: Any, key: str, seen: set[int] | None = None) -> Any:
    """The first value of `key` at any depth of a saved configuration."""
    # A pickled dict may occur in many places, also inside itself.
    seen = set() if seen is None else seen
    if isinstance(value, dict) and id(value) not in seen:
        seen.add(id(value))
        if value.get(key) is not None and not isinstance(value[key], dict):
            return value[key]
        for inner in value.values():
            found = find_nested(inner, key, seen)
            if found is not None:
                return found
    return None
