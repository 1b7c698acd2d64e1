"""The list of exhibits: which file is which, what is missing, and the captions written from it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from affectlocus.reporting.exhibits import (
    CATEGORIES,
    EXHIBITS,
    PAPER,
    captions,
    match_exhibits,
    missing_exhibits,
    report_arguments,
)

ROOT = Path(__file__).parents[2]
RULES = {path.name: path.read_text() for path in sorted((ROOT / "rules").glob("*.smk"))}


@pytest.mark.parametrize(
    ("file", "name", "label"),
    [
        ("table1.csv", "table1", ""),
        ("table2.my-pair.csv", "table2", "my-pair"),
        ("table1_even.csv", "table1_even", ""),
        ("table2_fair.my.pair.csv", "table2_fair", "my.pair"),
        ("figures/deltas.my-pair.png", "deltas", "my-pair"),
        ("figures/directions.one-and-two.png", "directions", "one and two"),
        ("figures/fig9_get.my.pair.png", "fig9", "my.pair"),
        ("figures/fig4_l2.png", "fig4", ""),
        ("figures/fig7_load.png", "fig7", ""),
        ("figures/fig7_load.my.pair.png", "fig7", "my.pair"),
        ("figures/fig10_relative.my-pair.png", "fig10", "my-pair"),
        ("ledger.csv", "ledger", ""),
    ],
)
def test_a_file_is_one_exhibit_and_told_from_its_kind_by_its_label(
    file: str, name: str, label: str
) -> None:
    (one,) = match_exhibits([file])
    assert (one.exhibit.name, one.label) == (name, label)


@pytest.mark.parametrize(
    "file",
    [
        *("table1_intervals.csv", "table1.my-pair_baselines.csv", "figures/deltas.my-pair.svg"),
        *("scores.parquet", "figures/below/deltas.my-pair.png", "claims.csv"),
    ],
)
def test_companions_other_formats_and_other_files_are_none(file: str) -> None:
    assert match_exhibits([file]) == []


def test_the_exhibits_come_in_the_list_s_order_whatever_the_files() -> None:
    files = ["ledger.csv", "figures/deltas.b.png", "table1.csv", "figures/deltas.a.png"]
    names = [one.file for one in match_exhibits(files)]
    assert names == ["table1.csv", "figures/deltas.a.png", "figures/deltas.b.png", "ledger.csv"]


def test_what_the_paper_has_and_an_experiment_lacks_is_named_with_its_reason() -> None:
    assert missing_exhibits([]) == PAPER
    shown = match_exhibits(["table1.csv", "figures/deltas.x.png", "figures/fig9_get.x.png"])
    assert missing_exhibits(shown).keys() == PAPER.keys() - {"Table 1", "Fig. 4", "Fig. 9"}


def test_every_exhibit_has_a_name_of_its_own_a_chapter_and_a_paper_s_exhibit_that_exists() -> None:
    assert len({one.name for one in EXHIBITS}) == len(EXHIBITS)
    assert {one.category for one in EXHIBITS} == set(CATEGORIES)
    assert {one.paper for one in EXHIBITS} - {""} == PAPER.keys()
    for one in EXHIBITS:
        names = set(re.findall(r"\{\.?(\w+)\}", one.pattern))
        assert set(re.findall(r"\{(\w+)\}", one.alt + one.source)) <= names, one.name
        assert one.alt or not one.pattern.endswith(".png"), one.name


def test_the_captions_of_snakemake_s_report_are_those_of_the_list() -> None:
    written = {path.stem: path.read_text() for path in (ROOT / "workflow/report").glob("*.rst")}
    assert written == captions(), "run: affectlocus report --captions workflow/report"


def body_of(rule: str) -> str:
    """The directives of a rule, which may use another rule."""
    header = rf"^(?:rule {rule}:|use rule \w+ as {rule} with:)$"
    (body,) = (
        re.split(header, text, flags=re.M)[1:]
        for text in RULES.values()
        if re.search(header, text, re.M)
    )
    return re.split(r"^(?:rule|use rule) ", body[0], flags=re.M)[0]


@pytest.mark.parametrize("rule", sorted(captions()))
def test_a_captioned_rule_is_there_and_marks_its_result_with_that_caption(rule: str) -> None:
    body = body_of(rule)
    assert re.search(rf'report_arguments\(\s*"{rule}"', body)
    shown = report_arguments(rule, of="all")
    assert (ROOT / "rules" / str(shown["caption"])).is_file()
    assert shown["category"] and shown["labels"] == {"of": "all"}


def test_the_patterns_of_our_own_rules_are_files_that_they_write() -> None:
    # Those whose wildcard is a whole name: Dag says which.
    named = ("bars", "tables", "draw_panels", "relative_changes", "trade_off")
    for one in EXHIBITS:
        if one.rule and one.rule not in named:
            text = body_of(one.rule)
            assert f'"results/{one.pattern}"' in text, one.name
