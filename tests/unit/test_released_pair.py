"""Released files of trained tensors as tuned checkpoints: measured, loaded, ablated, and asked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import layouts
import pandas as pd
import pytest
import torch
from command import in_process as run
from layouts import HEARD, SEEN, Tensors
from refusal import refused

from affectlocus.checkpoints.adapters import Adapter
from affectlocus.checkpoints.convert import convert
from affectlocus.checkpoints.released_files import bridges_of
from affectlocus.config.evaluation import Evaluate
from affectlocus.config.experiment import Parameters, validate
from affectlocus.config.hardware import Hardware
from affectlocus.core.cells import Cell
from affectlocus.data.prepared_task import PreparedTask
from affectlocus.evaluation.evaluate import NO_CACHE
from affectlocus.evaluation.session import Session
from affectlocus.orchestration.preflight import check_pairs

SEVEN = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
LABELS = ["sad", "happy"]
AFFECTGPT = Evaluate.model_validate(
    {
        "readouts": {"told": "generation"},
        "generation": {"template": "affectgpt", "max_new_tokens": 24},
        "max_length": 512,
    }
)


class Given:
    """The features of a medium."""

    def __init__(self, tokens: int, width: int, seed: int) -> None:
        random = torch.Generator().manual_seed(seed)
        self._values = torch.randn(4, tokens, width, generator=random)
        self.width = width

    def of(self, sample: str) -> torch.Tensor:
        return self._values[int(sample)]


def task(name: str, prompt: str, media: tuple[str, ...]) -> PreparedTask:
    frame = pd.DataFrame(
        {
            "id": list("0123"),
            "split": "test",
            "text": "Ben was sad.",
            "prompt": prompt,
            "answer": LABELS * 2,
            **{f"media.{medium}": [f"{number}.npy" for number in range(4)] for medium in media},
        }
    )
    return PreparedTask(name, list(LABELS), frame)


def untrained(model: Tensors) -> None:
    for name, value in model.items():
        if "lora_B" in name:
            value.zero_()


def released(lora, base: Path, folder: Path, targets: list[str], parts: Any) -> tuple[Path, Path]:
    """The file of a training's end and that of its start."""
    adapter = lora(base, targets, r=3, lora_alpha=6)
    config = {"lora_alpha": 6}
    end = layouts.trained_only(adapter, folder / "checkpoint_000030.pth", config, parts)
    start = folder / "checkpoint_000000.pth"
    layouts.trained_only(adapter, start, config, parts, untrained, seed=7)
    return end, start


@pytest.fixture(scope="module")
def affectgpt(checkpoint, lora, tmp_path_factory) -> Iterator[tuple[Path, Path, Path, Session]]:
    base = checkpoint("qwen2", max_position_embeddings=512)
    folder = tmp_path_factory.mktemp("affectgpt")
    end, start = released(lora, base, folder, SEVEN, layouts.affectgpt_parts)
    media = {"face": Given(8, SEEN, 1), "audio": Given(8, HEARD, 2)}
    tasks = [
        task("chosen", "<multi><audio><face> Ben was", ("face", "audio")),
        task("told", "", ("face", "audio")),
    ]
    session = Session(
        [base], tasks, AFFECTGPT, Hardware(), dict.fromkeys(("chosen", "told"), media)
    )
    return base, end, start, session


def cell(kind: str, modules: str = "", mode: str = "", bridge: str = "tuned", media: str = ""):
    return Cell(kind, "b", "p", modules, mode, None, bridge=bridge, media=media)  # type: ignore[arg-type]


def answers(session: Session, one: Cell, tuned: Path, initial: Path | None = None):
    found, counts = session.answer(one, tuned, {}, NO_CACHE, lambda _: None, initial)
    return found.rows, counts


def test_the_file_s_deltas_are_measured_and_gate_is_among_them(affectgpt, tmp_path) -> None:
    base, end, _, _ = affectgpt
    done = run(tmp_path, "diff", base, end, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["projections"]
    assert set(found) == {"q", "k", "v", "o", "gate", "up", "down"}
    assert all(row["l2"] > 0 for row in found.values())


def test_base_and_all_and_the_file_s_bridge_are_the_tuned_model(affectgpt) -> None:
    _, end, start, session = affectgpt
    load, counts = answers(session, cell("load", "all"), end, start)
    whole, _ = answers(session, cell("tuned"), end, start)
    assert load.equals(whole)
    assert counts["bridge_tensors"] == counts["bridge_changed"] == 18


def test_the_untrained_file_is_the_base_with_its_random_bridge(affectgpt) -> None:
    """The released code calls this state zero-shot."""
    _, end, start, session = affectgpt
    zero_shot, _ = answers(session, cell("tuned"), start)
    alone, counts = answers(session, cell("load", "bridge", bridge="initial"), end, start)
    assert zero_shot.equals(alone)
    assert counts["bridge_changed"] == 0
    tuned_alone, _ = answers(session, cell("load", "bridge"), end, start)
    assert not zero_shot.equals(tuned_alone)


def test_the_file_and_what_convert_makes_of_it_answer_alike(affectgpt, tmp_path) -> None:
    _, end, start, session = affectgpt
    convert(Adapter(end), tmp_path / "split", None, bridges_of(end, initial=start))
    for one in (
        cell("load", "gate"),
        cell("load", "q+k", bridge="initial"),
        cell("ablate", "gate", "revert"),
        cell("ablate", "bridge", "revert"),
        cell("tuned", media="zero-face"),
    ):
        direct, _ = answers(session, one, end, start)
        split, _ = answers(session, one, tmp_path / "split")
        assert direct.equals(split), one.id


def test_cells_differ_in_modules_bridge_and_media(affectgpt) -> None:
    _, end, start, session = affectgpt
    cells = [
        cell("tuned"),
        cell("load", "gate"),
        cell("load", "gate", bridge="initial"),
        cell("load", "gate", bridge="none"),
        cell("ablate", "gate", "revert"),
        cell("tuned", media="shuffled"),
        cell("tuned", media="zero-audio"),
    ]
    found = [answers(session, one, end, start)[0] for one in cells]
    for number, rows in enumerate(found):
        assert not any(rows.equals(other) for other in found[:number]), cells[number].id


def test_free_text_is_asked_for_with_affectgpt_s_prompt_and_its_soft_tokens(affectgpt) -> None:
    _, end, start, session = affectgpt

    def told(one: Cell) -> list[str]:
        rows, _ = answers(session, one, end, start)
        return rows.loc[rows["task"] == "told", "text"].tolist()

    texts = told(cell("tuned"))
    assert len(texts) == 4
    asked = session._asked(session._prompter, {"multi": 1, "audio": 1, "face": 1})[1]
    assert all([one for one in ids if one < 0] == [-1, -2, -3] for ids in asked.prompts)
    others = [
        cell("tuned", media="zero-face"),
        cell("tuned", media="zero-audio"),
        cell("tuned", bridge="initial"),
        cell("tuned", bridge="none"),
    ]
    assert any(told(one) != texts for one in others)


def test_a_renamed_tensor_stops_the_cell(affectgpt, lora, tmp_path) -> None:
    base, _, _, session = affectgpt

    def change(model: Tensors) -> None:
        model["fc_attention.weight"] = model.pop("fc_att.weight")

    adapter = lora(base, SEVEN, r=3, lora_alpha=6)
    file = layouts.trained_only(adapter, tmp_path / "a.pth", {"lora_alpha": 6}, change=change)
    with refused("bridge.other-tensors", file=file):
        answers(session, cell("tuned"), file)


def test_emotion_llama_answers_and_its_gate_changes_nothing(checkpoint, lora, tmp_path) -> None:
    base = checkpoint("llama", max_position_embeddings=1024)
    parts = layouts.emotion_llama_parts
    end, start = released(lora, base, tmp_path, ["q_proj", "v_proj"], parts)
    media = {"eva": Given(1 + 4 * 256, SEEN, 1)}
    media |= {name: Given(1, HEARD, n) for n, name in enumerate(("facemae", "videomae", "hubert"))}
    asked = task("chosen", "<video><image></video> <features> Ben was", tuple(media))
    session = Session([base], [asked], Evaluate(max_length=512), Hardware(), {"chosen": media})
    whole, _ = answers(session, cell("tuned"), end, start)
    load, _ = answers(session, cell("load", "q+v"), end, start)
    assert load.equals(whole)
    gate, _ = answers(session, cell("load", "gate"), end, start)
    alone, _ = answers(session, cell("load", "bridge"), end, start)
    assert gate.equals(alone)
    done = run(tmp_path, "diff", base, end, "--json")
    assert json.loads(done.stdout)["projections"]["gate"]["adapted"] is False


def test_a_run_checks_the_released_file_before_its_first_job(affectgpt, lora, tmp_path) -> None:
    base, end, start, _ = affectgpt
    config: dict[str, Any] = {
        "bases": {"small": {"folder": str(base)}},
        "bridges": {"fused": {"kind": "affectgpt", "tokens": {"multi": 1, "audio": 1, "face": 1}}},
        "pairs": {
            "felt": {
                "base": "small",
                "tuned": str(end),
                "initial": str(start),
                "bridge": "fused",
                "reading": {"alpha": 6},
            }
        },
        "media": {"face": {"kind": "features"}, "audio": {"kind": "features"}},
        "tasks": {
            "moods": {
                "files": {"test": "t.csv"},
                "columns": {"label": "label"},
                "labels": ["joy", "fear"],
                "media": {"face": "{text}.npy", "audio": "{text}.wav.npy"},
                "prompt": "<multi><audio><face> {text}",
            }
        },
        "matrix": {"pairs": ["felt"], "tune": []},
    }
    check_pairs(Parameters.model_validate(config), tmp_path)
    # The start of the training may be a folder of its own too.
    convert(Adapter(start), tmp_path / "start", None, bridges_of(start))
    config["pairs"]["felt"]["initial"] = str(tmp_path / "start")
    check_pairs(Parameters.model_validate(config), tmp_path)
    (tmp_path / "t.csv").write_text("text,label\na,joy\nb,fear\n")
    config["pairs"]["felt"]["initial"] = "gone.pth"
    with refused("pair.no-checkpoint", key="pairs.felt.initial"):
        validate(config, tmp_path)
    del config["pairs"]["felt"]["initial"]
    adapter = lora(base, SEVEN, r=3, lora_alpha=6)
    for change in (
        lambda model: model.pop("fc_att.bias"),
        lambda model: [model.pop(name) for name in list(model) if ".layers.1." in name],
    ):
        file = layouts.trained_only(adapter, tmp_path / "a.pth", {"lora_alpha": 6}, change=change)
        config["pairs"]["felt"]["tuned"] = str(file)
        with refused("bridge.other-tensors", pair="felt"):
            check_pairs(Parameters.model_validate(config), tmp_path)


def test_affectgpt_s_template_needs_no_placeholder_in_the_task(tmp_path) -> None:
    """Its own placeholders are in it; a task that a recipe reads needs them in its prompt."""
    for name in ("base/config.json", "end.pth", "t.csv", "train.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("text,label\na,joy\nb,fear\n")
    config: dict[str, Any] = {
        "bases": {"small": {"folder": "base"}},
        "bridges": {"fused": {"kind": "affectgpt", "tokens": {"multi": 1, "audio": 1, "face": 1}}},
        "pairs": {"felt": {"base": "small", "tuned": "end.pth", "bridge": "fused"}},
        "media": {"face": {"kind": "features"}, "audio": {"kind": "features"}},
        "tasks": {
            "moods": {
                "files": {"train": "train.csv", "test": "t.csv"},
                "columns": {"label": "label"},
                "labels": ["joy", "fear"],
                "media": {"face": "{text}.npy", "audio": "{text}.wav.npy"},
            }
        },
        "matrix": {"pairs": ["felt"], "tune": []},
        "evaluate": {"readout": "generation", "generation": {"template": "affectgpt"}},
    }
    validate(config, tmp_path)
    with refused("prompt.no-placeholder"):
        validate(config | {"evaluate": {"readout": "generation"}}, tmp_path)
    config["matrix"]["tune"] = ["gate"]
    with refused("prompt.no-placeholder"):
        validate(config | {"tune": {"data": ["moods"]}}, tmp_path)
