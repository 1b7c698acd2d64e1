"""A step's digest: what changes it, what does not, and that Snakemake can take it cheaply."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from affectlocus.orchestration import code_digest as module
from affectlocus.orchestration.code_digest import digest, imports

ROOT = Path(__file__).parents[2]
STEPS = sorted(
    {
        step
        for rules in (ROOT / "rules").glob("*.smk")
        for step in re.findall(r'digest\("([\w.]+)"\)', rules.read_text(encoding="utf-8"))
    }
)
STEP = '''"""A step."""

import torch
from affectlocus.room.helper import half

LIMIT = 2


class Thing:
    """A thing."""

    def halve(self, value):
        """Gives half."""
        # by the helper
        return half(value) / LIMIT
'''
HELPER = """from affectlocus.core.errors import InputError


def half(value):
    return value / 2
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., str]]:
    """`package(step=..., helper=...)` writes a small package and gives the step's digest."""

    def forget() -> None:
        kept = (module._tree, module._code, module._third_party, module._installed)
        for cached in (imports, digest, *kept):
            cached.cache_clear()

    def write(step: str = STEP, helper: str = HELPER, errors: str = "", other: str = "") -> str:
        texts = {"core/errors": errors, "room/other": other, "room/step": step}
        for name, text in (texts | {"room/helper": helper}).items():
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
        forget()
        return digest("room.step")

    monkeypatch.setattr(module, "PACKAGE", tmp_path)
    yield write
    forget()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("# by the helper", "# by somebody else"),
        ("        # by the helper\n", "\n\n"),
        ('"""A step."""', '"""Another sentence.\n\nAnd more.\n"""'),
        ('"""A thing."""', '"""Something."""'),
        ('        """Gives half."""\n', ""),
        ("half(value) / LIMIT", "(half(value)  /  LIMIT)"),
    ],
)
def test_comments_docstrings_and_spacing_change_nothing(
    package: Callable[..., str], old: str, new: str
) -> None:
    assert old in STEP
    assert package(step=STEP.replace(old, new)) == package()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("LIMIT = 2", "LIMIT = 3"),
        ("/ LIMIT", "* LIMIT"),
        ("def halve", "def halved"),
        ("halve(self, value)", "halve(self, value=0)"),
        ("LIMIT = 2", "LIMIT = 2\nMORE = 1"),
        ("import torch\n", ""),
    ],
)
def test_code_changes_the_digest(package: Callable[..., str], old: str, new: str) -> None:
    assert package(step=STEP.replace(old, new)) != package()


def test_an_imported_modules_code_counts_and_anothers_does_not(package: Callable[..., str]) -> None:
    before = package()
    assert package(helper=HELPER.replace("/ 2", "/ 3")) != before
    assert package(other="x = 1\n") == before


def test_sentences_of_errors_change_nothing(package: Callable[..., str]) -> None:
    assert package(errors="class InputError(Exception): ...\n") == package()


def test_the_docstring_of_a_constant_changes_nothing(package: Callable[..., str]) -> None:
    documented = STEP.replace("LIMIT = 2\n", 'LIMIT = 2\n"""The limit."""\n')
    assert package(step=documented) == package()


@pytest.mark.parametrize(("library", "counts"), [("torch", True), ("transformers", False)])
def test_the_version_of_a_library_counts_where_it_is_imported(
    package: Callable[..., str], monkeypatch: pytest.MonkeyPatch, library: str, counts: bool
) -> None:
    before = package()
    real = module.version
    monkeypatch.setattr(module, "version", lambda name: "0" if name == library else real(name))
    assert (package() != before) == counts


@pytest.mark.parametrize("library", ["tokenizers", "accelerate", "jinja2"])
def test_the_version_of_what_transformers_computes_with_counts(
    package: Callable[..., str], monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    through = STEP.replace("import torch\n", "from transformers import AutoTokenizer\n")
    before, without = package(step=through), package()
    real = module.version
    monkeypatch.setattr(module, "version", lambda name: "0" if name == library else real(name))
    assert package(step=through) != before
    assert package() == without


def test_fields_that_only_some_pythons_have_change_nothing() -> None:
    tree = ast.parse("def half(value, *, by=2):\n    return value / by\n")
    told = module._told(tree)
    (function,) = tree.body
    function.type_params = []  # type: ignore[attr-defined]
    function._fields = (*function._fields, "type_params")  # type: ignore[misc]
    assert module._told(tree) == told
    function.name = "quarter"  # type: ignore[attr-defined]
    assert module._told(tree) != told


def test_the_compilers_version_counts_where_deltas_are_measured() -> None:
    assert "deltas.kernel" in imports("deltas.deltas")
    assert "numba" in module._third_party("deltas.kernel") & set(module.NUMERICAL)


def test_every_step_of_the_rules_has_a_digest_of_its_own() -> None:
    assert {
        "data.corpus",
        "training.tune",
        "deltas.deltas",
        "evaluation.evaluate",
        "scoring.score",
        "scoring.tables",
        "reporting.figures",
    } <= set(STEPS)
    digests = [digest(step) for step in STEPS]
    assert all(re.fullmatch("[0-9a-f]{16}", each) for each in digests)
    assert len(set(digests)) == len(digests)


def test_a_changed_score_or_figure_does_not_rerun_the_evaluation() -> None:
    assert not imports("scoring.score") & {
        "evaluation.evaluate",
        "lm.candidates",
        "checkpoints.pairs",
        "lm.prompts",
    }
    assert not imports("evaluation.evaluate") & {
        "scoring.score",
        "scoring.tables",
        "reporting.figures",
        "scoring.collect",
    }
    assert not imports("deltas.deltas") & {
        "evaluation.evaluate",
        "lm.candidates",
        "training.tune",
        "training.training_loop",
    }


def test_imports_are_followed_to_the_end() -> None:
    # evaluate → interventions → checkpoints, which evaluate's own line also names; → projections.
    assert {
        "evaluation.evaluate",
        "evaluation.interventions",
        "checkpoints.pairs",
        "core.cells",
        "core.projections",
    } <= imports("evaluation.evaluate")
    assert {"data.corpus", "data.scenes", "data.arithmetic"} <= imports("data.corpus")


@pytest.mark.parametrize("step", STEPS)
def test_every_import_of_a_step_is_in_the_form_that_is_followed(step: str) -> None:
    for name in imports(step):
        text = (module.PACKAGE / f"{name.replace('.', '/')}.py").read_text(encoding="utf-8")
        assert not re.search(
            r"^\s*(from affectlocus import|import affectlocus|from \.)", text, re.M
        )


def test_no_digest_needs_a_heavy_library() -> None:
    heavy = ["torch", "transformers", "peft", "tokenizers", "pandas", "matplotlib"]
    code = (
        "import sys; from affectlocus.orchestration.code_digest import digest\n"
        f"for step in {STEPS}: print(digest(step))\n"
        f"assert not set({heavy}) & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [digest(step) for step in STEPS]
