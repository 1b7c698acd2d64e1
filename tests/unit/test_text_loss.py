"""What general text costs a model, against reading each document alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from affectlocus.lm import text_loss as fluency
from affectlocus.lm.text_loss import text_nats

DOCUMENTS = [list(range(5, 5 + length)) for length in (9, 2, 17, 1, 30, 2)]


def alone(model, ids: list[int]) -> float:
    """Nats of every token but the first, in float64."""
    with torch.inference_mode():
        logs = model(torch.tensor([ids])).logits[0].double().log_softmax(-1)
    return -sum(float(logs[at, token]) for at, token in enumerate(ids[1:]))


@pytest.mark.parametrize("architecture", ["qwen2", "llama", "mistral"])
@pytest.mark.parametrize("batch_tokens", [1, 40])
def test_each_document_costs_what_it_costs_alone(random_model, architecture, batch_tokens) -> None:
    window = {"sliding_window": 6} if architecture == "mistral" else {}
    model = random_model(architecture, **window)
    nats, tokens = text_nats(model, DOCUMENTS, batch_tokens)
    assert tokens.tolist() == [8, 1, 16, 0, 29, 1]
    assert nats == pytest.approx([alone(model, ids) for ids in DOCUMENTS], rel=1e-5)


def test_a_long_document_is_read_in_pieces_that_predict_each_token_once(random_model) -> None:
    model = random_model("llama")
    (ids,) = (DOCUMENTS[4],)
    (nats,), (tokens,) = text_nats(model, [ids], 8, window=12)
    assert tokens == 29
    pieces = [ids[:12], ids[11:23], ids[22:]]
    assert nats == pytest.approx(sum(alone(model, piece) for piece in pieces), rel=1e-5)
    assert nats != pytest.approx(alone(model, ids), rel=1e-3)


def test_a_window_as_long_as_the_document_cuts_nothing(random_model) -> None:
    model = random_model("llama")
    whole, cut = (text_nats(model, DOCUMENTS, 3, window)[0] for window in (None, 30))
    np.testing.assert_array_equal(whole, cut)


def test_few_logits_at_a_time_cost_the_same(random_model, monkeypatch) -> None:
    model = random_model("qwen2")
    expected, _ = text_nats(model, DOCUMENTS, 64)
    monkeypatch.setattr(fluency, "_LOGITS", 290 * 20)
    sizes: list[int] = []
    hook = model.register_forward_pre_hook(
        lambda _, __, inputs: sizes.append(inputs["input_ids"].numel()), with_kwargs=True
    )
    nats, _ = text_nats(model, DOCUMENTS, 64)
    hook.remove()
    assert nats == pytest.approx(expected, rel=1e-5)
    # The two of two tokens together; then each by itself, the longest beyond the budget.
    assert sizes == [4, 9, 17, 30]


def test_progress_counts_every_document_once(random_model) -> None:
    done: list[int] = []
    text_nats(random_model("llama"), DOCUMENTS, 2, window=5, progress=done.append)
    assert sum(done) == len(DOCUMENTS)


def test_no_document_costs_nothing(random_model) -> None:
    nats, tokens = text_nats(random_model("llama"), [], 2)
    assert (len(nats), len(tokens)) == (0, 0)
