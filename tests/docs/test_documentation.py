"""The documentation builds, its links lead somewhere, and its commands run.

The shell blocks of README.md and of the tutorials run at a reduced size, in the order of a reader:
in a copy of the project with the params.yaml of this folder. A yaml block whose first line is a
comment with a path is written to that file.
"""

from __future__ import annotations

import posixpath
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(Path(__file__).parent), str(ROOT / "tests/robustness")]

from markdown import blocks, links  # noqa: E402
from programs import heavy  # noqa: E402
from project import BIN, copied, environment  # noqa: E402

PARAMETERS = Path(__file__).with_name("params.yaml")
TUTORIALS = ROOT / "docs/tutorials"
# A page → the pages whose results it uses.
PAGES = {
    TUTORIALS / "first-run.md": [],
    TUTORIALS / "your-own-pair.md": [TUTORIALS / "first-run.md"],
    TUTORIALS / "scoring-outputs.md": [],
    ROOT / "docs/how-to/media.md": [],
    ROOT / "README.md": [TUTORIALS / "first-run.md", TUTORIALS / "your-own-pair.md"],
}
SKIPPED = 1
"""Shell blocks that are not run, with the reason above them."""
LOOSE = [ROOT / name for name in ("README.md", "results/README.md")]
"""Pages that are no part of the site."""


def run(
    command: list[str | Path], folder: Path, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Runs a command; standard output holds both of its streams."""
    return subprocess.run(
        command,
        cwd=folder,
        env=environment(ROOT) | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


# The site


def sources(folder: Path) -> Path:
    """A copy of all that the site is built from."""
    for name in ("docs", "workflow"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("mkdocs.yml", "CONTRIBUTING.md", "CHANGELOG.md", "README.md"):
        shutil.copy(ROOT / name, folder)
    for page in ROOT.glob("benchmarks/*/README.md"):
        (folder / page.parent.relative_to(ROOT)).mkdir(parents=True)
        shutil.copy(page, folder / page.relative_to(ROOT))
    return folder


def built(folder: Path) -> subprocess.CompletedProcess[str]:
    # No proxy, no host: a build that reached for the network would fail.
    dead = dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), "http://127.0.0.1:9")
    return run([BIN / "zensical", "build", "--strict", "--clean"], folder, **dead)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = sources(tmp_path_factory.mktemp("site"))
    done = built(folder)
    assert done.returncode == 0, done.stdout
    return folder / "site"


class Page(HTMLParser):
    """What a page of the site refers to, what can be referred to, and what a browser loads."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.anchors: set[str] = set()
        self.loaded: list[str] = []
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value for name, value in attrs if value is not None}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.targets.append(given["href"])
        source = given.get("src") or (given.get("href") if tag == "link" else None)
        if source and given.get("rel") not in ("canonical", "next", "prev"):
            self.loaded.append(source)


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    return {file: Page(file) for file in site.rglob("*.html") if file.name != "404.html"}


def test_every_page_is_built_and_in_the_navigation(site: Path, pages: dict[Path, Page]) -> None:
    written = {page.relative_to(ROOT / "docs") for page in (ROOT / "docs").rglob("*.md")}
    assert {page.relative_to(site).with_suffix(".md") for page in pages} == written
    home = pages[site / "index.html"]
    shown = {posixpath.normpath(unquote(urlsplit(target).path)) for target in home.targets}
    assert {page.with_suffix(".html").as_posix() for page in written} <= shown


def test_every_internal_link_of_the_site_leads_to_a_page_and_an_anchor(
    pages: dict[Path, Page],
) -> None:
    lost = []
    for file, page in pages.items():
        for target in page.targets:
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                continue
            place = (file.parent / unquote(parts.path)).resolve() if parts.path else file
            anchors = pages[place].anchors if place in pages else set()
            if not place.exists() or (parts.fragment and unquote(parts.fragment) not in anchors):
                lost.append(f"{file.name}: {target}")
    assert lost == []


def test_the_site_loads_nothing_from_another_host(pages: dict[Path, Page]) -> None:
    loaded = {source for page in pages.values() for source in page.loaded}
    assert loaded
    assert [source for source in loaded if urlsplit(source).netloc] == []


def test_a_link_to_a_page_that_does_not_exist_fails_the_build(tmp_path: Path) -> None:
    folder = sources(tmp_path)
    with (folder / "docs/index.md").open("a") as stream:
        stream.write("\n[nowhere](nowhere.md)\n")
    done = built(folder)
    assert done.returncode != 0
    assert "page does not exist" in done.stdout


@pytest.mark.parametrize("page", LOOSE, ids=lambda page: page.parent.name + "/" + page.name)
def test_every_link_of_a_page_outside_the_site_leads_to_a_file(page: Path) -> None:
    targets = [urlsplit(target) for target in links(page)]
    assert targets
    lost = [one.path for one in targets if not one.scheme and not (page.parent / one.path).exists()]
    assert lost == []


def test_the_generated_parts_are_up_to_date() -> None:
    done = run([sys.executable, "docs/generate.py", "--check"], ROOT)
    assert done.returncode == 0, done.stdout


def test_a_generated_part_that_is_changed_by_hand_is_found(tmp_path: Path) -> None:
    folder = sources(tmp_path)
    page = folder / "docs/explanation/reruns.md"
    page.write_text(page.read_text().replace("| add a seed |", "| add two seeds |"))
    shutil.copytree(ROOT / "experiments", folder / "experiments")
    done = run([sys.executable, "docs/generate.py", "--check"], folder)
    assert done.returncode == 1
    assert "docs/explanation/reruns.md: not up to date" in done.stdout


def test_every_key_of_the_configuration_has_a_meaning() -> None:
    page = (ROOT / "docs/reference/configuration.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    assert len(rows) > 100
    assert [row for row in rows if row.endswith("|  |")] == []


# The commands


class Reader:
    """A copy of the project in which a reader types the commands of the pages."""

    def __init__(self, folder: Path) -> None:
        self.folder = copied(folder, PARAMETERS)
        self._read: set[Path] = set()
        for name in ("Makefile", "pyproject.toml"):
            shutil.copy(ROOT / name, folder)
        # The environment as it is, so that make installs nothing, with programs that start quickly.
        (folder / ".venv/bin").mkdir(parents=True)
        installed = Path(sys.prefix)
        for entry in [*installed.iterdir(), *installed.glob("bin/*")]:
            here = folder / ".venv" / entry.relative_to(installed)
            if entry.name not in ("bin", "ready", "activate", "affectlocus", "snakemake"):
                here.symlink_to(entry)
        activate = (installed / "bin/activate").read_text(encoding="utf-8")
        (folder / ".venv/bin/activate").write_text(
            activate.replace(sys.prefix, str(folder / ".venv")), encoding="utf-8"
        )
        for program in heavy().iterdir():
            shutil.copy(program, folder / ".venv/bin")
        (folder / ".venv/ready").touch()

    def read(self, page: Path) -> None:
        """Writes the files of a page, and runs its shell blocks, unless that was done before."""
        if page in self._read:
            return
        self._read.add(page)
        for block in blocks(page):
            first = block.text.partition("\n")[0]
            if block.language == "yaml" and first.startswith("# ") and first.endswith(".yaml"):
                (self.folder / first[2:]).write_text(block.text, encoding="utf-8")
            elif block.language == "sh" and not block.skipped:
                self.run(block.text, f"{page.name}, line {block.line}")

    def run(self, text: str, where: str) -> None:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text],
            cwd=self.folder,
            env=environment(self.folder, heavy()),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{where}:\n{text}\n{done.stdout[-4000:]}"


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    yield Reader(tmp_path_factory.mktemp("reader") / "affectlocus")


@pytest.mark.slow
@pytest.mark.xdist_group("documentation")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_shell_blocks_of_a_page_run(reader: Reader, page: Path) -> None:
    for earlier in PAGES[page]:
        reader.read(earlier)
    reader.read(page)


def test_blocks_that_are_not_run_are_few_and_have_a_reason() -> None:
    shell = [block for page in PAGES for block in blocks(page) if block.language == "sh"]
    skipped = [block for block in shell if block.skipped]
    assert len(skipped) == SKIPPED
    assert len(shell) > 8 * SKIPPED


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) < 150


def test_every_tutorial_is_run() -> None:
    assert set(TUTORIALS.glob("*.md")) <= set(PAGES)
