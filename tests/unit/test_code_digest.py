"""A step's digest: what changes it, what does not, and that Snakemake can take it cheaply."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from affectlocus.orchestration import code_digest as module
from affectlocus.orchestration import syntax
from affectlocus.orchestration.code_digest import digest, parts

ROOT = Path(__file__).parents[2]
RULE = re.compile(r"^(?: *)(?:use )?rule\b.*?(?=^(?: *)(?:use )?rule\b|\Z)", re.M | re.S)
RUN = re.compile(r"^\s+affectlocus (?:--cards \S+ )?([a-z]+)\b", re.M)


def rules() -> list[tuple[str, str, str]]:
    """Of every rule with a shell line: its file and head, its command, and its `code` parameter."""
    found = []
    for file in sorted((ROOT / "rules").glob("*.smk")):
        text = file.read_text(encoding="utf-8")
        shared = dict(re.findall(r'^([A-Z]+) = """(.*?)"""', text, re.M | re.S))
        for rule in RULE.findall(text):
            head, code = rule.strip().splitlines()[0], re.findall(r"^\s+code=(.*),$", rule, re.M)
            for name, lines in shared.items():
                rule = re.sub(rf"^\s+{name}$", lines.replace("\\", "\\\\"), rule, flags=re.M)
            if "shell:" in rule:
                (command,) = RUN.findall(rule)
                found.append((f"{file.name}: {head}", command, " ".join(code)))
    return found


RULES = rules()
COMMANDS = sorted({command for _, command, _ in RULES})
CLI = "from affectlocus.cli.one import other, step\n"
STEP = '''"""A step."""

from affectlocus.cli.shared import digits

import torch


class Thing:
    """A thing."""

    def halve(self, value):
        """Gives half."""
        # by the helper
        from affectlocus.helper import half

        return half(value) / LIMIT


LIMIT = 2


def step(out: Annotated[str, typer.Option(help="where")] = "out"):
    """Writes something."""
    if not out:
        raise InputError("no name")
    return round(Thing().halve(3), digits())


def other():
    return 1
'''
FILES = {
    "cli/entry.py": CLI,
    "cli/one.py": STEP,
    "cli/shared.py": "def digits():\n    return 3\n\n\ndef unused():\n    return 4\n",
    "helper.py": "from affectlocus.core import errors\n\n\ndef half(x):\n    return x / 2\n",
    "core/errors.py": "",
    "other.py": "",
    "deep/__init__.py": "",
    "deep/inner.py": "from ..other import *\n",
}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., str]]:
    """`package({"helper.py": text})` writes a small package with this file; the step's digest."""

    def write(changed: dict[str, str] | None = None, command: str = "step") -> str:
        for name, text in (FILES | (changed or {})).items():
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(text, encoding="utf-8")
        forget()
        return digest(command)

    monkeypatch.setattr(module, "PACKAGE", tmp_path)
    yield write
    forget()


def forget() -> None:
    """Empties every cache of the module."""
    for cached in vars(module).values():
        if hasattr(cached, "cache_clear"):
            cached.cache_clear()


def step(old: str, new: str) -> dict[str, str]:
    """The step's module with one text in place of another."""
    assert old in STEP
    return {"cli/one.py": STEP.replace(old, new)}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("# by the helper", "# by somebody else"),
        ("        # by the helper\n", "\n\n"),
        ('"""A step."""', '"""Another sentence.\n\nAnd more.\n"""'),
        ('"""A thing."""', '"""Something."""'),
        ('        """Gives half."""\n', ""),
        ("half(value) / LIMIT", "(half(value)  /  LIMIT)"),
        ("LIMIT = 2\n", 'LIMIT = 2\n"""The limit."""\n'),
        ('InputError("no name")', 'InputError("option.no-name", f"no name: {out!r}", file=out)'),
        ('help="where"', 'help="another file"'),
        ("import torch\n", "import torch\n\nif TYPE_CHECKING:\n    import scipy\n"),
    ],
)
def test_what_people_alone_read_changes_nothing(
    package: Callable[..., str], old: str, new: str
) -> None:
    assert package(step(old, new)) == package()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("LIMIT = 2", "LIMIT = 3"),
        ("/ LIMIT", "* LIMIT"),
        ("halve(self, value)", "halve(self, value=0)"),
        ("if not out:", "if out:"),
        ('] = "out"', '] = "elsewhere"'),
        ("LIMIT = 2\n", "LIMIT = 2\nfor one in []:\n    LIMIT = one\n"),
    ],
)
def test_code_changes_the_digest(package: Callable[..., str], old: str, new: str) -> None:
    assert package(step(old, new)) != package()


def test_another_command_of_the_same_module_does_not_count(package: Callable[..., str]) -> None:
    changed = step("return 1", "return 2")
    assert package(changed) == package()
    assert package(changed, command="other") != package(command="other")


def test_of_the_modules_that_commands_share_the_part_that_is_used_counts(
    package: Callable[..., str],
) -> None:
    shared = FILES["cli/shared.py"]
    assert package({"cli/shared.py": shared.replace("3", "5")}) != package()
    assert package({"cli/shared.py": shared.replace("4", "5")}) == package()


def test_an_imported_modules_code_counts_and_anothers_does_not(package: Callable[..., str]) -> None:
    assert package({"helper.py": FILES["helper.py"].replace("/ 2", "/ 3")}) != package()
    assert package({"other.py": "x = 1\n"}) == package()


@pytest.mark.parametrize(
    "line",
    [
        "from affectlocus.other import x",
        "from affectlocus.other import *",
        "from affectlocus import other",
        "from affectlocus import other as it",
        "import affectlocus.other",
        "import affectlocus.other as it",
        "from .other import x",
        "from . import other",
        "def f():\n    from affectlocus.other import x",
        "try:\n    from .other import x\nexcept ImportError:\n    pass",
        "from affectlocus.deep import inner",
        "from affectlocus.deep.inner import x",
        "import affectlocus.deep.inner",
    ],
)
def test_every_form_of_import_is_followed(package: Callable[..., str], line: str) -> None:
    helper = {"helper.py": FILES["helper.py"] + line + "\n"}
    assert package(helper | {"other.py": "x = 1\n"}) != package(helper | {"other.py": "x = 2\n"})


@pytest.mark.parametrize(
    ("use", "counts"), [("shared.digits()", False), ("shared.unused()", True), ("f(shared)", True)]
)
def test_of_a_module_that_is_imported_whole_the_attributes_count_or_all_of_it(
    package: Callable[..., str], use: str, counts: bool
) -> None:
    helper = {"helper.py": f"def half(x):\n    from affectlocus.cli import shared\n    {use}\n"}
    shared = {"cli/shared.py": FILES["cli/shared.py"].replace("4", "5")}
    assert (package(helper | shared) != package(helper)) == counts


def test_an_import_that_names_no_module_is_refused(package: Callable[..., str]) -> None:
    with pytest.raises(ValueError, match=r"helper\.py: import affectlocus; name the module"):
        package({"helper.py": "import affectlocus\n"})


def test_a_digest_is_that_of_a_command() -> None:
    with pytest.raises(ValueError, match="curve_figures: no command of affectlocus"):
        digest("curve_figures")


def test_files_without_code_count_for_the_modules_that_name_them(
    package: Callable[..., str], tmp_path: Path
) -> None:
    names = {"helper.py": FILES["helper.py"] + 'WORDS = Path(__file__).parent / "words/all.txt"\n'}
    (tmp_path / "words").mkdir()
    (tmp_path / "words/all.txt").write_text("glad\n")
    before, without = package(names), package()
    (tmp_path / "words/all.txt").write_text("sad\n")
    assert package(names) != before
    assert package() == without


@pytest.mark.parametrize(("library", "counts"), [("torch", False), ("numpy", True)])
def test_the_version_of_a_library_counts_where_it_is_used(
    package: Callable[..., str], monkeypatch: pytest.MonkeyPatch, library: str, counts: bool
) -> None:
    """The command's module imports torch, and the step does not use it."""
    helper = {"helper.py": "import numpy\n" + FILES["helper.py"]}
    before = package(helper)
    real = module.installed_version
    other = lambda name: "0" if name == library else real(name)  # noqa: E731
    monkeypatch.setattr(module, "installed_version", other)
    assert (package(helper) != before) == counts


@pytest.mark.parametrize(
    ("imported", "library"),
    [
        *[("from transformers import AutoTokenizer", name) for name in ("tokenizers", "jinja2")],
        ("import transformers", "accelerate"),
        ("import numba", "llvmlite"),
        ("from sklearn.metrics import f1_score", "scikit-learn"),
        ("from scipy import stats", "scipy"),
        ("import pandas as pd", "pandas"),
    ],
)
def test_the_version_of_what_a_library_computes_with_counts(
    package: Callable[..., str], monkeypatch: pytest.MonkeyPatch, imported: str, library: str
) -> None:
    helper = {"helper.py": f"{imported}\n{FILES['helper.py']}"}
    before, without = package(helper), package()
    real = module.installed_version
    other = lambda name: "0" if name == library else real(name)  # noqa: E731
    monkeypatch.setattr(module, "installed_version", other)
    assert package(helper) != before
    assert package() == without


def test_fields_that_only_some_pythons_have_change_nothing() -> None:
    tree = ast.parse("def half(value, *, by=2):\n    return value / by\n")
    told = syntax.Reader().text_of(tree)
    (function,) = tree.body
    function.type_params = []  # type: ignore[attr-defined]
    function._fields = (*function._fields, "type_params")  # type: ignore[misc]
    assert syntax.Reader().text_of(tree) == told
    function.name = "quarter"  # type: ignore[attr-defined]
    assert syntax.Reader().text_of(tree) != told


# The package itself.


def test_every_rule_carries_the_digest_of_the_command_that_its_shell_line_runs() -> None:
    assert len(RULES) >= 27
    assert {"tune", "evaluate", "figures", "retrieve", "report"} <= set(COMMANDS)
    for rule, command, code in RULES:
        assert code == f'digest("{command}")' or ("use rule" in rule and code == ""), rule
        name = "cli."
        assert any(one.startswith(name) and part == command for one, part in parts(command)), rule


def test_every_command_has_a_digest_of_its_own() -> None:
    digests = [digest(command) for command in COMMANDS]
    assert all(re.fullmatch("[0-9a-f]{16}", each) for each in digests)
    assert len(set(digests)) == len(digests)


def modules(command: str) -> set[str]:
    """The modules that a command reaches, wholly or in part, as dotted names below the package."""
    return {module for module, _ in parts(command)}


def names(command: str) -> set[str]:
    """The modules that a command reaches, without their rooms."""
    return {one.rpartition(".")[2] for one in modules(command) if not one.startswith("cli.")}


def test_a_changed_score_or_figure_does_not_rerun_the_evaluation() -> None:
    assert not names("score") & {"evaluate", "candidates", "pairs", "prompts"}
    assert not names("evaluate") & {"score", "tables", "figures", "collect", "presets"}
    assert not names("tune") & {"evaluate", "score", "presets", "dag"}
    assert not names("deltas") & {"evaluate", "candidates", "tune", "training_loop"}
    assert not names("ledger") & {"deltas", "dag"}
    # Of `config` a command counts the models that it reads.
    for command in ("evaluate", "deltas"):
        assert not {one for one in modules(command) if one in ("config.tuning", "config.tasks")}


def test_imports_are_followed_to_the_end() -> None:
    # evaluate → interventions → pairs, which evaluate's own line also names; → projections.
    assert {"evaluate", "interventions", "pairs", "cells", "projections"} <= names("evaluate")
    assert {"corpus", "scenes", "arithmetic"} <= names("corpus")
    assert {"tables", "baselines", "protocols"} <= names("tables")
    assert {"protocols", "wheels"} <= names("score")
    assert {"map_figures", "dose_curves", "neuron_figure", "trade_off"} <= names("figures")


def test_the_files_that_the_package_holds_beside_code_count_somewhere() -> None:
    counted = {
        name for one in COMMANDS for part in parts(one) for name in module._content(part).data
    }
    assert counted == module._data_files().keys() >= {"pages", "preset_files"}


def test_the_exceptions_are_there_and_no_more_than_a_few() -> None:
    assert len(module._INERT) <= 12
    for name in module._INERT:
        file, _, definition = name.rpartition(".")
        assert module._is_module(name) or definition in module._definitions(file)


@pytest.fixture(scope="module")
def before() -> dict[str, str]:
    """The digest of every command."""
    return {command: digest(command) for command in COMMANDS}


@pytest.fixture
def copy(
    before: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., set[str]]]:
    """`copy("tune.py", old, new)`: the commands whose digest a change of the package changes."""
    place = tmp_path / "affectlocus"
    shutil.copytree(module.PACKAGE, place, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(module, "PACKAGE", place)

    def change(file: str, old: str, new: str) -> set[str]:
        text = (place / file).read_text(encoding="utf-8")
        assert text.count(old) >= 1
        (place / file).write_text(text.replace(old, new), encoding="utf-8")
        forget()
        return {command for command in COMMANDS if digest(command) != before[command]}

    yield change
    forget()


@pytest.mark.parametrize(
    ("file", "old", "new", "some", "others"),
    [
        # How labels are read decides samples and answers.
        (
            "config/task_answers.py",
            'ANSWERS = ("yes", "no")',
            'ANSWERS = ("no", "yes")',
            "prepare",
            "tune",
        ),
        ("config/presets.py", "PRESETS", "PRESETS_", "prepare", "evaluate deltas"),
        # The digits of a table, and which part of the package asks a question.
        ("cli/mechanism.py", '"%.4f"', '"%.2f"', "ledger", "neurons activations"),
        (
            "evaluation/cell_caches.py",
            "def task_keys(",
            "def task_keys(_=0, *",
            "evaluate places",
            "extract",
        ),
        (
            "core/checkpoint_files.py",
            "_SETS = (",
            "_SETS = () + (",
            "tune evaluate deltas",
            "tables",
        ),
        ("config/preset_files/gsm8k.yaml", ":", " :", "prepare", "evaluate tune"),
        ("reporting/pages/report.html", "</html>", "</html>\n", "report", "figures tables"),
        ("training/training_state.py", "_SHARE = 20", "_SHARE = 2", "tune pretrain", "evaluate"),
        # Words, and how a whole file gets its name.
        (
            "core/output_files.py",
            "temporary.replace(path)",
            "temporary.rename(path)",
            "",
            "tune tables",
        ),
        ("core/errors.py", "import", "import os\nimport", "", "tune tables report"),
    ],
)
def test_a_change_of_the_package_reruns_what_it_feeds(
    copy: Callable[..., set[str]], file: str, old: str, new: str, some: str, others: str
) -> None:
    changed = copy(file, old, new)
    assert set(some.split()) <= changed
    assert not set(others.split()) & changed


def test_in_modules_that_count_by_definition_no_decorator_keeps_what_it_is_given() -> None:
    """A definition that registers itself changes what others do, though nobody names it."""
    names = [
        path.relative_to(module.PACKAGE).with_suffix("").as_posix().replace("/", ".")
        for path in module.PACKAGE.glob("*/[!_]*.py")
    ]
    names = [name for name in names if module._by_definition(name) and name != "cli.entry"]
    assert set(module._BY_DEFINITION) < set(names)
    for name in names:
        for statement in (one for each in module._definitions(name).values() for one in each):
            used = [ast.unparse(one) for one in getattr(statement, "decorator_list", [])]
            assert all(re.match("contextmanager$|dataclass|cache$", one) for one in used), name


def test_a_statement_on_the_top_level_counts_with_every_definition_of_its_module(
    package: Callable[..., str],
) -> None:
    shared = FILES["cli/shared.py"]
    for line in ("digits.most = 3", "del unused", "if True:\n    def digits():\n        return 9"):
        assert package({"cli/shared.py": f"{shared}{line}\n"}) != package()


def test_no_module_is_imported_under_a_name_that_is_made_up_at_run_time() -> None:
    for path in module.PACKAGE.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        called = [ast.unparse(one.func) for one in ast.walk(tree) if isinstance(one, ast.Call)]
        loading = {"import_module", "importlib.import_module", "__import__", "exec", "eval"}
        assert not loading & set(called), path


def test_no_digest_needs_a_heavy_library() -> None:
    heavy = ["torch", "transformers", "peft", "tokenizers", "pandas", "matplotlib", "pydantic"]
    code = (
        "import sys; from affectlocus.orchestration.code_digest import digest\n"
        f"for command in {COMMANDS}: print(digest(command))\n"
        f"assert not set({heavy}) & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [digest(command) for command in COMMANDS]
