"""The corrected protocol: the effect of guessing, neutral and unknown answers."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score
from wheel_files import REAL

from affectlocus.scoring.corrected_protocol import (
    OpenSetScores,
    mean_over_wheels,
    open_set_scores,
    valence_scores,
)
from affectlocus.scoring.mer_unibench import hit_rates
from affectlocus.scoring.wheels import read

WHEEL = {"joy": "happy", "glad": "happy", "anger": "mad", "fury": "mad", "fear": "scared"}
EMOTIONS = st.sampled_from(["joy", "anger", "fear", "neutral", "odd"])
LABELS = st.sampled_from(["joy", "glad", "anger", "fury", "fear", "neutral", "odd"])
SAMPLES = st.lists(st.tuples(EMOTIONS, st.lists(LABELS, max_size=4)))


def scores(*samples: tuple[str, list[str]]) -> OpenSetScores:
    gold, answers = [emotion for emotion, _ in samples], [labels for _, labels in samples]
    return open_set_scores(gold, answers, {1: WHEEL})[1]


def test_a_superfluous_label_lowers_precision() -> None:
    sure, guessed = scores(("joy", ["glad"])), scores(("joy", ["glad", "anger", "fear"]))
    assert (sure.precision, sure.recall, sure.f1) == (1, 1, 1)
    assert (guessed.precision, guessed.recall, guessed.f1) == (1 / 3, 1, 1 / 2)
    assert (sure.labels_per_sample, guessed.labels_per_sample) == (1, 3)


def test_labels_of_one_cluster_count_once() -> None:
    assert scores(("joy", ["glad", "joy", "joy"])).f1 == 1
    assert scores(("joy", ["glad", "joy", "joy"])).labels_per_sample == 2


@pytest.mark.parametrize(
    ("answer", "f1"),
    [(["neutral"], 1), ([], 1), (["neutral", "joy"], 2 / 3), (["joy"], 0), (["odd"], 0)],
)
def test_neutral_gold_is_matched_by_neutral_and_by_no_label(answer: list[str], f1: float) -> None:
    assert scores(("neutral", answer)).f1 == f1


def test_an_empty_answer_is_wrong_if_gold_is_an_emotion() -> None:
    assert scores(("joy", [])).f1 == 0


def test_a_label_without_a_cluster_changes_no_score_and_is_counted() -> None:
    found = scores(("joy", ["joy", "odd"]), ("anger", ["odd"]))
    assert (found.precision, found.f1) == (0.5, 0.5)
    assert found.mapped_labels == 1 / 3


def test_gold_without_a_cluster_is_not_scored_and_lowers_coverage() -> None:
    found = scores(("odd", ["odd"]), ("joy", ["joy"]), ("neutral", []), ("odd", []))
    assert (found.n_scored, found.coverage, found.f1) == (2, 0.5, 1)


def test_rare_and_frequent_emotions_have_the_same_weight_in_the_macro_average() -> None:
    found = scores(*[("joy", ["joy"])] * 3, ("fear", ["joy"]))
    assert (found.f1, found.macro_f1) == (0.75, 0.5)
    assert (found.macro_precision, found.macro_recall) == (0.5, 0.5)


def test_an_undefined_score_is_none() -> None:
    nothing = scores(("odd", []))
    assert (nothing.n_scored, nothing.coverage, nothing.labels_per_sample) == (0, 0, 0)
    undefined = (nothing.precision, nothing.recall, nothing.f1, nothing.macro_f1)
    assert undefined == (None, None, None, None)
    assert nothing.mapped_labels is None
    assert scores().coverage is None
    assert scores().labels_per_sample is None


def test_a_wheel_without_a_defined_score_is_left_out_of_the_mean() -> None:
    found = open_set_scores(["joy", "joy"], [["joy"], []], {1: WHEEL, 2: {}})
    assert found[2].f1 is None
    mean = mean_over_wheels(found)
    assert (mean.f1, mean.coverage, mean.n_scored) == (0.5, 0.5, None)


@given(SAMPLES, st.randoms())
def test_the_order_of_samples_and_of_labels_changes_nothing(samples: list, random) -> None:
    mixed = [(emotion, random.sample(labels, len(labels))) for emotion, labels in samples]
    random.shuffle(mixed)
    here, there = vars(scores(*samples)), vars(scores(*mixed))
    assert here == pytest.approx(there, nan_ok=True)


@given(SAMPLES)
def test_every_score_is_between_0_and_1_and_f1_between_precision_and_recall(samples: list) -> None:
    found = scores(*samples)
    for name, value in vars(found).items():
        if name not in ("n_scored", "labels_per_sample") and value is not None:
            assert 0 <= value <= 1 + 1e-12
    if found.n_scored:
        assert found.precision <= found.f1 + 1e-12
        assert found.f1 <= found.recall + 1e-12


@given(SAMPLES.filter(lambda samples: any(emotion != "odd" for emotion, _ in samples)))
def test_the_gold_label_as_the_answer_scores_100(samples: list) -> None:
    found = scores(*[(emotion, [emotion]) for emotion, _ in samples])
    assert (found.precision, found.recall, found.macro_f1) == (1, 1, 1)


@given(st.lists(EMOTIONS.filter(lambda emotion: emotion != "odd"), min_size=1))
def test_answering_everything_never_beats_the_right_answer(gold: list[str]) -> None:
    everything = scores(*[(emotion, ["joy", "anger", "fear", "neutral"]) for emotion in gold])
    assert everything.recall == 1
    assert everything.f1 == pytest.approx(0.4)


@pytest.mark.real
@pytest.mark.skipif(not REAL.is_dir(), reason="the real material is not beside the checkout")
def test_joy_for_fear_is_a_hit_as_published_and_wrong_when_corrected() -> None:
    wheels = read(REAL / "emotion_wheel")
    for wheel in (2, 3):
        one = {wheel: wheels.published[wheel]}, {wheel: wheels.corrected[wheel]}
        assert hit_rates(["fear"], [["happy"]], one[0])[wheel].hit_rate == 1
        assert hit_rates(["fear"], [["scared"]], one[0])[wheel].hit_rate == 0
        assert open_set_scores(["fear"], [["happy"]], one[1])[wheel].f1 == 0
        assert open_set_scores(["fear"], [["scared"]], one[1])[wheel].f1 == 1


def test_a_valence_is_read_in_any_case_with_a_full_stop_or_blanks_around() -> None:
    found = valence_scores([1, 1, -1, 0], ["Positive", " positive. ", "NEGATIVE", "neutral"])
    assert (found.accuracy, found.macro_f1, found.n_unread) == (1, 1, 0)


def test_an_unreadable_answer_is_wrong_and_counted_and_has_no_class() -> None:
    found = valence_scores([-1, -1, 1, 0], ["mixed", "", "positive", "sad"])
    assert (found.n_unread, found.accuracy) == (3, 0.25)
    assert (found.n_binary, found.polar, found.binary_accuracy) == (3, 1 / 3, 1 / 3)


def test_neutral_does_not_count_as_negative() -> None:
    found = valence_scores([-1.0, -2.0, 1.0], ["neutral", "neutral", "positive"])
    assert (found.binary_accuracy, found.polar) == (1 / 3, 1 / 3)
    assert found.binary_macro_f1 == 0.5


def test_masked_values_are_not_scored_and_are_counted() -> None:
    found = valence_scores([math.nan, -10.0, math.inf, 1.0], ["negative"] * 3 + ["positive"])
    assert (found.n_masked, found.n_scored, found.accuracy) == (3, 1, 1)


def test_a_score_without_samples_is_none() -> None:
    found = valence_scores([math.nan, 0.0], ["positive", "neutral"])
    assert (found.n_scored, found.accuracy, found.macro_f1) == (1, 1, 1)
    assert (found.n_binary, found.polar, found.binary_weighted_f1) == (0, None, None)
    assert valence_scores([], []).weighted_f1 is None


SIGNS = {-1.0: "negative", 0.0: "neutral", 1.0: "positive"}


@given(
    st.lists(
        st.tuples(st.sampled_from(sorted(SIGNS)), st.sampled_from(sorted(SIGNS.values()))),
        min_size=1,
    )
)
def test_three_way_scores_are_scikit_learns(samples: list) -> None:
    gold, answers = zip(*samples, strict=True)
    truth = [SIGNS[value] for value in gold]
    found = valence_scores(gold, answers)
    known = sorted(set(truth))
    expected = {
        average: f1_score(truth, answers, labels=known, average=average, zero_division=0)
        for average in ("weighted", "macro")
    }
    assert found.weighted_f1 == pytest.approx(expected["weighted"])
    assert found.macro_f1 == pytest.approx(expected["macro"])
