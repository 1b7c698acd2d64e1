"""An experiment's own claims, the kinds of claims, and the shipped sets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from refusal import refused
from test_claims import FACTS, MANY, answered, cells, deltas, skilled, tuned_here
from typer.testing import CliRunner

from affectlocus.claims import kinds
from affectlocus.claims.claims import judge_evidence
from affectlocus.claims.evidence import ScoreEvidence, bootstrap_scores
from affectlocus.claims.kinds import sentence
from affectlocus.claims.loci import gather_loci
from affectlocus.claims.pair_facts import PairFacts
from affectlocus.claims.settings import ClaimsSettings
from affectlocus.claims.verdict import Verdict
from affectlocus.cli import app
from affectlocus.config import claim_kinds
from affectlocus.config.claim_kinds import Above, statements_of
from affectlocus.config.claim_terms import parse_cell
from affectlocus.config.claims import SHIPPED, Claims, claim_sha256, shipped
from affectlocus.config.experiment import validate
from affectlocus.config.matrix import SINGLES
from affectlocus.core.cells import Cell

ODD = {"additional_modes": ["z"]}
ABOVE = {"kind": "above", "what": "load gate", "than": "load up"}


def claims(**own: dict[str, Any]) -> Claims:
    return Claims.model_validate({"sets": [], "own": own})


def judged(
    evidence: list[ScoreEvidence], chosen: Claims, loci: Any = (), **more: Any
) -> dict[str, Verdict]:
    """Own claim → the row of what it states."""
    wanted = ClaimsSettings(**({"draws": 300, "pairs": FACTS, "claims": chosen} | more))
    rows = judge_evidence(evidence, list(loci), wanted, "no answers")
    return {row.claim: row for row in rows if row.level == "claim" and row.stated}


def gated(carrier: str = "gate", seeds: tuple[int, ...] = MANY, seed: int = 1) -> ScoreEvidence:
    """Six replicates in which one projection alone has an effect."""
    mine = cells(seeds=seeds)
    answers = answered(mine, lambda cell: skilled(cell, carrier), seed=seed, tasks=4)
    return bootstrap_scores(mine, answers, {}, ClaimsSettings(draws=300, pairs=FACTS))


def replicated(
    right: Any, pairs: tuple[str, ...] = ("felt",), n: int = 120, seed: int = 0
) -> ScoreEvidence:
    """Six replicates of some pairs: bases, loads of single modules, tunings of equal size."""
    mine = [Cell("base", "b", seed=one) for one in MANY]
    mine += [
        Cell("load", "b", pair, name, seed=s) for pair in pairs for name in SINGLES for s in MANY
    ]
    mine += [
        Cell("tune", "b", pair, name, "fair", seed=s)
        for pair in pairs
        for name in SINGLES
        for s in MANY
    ]
    answers = answered(mine, right, n, seed, tasks=4)
    return bootstrap_scores(mine, answers, {}, ClaimsSettings(draws=300, pairs=FACTS))


GATED = gated()


def test_five_lines_are_a_claim() -> None:
    text = """
    attention-first:
      text: attention loaded with gate is above attention loaded with down
      kind: above
      what: load q+k+v+o+gate
      than: load q+k+v+o+down
    """
    row = judged([GATED], claims(**yaml.safe_load(text)))["attention-first"]
    assert (row.verdict, row.claim_set, row.pair) == ("supported", "own", "felt")
    assert row.text == "attention loaded with gate is above attention loaded with down"
    assert len(row.claim_sha256) == 64
    assert row.why.startswith("load q+k+v+o+gate ")


TRUE = {
    "leads": {"kind": "leads", "what": "tune gate", "over": "singles"},
    "by-rank": {"kind": "leads", "what": "tune gate", "over": ["up", "down"], "by": "rank"},
    "across-arms": {"kind": "above", "what": "load gate", "than": ["base", "tune up"]},
    "equal": {"kind": "equal", "what": "tune gate", "to": "tune all", "margin": 8},
    "average": {
        "kind": "equal", "what": "load up", "to": ["load q", "load k"], "average": True,
        "margin": 12,
    },
    "keeps": {"kind": "keeps", "what": "tune gate", "of": "tune all", "share": 0.9},
    "costs": {"kind": "costs_most", "what": "gate", "over": ["up", "down"]},
    "tasks": {"kind": "above", "what": "tune gate", "than": "tune up", "tasks": ["t1", "t2"]},
}  # fmt: skip
FALSE = {
    "leads": {"kind": "leads", "what": "tune up", "over": "singles"},
    "by-rank": {"kind": "leads", "what": "tune up", "over": ["gate", "down"], "by": "rank"},
    "above": {"kind": "above", "what": "tune up", "than": "tune gate"},
    "equal": {"kind": "equal", "what": "tune gate", "to": "tune up"},
    "average": {"kind": "equal", "what": "tune gate", "to": ["tune up", "tune q"], "average": True},
    "keeps": {"kind": "keeps", "what": "tune up", "of": "tune all", "share": 0.9},
    "costs": {"kind": "costs_most", "what": "up", "over": ["gate", "down"]},
}


def test_planted_effects_are_found_by_every_kind_on_scores() -> None:
    true, false = judged([GATED], claims(**TRUE)), judged([GATED], claims(**FALSE))
    assert {name: row.verdict for name, row in true.items()} == dict.fromkeys(TRUE, "supported")
    assert {name: row.verdict for name, row in false.items()} == dict.fromkeys(
        FALSE, "contradicted"
    )
    assert true["tasks"].n == 240
    assert true["across-arms"].why.startswith("2 of 2 supported")
    assert false["equal"].effect < -20  # the margin minus the difference


def test_a_null_is_decided_by_no_kind_in_95_of_100_seeds() -> None:
    """Cells differ at random, tunings too; equality is not among these, because it is true."""
    chosen = claims(
        leads=TRUE["leads"], ranks=TRUE["by-rank"], above=FALSE["above"], costs=TRUE["costs"]
    )  # fmt: skip
    decided = 0
    for seed in range(100):
        luck = np.random.default_rng([3, seed])
        mine = tuned_here((0, 1, 2))
        answers = answered(
            mine, lambda cell, r=luck: 0.5 + 0.03 * r.standard_normal() * (cell.kind != "base"),
            100, seed, tasks=2,
        )  # fmt: skip
        found = judged([bootstrap_scores(mine, answers, {}, ClaimsSettings(draws=100))], chosen)
        decided += any(row.verdict in ("supported", "contradicted") for row in found.values())
    assert decided <= 5


@pytest.mark.parametrize(("sign", "verdict"), [(1, "supported"), (-1, "contradicted")])
def test_scores_rank_as_the_changes_do(sign: int, verdict: str) -> None:
    order = {name: place for place, name in enumerate(SINGLES)}

    def right(cell: Cell) -> float:
        return 0.4 + 0.07 * order[cell.modules] if cell.modules else 0.3

    facts = {f"felt{n}": PairFacts(base="b", group="felt", seed=n, own_base=True) for n in MANY}
    sizes = {name: 1 + 0.5 * (place if sign > 0 else 7 - place) for name, place in order.items()}
    tables = {f"felt{n}": deltas(seed=n, layers=3, **sizes) for n in MANY}
    loci = gather_loci(tables, {}, ClaimsSettings(pairs=facts))
    chosen = claims(
        same={"kind": "ranks", "arm": "load", "over": "singles", "like": "l2"},
        norms={"kind": "ranks", "arm": "load", "over": "singles", "like": "feature_norm"},
        fair={"kind": "ranks", "arm": "tune fair", "over": ["q", "gate", "up"], "like": "rms"},
    )
    found = judged([replicated(right, n=300)], chosen, loci, pairs=facts | FACTS)
    assert found["same"].verdict == verdict
    assert found["same"].effect == pytest.approx(sign, abs=0.15)
    assert found["same"].unit == "rank correlation"
    assert found["norms"].verdict == "untestable"
    assert found["norms"].why == "feature_norm of felt was not measured; set matrix.forecast"


@pytest.mark.parametrize(("more", "verdict"), [(0.2, "supported"), (-0.2, "contradicted")])
def test_a_difference_in_one_domain_minus_that_in_another(more: float, verdict: str) -> None:
    def right(cell: Cell) -> float:
        return 0.5 + more * (cell.pair == "felt" and cell.modules == "gate")

    keys = {"kind": "interaction", "what": "load gate", "than": "load up"}
    evidence = replicated(right, ("felt", "sums"))
    row = judged([evidence], claims(mine=keys))["mine"]
    assert row.verdict == verdict, row.why
    assert row.effect == pytest.approx(100 * more, abs=6)
    assert row.part == "against sums"
    alone = judged([replicated(right)], claims(mine=keys))["mine"]
    assert alone.verdict == "untestable"
    assert alone.why == "no control pair with cells load gate and load up"


def test_domains_with_other_tasks_are_compared() -> None:
    keys = {"kind": "interaction", "what": "load gate", "than": "load up"}
    felt = replicated(lambda cell: 0.5 + 0.3 * (cell.modules == "gate"))
    sums = replicated(lambda _: 0.5, ("sums",), seed=9)
    row = judged([felt, sums], claims(mine=keys))["mine"]
    assert row.verdict == "supported"
    assert row.n == felt.n + sums.n


def test_a_claim_about_controls_is_tested_on_controls() -> None:
    evidence = replicated(
        lambda c: 0.5 + 0.3 * (c.modules == "o" and c.pair == "sums"), ("felt", "sums")
    )
    keys = {"kind": "leads", "what": "load o", "over": "singles", "domain": "control"}
    wanted = ClaimsSettings(draws=300, pairs=FACTS, claims=claims(mine=keys))
    rows = [row for row in judge_evidence([evidence], [], wanted) if row.level == "claim"]
    assert [(row.pair, row.stated, row.verdict) for row in rows[:1]] == [
        ("sums", True, "supported")
    ]
    assert [(row.pair, row.by) for row in rows[1:]] == [("felt", "weighted_f1 of an affective")]
    felt = judged([replicated(lambda _: 0.5)], claims(mine=keys))["mine"]
    assert felt.verdict == "untestable"
    assert "no cells of a pair of domain control" in felt.why


def test_a_missing_cell_is_untestable_and_why_says_what_to_add() -> None:
    own = {
        "dose": {"kind": "above", "what": "load gate x2", "than": "load gate"},
        "fair": {"kind": "above", "what": "tune gate+up+down fair", "than": "tune q fair"},
        "modes": {"kind": "costs_most", "what": "gate+up+down", "over": ["gate"]},
        "task": {**ABOVE, "tasks": ["t9"]},
    }
    found = judged([GATED], claims(**own))
    assert {row.verdict for row in found.values()} == {"untestable"}
    assert found["dose"].why == "not run: add gate to matrix.dose.modules"
    assert found["fair"].why.endswith("add gate+up+down, q to matrix.fair")
    assert found["modes"].why.endswith("; add gate+up+down to matrix.ablate")
    assert found["task"].why == "no answers to task t9; there are t0, t1, t2, t3"


def test_own_claims_change_no_verdict_on_the_papers() -> None:
    rows = {}
    for name, chosen in (
        ("alone", Claims()),
        ("with", Claims.model_validate({"sets": list(SHIPPED), "own": {"mine": ABOVE}})),
    ):
        wanted = ClaimsSettings(draws=300, pairs=FACTS, claims=chosen)
        rows[name] = [
            vars(row)
            for row in judge_evidence([GATED], [], wanted)
            if row.claim_set == "opening-the-black-box"
        ]
    pd.testing.assert_frame_equal(pd.DataFrame(rows["alone"]), pd.DataFrame(rows["with"]))


def test_a_single_own_claim_has_the_papers_contrasts_in_its_prior() -> None:
    mine = tuned_here((0, 1, 2))
    luck = np.random.default_rng(1)
    answers = answered(mine, lambda cell: skilled(cell, "gate") - 0.1 * luck.random(), tasks=4)
    evidence = bootstrap_scores(mine, answers, {}, ClaimsSettings(draws=300, pairs=FACTS))
    row = judged([evidence], claims(mine={**ABOVE, "than": "load q+k+v+o"}))["mine"]
    assert row.variance == "replicates, moderated"
    assert row.p == row.p_bh == row.p_holm


def test_the_digest_changes_with_anything_that_a_claim_says() -> None:
    def digest(margin: float = 3.0, **keys: Any) -> str:
        return claim_sha256(claims(mine=ABOVE | keys).own["mine"], margin)

    assert digest() == digest(than=["load up"]) == digest(domain="affective")
    # The margin of score counts, unless the claim has its own.
    assert digest() != digest(margin=2.0)
    others = [
        {"text": "t"},
        {"source": "s"},
        {"than": "load q"},
        {"margin": 2},
        {"pairs": ["felt"]},
    ]
    assert len({digest(), *(digest(**keys) for keys in others)}) == 6


def test_the_registry_has_every_kind_and_each_has_a_sentence() -> None:
    assert list(kinds.KINDS) == list(claim_kinds.KINDS)
    assert all(kinds.KINDS[name].schema is schema for name, schema in claim_kinds.KINDS.items())
    for name in SHIPPED:
        for claim in shipped(name).claims.values():
            assert claim.text
            for statement in statements_of(claim):
                assert "{" not in sentence(statement)
    assert sentence(claims(mine=ABOVE).own["mine"]) == "load gate has a higher score than load up"


def test_a_cell_is_written_as_in_the_tables() -> None:
    assert parse_cell("tune  gate+o fair") == ("tune", "o+gate", "fair")
    assert parse_cell("base") == ("base", "", "")
    mine = claims(mine={**ABOVE, "what": "load gate+q"}).own["mine"]
    assert isinstance(mine, Above)
    assert mine.what == "load q+gate"


PARAMETERS = {
    "corpus": {"seed": 0},
    "bases": {"b": {"pretrain": {"architecture": "qwen2"}}},
    "pairs": {"p": {"base": "b", "tuning": {"data": ["mini-caption"], "steps": 7}}},
    "tasks": {
        "mini-caption": {"corpus": True, "columns": {"target": "target"}},
        "mini-MOSI": {
            "corpus": True, "columns": {"label": "label"}, "labels": ["positive", "negative"],
        },
    },
    "matrix": {"pairs": ["p"], "load": ["gate"], "tune": [], "ablate": []},
}  # fmt: skip


@pytest.mark.parametrize(
    ("section", "code", "fields"),
    [
        ({"sets": ["rival"]}, "params.unknown-name", {"key": "claims.sets.0", "found": "rival"}),
        ({"sets": []}, "claim.none", {"key": "claims"}),
        ({"own": {"m": {"what": "load q"}}}, "claim.no-kind", {"key": "claims.own.m"}),
        (
            {"own": {"m": ABOVE | {"kind": "better"}}},
            "params.unknown-name",
            {"key": "claims.own.m", "found": "better"},
        ),
        (
            {"own": {"m": ABOVE | {"what": "load gaet"}}},
            "modules.unknown-projection",
            {"key": "claims.own.m.what", "found": "gaet"},
        ),
        (
            {"own": {"m": ABOVE | {"what": "laod gate"}}},
            "cell.unknown-kind",
            {"key": "claims.own.m.what", "found": "laod"},
        ),
        (
            {"own": {"m": ABOVE | {"than": "load q fair"}}},
            "cell.wrong-mode",
            {"key": "claims.own.m.than.0", "found": "fair"},
        ),
        (
            {"own": {"m": ABOVE | {"what": "load gate x2 now"}}},
            "claim.not-a-cell",
            {"key": "claims.own.m.what"},
        ),
        ({"own": {"m": ABOVE | {"over": "q"}}}, "params.unknown-key", {"key": "claims.own.m.over"}),
        ({"own": {"m": {"kind": "above"}}}, "params.missing-key", {"key": "claims.own.m.what"}),
        ({"own": {"C5": ABOVE}}, "claim.named-like-a-shipped-one", {"found": "C5"}),
        ({"own": {"m": ABOVE | {"stated": False}}}, "claim.states-nothing", {"found": "m"}),
        (
            {"own": {"m": {"kind": "holds_across", "claim": "n", "methods": ["lora"]}}},
            "claim.unknown-claim",
            {"found": "n"},
        ),
        (
            {"own": {"m": {"kind": "all", "statements": [ABOVE | {"text": "t"}]}}},
            "claim.text-of-a-part",
            {"key": "claims.own.m"},
        ),
        ({"own": {"m": ABOVE | {"than": "load gate"}}}, "claim.compared-with-itself", {}),
        (
            {"own": {"m": {"kind": "leads", "what": "load q", "over": "q"}}},
            "claim.no-rival",
            {"key": "claims.own.m", "found": "q"},
        ),
        (
            {"own": {"m": {"kind": "leads", "what": "base", "over": "q"}}},
            "claim.no-modules",
            {"key": "claims.own.m"},
        ),
        (
            {
                "own": {
                    "m": {"kind": "costs_most", "what": "q", "over": "k", "additional_modes": ["z"]}
                }
            },
            "params.unknown-name",
            {"key": "claims.own.m.additional_modes.0", "found": "z"},
        ),
        (
            {"own": {"m": ABOVE | {"tasks": ["mini-MELD"]}}},
            "params.unknown-name",
            {"key": "claims.own.m.tasks", "found": "mini-MELD"},
        ),
        (
            {"own": {"m": ABOVE | {"pairs": ["q"]}}},
            "params.unknown-name",
            {"key": "claims.own.m.pairs", "found": "q"},
        ),
    ],
)
def test_wrong_claims_are_refused(
    tmp_path: Path, section: dict[str, Any], code: str, fields: dict[str, Any]
) -> None:
    with refused(code, **fields):
        validate({**PARAMETERS, "claims": section}, tmp_path)


def test_the_list_names_text_source_digest_and_missing_cells(tmp_path: Path) -> None:
    file = tmp_path / "params.yaml"
    section = {"sets": ["rivals"], "own": {"mine": ABOVE | {"source": "a note"}}}
    file.write_text(yaml.safe_dump({**PARAMETERS, "claims": section}))
    done = CliRunner().invoke(
        app, ["claims", "--list", str(file), "--json"], catch_exceptions=False
    )
    rows = {row["claim"]: row for row in json.loads(done.output)["claims"]}
    assert rows["mine"] == {
        "set": "own",
        "claim": "mine",
        "kind": "above",
        "text": "load gate has a higher score than load up",
        "source": "a note",
        "claim_sha256": claim_sha256(claims(mine=section["own"]["mine"]).own["mine"], 3.0),
        "missing_cells": ["load up"],
    }
    assert rows["R3"]["missing_cells"] == ["tune all", "tune q+k+v+o"]
    shown = CliRunner().invoke(app, ["claims", "--list", str(file)], catch_exceptions=False).output
    assert "claims: rivals" in shown
    assert "arXiv 2505.20993" in shown
    with refused("option.no-effect"):
        CliRunner().invoke(
            app, ["claims", "x.parquet", "--list", str(file)], catch_exceptions=False
        )
