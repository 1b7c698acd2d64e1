"""Which pairs stand side by side: told by what is known of them."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from affectlocus.config.experiment import Parameters
from affectlocus.orchestration.dag import Dag
from affectlocus.reporting.figure_panels import Panels

CONFIG = """
corpus: {}
bases:
  large: {pretrain: {architecture: qwen2, hidden_size: 96, layers: 4}}
  small: {pretrain: {architecture: qwen2, hidden_size: 48, layers: 2}}
  other: {pretrain: {architecture: mistral}}
pairs:
  felt: {base: large, tuning: &recipe {data: [mini-caption]}}
  felt-small: {base: small, tuning: *recipe}
  felt-full: {base: large, tuning: {data: [mini-caption], method: sft}}
  felt-other: {base: other, tuning: *recipe}
  sums: {base: large, domain: control, tuning: {data: [mini-sums]}}
  plot: {base: large, domain: control, tuning: {data: [mini-plot]}}
  longer: {base: large, domain: control, tuning: {data: [mini-sums], steps: 900}}
  shuffled: {base: large, domain: "null", tuning: {data: [mini-caption], shuffled: true}}
tasks:
  mini-caption: {corpus: true, columns: {target: target}}
  mini-MOSI: {corpus: true, columns: {label: label}, labels: [positive, negative]}
matrix: {pairs: [felt], load: [gate], tune: [], ablate: []}
"""


def chosen(**changes: Any) -> dict[str, Panels]:
    config = yaml.safe_load(CONFIG)
    config["pairs"] |= changes
    return Dag(Parameters.model_validate(config)).figures.panels


def test_bases_of_one_architecture_stand_by_size_whatever_their_order() -> None:
    figure = chosen()["fig4_l2"]
    assert figure.grid == {"": {"small (width 48)": "felt-small", "large (width 96)": "felt"}}
    assert "2 sizes by LoRA" in figure.title


@pytest.mark.parametrize("change", [{"steps": 900}, {"data": ["mini-plot"]}, {"method": "sft"}])
def test_pairs_that_differ_in_more_than_size_do_not_stand_together(change) -> None:
    recipe = {"data": ["mini-caption"]} | change
    figures = chosen(**{"felt-small": {"base": "small", "tuning": recipe}})
    found = figures.get("fig4_l2")
    assert found is None or "felt" not in found.pairs


def test_an_affective_pair_stands_beside_the_controls_of_its_base_method_and_budget() -> None:
    figures = chosen()
    assert figures["fig5_control"].pairs == ["felt", "sums", "plot"]
    assert figures["fig5_control"].lines
    assert [name for name in figures if name.startswith("fig5")] == ["fig5_control"]


def test_a_second_affective_pair_with_controls_has_a_figure_named_after_it() -> None:
    figures = chosen(again={"base": "large", "tuning": {"data": ["mini-MOSI"]}})
    assert figures["fig5_control"].pairs == ["felt", "sums", "plot"]
    assert figures["fig5_control.again"].pairs == ["again", "sums", "plot"]


def test_architectures_are_columns_and_methods_rows_each_with_its_first_pair() -> None:
    assert chosen()["fig6_architectures"].grid == {
        "LoRA": {"qwen2": "felt", "mistral": "felt-other"},
        "full tuning": {"qwen2": "felt-full"},
    }


def test_one_pair_alone_gives_no_figure() -> None:
    config = yaml.safe_load(CONFIG)
    config["pairs"] = {"felt": config["pairs"]["felt"]}
    assert Dag(Parameters.model_validate(config)).figures.panels == {}


def test_brought_pairs_of_which_nothing_is_known_compare_on_one_base() -> None:
    config = yaml.safe_load(CONFIG)
    config["bases"]["theirs"] = {"folder": "models/Qwen-7B"}
    config["pairs"] = {
        name: {"base": "theirs", "tuned": name, "domain": domain}
        for name, domain in (("kind", "affective"), ("maths", "control"))
    }
    config["matrix"]["pairs"] = ["kind"]
    figures = Dag(Parameters.model_validate(config)).figures.panels
    assert list(figures) == ["fig5_control"]
    assert figures["fig5_control"].title.endswith("same base")
