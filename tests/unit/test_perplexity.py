"""Perplexity from nats and tokens."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from affectlocus.scoring.perplexity import perplexity, sums


def test_every_token_weighs_alike_whatever_its_document() -> None:
    rows = pd.DataFrame({"loglik": [-6.0, -1.0], "tokens": [2, 8]}, index=[7, 7])
    totals = sums(rows).sum(axis=0)
    assert totals.tolist() == [7, 10]
    assert perplexity(totals) == pytest.approx(math.exp(0.7))


def test_draws_are_worked_out_at_once() -> None:
    assert perplexity(np.array([[0.0, 3], [3, 3]])) == pytest.approx([1, math.e])
