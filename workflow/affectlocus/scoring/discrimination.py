"""Area under the ROC curve (AUC): whether a cell tells labels apart, whatever it answers most.

F1 depends on how often each label is answered. A cell that knows nothing, but whose most frequent
answer is a frequent label, scores above one that answers a rare label throughout. The AUC of both
is 50 %, which is chance for every cell.
"""

from __future__ import annotations

import numpy as np
from scipy.special import log_softmax
from scipy.stats import rankdata

from affectlocus.scoring.bootstrap import Stream, drawn_sums


def auc_draws(logliks: np.ndarray, truth: np.ndarray, stream: Stream) -> np.ndarray:
    """Mean one-vs-rest AUC over the labels in percent, as observed and in every bootstrap draw.

    A label's score is its probability among the labels. The AUC of a label is the share of pairs, a
    sample of the label and one of another, in which the first has the higher score; ties count half
    (Hanley and McNeil 1982). A draw uses the first-order expansion in the samples' placement values
    (DeLong et al. 1988), because ranks in every draw would cost as much as all other scores.

    Args:
        logliks: (samples, labels), nats.
        truth: (samples,) codes of the true labels.

    Returns:
        (1 + draws,); NaN if fewer than two labels occur.
    """
    n, labels = logliks.shape
    scores = log_softmax(logliks, axis=1)
    values, influences = [], []
    for label in range(labels):
        own = truth == label
        positives, negatives = int(own.sum()), int((~own).sum())
        if positives == 0 or negatives == 0:
            continue
        ranks = rankdata(scores[:, label])
        placements = np.empty(n)
        # The share of the other class that a sample beats, or that beats it.
        placements[own] = (ranks[own] - rankdata(scores[own, label])) / negatives
        others = rankdata(scores[~own, label])
        placements[~own] = 1 - (ranks[~own] - others) / positives
        value = placements[own].mean()
        values.append(value)
        influences.append(np.where(own, n / positives, n / negatives) * (placements - value))
    if not values:
        return np.full(1 + stream.resamples, np.nan)
    influence = np.mean(influences, axis=0)
    totals = drawn_sums(influence[:, None], stream)[:, 0]
    totals[0] = 0.0  # exactly, where rounding leaves a rest
    return np.clip(100 * (np.mean(values) + totals / n), 0.0, 100.0)
