"""The settings of the language model in a model's config.json."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def language_model_config(config: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """The settings of the language model; they are nested in a multimodal model's."""
    settings = config or {}
    nested = settings.get("text_config") or settings.get("llm_config") or settings
    return nested if isinstance(nested, dict) else {}


def text_config(config: Mapping[str, Any] | None) -> dict[str, Any]:
    """The settings that a multimodal model of transformers has under text_config; else empty."""
    nested = (config or {}).get("text_config")
    return nested if isinstance(nested, dict) else {}
