"""Answers of multimodal models of transformers that read recordings or pictures themselves."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import native
import numpy as np
import pandas as pd
import pytest
import torch
from refusal import refused
from transformers import AutoModelForMultimodalLM, AutoProcessor

from affectlocus.checkpoints.native_models import NATIVE_MODELS
from affectlocus.config.bridges import BridgeConfig
from affectlocus.config.evaluation import Evaluate
from affectlocus.config.hardware import Hardware
from affectlocus.config.media import Medium
from affectlocus.core.cells import Cell
from affectlocus.data.prepared_task import PreparedTask
from affectlocus.evaluation.evaluate import NO_CACHE
from affectlocus.evaluation.session import Session
from affectlocus.lm.native_samples import NativeSamples, load_processor
from affectlocus.lm.sample_media import SampleMedia

LABELS = ["sad", "happy"]
HEARS = native.READERS["qwen2_audio"]


def task(reader: native.Reader) -> PreparedTask:
    rows = [
        {
            "id": f"s{number}",
            "split": "test",
            "text": "It rains.",
            "prompt": f"Look: <{reader.medium}> It rains. She is",
            "answer": LABELS[number % 2],
            f"media.{reader.medium}": f"s{number}",
        }
        for number in range(5)
    ]
    return PreparedTask("moods", LABELS, pd.DataFrame(rows))


@pytest.fixture(scope="module", params=native.READERS)
def reader(request) -> native.Reader:
    return native.READERS[request.param]


@pytest.fixture(scope="module")
def pair(reader, tmp_path_factory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("native")
    for seed, name in enumerate(("base", "tuned")):
        native.save(folder / name, reader.model_type, seed)
    return folder / "base", folder / "tuned"


@pytest.fixture(scope="module")
def asked(reader, pair) -> Session:
    media = {"moods": {reader.medium: reader.features}}
    return Session([pair[0]], [task(reader)], Evaluate(max_length=64), Hardware(), media)


def answers(session: Session, pair: tuple[Path, Path], cell: Cell) -> tuple[np.ndarray, dict]:
    tuned = pair[1] if cell.pair else None
    found, verified = session.answer(cell, tuned, {}, NO_CACHE, lambda _: None)
    return found.rows["loglik"].to_numpy(), verified


def cell(kind: str, modules: str = "", bridge: str = "tuned", **other: str) -> Cell:
    return replace(Cell(kind, "b", "p", modules), bridge=bridge, **other)  # type: ignore[arg-type]


def plain(reader, folder: Path, number: int, word: str, changed=lambda _: None) -> float:
    """The log-likelihood of a word after a sample, with transformers alone."""
    model = AutoModelForMultimodalLM.from_pretrained(folder).eval()
    changed(model)
    processor = AutoProcessor.from_pretrained(folder)
    row = task(reader).test.iloc[number]
    log, _ = native.answer_log(reader, model, processor, row["prompt"], row["id"], f" {word}")
    return log


def test_the_tuned_model_answers_as_transformers_does(reader, asked, pair) -> None:
    found, verified = answers(asked, pair, cell("tuned"))
    for number in range(5):
        for column, word in enumerate(LABELS):
            wanted = plain(reader, pair[1], number, word)
            assert found[2 * number + column] == pytest.approx(wanted, abs=1e-4)
    assert verified["bridge_tensors"] == verified["bridge_changed"] == 2


def test_base_and_bridge_is_the_base_with_the_tuned_projector(reader, asked, pair) -> None:
    found, verified = answers(asked, pair, cell("load", "bridge"))

    def projected(model) -> None:
        other = AutoModelForMultimodalLM.from_pretrained(pair[1])
        state = other.model.multi_modal_projector.state_dict()
        model.model.multi_modal_projector.load_state_dict(state)

    assert found[1] == pytest.approx(plain(reader, pair[0], 0, LABELS[1], projected), abs=1e-4)
    assert verified["outside_is"] == "base"
    initial, counts = answers(asked, pair, cell("load", "bridge", "initial"))
    assert initial[1] == pytest.approx(plain(reader, pair[0], 0, LABELS[1]), abs=1e-4)
    assert counts["bridge_changed"] == 0


def test_cells_leave_no_trace_in_the_next_one(asked, pair) -> None:
    first, _ = answers(asked, pair, Cell("base", "b"))
    load, _ = answers(asked, pair, cell("load", "gate"))
    answers(asked, pair, cell("tuned", bridge="initial"))
    answers(asked, pair, replace(cell("ablate", "bridge"), mode="noise", draw=0))
    again, _ = answers(asked, pair, cell("load", "gate"))
    assert np.array_equal(load, again)
    assert np.array_equal(first, answers(asked, pair, Cell("base", "b"))[0])
    assert not np.array_equal(load, first)


def test_a_cell_without_a_bridge_reads_the_text_alone(asked, pair) -> None:
    text, _ = answers(asked, pair, cell("tuned", bridge="none"))
    read, _ = answers(asked, pair, cell("tuned"))
    assert len(set(text[::2])) == 1  # the texts are the same
    assert len(set(read[::2])) == 5


def test_controls_of_media_change_what_is_read(reader, asked, pair) -> None:
    own, _ = answers(asked, pair, cell("tuned"))
    shuffled, _ = answers(asked, pair, cell("tuned", media="shuffled"))
    zero, _ = answers(asked, pair, cell("tuned", media=f"zero-{reader.medium}"))
    assert sorted(own[::2]) == pytest.approx(sorted(shuffled[::2]), abs=1e-6)
    assert not np.array_equal(own, shuffled)
    assert not np.array_equal(own, zero)


def values(reader, model, folder: Path, rows: list[int], candidates) -> torch.Tensor:
    """The log-likelihoods of candidates after some samples of the task."""
    samples = task(reader).test.iloc[rows]
    media = SampleMedia({reader.medium: reader.features}, samples["id"].tolist())
    own = NativeSamples(
        load_processor(folder),
        NATIVE_MODELS[reader.model_type],
        samples["prompt"].tolist(),
        [reader.medium],
        media,
    )
    return own.log_likelihoods(model, candidates)


def test_a_sample_does_not_depend_on_the_others(reader, pair) -> None:
    model = AutoModelForMultimodalLM.from_pretrained(pair[0]).eval()
    whole = values(reader, model, pair[0], [0, 1, 2, 3, 4], [[5], [6, 7]])
    some = values(reader, model, pair[0], [3, 1], [[5], [6, 7]])
    assert torch.equal(some, whole[[3, 1]])


def test_candidates_that_differ_in_their_last_token_alone_share_a_pass(reader, pair) -> None:
    model = AutoModelForMultimodalLM.from_pretrained(pair[0]).eval()
    passes: list[int] = []
    model.register_forward_hook(lambda *_: passes.append(1))
    candidates = [[5], [6, 7, 8], [9], [6, 7, 10], [6, 11]]
    together = values(reader, model, pair[0], [0, 1], candidates)
    shared = len({tuple(one[:-1]) for one in candidates})
    assert len(passes) == 2 * shared < 2 * len(candidates)
    for column, one in enumerate(candidates):
        alone = values(reader, model, pair[0], [0, 1], [one])
        assert together[:, column].tolist() == pytest.approx(alone[:, 0].tolist(), abs=1e-6)


def test_only_what_has_a_number_for_each_token_goes_on_with_a_candidate(tmp_path) -> None:
    """A mask of frames may be as long as the prompt."""
    native.save(tmp_path, HEARS.model_type)
    model = AutoModelForMultimodalLM.from_pretrained(tmp_path).eval()
    processor = AutoProcessor.from_pretrained(tmp_path)
    sound = SampleMedia({"voice": HEARS.features}, ["s3"])

    def samples(text: str) -> NativeSamples:
        own = NATIVE_MODELS[HEARS.model_type]
        return NativeSamples(processor, own, [text], ["voice"], sound)

    first = samples("<voice>").inputs(0)
    frames, tokens = (first[one].shape[1] for one in ("feature_attention_mask", "input_ids"))
    text = "<voice>" + "a" * (frames - tokens)
    assert samples(text).inputs(0)["input_ids"].shape[1] == frames
    assert torch.isfinite(samples(text).log_likelihoods(model, [[5, 6]])).all()


def test_a_medium_that_a_model_does_not_read_is_refused(reader) -> None:
    (other,) = (one for one in native.READERS.values() if one is not reader)
    media = SampleMedia({reader.medium: other.features}, ["s0"])
    own, text = NATIVE_MODELS[reader.model_type], f"<{reader.medium}> a"
    samples = NativeSamples(reader.processor(), own, [text], [reader.medium], media)
    with refused("native.no-such-medium"):
        samples.inputs(0)


def test_free_text_is_refused(reader, pair) -> None:
    told = Session([pair[0]], [task(reader)], Evaluate(readout="generation"), Hardware())
    with refused("native.no-free-text"):
        answers(told, pair, cell("tuned"))


def test_settings_of_native_media() -> None:
    assert BridgeConfig(kind="native", tokens={"voice": 1}).media == ["voice"]
    with pytest.raises(ValueError, match="kind native makes 1"):
        BridgeConfig(kind="native", tokens={"voice": 2})
    assert Medium(kind="sound").encoder is None
    with pytest.raises(ValueError, match="size is missing"):
        Medium(kind="pixels")
    with pytest.raises(ValueError, match="has no encoder"):
        Medium.model_validate({"kind": "sound", "encoder": "hubert"})


def test_a_model_without_a_processor_is_refused(tmp_path) -> None:
    native.save(tmp_path, HEARS.model_type)
    for name in ("processor_config.json", "preprocessor_config.json"):
        (tmp_path / name).unlink(missing_ok=True)
    HEARS.processor().tokenizer.save_pretrained(tmp_path)
    with refused("model.cannot-be-loaded"):
        load_processor(tmp_path)
