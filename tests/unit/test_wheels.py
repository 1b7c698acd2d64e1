"""The released wheels: files into words and clusters."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
import zipfile
from collections import defaultdict
from pathlib import Path

import pytest
from hub import Hub, serving, start
from programs import light
from refusal import refused
from wheel_files import REAL, write_sheet, write_wheels

from affectlocus.core.files import sha256
from affectlocus.data.xlsx import read_sheet
from affectlocus.scoring.wheels import COMMIT, SHA256, WHEELS, Wheels, _is_opposite, read

real = pytest.mark.skipif(not REAL.is_dir(), reason="the real material is not beside the checkout")
PLACE = f"/{COMMIT}/AffectGPT/emotion_wheel"


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Wheels:
    return read(write_wheels(tmp_path_factory.mktemp("wheels") / "made"), own=True)


def test_an_empty_cell_continues_the_cluster_above(wheels: Wheels) -> None:
    assert wheels.clusters[1]["bold"] == "happy"
    assert wheels.clusters[1]["hateful"] == "mad"


def test_a_word_that_a_wheel_has_twice_is_in_the_cluster_read_last(wheels: Wheels) -> None:
    assert wheels.clusters[1]["bitter"] == "scared"


def test_a_form_is_in_the_cluster_of_its_alphabetically_first_wheel_word(wheels: Wheels) -> None:
    assert wheels.published[1]["joys"] == "happy"
    assert wheels.published[1]["anger"] == "mad"
    # fear: fearful, so anxious; fearless, so bold. The first of them is anxious.
    assert wheels.published[1]["fear"] == "scared"
    assert wheels.published[1]["fearless"] == "happy"


def test_a_form_without_a_word_on_the_wheel_has_no_cluster(wheels: Wheels) -> None:
    assert "anger" not in wheels.published[5]
    assert "kind" not in wheels.published[1]


def test_a_wheel_word_that_is_no_form_has_a_cluster_only_when_corrected(wheels: Wheels) -> None:
    assert "furious" not in wheels.published[1]
    assert wheels.corrected[1]["furious"] == "mad"


def test_a_base_word_without_forms_is_its_own_form(wheels: Wheels) -> None:
    assert wheels.published[1]["no words"] == "bad"


def mapped(forms: dict[str, tuple[str, ...]], listed: dict[str, set[str]]) -> Wheels:
    clusters = {1: {"alert": "mad", "bold": "happy", "fear": "scared", "worried": "scared"}}
    return Wheels(forms, {word: frozenset(by) for word, by in listed.items()}, clusters)


def test_corrected_takes_the_word_itself_before_anything_else() -> None:
    wheels = mapped({"fear": ("alert", "fear")}, {})
    assert wheels.published[1]["fear"] == "mad"
    assert wheels.corrected[1]["fear"] == "scared"


def test_corrected_takes_base_words_before_synonyms() -> None:
    wheels = mapped({"fears": ("fear",)}, {"fear": {"bold"}})
    assert wheels.published[1]["fears"] == "happy"
    assert wheels.corrected[1]["fears"] == "scared"


def test_corrected_separates_fear_and_fearless() -> None:
    wheels = mapped(
        {"afraid": ("fearful", "fearless"), "fearless": ("fearless",)},
        {"fearful": {"worried"}, "fearless": {"bold"}},
    )
    assert wheels.published[1]["afraid"] == "happy"
    assert wheels.corrected[1] == wheels.clusters[1] | {"afraid": "scared", "fearless": "happy"}


@pytest.mark.real
@real
def test_the_released_files_give_the_expected_mapping() -> None:
    expected: dict[int, dict[str, str]] = defaultdict(dict)
    with (REAL / "wheels.csv").open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            expected[int(row["wheel"])][row["form"]] = row["cluster"]
    wheels = read(REAL / "emotion_wheel")
    assert wheels.published == expected
    assert len(wheels.forms) == 7386


@pytest.mark.real
@real
@pytest.mark.parametrize("name", ["format.csv", "wheel5.xlsx"])
def test_a_changed_wheel_is_refused_unless_it_is_meant_to_be(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "wheels"
    shutil.copytree(REAL / "emotion_wheel", folder, copy_function=shutil.copyfile)
    folder.chmod(0o755)
    assert read(folder).commit == COMMIT
    assert read(folder, own=True).commit == COMMIT
    if name == "format.csv":
        with (folder / name).open("a", encoding="utf-8") as stream:
            stream.write("dour,dour\n")
    else:
        shutil.copyfile(folder / "wheel4.xlsx", folder / name)
    changed = folder / name
    fields = {"file": changed, "found": sha256(changed), "expected": SHA256[name]}
    with refused("wheel.not-released", **fields):
        read(folder)
    assert read(folder, own=True).commit is None


@pytest.mark.real
@real
def test_published_maps_fear_to_joy_and_corrected_does_not() -> None:
    wheels = read(REAL / "emotion_wheel")
    published = [wheels.published[wheel]["fear"] for wheel in WHEELS]
    assert published == ["scared", "happy", "joyful", "genius", "joyful"]
    corrected = [wheels.corrected[wheel]["fear"] for wheel in WHEELS]
    assert corrected == ["scared", "fearful", "scared", "fear", "scared"]


@pytest.mark.real
@real
def test_corrected_keeps_every_wheel_word_in_its_cluster() -> None:
    wheels = read(REAL / "emotion_wheel")
    for wheel, clusters in wheels.clusters.items():
        assert {word: wheels.corrected[wheel][word] for word in clusters} == clusters


def fetched(hub: Hub, home: Path, offline: bool = False) -> subprocess.CompletedProcess[str]:
    """The wheels from a server, in a process that may use a network; prints what fear is."""
    program = (
        "import sys; from affectlocus.core.errors import exit_on_error;"
        "from affectlocus.scoring.wheels import fetch;"
        "print(exit_on_error(fetch, sys.argv[1]).published[2]['fear'])"
    )
    own = {"HF_HOME": str(home), "AFFECTLOCUS_RETRY_WAIT": "0", "HF_HUB_OFFLINE": str(int(offline))}
    command = [sys.executable, "-c", program, hub.url]
    return subprocess.run(
        command, env=os.environ | own, capture_output=True, text=True, check=False
    )


@pytest.mark.real
@real
def test_the_released_wheels_are_fetched_once_and_checked(tmp_path: Path) -> None:
    with serving() as hub:
        for name in SHA256:
            hub.files[f"{PLACE}/{name}"] = (REAL / "emotion_wheel" / name).read_bytes()
        first = fetched(hub, tmp_path)
        assert (first.returncode, first.stdout) == (0, "happy\n"), first.stderr
        assert len(hub.requests) == 7
    again = fetched(hub, tmp_path, offline=True)
    assert (again.returncode, again.stdout) == (0, "happy\n"), again.stderr


@pytest.mark.real
@real
def test_the_command_writes_a_folder_that_scoring_reads_without_a_network(tmp_path: Path) -> None:
    folder = tmp_path / "results/wheels"
    with serving() as hub:
        for name in SHA256:
            hub.files[f"{PLACE}/{name}"] = (REAL / "emotion_wheel" / name).read_bytes()
        command = ["wheels", "--out", str(folder), "--host", hub.url]
        # The second run into the same folder, as Snakemake does it, sends no request.
        for _ in range(2):
            started = start(hub, tmp_path, "affectlocus", *command, place=light())
            assert started.communicate()[1] == ""
            assert started.returncode == 0
        assert len(hub.requests) == 7
    assert read(folder).commit == COMMIT


@pytest.mark.real
@real
@pytest.mark.parametrize("name", SHA256)
def test_the_recorded_digests_are_those_of_the_released_files(name: str) -> None:
    assert sha256(REAL / "emotion_wheel" / name) == SHA256[name]


def test_another_file_than_the_released_one_is_refused(tmp_path: Path) -> None:
    with serving() as hub:
        hub.files[f"{PLACE}/format.csv"] = b"name,format\nfear,fear\n"
        done = fetched(hub, tmp_path)
    assert done.returncode == 1
    assert f"{PLACE}/format.csv: the SHA-256 of the download is" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("name", SHA256)
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    folder = write_wheels(tmp_path / "made")
    (folder / name).unlink()
    with refused("wheel.missing-file", file=folder / name, expected=list(SHA256)):
        read(folder)


@pytest.mark.parametrize(
    ("name", "content", "code", "fields"),
    [
        ("wheel3.xlsx", b"", "workbook.unreadable", {}),
        ("synonym.xlsx", b"PK\x03\x04 cut", "workbook.unreadable", {}),
        (
            "format.csv",
            b"word,forms\nfear,fears\n",
            "wheel.not-word-forms",
            {"reason": "KeyError"},
        ),
        (
            "format.csv",
            b"name,format\n,fears\n",
            "wheel.not-word-forms",
            {"reason": "ValueError"},
        ),
        (
            "format.csv",
            b"name,format\nfear\n",
            "wheel.not-word-forms",
            {"reason": "AttributeError"},
        ),
        (
            "format.csv",
            "name,format\nfé,f\n".encode("latin-1"),
            "wheel.not-word-forms",
            {"reason": "UnicodeDecodeError"},
        ),
    ],
)
def test_a_file_with_something_else_in_it_is_refused(
    tmp_path: Path, name: str, content: bytes, code: str, fields: dict[str, str]
) -> None:
    folder = write_wheels(tmp_path / "made")
    (folder / name).write_bytes(content)
    with refused(code, file=folder / name, **fields):
        read(folder, own=True)


def test_swapped_files_are_refused(tmp_path: Path) -> None:
    folder = write_wheels(tmp_path / "made")
    shutil.copy(folder / "synonym.xlsx", folder / "wheel2.xlsx")
    with refused("wheel.not-a-wheel", file=folder / "wheel2.xlsx"):
        read(folder, own=True)
    write_wheels(folder)
    shutil.copy(folder / "wheel2.xlsx", folder / "synonym.xlsx")
    with refused("wheel.not-synonyms", file=folder / "synonym.xlsx"):
        read(folder, own=True)


def test_a_zip_that_is_no_workbook_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.xlsx", "w") as book:
        book.writestr("xl/sharedStrings.xml", "<sst/>")
    with refused("workbook.unreadable", file=tmp_path / "a.xlsx"):
        read_sheet(tmp_path / "a.xlsx")


def test_texts_and_numbers_are_text_and_empty_cells_are_absent(tmp_path: Path) -> None:
    write_sheet(tmp_path / "a.xlsx", [("", "low spirits", "7"), ("a",)])
    assert read_sheet(tmp_path / "a.xlsx") == [{"B": "low spirits", "C": "7"}, {"A": "a"}]


@pytest.mark.parametrize(
    ("base", "form", "opposite"),
    [
        ("fearless", "fear", True),
        ("fear", "fearless", True),
        ("trustworthy", "untrustworthy", True),
        ("unhappy", "happy", True),
        ("hopeless", "hopelessness", False),
        ("powerless", "powerlessness", False),
        ("unhappy", "unhappily", False),
        ("agitated", "restless", False),
        ("united", "unity", False),
        ("understanding", "understand", False),
    ],
)
def test_a_form_with_the_opposite_meaning_is_recognised_by_its_suffix_or_prefix(
    base: str, form: str, opposite: bool
) -> None:
    assert _is_opposite(base, form) is opposite
