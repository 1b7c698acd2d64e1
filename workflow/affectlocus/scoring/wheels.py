"""The five emotion wheels that AffectGPT released: which cluster a word belongs to.

Three kinds of files stand behind it. `format.csv` lists the forms of each base word (anger: angers,
angered, …), `synonym.xlsx` the synonyms of each wheel word, drawn eight times and pooled here, and
`wheel1.xlsx` to `wheel5.xlsx` the wheels themselves: rings of words, the inner one the clusters.
"""

from __future__ import annotations

import csv
import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from affectlocus.core.errors import InputError
from affectlocus.core.files import sha256
from affectlocus.core.output_files import check_output, replacing

WHEELS = (1, 2, 3, 4, 5)

COMMIT = "fffca794c6792023234565370e3f69f0488aede9"
RELEASED = "released"
"""In the place of a folder: the files of that commit, downloaded."""

HOST = "https://raw.githubusercontent.com/zeroQiaoba/AffectGPT"

SHA256 = {
    "format.csv": "ba6de7d61db8e129d1d7ef8a2aae22a9e93a2c2e3e683e6f2735d04455f016f2",
    "synonym.xlsx": "23f81f9ab1d2418aaf96775304fb5dc52c62bb5d5ef652a97471d045fc9d2e29",
    "wheel1.xlsx": "e70485d354b82a7491ff24648273182a5f4f13f92c76e6b3e4f9033f5e6afcc1",
    "wheel2.xlsx": "acc001e076a8e60440361f58dd8c05ed900c4890c84bb7d8d1df93708a7d9c87",
    "wheel3.xlsx": "d62f30bf88c17c55876634cd088eacaef98278fc25457474364439872f9dbf83",
    "wheel4.xlsx": "660260561b7fe15550f3679a01e7c783608ce3403d4c28db0a88520f68d83aea",
    "wheel5.xlsx": "2dd4595b2cf8e7628ca06a416a8e38ac831614b244f23d1ae613dc34007649f1",
}
"""The released files, and what they held at that commit."""


@dataclass(frozen=True)
class Wheels:
    """What the files say, all words trimmed and in lower case.

    Attributes:
        forms: form → the base words that own it.
        synonyms: word → the wheel words that list it as a synonym.
        clusters: wheel → word → cluster; where a wheel has a word twice, the last one read.
        commit: AffectGPT's, if every file is the one released there.
    """

    forms: dict[str, tuple[str, ...]]
    synonyms: dict[str, frozenset[str]]
    clusters: dict[int, dict[str, str]]
    commit: str | None = None

    @cached_property
    def published(self) -> dict[int, dict[str, str]]:
        """Wheel → form → cluster, as the released scorer maps.

        A form's base words and what they are synonyms of are sorted, and the alphabetically first
        that the wheel has decides: that of "fear" is "bold", by "fearless".
        """
        reach = {
            form: sorted({*bases, *self._listing(bases)}) for form, bases in self.forms.items()
        }
        return self._mapped(reach)

    @cached_property
    def corrected(self) -> dict[int, dict[str, str]]:
        """Wheel → word → cluster, nearest first: the word itself, its base words, their synonyms.

        Within each of the three the alphabetically first decides. A base word with the suffix
        -less or the prefix un- owns no form that lacks it: "fear" is none of "fearless".
        """
        reach: dict[str, list[str]] = {}
        for form in {*self.forms, *(word for wheel in self.clusters.values() for word in wheel)}:
            bases = [base for base in self.forms.get(form, ()) if not _opposite(base, form)]
            reach[form] = [form, *sorted(bases), *sorted(self._listing(bases))]
        return self._mapped(reach)

    def _listing(self, bases: Iterable[str]) -> set[str]:
        """The wheel words that list one of these as a synonym."""
        return {word for base in bases for word in self.synonyms.get(base, ())}

    def _mapped(self, reach: dict[str, list[str]]) -> dict[int, dict[str, str]]:
        """Wheel → word → cluster of the first word within reach that the wheel has."""
        mapped: dict[int, dict[str, str]] = {}
        for wheel, clusters in self.clusters.items():
            first = {
                form: next(filter(clusters.__contains__, near), None)
                for form, near in reach.items()
            }
            mapped[wheel] = {form: clusters[word] for form, word in first.items() if word}
        return mapped


def _opposite(base: str, form: str) -> bool:
    """Whether one of the two denies the other: fearless and fear, trustworthy and untrustworthy."""
    if (base.endswith("less") and "less" not in form) or (
        base.startswith("un") and not form.startswith("un")
    ):
        return True
    if base.endswith("less") or base.startswith("un"):
        return False  # both deny
    denied = form.removeprefix("un") if form.startswith("un") else _LESS.sub("", form)
    # Of one stem: "restless" is no denial of "agitated".
    return denied != form and base[:_STEM] == denied[:_STEM]


_LESS = re.compile(r"less(?:ly|ness)?$")
_STEM = 5  # letters


def read(folder: Path, own: bool = False) -> Wheels:
    """The wheels of a folder that holds the released files.

    Args:
        own: take files that are not the released ones, but of their form.

    Raises:
        InputError: a file is missing, is another than was released, or is not what its name says.
    """
    files = {name: folder / name for name in SHA256}
    for path in files.values():
        if not path.is_file():
            raise InputError(
                f"{path}: no such file; a folder of wheels holds {', '.join(SHA256)}, as released "
                "in AffectGPT/emotion_wheel"
            )
    found = {name: sha256(path) for name, path in files.items()}
    other = next((name for name in SHA256 if found[name] != SHA256[name]), None)
    if other is not None and not own:
        raise InputError(
            f"{files[other]}: not the file that AffectGPT released at commit {COMMIT[:12]} "
            f"(SHA-256 {found[other][:12]}…, expected {SHA256[other][:12]}…), so scores would not "
            "be MER-UniBench's; write released as wheels to download it, or, if these are meant to "
            "be wheels of your own, own_wheels: true in the settings (--own-wheels)"
        )
    return _read(files, COMMIT if other is None else None)


def download(host: str = HOST) -> dict[str, Path]:
    """Name → path of each released file, from AffectGPT's repository, checked, kept below HF_HOME.

    Args:
        host: where the repository's files lie, by commit.

    Raises:
        InputError: no network, or another content than the one of 2025.
    """
    # What reads no network should not wait for its client.
    from affectlocus.data.download import fetch as one

    folder = f"{host}/{COMMIT}/AffectGPT/emotion_wheel"
    return {name: one(f"{folder}/{name}", sha)[0] for name, sha in SHA256.items()}


def fetch(host: str = HOST) -> Wheels:
    """The released wheels, as `download` brings them."""
    return _read(download(host), COMMIT)


def bring(out: Path, host: str = HOST) -> None:
    """Puts the released files into a folder of their own, which `read` then takes anywhere.

    Raises:
        InputError: as `download`; a folder that must not be replaced.
    """
    check_output(out, "wheels")
    files = download(host)
    with replacing(out, "wheels") as temporary:
        temporary.mkdir()
        for name, path in files.items():
            shutil.copyfile(path, temporary / name)


def at(place: str | Path, own: bool = False) -> Wheels:
    """The wheels that params.yaml or an option names: a folder's, or `released` ones.

    Raises:
        InputError: as `read` and `fetch`; own wheels that are the released ones.
    """
    if own and place == RELEASED:
        raise InputError("own wheels lie in a folder; name it, or drop own_wheels (--own-wheels)")
    return fetch() if place == RELEASED else read(Path(place), own)


def _read(files: dict[str, Path], commit: str | None) -> Wheels:
    clusters = {wheel: _clusters(files[f"wheel{wheel}.xlsx"]) for wheel in WHEELS}
    return Wheels(_forms(files["format.csv"]), _synonyms(files["synonym.xlsx"]), clusters, commit)


def words(text: str, separator: str = ",") -> list[str]:
    """The pieces of a text, trimmed and in lower case, without blank ones."""
    return [word for piece in text.split(separator) if (word := piece.strip().lower())]


def _forms(path: Path) -> dict[str, tuple[str, ...]]:
    owners: dict[str, dict[str, None]] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            for row in csv.DictReader(stream, strict=True):
                (base,) = words(row["name"])
                # One base word, "no words", has no form but itself.
                for form in [base, *words(row["format"])]:
                    owners.setdefault(form, {})[base] = None
    except (KeyError, ValueError, AttributeError, csv.Error) as error:
        raise InputError(
            f"{path}: not the released list of forms ({type(error).__name__}); expected the "
            "columns name and format"
        ) from None
    return {form: tuple(bases) for form, bases in owners.items()}


def _synonyms(path: Path) -> dict[str, frozenset[str]]:
    """Columns in pairs: a word, and its synonyms."""
    from affectlocus.data.xlsx import read_sheet  # whoever plans needs the names of the files alone

    header, *rows = read_sheet(path) or [{}]
    pairs = list(zip(list(header)[::2], list(header)[1::2], strict=False))
    if not pairs or any(
        not (header[word].startswith("word") and header[listed].startswith("synonym"))
        for word, listed in pairs
    ):
        raise InputError(
            f"{path}: not the released lists of synonyms; expected the columns word_run1, "
            "synonym_run1, …"
        )
    found: dict[str, set[str]] = {}
    for row in rows:
        for word, listed in pairs:
            for owner in words(row.get(word, "")):
                for synonym in words(row.get(listed, "")):
                    found.setdefault(synonym, set()).add(owner)
    return {word: frozenset(owners) for word, owners in found.items()}


def _clusters(path: Path) -> dict[str, str]:
    """Three columns, inner ring first; an empty cell continues the one above."""
    from affectlocus.data.xlsx import read_sheet

    header, *rows = read_sheet(path) or [{}]
    if list(header.values())[:3] != ["level1", "level2", "level3"]:
        raise InputError(f"{path}: not a released wheel; expected columns level1, level2, level3")
    first = next(iter(header))
    clusters: dict[str, str] = {}
    cluster = ""
    for row in rows:
        cluster = next(iter(words(row.get(first, ""))), cluster)
        for column in header:
            for word in words(row.get(column, "")):
                clusters[word] = cluster
    return clusters
