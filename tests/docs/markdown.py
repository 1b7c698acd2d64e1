"""Code blocks and links of Markdown pages."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_MARK = re.compile(r"<!-- not run: (.+?) -->")
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


@dataclass(frozen=True)
class Block:
    """A fenced block; `skipped` is the reason in the comment above it, if there is one."""

    language: str
    text: str
    line: int
    skipped: str = ""


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    found: list[Block] = []
    language, start, inside, reason = "", 0, [], ""
    open_ = False
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        if open_ and line == "```":
            found.append(Block(language, "\n".join(inside) + "\n", start, reason))
            open_, reason = False, ""
        elif open_:
            inside.append(line)
        elif line.startswith("```"):
            language, start, inside, open_ = line[3:].strip(), number, [], True
        elif mark := _MARK.fullmatch(line.strip()):
            reason = mark[1]
        elif line.strip():
            reason = ""
    assert not open_, f"{page}: the block of line {start} has no end"
    return found


def links(page: Path) -> list[str]:
    """The targets of a page's links and images, code left out."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    return _LINK.findall(re.sub(r"`[^`\n]*`", "", text))
