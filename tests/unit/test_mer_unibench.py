"""MER-UniBench's scores, against the released scorer's and against scikit-learn."""

from __future__ import annotations

from collections import defaultdict

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from refusal import refused
from sklearn.metrics import accuracy_score, f1_score
from wheel_files import REAL

from affectlocus.scoring.mer_unibench import (
    UndefinedError,
    hit_rates,
    mean_rate,
    parse_open_set,
    waf,
)
from affectlocus.scoring.wheels import Wheels, read, words

real = pytest.mark.skipif(not REAL.is_dir(), reason="the real material is not beside the checkout")

WHEELS = {
    1: {"joy": "happy", "glad": "happy", "anger": "mad", "fury": "mad", "fear": "scared"},
    2: {"joy": "happy", "glad": "calm", "anger": "mad", "fear": "happy"},
}
EMOTIONS = st.sampled_from(["joy", "anger", "fear", "neutral"])
LABELS = st.sampled_from(["joy", "glad", "anger", "fury", "fear", "neutral", "odd"])
SAMPLES = st.lists(st.tuples(EMOTIONS, st.lists(LABELS, max_size=4)), min_size=1).filter(
    lambda samples: any(emotion != "neutral" for emotion, _ in samples)
)


def rates(samples: list[tuple[str, list[str]]]) -> dict[int, tuple[int, float]]:
    gold, answers = [emotion for emotion, _ in samples], [labels for _, labels in samples]
    found = hit_rates(gold, answers, WHEELS)
    return {wheel: (one.n_scored, one.hit_rate) for wheel, one in found.items()}


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("", []),
        ("[]", []),
        ("]", []),
        ("['Happy', \"very proud\" ]", ["happy", "very proud"]),
        ("sad,, ,calm", ["sad", "calm"]),
        ("[[sad]]", ["[sad]"]),
        ("[sad] and more", ["sad] and more"]),
        ("can't say", ["can", "t say"]),
        ("sad，calm; tired", ["sad，calm; tired"]),
    ],
)
def test_a_list_in_a_text_is_read_as_the_released_parser_reads_it(
    text: str, labels: list[str]
) -> None:
    assert parse_open_set(text) == labels


def test_a_lone_bracket_is_refused() -> None:
    with refused("prediction.single-bracket"):
        parse_open_set("[")


@given(st.text(alphabet="ab [],'\"B", max_size=12).filter(lambda text: text != "["))
def test_labels_are_trimmed_lower_case_and_never_blank(text: str) -> None:
    for label in parse_open_set(text):
        assert label and label == label.strip().lower()
        assert not set(label) & set(",'\"")


def test_a_hit_is_any_label_in_the_cluster_of_gold() -> None:
    samples = [("joy", ["odd", "glad"]), ("anger", ["fury"]), ("fear", ["joy"]), ("joy", [])]
    assert rates(samples) == {1: (4, 0.5), 2: (4, 0.25)}


def test_gold_without_a_cluster_is_skipped_and_an_empty_answer_is_a_miss() -> None:
    assert rates([("neutral", ["neutral"]), ("joy", []), ("joy", ["joy"])]) == {
        1: (2, 0.5),
        2: (2, 0.5),
    }


def test_a_set_scores_the_plain_mean_of_its_wheels() -> None:
    found = hit_rates(["joy", "fear", "fury"], [["joy"], ["fear"], ["odd"]], WHEELS)
    assert mean_rate(found) == pytest.approx((2 / 3 + 1) / 2)


@given(SAMPLES, st.randoms())
def test_the_order_of_samples_and_of_labels_changes_nothing(samples: list, random) -> None:
    mixed = [(emotion, random.sample(labels, len(labels))) for emotion, labels in samples]
    random.shuffle(mixed)
    assert rates(mixed) == rates(samples)


@given(SAMPLES, LABELS)
def test_one_more_label_never_lowers_a_hit_rate(samples: list, label: str) -> None:
    more = rates([(emotion, [*labels, label]) for emotion, labels in samples])
    for wheel, (n, rate) in rates(samples).items():
        assert more[wheel][0] == n
        assert 0 <= rate <= more[wheel][1] <= 1


@given(SAMPLES)
def test_the_gold_label_as_the_answer_scores_100(samples: list) -> None:
    found = rates([(emotion, [emotion]) for emotion, _ in samples])
    assert [rate for _, rate in found.values()] == [1, 1]


def test_a_wheel_that_holds_none_of_the_gold_emotions_is_refused_by_its_number() -> None:
    with refused("score.hit-rate-undefined", UndefinedError, wheel=2, found=["fury"]):
        hit_rates(["fury"], [["fury"]], WHEELS)


VALENCES = st.sampled_from([-3.0, -0.2, -0.0, 0.0, 1e-9, 2.5, float("nan"), -10.0])
WORDS = st.sampled_from(["positive", "negative", "neutral", "mixed", "Positive", ""])


@given(st.lists(st.tuples(VALENCES, WORDS), min_size=1))
def test_waf_is_scikit_learns_weighted_f1_of_what_is_greater_than_zero(samples: list) -> None:
    scored = [(value > 0, answer == "positive") for value, answer in samples if value != 0]
    gold, answers = zip(*samples, strict=True)
    if not scored:
        with refused("score.waf-undefined", UndefinedError, rows=len(gold)):
            waf(gold, answers)
        return
    truth, said = zip(*scored, strict=True)
    found = waf(gold, answers)
    assert found.n_scored == len(scored)
    assert found.waf == pytest.approx(
        f1_score(truth, said, average="weighted", zero_division=0), abs=1e-12
    )
    assert found.accuracy == pytest.approx(accuracy_score(truth, said), abs=1e-12)


def table(name: str) -> pd.DataFrame:
    return pd.read_csv(REAL / name, dtype=str, keep_default_na=False)


@pytest.fixture(scope="module")
def released() -> Wheels:
    return read(REAL / "emotion_wheel")


@pytest.mark.real
@real
def test_all_seven_checkpoints_score_on_meld_as_released(released: Wheels) -> None:
    gold = table("meld_gold.csv").set_index("sample")["emotion"]
    answers: dict[str, dict[str, list[str]]] = defaultdict(dict)
    for checkpoint, sample, labels in table("meld_openset.csv").itertuples(index=False):
        answers[checkpoint][sample] = words(labels, "|")
    found: dict[tuple[str, str], tuple[str, float]] = {}
    for checkpoint, by_sample in answers.items():
        each = hit_rates(
            gold.tolist(), [by_sample[sample] for sample in gold.index], released.published
        )
        found[checkpoint, "mean"] = ("", mean_rate(each))
        for wheel, one in each.items():
            found[checkpoint, str(wheel)] = (str(one.n_scored), one.hit_rate)
    expected = table("expected.csv")
    assert len(found) == len(expected) == 42
    for checkpoint, wheel, n_scored, rate in expected.itertuples(index=False):
        assert found[checkpoint, wheel][0] == n_scored
        assert found[checkpoint, wheel][1] == pytest.approx(float(rate), abs=1e-12, rel=0)
    means = [rate for (_, wheel), (_, rate) in found.items() if wheel == "mean"]
    assert f"{100 * max(means):.2f}" == "55.65"


@pytest.mark.real
@real
def test_every_waf_case_scores_as_released() -> None:
    cases = dict(iter(table("waf_cases.csv").groupby("case")))
    expected = table("waf_expected.csv")
    assert set(expected["case"]) == set(cases)
    for case, n_scored, weighted, accuracy, error in expected.itertuples(index=False):
        rows = cases[case]
        gold, answers = rows["gold"].astype(float).tolist(), rows["prediction"].tolist()
        if error:
            with refused("score.waf-undefined", UndefinedError):
                waf(gold, answers)
            continue
        found = waf(gold, answers)
        assert found.n_scored == int(n_scored)
        assert found.waf == pytest.approx(float(weighted), abs=1e-12, rel=0), case
        assert found.accuracy == pytest.approx(float(accuracy), abs=1e-12, rel=0), case
