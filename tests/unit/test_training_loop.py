"""The training loop: what it learns, what it leaves alone, and that it repeats itself."""

from __future__ import annotations

import copy
import math
import os
import resource
import signal
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from refusal import refused
from transformers import PreTrainedModel

from affectlocus.config.hardware import Hardware
from affectlocus.core.stop_signals import Stopped
from affectlocus.training.batches import Budget, Example, collate, schedule
from affectlocus.training.training_loop import DivergedError, train
from affectlocus.training.training_state import TrainingStates, states_folder

BUDGET = Budget(steps=6, batch_size=4, learning_rate=0.01, warmup=0.2, weight_decay=0.0, seed=0)
# Eight sentences of one pattern, of three lengths, with a prompt of three tokens each.
EXAMPLES = [
    Example([10 + number, 20, 30, *([40 + number % 2] * (1 + number % 3)), 0], 3)
    for number in range(8)
]


@pytest.fixture(scope="module")
def start(random_model) -> PreTrainedModel:
    return random_model("qwen2")


def trained(
    start: PreTrainedModel, budget: Budget, examples: list[Example] = EXAMPLES
) -> tuple[dict[str, torch.Tensor], list[dict]]:
    """Weights and log after training a copy."""
    model = copy.deepcopy(start)
    log = train(model, examples, budget)
    return model.state_dict(), log


def identical(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[key], right[key]) for key in left)


@torch.inference_mode()
def nats(model: PreTrainedModel, example: Example) -> list[float]:
    """−log p of every learned token of an example by itself; its first token has no prediction."""
    logs = model(torch.tensor([example.ids])).logits[0].double().log_softmax(-1)
    first = max(1, example.prompt_length)
    return [-float(logs[place - 1, example.ids[place]]) for place in range(first, len(example.ids))]


# Batches


def test_a_batch_is_padded_on_the_right_and_only_answers_are_labels() -> None:
    batch = collate([Example([5, 6, 7, 8], 2), Example([9, 1], 1), Example([3, 4, 2])], pad=77)
    assert batch.ids.tolist() == [[5, 6, 7, 8], [9, 1, 77, 77], [3, 4, 2, 77]]
    assert batch.targets.tolist() == [7, 8, 1, 4, 2]
    # The place before each target; a row has four.
    assert batch.places.tolist() == [1, 2, 4, 8, 9]
    assert {tensor.dtype for tensor in vars(batch).values()} == {torch.int64}


def test_padding_and_company_do_not_change_an_examples_loss(start) -> None:
    short, long = EXAMPLES[0], Example([1, 2, 3, 4, 5, 6, 7, 8, 9], 4)
    budget = replace(BUDGET, steps=1, batch_size=2, group_by_length=True)
    _, log = trained(start, budget, [short, long])
    each = [*nats(start, short), *nats(start, long)]
    assert log[0]["loss"] == pytest.approx(sum(each) / len(each), rel=1e-5)


# Order


@given(
    lengths=st.lists(st.integers(1, 50), min_size=1, max_size=60),
    batch_size=st.integers(1, 9),
    steps=st.integers(1, 40),
    seed=st.integers(0, 99),
    grouped=st.booleans(),
)
def test_every_sample_is_read_as_often_as_every_other(
    lengths, batch_size, steps, seed, grouped
) -> None:
    budget = Budget(steps, batch_size, 0.1, 0.0, 0.0, seed, grouped)
    order = schedule(lengths, budget)
    assert len(order) == steps * batch_size
    times = Counter(order)
    assert set(times) <= set(range(len(lengths)))
    counts = [times[row] for row in range(len(lengths))]
    assert max(counts) - min(counts) <= 1
    assert order == schedule(lengths, budget)


def test_without_grouping_every_pass_is_complete_and_shuffled_again() -> None:
    order = schedule([3] * 40, Budget(20, 4, 0.1, 0.0, 0.0, 0))
    first, second = order[:40], order[40:]
    assert sorted(first) == sorted(second) == list(range(40))
    assert first != sorted(first)
    assert first != second


@pytest.mark.parametrize("grouped", [False, True])
def test_another_seed_reads_in_another_order(grouped) -> None:
    budget = Budget(20, 4, 0.1, 0.0, 0.0, 0, grouped)
    lengths = [1 + number % 17 for number in range(40)]
    assert schedule(lengths, budget) != schedule(lengths, replace(budget, seed=1))


def test_grouping_by_length_saves_padding_and_does_not_sort_the_batches() -> None:
    lengths = [1 + (7 * number) % 50 for number in range(400)]
    plain = Budget(50, 8, 0.1, 0.0, 0.0, 0)

    def widths(budget: Budget) -> tuple[list[int], int]:
        order = [lengths[row] for row in schedule(lengths, budget)]
        batches = [order[at : at + 8] for at in range(0, len(order), 8)]
        return [max(batch) for batch in batches], sum(8 * max(batch) for batch in batches)

    (_, padded), (widest, grouped) = widths(plain), widths(replace(plain, group_by_length=True))
    assert grouped < 0.7 * padded
    assert grouped < 1.1 * sum(lengths)
    # Long batches come as early as late: the learning rate does not go with the length.
    rising = sum(after > before for before, after in pairwise(widest))
    assert 10 < rising < 39


def test_samples_are_read_in_the_order_of_the_schedule(start) -> None:
    # At a rate this low the model stays what it was: every loss tells which sample it is of.
    for grouped in (False, True):
        budget = Budget(12, 1, 1e-12, 0.0, 0.0, 3, grouped)
        _, log = trained(start, budget)
        assert [entry["step"] for entry in log] == list(range(1, 13))
        order = schedule([len(example.ids) for example in EXAMPLES], budget)
        for entry, row in zip(log, order, strict=True):
            own = nats(start, EXAMPLES[row])
            assert entry["loss"] == pytest.approx(sum(own) / len(own), rel=1e-4)


# Training


def test_the_same_seed_gives_the_same_weights_bit_for_bit(start) -> None:
    first, log = trained(start, BUDGET)
    torch.manual_seed(12345)
    torch.rand(3)
    second, again = trained(start, BUDGET)
    assert identical(first, second)
    assert log == again
    assert not identical(first, start.state_dict())


def test_in_bfloat16_on_a_cpu_weights_stay_float32_and_the_losses_are_nearly_the_same(
    start,
) -> None:
    exact, log = trained(start, BUDGET)
    model = copy.deepcopy(start)
    half = train(model, EXAMPLES, BUDGET, Hardware(cpu_precision="bfloat16"))
    found = model.state_dict()
    assert all(one.dtype == torch.float32 for one in found.values())
    assert not identical(found, exact)
    for one, other in zip(half, log, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=0.05)


def test_dropout_is_drawn_from_the_seed_too(random_model) -> None:
    model = random_model("qwen2", attention_dropout=0.5)
    first, _ = trained(model, BUDGET)
    torch.manual_seed(777)
    assert identical(trained(model, BUDGET)[0], first)


def test_another_seed_gives_other_weights(start) -> None:
    assert not identical(trained(start, BUDGET)[0], trained(start, replace(BUDGET, seed=1))[0])


def test_the_loss_falls_to_what_can_be_known(start) -> None:
    model = copy.deepcopy(start)
    before = [sum(nats(model, example)) for example in EXAMPLES]
    log = train(model, EXAMPLES, replace(BUDGET, steps=60, batch_size=8))
    after = [sum(nats(model.eval(), example)) for example in EXAMPLES]
    assert log[-1]["loss"] < 0.1 < 3 < log[0]["loss"]
    assert all(new < 0.2 * old for new, old in zip(after, before, strict=True))


def test_the_logged_loss_is_the_mean_of_the_learned_tokens(start) -> None:
    log = trained(start, replace(BUDGET, batch_size=len(EXAMPLES)))[1]
    # Before the first step; examples with more answer tokens weigh more.
    learned = [value for example in EXAMPLES for value in nats(start, example)]
    assert log[0]["loss"] == pytest.approx(sum(learned) / len(learned), rel=1e-5)


def test_the_logged_loss_of_running_text_is_the_mean_of_the_predicted_tokens(start) -> None:
    texts = [Example([9, 8, 7, 6, 5]), Example([11, 12, 13]), Example([20, 21, 22, 23])]
    log = trained(start, replace(BUDGET, batch_size=3), texts)[1]
    learned = [value for text in texts for value in nats(start, text)]
    assert log[0]["loss"] == pytest.approx(sum(learned) / len(learned), rel=1e-5)


def test_prompt_tokens_are_read_and_not_learned(start) -> None:
    # The same answer behind prompts that hold one token again and again.
    examples = [Example([50, 60, 50, 60, 50, 60, 7], 6)] * 4
    model = copy.deepcopy(start)
    train(model, examples, replace(BUDGET, steps=30))
    whole = Example(examples[0].ids)
    prompt_before, prompt_after = nats(start, whole)[:5], nats(model.eval(), whole)[:5]
    assert nats(model, examples[0])[0] < 0.1
    assert sum(prompt_after) > 0.5 * sum(prompt_before)
    # A control: learned as running text, the same prompt is soon known by heart.
    reader = copy.deepcopy(start)
    train(reader, [whole] * 4, replace(BUDGET, steps=30))
    assert sum(nats(reader.eval(), whole)[:5]) < 0.1 * sum(prompt_before)


def test_only_parameters_that_require_a_gradient_change(start) -> None:
    model = copy.deepcopy(start)
    chosen = {name for name, _ in model.named_parameters() if "layers.1.mlp.up_proj" in name}
    for name, parameter in model.named_parameters():
        parameter.requires_grad = name in chosen
    train(model, EXAMPLES, replace(BUDGET, weight_decay=0.1))
    before = start.state_dict()
    changed = {
        name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])
    }
    assert changed == chosen


def test_the_rate_rises_to_its_peak_and_falls_along_a_cosine(start) -> None:
    _, log = trained(start, replace(BUDGET, steps=20, warmup=0.2))
    rates = [entry["learning_rate"] for entry in log]
    expected = [0.01 * step / 4 for step in range(4)]
    expected += [0.01 * (1 + math.cos(math.pi * step / 16)) / 2 for step in range(16)]
    assert rates == pytest.approx(expected)


def test_a_long_training_is_logged_twenty_times(start) -> None:
    _, log = trained(start, replace(BUDGET, steps=60, batch_size=1))
    assert [entry["step"] for entry in log] == list(range(3, 61, 3))
    assert all(set(entry) == {"step", "loss", "learning_rate"} for entry in log)


def test_no_examples_are_refused(start) -> None:
    with refused("tuning.no-samples"):
        train(start, [], BUDGET)


def test_a_training_that_diverges_is_refused_by_the_step_of_its_first_nan(start) -> None:
    model = copy.deepcopy(start)
    with refused("tuning.loss-not-finite", DivergedError, key="learning_rate") as caught:
        train(model, EXAMPLES, replace(BUDGET, steps=10, learning_rate=1e30))
    # The first step has a rate of 0; how far infinite weights carry depends on the kernels.
    assert caught.value.fields["step"] in (3, 4)


def test_the_first_nan_is_named_where_the_log_is_written_later(start) -> None:
    # The log has every third step, and an infinite weight comes after the seventh.
    model = copy.deepcopy(start)

    def spoil(_: int) -> None:
        with torch.no_grad():
            model.model.layers[0].mlp.up_proj.weight[0, 0] = math.nan

    with refused("tuning.loss-not-finite", step=8):
        train(model, EXAMPLES, replace(BUDGET, steps=60), snapshots=[7], save=spoil)


def test_a_nan_in_the_first_step_is_the_bases(start) -> None:
    model = copy.deepcopy(start)
    with torch.no_grad():
        model.model.norm.weight[3] = math.nan
    with refused("base.loss-not-finite", step=1, key="hardware.precision"):
        train(model, EXAMPLES, BUDGET)


# Stopped, and gone on


def stop(_: int) -> None:
    """What a scheduler does."""
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.fixture
def place(tmp_path: Path) -> Callable[..., TrainingStates]:
    """`place(minutes)`: as two runs of one job have it."""
    return lambda minutes=10.0: TrainingStates(
        states_folder(tmp_path / "mine"), {"job": "a"}, minutes
    )


# An entry of the log is of two steps: the stop after the 17th falls between them.
LONG = replace(BUDGET, steps=40, warmup=0.1, weight_decay=0.1)


def test_what_is_saved_and_how_often_changes_nothing(start, place) -> None:
    weights, log = trained(start, LONG)
    model = copy.deepcopy(start)
    states = place(0)
    assert train(model, EXAMPLES, LONG, states=states) == log
    assert identical(model.state_dict(), weights)
    # After the last step the caller saves what was trained, and removes this.
    assert states.step() == 39


@pytest.mark.parametrize(("stops", "grouped"), [([17], True), ([1, 2, 38], False), ([40], False)])
def test_a_training_that_was_stopped_ends_as_if_it_never_was(
    random_model, place, stops, grouped, capsys
) -> None:
    start = random_model("qwen2", attention_dropout=0.5)
    budget = replace(LONG, group_by_length=grouped)
    weights, log = trained(start, budget)
    for step in stops:
        torch.manual_seed(step)
        with pytest.raises(Stopped, match="SIGTERM") as stopped:
            train(copy.deepcopy(start), EXAMPLES, budget, snapshots=[step], save=stop,
                  states=place())  # fmt: skip
        assert stopped.value.code == 143
        assert str(stopped.value) == (
            f"stopped by SIGTERM after step {step} of 40; the next run continues from there"
        )
    torch.manual_seed(99)
    model = copy.deepcopy(start)
    capsys.readouterr()
    assert train(model, EXAMPLES, budget, states=place()) == log
    assert f"resuming from the saved state of step {stops[-1]} of 40\n" in capsys.readouterr().err
    assert identical(model.state_dict(), weights)


def test_handlers_are_put_back_after_a_training(start, place) -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    train(copy.deepcopy(start), EXAMPLES, BUDGET, states=place())
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_a_stop_whose_state_cannot_be_saved_says_where_the_next_run_begins(start, place) -> None:
    states = place()
    # A file where the folder should be: not even root can write there.
    states.place.write_text("")
    with pytest.raises(Stopped, match="after step 3 of 40; the next run starts from the beginning"):
        train(copy.deepcopy(start), EXAMPLES, LONG, snapshots=[3], save=stop, states=states)


def test_a_training_that_diverges_leaves_no_state(start, place) -> None:
    states = place(0)
    with pytest.raises(DivergedError):
        train(copy.deepcopy(start), EXAMPLES, replace(LONG, learning_rate=1e30), states=states)
    assert not states.place.exists()


def test_no_state_is_saved_of_weights_that_are_no_numbers(start, place) -> None:
    model = copy.deepcopy(start)
    states, seen = place(0), []

    def spoil(_: int) -> None:
        seen.append(states.step())
        with torch.no_grad():
            model.model.layers[0].mlp.up_proj.weight[0, 0] = math.inf

    name = "model.layers.0.mlp.up_proj.weight"
    with refused("tuning.weight-not-finite", tensor=name, step=5):
        train(model, EXAMPLES, LONG, snapshots=[5], save=spoil, states=states)
    assert seen == [4]
    assert not states.place.exists()


def test_out_of_memory_gives_advice_and_keeps_the_state(start, place) -> None:
    states = place()
    with pytest.raises(Stopped):
        train(copy.deepcopy(start), EXAMPLES, LONG, snapshots=[3], save=stop, states=states)
    many = [Example(list(range(100)))] * 4
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    limit = pages * resource.getpagesize() + 2**28
    # Its logits alone have 2000 x 100 x 290 floats, some 230 MB, of which there are several.
    wide = replace(LONG, batch_size=2000)
    resource.setrlimit(resource.RLIMIT_AS, (limit, before[1]))
    try:
        with refused("tuning.out-of-memory", step=4, batch_size=2000, tokens=100):
            train(copy.deepcopy(start), many, wide, states=states)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
    assert states.step() == 3
