"""Figures as the report's page contains them: small SVG images that need no other file.

matplotlib writes six decimals, a group around every mark, and the same style again for each mark.
Without these, a drawing has a quarter of the size, and looks the same to a hundredth of a point.
"""

from __future__ import annotations

import base64
import re
import struct
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from affectlocus.core.errors import InputError
from affectlocus.core.files import check_whole

_SVG = "{http://www.w3.org/2000/svg}"
_LINK = "{http://www.w3.org/1999/xlink}href"
_DUBLIN_CORE = "{http://purl.org/dc/elements/1.1/}"
_NUMBER = re.compile(r"-?\d+\.\d+(?:e-?\d+)?")
_DPI = 200
_PNG = b"\x89PNG\r\n\x1a\n"
_NO_TURN = re.compile(r"rotate\(-?0 [^)]*\)")
_FONTS = re.compile(r"font-family:'DejaVu Sans'(?:, ?[^;]*)?")
_NUMERIC = ("d", "x", "y", "width", "height", "transform", "points", "viewBox")


@dataclass(frozen=True)
class Picture:
    """A figure as a data URI, with its size in points and the caption that the file contains."""

    uri: str
    width: int
    height: int
    caption: str = ""


def picture(path: Path) -> Picture:
    """A figure: the drawing (.svg) next to a PNG file, or the PNG itself if there is no drawing.

    A drawing is smaller than the pixels and is sharp at every size and on paper.

    Raises:
        InputError: the file is missing, cut, or no picture.
    """
    drawing = path.with_suffix(".svg")
    if drawing.is_file():
        root = read_drawing(drawing)
        sides = (root.get(side, "0").removesuffix("pt") for side in ("width", "height"))
        width, height = (round(float(side)) for side in sides)
        caption = description(root)
        return Picture(as_uri(compact(root)), width, height, caption)
    content = path.read_bytes()
    if content[:8] != _PNG or len(content) < 24:
        raise InputError(
            "result.not-png", f"{path}: not a PNG; delete it and run snakemake again", file=path
        )
    check_whole(path)
    width, height = (round(72 * side / _DPI) for side in struct.unpack(">II", content[16:24]))
    coded = base64.b64encode(content).decode("ascii")
    return Picture(f"data:image/png;base64,{coded}", width, height)


def read_drawing(path: Path) -> Element:
    """The root of an SVG file.

    Raises:
        InputError: the file is not SVG.
    """
    try:
        root = ElementTree.parse(path).getroot()
    except (OSError, ElementTree.ParseError) as error:
        raise InputError(
            "result.not-svg",
            f"{path}: not an SVG drawing ({error}); delete it and run snakemake again",
            file=path,
        ) from None
    return root


def description(root: Element) -> str:
    """What the figure's own caption says: how its numbers were made, with n and intervals."""
    found = root.find(f".//{_DUBLIN_CORE}description")
    return "" if found is None or not found.text else found.text.strip()


def compact(root: Element) -> str:
    """The drawing as short text. It changes the tree."""
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag == f"{_SVG}metadata":
                parent.remove(child)
    _shorten_names(root)
    for element in root.iter():
        for name in _NUMERIC:
            if name in element.attrib:
                element.set(name, _rounded(element.attrib[name]))
        if "d" in element.attrib:
            element.set("d", _short_path(element.attrib["d"]))
        if _NO_TURN.fullmatch(element.get("transform", "")):
            del element.attrib["transform"]
        # Space between elements means nothing, except within text.
        if element.tag not in (f"{_SVG}text", f"{_SVG}tspan", f"{_SVG}style"):
            element.text = None
        element.tail = None
    _unwrap(root)
    _share_styles(root)
    ElementTree.register_namespace("", _SVG.strip("{}"))
    ElementTree.register_namespace("xlink", "http://www.w3.org/1999/xlink")
    text = ElementTree.tostring(root, encoding="unicode", short_empty_elements=True)
    # `as_uri` changes the quotes around attributes; those in a text stay.
    return re.sub(r">[^<]+<", lambda one: one[0].replace('"', "&quot;"), text)


def as_uri(svg: str) -> str:
    """The drawing as a data URI without characters that mean something in HTML."""
    single = svg.replace("'", "&#39;").replace('"', "'")
    return "data:image/svg+xml," + quote(single, safe=" ='/:;,()!*+.?@[]{}|~-_$")


def _rounded(text: str) -> str:
    """The text with numbers of at most two decimals, and without line breaks."""

    def shorter(match: re.Match[str]) -> str:
        number = f"{float(match[0]):.2f}".rstrip("0").rstrip(".")
        return "0" if number in ("-0", "") else number

    return " ".join(_NUMBER.sub(shorter, text).split())


def _short_path(path: str) -> str:
    """A path without the letters and spaces that SVG does not need."""
    parts = re.findall(r"[A-Za-z][^A-Za-z]*", path)
    shown: list[str] = []
    for before, part in zip(["", *parts], parts, strict=False):
        # After a move or a line, a pair of numbers is a line to it.
        implied = part[0] == "L" and before[:1] in ("M", "L")
        shown.append(f" {part[1:].strip()}" if implied else part[0] + part[1:].strip())
    return "".join(shown).replace(" -", "-")


def _shorten_names(root: Element) -> None:
    """Gives the names that are referred to one or two letters, and removes all others."""
    used: dict[str, str] = {}
    for element in root.iter():
        for value in element.attrib.values():
            for name in re.findall(r"url\(#([^)]+)\)", value):
                used.setdefault(name, f"i{len(used)}")
        if _LINK in element.attrib and element.attrib[_LINK].startswith("#"):
            used.setdefault(element.attrib[_LINK][1:], f"i{len(used)}")
    for element in root.iter():
        for key, value in list(element.attrib.items()):
            if key == "id":
                if value in used:
                    element.set("id", used[value])
                else:
                    del element.attrib["id"]
            elif key == _LINK and value.startswith("#"):
                # SVG 2, which every browser reads, has no prefix before href.
                del element.attrib[_LINK]
                element.set("href", f"#{used[value[1:]]}")
            elif "url(#" in value:
                element.set(
                    key, re.sub(r"url\(#([^)]+)\)", lambda one: f"url(#{used[one[1]]})", value)
                )


def _unwrap(root: Element) -> None:
    """Replaces groups without attributes by what they contain, and drops empty ones."""
    for child in list(root):
        _unwrap(child)
        if child.tag != f"{_SVG}g":
            continue
        if not len(child):
            root.remove(child)
        elif not child.attrib:
            at = list(root).index(child)
            root.remove(child)
            for number, inner in enumerate(list(child)):
                root.insert(at + number, inner)


def _share_styles(root: Element) -> None:
    """Makes a class of every style that occurs more than once, and shortens the others."""
    for element in root.iter():
        if "style" in element.attrib:
            parts = [part.strip() for part in element.attrib["style"].split(";")]
            style = ";".join(re.sub(r":\s+", ":", part) for part in parts if part)
            element.set("style", _FONTS.sub("font-family:'DejaVu Sans',Verdana,sans-serif", style))
    counts = Counter(
        element.attrib["style"] for element in root.iter() if "style" in element.attrib
    )
    names = {
        style: f"c{number}"
        for number, style in enumerate(style for style, times in counts.items() if times > 1)
    }
    for element in root.iter():
        if element.attrib.get("style") in names:
            element.set("class", names[element.attrib.pop("style")])
    if names:
        rules = Element(f"{_SVG}style")
        rules.text = "".join(f".{name}{{{style}}}" for style, name in names.items())
        root.insert(0, rules)
