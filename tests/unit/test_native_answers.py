"""Answers of a multimodal model of transformers that reads recordings itself."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import native
import numpy as np
import pandas as pd
import pytest
import torch
from native import Pictures, Sounds
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
NATIVE = NATIVE_MODELS["qwen2_audio"]


def task() -> PreparedTask:
    rows = [
        {
            "id": f"s{number}",
            "split": "test",
            "text": "It rains.",
            "prompt": "Voice: <voice> It rains. She is",
            "answer": LABELS[number % 2],
            "media.voice": f"s{number}.wav",
        }
        for number in range(5)
    ]
    return PreparedTask("moods", LABELS, pd.DataFrame(rows))


@pytest.fixture(scope="module")
def pair(tmp_path_factory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("native")
    for seed, name in enumerate(("base", "tuned")):
        native.native_model("qwen2_audio", seed).save_pretrained(folder / name)
        native.audio_processor().save_pretrained(folder / name)
    return folder / "base", folder / "tuned"


@pytest.fixture(scope="module")
def asked(pair) -> Session:
    media = {"moods": {"voice": Sounds()}}
    return Session([pair[0]], [task()], Evaluate(max_length=64), Hardware(), media)


def answers(session: Session, pair: tuple[Path, Path], cell: Cell) -> tuple[np.ndarray, dict]:
    tuned = pair[1] if cell.pair else None
    found, verified = session.answer(cell, tuned, {}, NO_CACHE, lambda _: None)
    return found.rows["loglik"].to_numpy(), verified


def cell(kind: str, modules: str = "", bridge: str = "tuned", **other: str) -> Cell:
    return replace(Cell(kind, "b", "p", modules), bridge=bridge, **other)  # type: ignore[arg-type]


def plain(folder: Path, number: int, words: str, changed=lambda _: None) -> float:
    """The log-likelihood of a word after a sample, with transformers alone."""
    model = AutoModelForMultimodalLM.from_pretrained(folder).eval()
    changed(model)
    processor = AutoProcessor.from_pretrained(folder)
    prompt = "Voice: <|audio_bos|><|AUDIO|><|audio_eos|> It rains. She is"
    sound = Sounds().of(f"s{number}")[:, 0].numpy()
    both = [
        processor(text=[text], audio=[sound], sampling_rate=16_000, return_tensors="pt")
        for text in (prompt, f"{prompt} {words}")
    ]
    first = both[0]["input_ids"].shape[1]
    with torch.inference_mode():
        logs = model(**both[1]).logits[0, first - 1 : -1].log_softmax(-1)
    return float(logs.gather(1, both[1]["input_ids"][0, first:, None]).sum())


def test_the_tuned_model_answers_as_transformers_does(asked, pair) -> None:
    found, verified = answers(asked, pair, cell("tuned"))
    for number in range(5):
        for column, word in enumerate(LABELS):
            wanted = plain(pair[1], number, word)
            assert found[2 * number + column] == pytest.approx(wanted, abs=1e-4)
    assert verified["bridge_tensors"] == verified["bridge_changed"] == 2


def test_base_and_bridge_is_the_base_with_the_tuned_projector(asked, pair) -> None:
    found, verified = answers(asked, pair, cell("load", "bridge"))

    def projected(model) -> None:
        other = AutoModelForMultimodalLM.from_pretrained(pair[1])
        state = other.model.multi_modal_projector.state_dict()
        model.model.multi_modal_projector.load_state_dict(state)

    assert found[1] == pytest.approx(plain(pair[0], 0, LABELS[1], projected), abs=1e-4)
    assert verified["outside_is"] == "base"
    initial, counts = answers(asked, pair, cell("load", "bridge", "initial"))
    assert initial[1] == pytest.approx(plain(pair[0], 0, LABELS[1]), abs=1e-4)
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
    heard, _ = answers(asked, pair, cell("tuned"))
    assert len(set(text[::2])) == 1  # the texts are the same
    assert len(set(heard[::2])) == 5


def test_controls_of_media_change_what_is_heard(asked, pair) -> None:
    own, _ = answers(asked, pair, cell("tuned"))
    shuffled, _ = answers(asked, pair, cell("tuned", media="shuffled"))
    zero, _ = answers(asked, pair, cell("tuned", media="zero-voice"))
    assert sorted(own[::2]) == pytest.approx(sorted(shuffled[::2]), abs=1e-6)
    assert not np.array_equal(own, shuffled)
    assert not np.array_equal(own, zero)


def test_a_sample_does_not_depend_on_the_others(pair) -> None:
    model = AutoModelForMultimodalLM.from_pretrained(pair[0]).eval()
    processor = AutoProcessor.from_pretrained(pair[0])
    samples = task().test
    ids = samples["id"].tolist()

    def values(rows: list[int]) -> torch.Tensor:
        media = SampleMedia({"voice": Sounds()}, [ids[row] for row in rows])
        texts = [samples["prompt"].iloc[row] for row in rows]
        own = NativeSamples(processor, NATIVE, texts, ["voice"], media)
        return own.log_likelihoods(model, [[5], [6, 7]])

    whole = values([0, 1, 2, 3, 4])
    assert torch.equal(values([3, 1]), whole[[3, 1]])


def test_only_what_has_a_number_for_each_token_goes_on_with_a_candidate(pair) -> None:
    """A mask of frames may be as long as the prompt."""
    model = AutoModelForMultimodalLM.from_pretrained(pair[0]).eval()
    processor = AutoProcessor.from_pretrained(pair[0])
    sound = {"voice": Sounds()}

    def samples(text: str) -> NativeSamples:
        return NativeSamples(processor, NATIVE, [text], ["voice"], SampleMedia(sound, ["s3"]))

    first = samples("<voice>").inputs(0)
    frames, tokens = (first[one].shape[1] for one in ("feature_attention_mask", "input_ids"))
    text = "<voice>" + "a" * (frames - tokens)
    assert samples(text).inputs(0)["input_ids"].shape[1] == frames
    assert torch.isfinite(samples(text).log_likelihoods(model, [[5, 6]])).all()


def test_a_picture_for_a_model_that_hears_is_refused(pair) -> None:
    processor = AutoProcessor.from_pretrained(pair[0])
    media = SampleMedia({"voice": Pictures()}, ["s0"])
    samples = NativeSamples(processor, NATIVE, ["<voice> a"], ["voice"], media)
    with refused("native.no-such-medium"):
        samples.inputs(0)


def test_free_text_is_refused(pair) -> None:
    told = Session([pair[0]], [task()], Evaluate(readout="generation"), Hardware())
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


def test_a_model_without_a_processor_is_refused(pair, tmp_path) -> None:
    shutil.copytree(pair[0], tmp_path / "model")
    for name in ("processor_config.json", "preprocessor_config.json"):
        (tmp_path / "model" / name).unlink(missing_ok=True)
    native.audio_processor().tokenizer.save_pretrained(tmp_path / "model")
    with refused("model.cannot-be-loaded"):
        load_processor(tmp_path / "model")
