"""Perplexity from log-likelihoods and tokens."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from affectlocus.scoring.perplexity import perplexity, text_sums


def test_every_token_has_the_same_weight_in_every_document() -> None:
    rows = pd.DataFrame({"loglik": [-6.0, -1.0], "tokens": [2, 8]}, index=[7, 7])
    totals = text_sums(rows).sum(axis=0)
    assert totals.tolist() == [7, 10]
    assert perplexity(totals) == pytest.approx(math.exp(0.7))


def test_several_draws_are_computed_at_once() -> None:
    assert perplexity(np.array([[0.0, 3], [3, 3]])) == pytest.approx([1, math.e])
