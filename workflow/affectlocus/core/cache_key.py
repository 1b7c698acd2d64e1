"""Keys of cached results: with the same key, everything that determines a result is the same."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def cache_key(**parts: Any) -> str:
    """A digest of the parts that determine a result, 32 hex digits; each part must be JSON."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]
