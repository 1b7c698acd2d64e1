"""Texts without secrets: what may be seen of a token, a password or a signed address."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import quote, quote_plus

_NAMED = re.compile(
    r"TOKEN|SECRET|PASSW|PASSPHRASE|CREDENTIAL|(^|_)(API_?|ACCESS_?)?KEY($|_)|AUTH|_PWD$",
    re.IGNORECASE,
)
_SHORTEST = 6  # characters of a variable's value that can be told from ordinary text
# Tokens that say by their beginning what they are: of model hubs, forges, clouds, chats.
_TOKEN = re.compile(
    r"\b(hf_|api_org_|sk-|gh[pousr]_|github_pat_|glpat-|pypi-|npm_|xox[abeoprs]-|AKIA|ASIA|AIza)"
    r"[\w-]{8,}"
)
_BEARER = re.compile(r"\b(Bearer|Basic)(\s+)[\w.~+/=-]{8,}", re.IGNORECASE)
# user:password@ of an address, whose slashes a path may have lost.
_USER = re.compile(r"(\w+:/{1,3})[^\s/@'\"]+@")
_QUERY = re.compile(
    r"([?&][\w.-]*(?:token|key|sig|secret|pass|pw|auth|credential|session|jwt)[\w.-]*=)"
    r"(?!\$\{)[^\s&'\"#]+",
    re.IGNORECASE,
)


def redacted(text: str, environment: Mapping[str, str]) -> str:
    """The text without the values of variables that are named as secrets, and without what looks
    like one: tokens, the user and password of an address, the keys in its query.

    A variable's value is known as it is, and as an address writes it.
    """
    secrets = {
        form: name
        for name, value in environment.items()
        if _NAMED.search(name) and len(value) >= _SHORTEST
        for form in (quote(value, safe=""), quote_plus(value), quote(value), value)
    }
    # The longest first: one secret may begin as another does.
    for value in sorted(secrets, key=len, reverse=True):
        text = text.replace(value, f"${{{secrets[value]}}}")
    text = _BEARER.sub(r"\1\2…", _TOKEN.sub(r"\1…", text))
    return _QUERY.sub(r"\1…", _USER.sub(r"\1…@", text))
