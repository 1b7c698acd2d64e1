"""What cells have outside the seven projections, from their verification.json."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from refusal import refused

from affectlocus.reporting.outside_changes import UNRECORDED, OutsideChange, outside_changes


def verified(results: Path, cell: str, outside_is: str, outside_tuned: list[str]) -> Path:
    """Writes a cell's verification.json."""
    path = results / "cells" / cell / "verification.json"
    path.parent.mkdir(parents=True)
    record = {"cell": cell, "outside_is": outside_is, "outside_tuned": outside_tuned}
    path.write_text(json.dumps(record))
    return path


def test_a_pair_has_its_changed_modules_and_whose_tensors_each_kind_of_cell_has(
    tmp_path: Path,
) -> None:
    verified(tmp_path, "p/load/gate", "base", ["lm_head"])
    verified(tmp_path, "p/tuned", "tuned", ["lm_head"])
    verified(tmp_path, "p/ablate/gate/noise/draw0", "tuned", ["embed_tokens", "lm_head"])
    verified(tmp_path, "p/tune/gate/seed0", "tuned", [])
    verified(tmp_path, "q/load/gate", "base", [])
    assert outside_changes(tmp_path, ["q", "p", "without-cells"]) == [
        OutsideChange("q", [], {"load": "base"}),
        OutsideChange(
            "p",
            ["embed_tokens", "lm_head"],
            {"load": "base", "tuned": "tuned", "ablate": "tuned", "tune": "base"},
        ),
    ]


def test_bases_and_cells_of_other_experiments_do_not_count(tmp_path: Path) -> None:
    base = tmp_path / "cells/b/base/verification.json"
    base.parent.mkdir(parents=True)
    base.write_text('{"cell": "b/base"}')
    verified(tmp_path, "p/load/gate", "base", ["lm_head"])
    verified(tmp_path, "p/load/up", "base", ["lm_head", "embed_tokens"])
    verified(tmp_path, "old/load/gate", "base", ["norm"])
    (change,) = outside_changes(tmp_path, ["p", "b"], {"p/load/gate", "b/base"})
    assert (change.pair, change.modules) == ("p", ["lm_head"])


def test_results_without_cells_have_no_changes(tmp_path: Path) -> None:
    assert outside_changes(tmp_path, ["p"]) == []


def test_cells_of_an_older_version_are_named_as_not_recorded(tmp_path: Path) -> None:
    path = verified(tmp_path, "p/load/gate", "base", [])
    path.write_text('{"cell": "p/load/gate", "inside": 1}')
    assert outside_changes(tmp_path, ["p"]) == [OutsideChange("p", [], {"load": UNRECORDED})]


@pytest.mark.parametrize(
    "text", ["[]", '{"outside_is": "both"}', '{"outside_is": "tuned", "outside_tuned": "norm"}']
)
def test_a_record_of_another_form_is_refused_by_name(tmp_path: Path, text: str) -> None:
    path = verified(tmp_path, "p/tuned", "tuned", [])
    path.write_text(text)
    with refused("result.not-a-verification", file=path):
        outside_changes(tmp_path, ["p"])
