"""Removal of secrets from texts: tokens, passwords and keys in addresses."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import quote, quote_plus

_NAMED = re.compile(
    r"TOKEN|SECRET|PASSW|PASSPHRASE|CREDENTIAL|(^|_)(API_?|ACCESS_?)?KEY($|_)|AUTH|_PWD$",
    re.IGNORECASE,
)
_MIN_LENGTH = 6  # characters; a shorter value may be ordinary text
# Tokens with a known prefix: of model hubs, code hosts, clouds, chat services.
_TOKEN = re.compile(
    r"\b(hf_|api_org_|sk-|gh[pousr]_|github_pat_|glpat-|pypi-|npm_|xox[abeoprs]-|AKIA|ASIA|AIza)"
    r"[\w-]{8,}"
)
_BEARER = re.compile(r"\b(Bearer|Basic)(\s+)[\w.~+/=-]{8,}", re.IGNORECASE)
# user:password@ in an address. A path may have removed some of its slashes.
_USER = re.compile(r"(\w+:/{1,3})[^\s/@'\"]+@")
_QUERY = re.compile(
    r"([?&][\w.-]*(?:token|key|sig|secret|pass|pw|auth|credential|session|jwt)[\w.-]*=)"
    r"(?!\$\{)[^\s&'\"#]+",
    re.IGNORECASE,
)


def redacted(text: str, environment: Mapping[str, str]) -> str:
    """The text without secrets.

    Removed are the values of environment variables whose names mark them as secrets, as they are
    and percent-encoded, and texts that look like secrets: tokens, user and password in an address,
    keys in an address's query.
    """
    secrets = {
        form: name
        for name, value in environment.items()
        if _NAMED.search(name) and len(value) >= _MIN_LENGTH
        for form in (quote(value, safe=""), quote_plus(value), quote(value), value)
    }
    # The longest first, because one secret may be the beginning of another.
    for value in sorted(secrets, key=len, reverse=True):
        text = text.replace(value, f"${{{secrets[value]}}}")
    text = _BEARER.sub(r"\1\2…", _TOKEN.sub(r"\1…", text))
    return _QUERY.sub(r"\1…", _USER.sub(r"\1…@", text))
