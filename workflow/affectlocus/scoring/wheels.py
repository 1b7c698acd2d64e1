"""The five emotion wheels that AffectGPT released. A wheel maps words to clusters.

The wheels are read from three kinds of files. `format.csv` lists the forms of each base word
(anger: angers, angered, …). `synonym.xlsx` lists the synonyms of each wheel word in eight runs,
which are pooled here. `wheel1.xlsx` to `wheel5.xlsx` contain the wheels: three rings of words, of
which the inner one names the clusters.
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
"""The value of `wheels` that means the files of `COMMIT`, downloaded, instead of a folder."""

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
"""The released files and their SHA-256 at `COMMIT`."""


@dataclass(frozen=True)
class Wheels:
    """The content of the files; all words are trimmed and in lower case.

    Attributes:
        forms: form → the base words that list it.
        synonyms: word → the wheel words that list it as a synonym.
        clusters: wheel → word → cluster; for a word that occurs twice, the last one in the file.
        commit: AffectGPT's commit, if every file is the released one; otherwise None.
    """

    forms: dict[str, tuple[str, ...]]
    synonyms: dict[str, frozenset[str]]
    clusters: dict[int, dict[str, str]]
    commit: str | None = None

    @cached_property
    def published(self) -> dict[int, dict[str, str]]:
        """Wheel → form → cluster, as the released scorer maps forms.

        The candidates for a form are its base words and the wheel words that list these as
        synonyms. The alphabetically first candidate on the wheel decides. For "fear" this is
        "bold", because "fear" is listed as a form of "fearless".
        """
        candidates = {
            form: sorted({*bases, *self._with_synonym(bases)}) for form, bases in self.forms.items()
        }
        return self._first_clusters(candidates)

    @cached_property
    def corrected(self) -> dict[int, dict[str, str]]:
        """Wheel → word → cluster. The word itself comes first, then its base words, their synonyms.

        Within each of the three groups the alphabetically first word on the wheel decides. A form
        without the suffix -less or the prefix un- does not belong to a base word that has it:
        "fear" is not a form of "fearless".
        """
        candidates: dict[str, list[str]] = {}
        for form in {*self.forms, *(word for wheel in self.clusters.values() for word in wheel)}:
            bases = [base for base in self.forms.get(form, ()) if not _is_opposite(base, form)]
            candidates[form] = [form, *sorted(bases), *sorted(self._with_synonym(bases))]
        return self._first_clusters(candidates)

    def _with_synonym(self, bases: Iterable[str]) -> set[str]:
        """The wheel words that list one of the base words as a synonym."""
        return {word for base in bases for word in self.synonyms.get(base, ())}

    def _first_clusters(self, candidates: dict[str, list[str]]) -> dict[int, dict[str, str]]:
        """Wheel → form → the cluster of its first candidate that is on the wheel."""
        mapped: dict[int, dict[str, str]] = {}
        for wheel, clusters in self.clusters.items():
            first = {
                form: next(filter(clusters.__contains__, words), None)
                for form, words in candidates.items()
            }
            mapped[wheel] = {form: clusters[word] for form, word in first.items() if word}
        return mapped


def _is_opposite(base: str, form: str) -> bool:
    """Whether one word negates the other: fearless and fear, trustworthy and untrustworthy."""
    if (base.endswith("less") and "less" not in form) or (
        base.startswith("un") and not form.startswith("un")
    ):
        return True
    if base.endswith("less") or base.startswith("un"):
        return False  # both are negations
    stem = form.removeprefix("un") if form.startswith("un") else _LESS.sub("", form)
    # Both words need the same stem: "restless" does not negate "agitated".
    return stem != form and base[:_STEM] == stem[:_STEM]


_LESS = re.compile(r"less(?:ly|ness)?$")
_STEM = 5  # letters


def read(folder: Path, own: bool = False) -> Wheels:
    """The wheels in a folder with the released files.

    Args:
        own: also accept files in the same format that are not the released ones.

    Raises:
        InputError: a file is missing, differs from the released one, or has the wrong format.
    """
    files = {name: folder / name for name in SHA256}
    for path in files.values():
        if not path.is_file():
            raise InputError(
                "wheel.missing-file",
                f"{path}: no such file; a folder of wheels contains {', '.join(SHA256)}, as "
                "released in AffectGPT/emotion_wheel",
                file=path,
                expected=list(SHA256),
            )
    found = {name: sha256(path) for name, path in files.items()}
    changed = next((name for name in SHA256 if found[name] != SHA256[name]), None)
    if changed is not None and not own:
        raise InputError(
            "wheel.not-released",
            f"{files[changed]}: not the file that AffectGPT released at commit {COMMIT[:12]} "
            f"(SHA-256 {found[changed][:12]}…, expected {SHA256[changed][:12]}…), so the scores "
            "would not be MER-UniBench's; set wheels to `released` to download the file, or set "
            "own_wheels: true (--own-wheels) to use your own wheels",
            file=files[changed],
            found=found[changed],
            expected=SHA256[changed],
        )
    return _read(files, COMMIT if changed is None else None)


def download(host: str = HOST) -> dict[str, Path]:
    """Downloads the released files from AffectGPT's repository and verifies their SHA-256.

    Args:
        host: address of the repository's files, without the commit.

    Returns:
        Name → path of each file, below HF_HOME.

    Raises:
        InputError: no network, or a file with another SHA-256.
    """
    # Imported here, because the HTTP client takes long to import and only this function needs it.
    from affectlocus.data.download import fetch as fetch_file

    folder = f"{host}/{COMMIT}/AffectGPT/emotion_wheel"
    return {name: fetch_file(f"{folder}/{name}", sha)[0] for name, sha in SHA256.items()}


def fetch(host: str = HOST) -> Wheels:
    """The released wheels, downloaded."""
    return _read(download(host), COMMIT)


def download_folder(out: Path, host: str = HOST) -> None:
    """Downloads the released files into a new folder, which `read` reads without a network.

    Raises:
        InputError: as `download`; or the folder exists and must not be replaced.
    """
    check_output(out, "wheels")
    files = download(host)
    with replacing(out, "wheels") as temporary:
        temporary.mkdir()
        for name, path in files.items():
            shutil.copyfile(path, temporary / name)


def load(source: str | Path, own: bool = False) -> Wheels:
    """The wheels of a folder, or the `released` ones, as params.yaml or an option names them.

    Raises:
        InputError: as `read` and `fetch`; or `own` together with `released`.
    """
    if own and source == RELEASED:
        raise InputError(
            "wheel.own-and-released",
            "wheels is `released`, but own_wheels (--own-wheels) needs a folder; set wheels to "
            "your folder, or remove own_wheels",
            option="own-wheels",
        )
    return fetch() if source == RELEASED else read(Path(source), own)


def _read(files: dict[str, Path], commit: str | None) -> Wheels:
    clusters = {wheel: _clusters(files[f"wheel{wheel}.xlsx"]) for wheel in WHEELS}
    return Wheels(_forms(files["format.csv"]), _synonyms(files["synonym.xlsx"]), clusters, commit)


def words(text: str, separator: str = ",") -> list[str]:
    """The parts of a text between separators, trimmed and in lower case, without blank ones."""
    return [word for piece in text.split(separator) if (word := piece.strip().lower())]


def _forms(path: Path) -> dict[str, tuple[str, ...]]:
    """Form → the base words that list it, in the order of the file."""
    owners: dict[str, dict[str, None]] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            for row in csv.DictReader(stream, strict=True):
                (base,) = words(row["name"])
                # The base word itself is a form; for "no words" it is the only one.
                for form in [base, *words(row["format"])]:
                    owners.setdefault(form, {})[base] = None
    except (KeyError, ValueError, AttributeError, csv.Error) as error:
        raise InputError(
            "wheel.not-word-forms",
            f"{path}: not a list of word forms ({type(error).__name__}); expected the columns name "
            "and format",
            file=path,
            reason=type(error).__name__,
        ) from None
    return {form: tuple(bases) for form, bases in owners.items()}


def _synonyms(path: Path) -> dict[str, frozenset[str]]:
    """Word → the wheel words that list it. The sheet has pairs of columns: word, synonyms."""
    # Imported here, because planning needs only the names of the files.
    from affectlocus.data.xlsx import read_sheet

    header, *rows = read_sheet(path) or [{}]
    pairs = list(zip(list(header)[::2], list(header)[1::2], strict=False))
    if not pairs or any(
        not (header[word].startswith("word") and header[listed].startswith("synonym"))
        for word, listed in pairs
    ):
        raise InputError(
            "wheel.not-synonyms",
            f"{path}: not a list of synonyms; expected the columns word_run1, synonym_run1, …",
            file=path,
            found=list(header.values()),
        )
    found: dict[str, set[str]] = {}
    for row in rows:
        for word, listed in pairs:
            for owner in words(row.get(word, "")):
                for synonym in words(row.get(listed, "")):
                    found.setdefault(synonym, set()).add(owner)
    return {word: frozenset(owners) for word, owners in found.items()}


def _clusters(path: Path) -> dict[str, str]:
    """Word → cluster. Three columns, inner ring first; an empty cell repeats the one above it."""
    from affectlocus.data.xlsx import read_sheet

    header, *rows = read_sheet(path) or [{}]
    if list(header.values())[:3] != ["level1", "level2", "level3"]:
        raise InputError(
            "wheel.not-a-wheel",
            f"{path}: not a wheel; expected the columns level1, level2, level3",
            file=path,
            found=list(header.values()),
        )
    first = next(iter(header))
    clusters: dict[str, str] = {}
    cluster = ""
    for row in rows:
        cluster = next(iter(words(row.get(first, ""))), cluster)
        for column in header:
            for word in words(row.get(column, "")):
                clusters[word] = cluster
    return clusters
