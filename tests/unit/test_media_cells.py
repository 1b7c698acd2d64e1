"""Cells of pairs with a bridge, and that cells of text are what they were before."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
from pydantic import ValidationError

from affectlocus.config.cells import CellList
from affectlocus.config.experiment import Parameters
from affectlocus.config.matrix import Matrix
from affectlocus.config.references import broken_references
from affectlocus.config.tuning import Tuning
from affectlocus.core.cells import Cell, validated
from affectlocus.core.errors import InputError
from affectlocus.core.projections import parse_modules
from affectlocus.evaluation.place_draws import place_cells
from affectlocus.orchestration.dag import Dag
from affectlocus.orchestration.matrix import table_cells


def experiment(bridge="small", **matrix):
    recipe = {"data": ["moods"], "steps": 3}
    config = {
        "bases": {"b": {"folder": "b"}},
        "bridges": {"small": {"kind": "linear", "tokens": {"face": 1, "voice": 2}}},
        "pairs": {"p": {"base": "b", "tuning": recipe} | ({"bridge": bridge} if bridge else {})},
        "tasks": {
            "moods": {
                "files": {"train": "a", "test": "c"},
                "columns": {"label": "l"},
                "labels": ["joy", "fear"],
            }
        },
        "tune": recipe | {"steps": 4},
        "matrix": {
            "pairs": ["p"],
            "load": ["gate", "all"],
            "tune": ["gate"],
            "ablate": ["gate"],
            "modes": ["revert"],
        }
        | matrix,
    }
    return Parameters.model_validate(config)


def test_a_pair_with_a_bridge_has_the_cells_of_the_bridge_alone_and_the_controls():
    ids = list(Dag(experiment()).cells)
    assert ids == [
        "b/base",
        "p/tuned/seed0",
        "p/load/bridge/seed0",
        "p/load/bridge/bridge-initial/seed0",
        "p/load/gate/seed0",
        "p/load/all/seed0",
        "p/load/gate/bridge-initial/seed0",
        "p/load/all/bridge-initial/seed0",
        "p/load/gate/bridge-none/seed0",
        "p/load/all/bridge-none/seed0",
        "p/tuned/shuffled/seed0",
        "p/tuned/zero-face/seed0",
        "p/tuned/zero-voice/seed0",
        "p/tuned/bridge-none/seed0",
        "p/tune/bridge/seed0",
        "p/tune/gate/seed0",
        "p/ablate/bridge/revert/seed0",
        "p/ablate/gate/revert/seed0",
    ]


def test_a_pair_without_a_bridge_has_the_cells_of_text():
    ids = list(Dag(experiment(bridge=None)).cells)
    assert ids == [
        "b/base",
        "p/tuned/seed0",
        "p/load/gate/seed0",
        "p/load/all/seed0",
        "p/tune/gate/seed0",
        "p/ablate/gate/revert/seed0",
    ]


def test_the_tables_of_media_begin_with_the_base_and_the_bridge_alone():
    dag = Dag(experiment())
    cells = list(dag.cells.values())
    rows = {
        table: [cell.id.removesuffix("/seed0") for cell in table_cells(cells, *row)]
        for table, row in dag.table_rows.items()
    }
    alone = ["b/base", "p/load/bridge", "p/load/bridge/bridge-initial"]
    assert rows == {
        "table1": [*alone, "p/load/gate", "p/tuned"],
        "table1_initial": [
            *alone,
            "p/load/gate/bridge-initial",
            "p/load/all/bridge-initial",
            "p/tuned",
        ],
        "table1_none": [*alone, "p/load/gate/bridge-none", "p/load/all/bridge-none", "p/tuned"],
        "table2": ["b/base", "p/tune/bridge", "p/tune/gate", "p/tuned"],
        "table3": ["b/base", "p/ablate/bridge/revert", "p/ablate/gate/revert", "p/tuned"],
        "table_media": [
            *alone,
            "p/tuned/shuffled",
            "p/tuned/zero-face",
            "p/tuned/zero-voice",
            "p/tuned/bridge-none",
            "p/tuned",
        ],
    }
    assert "table1_initial" not in Dag(experiment(bridge=None)).table_rows


def test_matrix_bridge_and_media_controls_choose_the_cells():
    parameters = experiment(bridge="small", media_controls=["zeroed"])
    matrix = parameters.matrix.model_copy(update={"bridge": ["tuned"]})
    ids = Dag(parameters.model_copy(update={"matrix": matrix})).cells
    assert not any("bridge-" in name or "shuffled" in name for name in ids)
    assert "p/tuned/zero-face/seed0" in ids


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"bridge": "other"}, "params.unknown-name"),
        ({"load": ["bridge"]}, "matrix.bridge-listed"),
        ({"tune": ["gate", "bridge"]}, "matrix.bridge-listed"),
    ],
)
def test_an_impossible_bridge_is_refused(changed, code):
    assert code in [problem.code for problem in broken_references(experiment(**changed))]


def test_a_matrix_without_the_tuned_bridge_is_refused():
    with pytest.raises(ValidationError, match="expected tuned among them"):
        Matrix(pairs=["p"], bridge=["none"])


def test_a_cell_of_text_is_stored_without_fields_of_media():
    cell = Cell("load", "b", "p", "gate", "x0.5", 3)
    assert cell.fields == {
        "kind": "load",
        "base": "b",
        "pair": "p",
        "modules": "gate",
        "mode": "x0.5",
        "seed": 3,
        "draw": None,
    }
    written = json.loads(CellList.json_of([cell]))
    assert written == [
        {"kind": "load", "base": "b", "pair": "p", "modules": "gate", "mode": "x0.5", "seed": 3}
    ]


def test_a_cell_of_media_keeps_its_fields():
    cell = Cell("tuned", "b", "p", seed=1, bridge="tuned", media="zero-face")
    (fields,) = CellList.model_validate_json(CellList.json_of([cell])).root
    assert fields.of("b") == cell
    assert Cell(**cell.fields) == cell


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        (Cell("base", "b", bridge="tuned"), "load cell"),
        (Cell("load", "b", "p", "bridge"), "expected tuned or initial"),
        (Cell("tune", "b", "p", "gate", seed=0, bridge="initial"), "expected tuned"),
        (Cell("tuned", "b", "p", bridge="none", media="shuffled"), "without a bridge"),
        (Cell("tuned", "b", "p", bridge="tuned", media="zero-"), "expected shuffled or zero-NAME"),
        (Cell("tuned", "b", "p", bridge="late"), "expected tuned, initial, none"),  # type: ignore[arg-type]
    ],
)
def test_fields_of_media_that_do_not_fit_are_refused(cell, words):
    with pytest.raises(InputError, match=words):
        validated(cell)
    fitting = {"kind": "load", "bridge": "tuned", "media": "", "modules": "gate", "pair": "p"}
    assert validated(replace(cell, seed=None, **fitting))


def test_a_tuning_without_a_bridge_has_the_keys_it_had_before():
    assert "bridge" not in Tuning(data=["t"]).model_dump(mode="json")
    tokens = {"kind": "linear", "tokens": {"face": 1}}
    assert Tuning(data=["t"], bridge=tokens).model_dump()["bridge"]["tokens"] == {"face": 1}


def test_the_module_set_of_the_bridge_has_no_projection():
    found = parse_modules("bridge")
    assert str(found) == "bridge"
    assert not found.contains(0, "gate")
    with pytest.raises(InputError, match="unknown projection 'bridge'"):
        parse_modules("bridge+gate")


# The jobs


def media_experiment(**matrix):
    """As `experiment`, with the media of its task."""
    parameters = experiment(**matrix).model_dump(exclude_defaults=True)
    parameters["media"] = {
        "face": {"kind": "features"},
        "voice": {"kind": "features"},
    }
    parameters["tasks"]["moods"] |= {
        "media": {"face": "{id}.npy", "voice": "v/{id}.npy"},
        "prompt": "<face> <voice> {text}",
    }
    return Parameters.model_validate(parameters)


FEATURES = [f"results/features/moods/{medium}.safetensors" for medium in ("face", "voice")]


def test_the_jobs_of_media_read_the_features():
    dag = Dag(media_experiment())
    read = {name: dag.evaluate.together([cell]).features for name, cell in dag.cells.items()}
    without = {"b/base", "p/load/gate/bridge-none/seed0", "p/load/all/bridge-none/seed0"}
    without |= {"p/tuned/bridge-none/seed0"}
    assert {name for name, files in read.items() if files != FEATURES} == without
    assert all(read[name] == [] for name in without)
    for name in ("p.seed0", "p.tune.bridge.seed0", "p.tune.gate.seed0"):
        inputs = dag.tune.inputs(name)
        assert inputs.features == FEATURES
        assert inputs.indices == [
            f"results/features/moods/{one}.parquet" for one in ("face", "voice")
        ]
        assert json.loads(inputs.settings)["bridge"]["tokens"] == {"face": 1, "voice": 2}


def test_the_jobs_of_text_have_no_features_and_the_settings_they_had():
    dag = Dag(experiment(bridge=None))
    assert dag.tune.inputs("p.seed0").features == []
    recipe = dag.parameters.pairs["p"].tuning
    assert dag.tune.inputs("p.seed0").settings == json.dumps(recipe.model_dump(mode="json"))


def test_the_initial_bridge_of_a_brought_pair_is_an_input():
    parameters = media_experiment(tune=[]).model_dump(exclude_defaults=True)
    pair = parameters["pairs"]["p"]
    del pair["tuning"]
    parameters["pairs"]["p"] = pair | {"tuned": "a.pth", "initial": "start.pth"}
    dag = Dag(Parameters.model_validate(parameters))
    assert dag.brought == ["b", "p", "p.initial"]
    assert dag.source("p.initial").folder == "start.pth"
    cell = dag.cells["p/load/gate"]
    assert dag.evaluate.together([cell]).initial == ["results/checkpoints/p.initial.json"]


def test_random_places_of_a_pair_with_a_bridge_have_the_tuned_bridge():
    parameters = media_experiment(random_places={"modules": ["gate"], "draws": 19})
    assert list(broken_references(parameters)) == []
    jobs = Dag(parameters).places
    assert jobs.features(SimpleNamespace(tuned="p.seed0")) == FEATURES
    tuned = Cell("tuned", "b", "p", seed=0, bridge="tuned")
    cells = list(place_cells(tuned, parameters.matrix.random_places))
    assert len(cells) == jobs.cells()
    assert [one.modules for one in cells[:3]] == ["bridge", "", "gate"]
    assert {one.bridge for one in cells} == {"tuned"}


def native_experiment(kind="sound", **changed):
    """A pair of a multimodal model that hears the voice; brought, unless a key is changed."""
    parameters = media_experiment(tune=[]).model_dump(exclude_defaults=True)
    parameters["bridges"]["small"] = {"kind": "native", "tokens": {"voice": 1}}
    parameters["media"] = {"voice": {"kind": kind}}
    parameters["tasks"]["moods"] |= {"media": {"voice": "v/{id}.wav"}, "prompt": "<voice> {text}"}
    pair = parameters["pairs"]["p"]
    if not changed:
        del pair["tuning"]
        pair["tuned"] = "tuned"
    if "start" in changed:
        pair["tuning"]["start"] = changed["start"]
    if "forecast" in changed:
        parameters["matrix"]["forecast"] = changed["forecast"]
    if "spoken" in changed:
        parameters["evaluate"] = {"readouts": {"moods": "generation"}}
    return Parameters.model_validate(parameters)


def test_a_multimodal_model_reads_decoded_media():
    assert list(broken_references(native_experiment())) == []
    found = [one.code for one in broken_references(native_experiment("features"))]
    assert found == ["bridge.other-media"]
    assert list(broken_references(native_experiment(tuning=True))) == []
    found = [one.code for one in broken_references(native_experiment(start="<s>"))]
    assert found == ["tuning.native-start"]
    brought = native_experiment().model_dump(exclude_defaults=True)
    brought["pairs"]["p"]["initial"] = "before"
    found = [one.code for one in broken_references(Parameters.model_validate(brought))]
    assert found == ["pair.native-initial"]
    found = [one.code for one in broken_references(native_experiment(forecast=8))]
    assert found == ["matrix.native-forecast"]
    found = [one.code for one in broken_references(native_experiment(spoken=True))]
    assert found == ["native.no-free-text"]


def test_other_bridges_read_no_decoded_media():
    parameters = media_experiment().model_dump(exclude_defaults=True)
    parameters["media"]["voice"] = {"kind": "sound"}
    found = [one.code for one in broken_references(Parameters.model_validate(parameters))]
    assert found == ["bridge.other-media"]


@pytest.mark.parametrize(
    ("task", "code"),
    [
        ({"media": {"face": "{id}.npy"}}, "task.no-medium"),
        ({"prompt": "{text}"}, "prompt.no-placeholder"),
        ({"media": {}}, "pair.no-media"),
    ],
)
def test_tasks_without_what_the_bridge_reads_are_refused(task, code):
    parameters = media_experiment().model_dump(exclude_defaults=True)
    parameters["tasks"]["moods"] |= task
    problems = list(broken_references(Parameters.model_validate(parameters)))
    assert {problem.code for problem in problems} == {code}
    assert list(broken_references(media_experiment())) == []


# Names in results


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        (Cell("load", "b", "p", "gate", "x0.5", bridge="tuned"), "x0.5"),
        (Cell("load", "b", "p", "gate", bridge="initial"), "initial bridge"),
        (Cell("tuned", "b", "p", bridge="none"), "no media"),
        (Cell("tuned", "b", "p", bridge="tuned", media="shuffled"), "shuffled media"),
        (Cell("tuned", "b", "p", bridge="tuned", media="zero-face"), "zero face"),
        (Cell("ablate", "b", "p", "gate", "revert"), "revert"),
    ],
)
def test_a_variant_names_the_bridge_and_the_media(cell, words):
    assert cell.variant == words
