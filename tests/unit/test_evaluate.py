"""One cell's model and its answers, against peft's merge and against plain forward passes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import layouts
import pandas as pd
import pytest
import torch
from refusal import refused
from safetensors.torch import load_file, save_file
from single import build
from transformers import AutoModelForCausalLM, PreTrainedModel

from affectlocus.config.evaluation import Generation, Samples
from affectlocus.core.cells import Cell
from affectlocus.core.errors import InputError
from affectlocus.evaluation.evaluate import CellModel, evaluate
from affectlocus.lm.generate import generate_texts
from affectlocus.lm.prompts import Prompter
from affectlocus.lm.readouts import CandidateReadout, FreeTextReadout, TextReadout

MODES = ("revert", "zero", "shuffle", "noise")
WEIGHTS = "model.safetensors"
GATE = "model.layers.1.mlp.gate_proj.weight"
ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
BASE, TUNED = Cell("base", "base"), Cell("tuned", "base", "pair")

LABELS = {"feel": ["sad", "happy", "very angry"], "news": ["positive", "negative"]}
TASKS = {
    task: pd.DataFrame(
        {
            "id": [f"{split}-{number}" for split in ("train", "test") for number in range(many)],
            "split": ["train"] * many + ["test"] * many,
            "prompt": [f"{'Well, ' * number}Anna was" for number in range(2 * many)],
            "answer": [words[number % len(words)] for number in range(2 * many)],
        },
        # As after filtering: the index says nothing of the position.
        index=range(50, 50 + 2 * many),
    )
    for (task, words), many in zip(LABELS.items(), (5, 4), strict=True)
}


def cell(kind: str, modules: str = "", mode: str = "", seed: int | None = None) -> Cell:
    return Cell(kind, "base", "pair", modules, mode, seed)  # type: ignore[arg-type]


def asked(
    base: Path, labels: dict[str, list[str]] = LABELS, max_length: int = 64
) -> list[CandidateReadout]:
    prompter = Prompter(base)
    return [
        CandidateReadout.of(task, frame, labels[task], prompter, max_length)
        for task, frame in TASKS.items()
    ]


def tensors(base: Path, tuned: Path | None, cell: Cell) -> dict[str, torch.Tensor]:
    return build(base, tuned, cell)[0].state_dict()


def bits(tensor: torch.Tensor) -> list[int]:
    whole = {2: torch.int16, 4: torch.int32}[tensor.element_size()]
    return tensor.contiguous().view(whole).flatten().tolist()


def edited(folder: Path, copy: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> Path:
    """A copy of a model whose tensors `change` has edited."""
    shutil.copytree(folder, copy)
    stored = load_file(copy / WEIGHTS)
    change(stored)
    save_file(stored, copy / WEIGHTS, metadata={"format": "pt"})
    return copy


# build


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_base_cell_is_the_base_as_stored(checkpoint, dtype) -> None:
    base = checkpoint(dtype=dtype)
    model, counts = build(base, None, BASE)
    assert counts == {}
    assert not model.training
    assert model.dtype == getattr(torch, dtype)
    found = model.state_dict()
    for name, tensor in load_file(base / WEIGHTS).items():
        assert bits(found[name]) == bits(tensor), name


@pytest.mark.parametrize("architecture", ["qwen2", "llama", "mistral"])
def test_a_tuned_cell_of_an_adapter_is_pefts_merged_model(
    checkpoint, lora, merged, architecture
) -> None:
    base = checkpoint(architecture)
    adapter = lora(base, [*ATTENTION, "gate_proj"], use_rslora=True, alpha_pattern={"k_proj": 2})
    model, _ = build(base, adapter, TUNED)
    reference = AutoModelForCausalLM.from_pretrained(base)
    ids = torch.tensor([[5, 90, 17, 44]])
    with torch.inference_mode():
        untuned = reference(ids).logits
        reference.load_state_dict(merged(base, adapter))
        expected = reference(ids).logits
        torch.testing.assert_close(model(ids).logits, expected, rtol=1e-4, atol=1e-4)
    assert float((untuned - expected).abs().max()) > 0.1


def test_a_chained_base_answers_as_the_model_that_its_last_adapter_made(
    checkpoint, lora, merged, tmp_path
) -> None:
    base = checkpoint("llama")
    first, last = (lora(base, ["q_proj", "v_proj"], seed=seed) for seed in (1, 2))
    files = [
        layouts.trained_only(adapter, tmp_path / f"{number}.pth", {"lora_alpha": 6})
        for number, adapter in enumerate((first, last))
    ]
    before, after = merged(base, first), merged(base, last)
    cells = {
        "base": (build([base, files[0]], None, BASE), before, before),
        "load": (build([base, files[0]], files[1], cell("load", "q")), before, after),
        "tuned": (build([base, files[0]], files[1], TUNED), after, after),
    }
    for kind, ((model, _), elsewhere, in_q) in cells.items():
        found = model.state_dict()
        for name in ("q_proj", "v_proj", "gate_proj"):
            part = "mlp" if name == "gate_proj" else "self_attn"
            full = f"model.layers.1.{part}.{name}.weight"
            expected = (in_q if name == "q_proj" else elsewhere)[full]
            torch.testing.assert_close(
                found[full], expected, rtol=0, atol=2e-6, msg=f"{kind} {name}"
            )


@pytest.mark.parametrize("architecture", ["qwen2", "llama"])
def test_a_tuned_cell_of_a_full_tuning_is_the_tuned_checkpoint(
    checkpoint, twin, architecture
) -> None:
    base = checkpoint(architecture, dtype="bfloat16")
    tuned = twin(base)
    found = tensors(base, tuned, TUNED)
    for name, tensor in load_file(tuned / WEIGHTS).items():
        assert bits(found[name]) == bits(tensor), name


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_load_all_of_an_adapter_is_the_tuned_model_bit_for_bit(checkpoint, lora, dtype) -> None:
    base = checkpoint(dtype=dtype)
    adapter = lora(base, ["up_proj", "v_proj"])
    loaded, tuned = (tensors(base, adapter, each) for each in (cell("load", "all"), TUNED))
    assert loaded.keys() == tuned.keys()
    for name, tensor in loaded.items():
        assert bits(tensor) == bits(tuned[name]), name


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_revert_of_all_of_an_adapter_is_the_base_bit_for_bit(checkpoint, lora, dtype) -> None:
    base = checkpoint("llama", dtype=dtype)
    adapter = lora(base, ["up_proj", "v_proj"])
    reverted = tensors(base, adapter, cell("ablate", "all", "revert"))
    for name, tensor in tensors(base, None, BASE).items():
        assert bits(tensor) == bits(reverted[name]), name


def test_a_load_cell_has_the_tuned_gate_in_the_base(checkpoint, twin, projection) -> None:
    base = checkpoint()
    tuned = twin(base)
    model, counts = build(base, tuned, cell("load", "gate"))
    before, after, found = load_file(base / WEIGHTS), load_file(tuned / WEIGHTS), model.state_dict()
    for name in before:
        source = after if projection(name) == "gate" else before
        assert bits(found[name]) == bits(source[name]), name
    assert counts == {"inside": 2, "changed": 2, "outside": 24, "untouched": 24}
    # Qwen2's head is its embedding: one tensor, not two.
    assert model.lm_head.weight.data_ptr() == model.model.embed_tokens.weight.data_ptr()


@pytest.mark.parametrize("kind", ["load", "ablate"])
def test_a_cell_of_a_layer_beyond_the_model_is_refused(checkpoint, twin, kind) -> None:
    base = checkpoint()
    mode = "revert" if kind == "ablate" else ""
    with refused("modules.no-such-layer", found=2, expected=2):
        build(base, twin(base), cell(kind, "gate@0-2", mode))


@pytest.mark.parametrize("mode", MODES)
def test_an_ablate_cell_is_the_tuned_model_but_for_its_set(
    checkpoint, twin, projection, mode
) -> None:
    base = checkpoint()
    tuned = twin(base)
    model, counts = build(base, tuned, cell("ablate", "o+gate", mode, 0))
    before, after, found = load_file(base / WEIGHTS), load_file(tuned / WEIGHTS), model.state_dict()
    for name in after:
        if projection(name) not in ("o", "gate"):
            assert bits(found[name]) == bits(after[name]), name
    assert (counts["inside"], counts["changed"], counts["outside"]) == (4, 4, 22)
    if mode == "revert":
        assert bits(found[GATE]) == bits(before[GATE])
    elif mode == "zero":
        assert not found[GATE].any()
    else:
        delta, change = after[GATE] - before[GATE], found[GATE] - before[GATE]
        assert float(change.norm()) == pytest.approx(float(delta.norm()), rel=1e-4)
        assert not torch.allclose(change, delta, atol=0.01)


def test_a_tune_cell_whose_training_left_its_set_is_refused(checkpoint, twin, projection) -> None:
    base = checkpoint()
    kept = twin(base, lambda name: projection(name) == "gate")
    model, counts = build(base, kept, cell("tune", "gate", seed=0))
    assert counts["changed"] == 2
    assert bits(model.state_dict()[GATE]) == bits(load_file(kept / WEIGHTS)[GATE])
    left = twin(base, lambda name: projection(name) in ("gate", "down"))
    with refused("cell.changed-outside") as caught:
        build(base, left, cell("tune", "gate", seed=0))
    assert str(caught.value.fields["tensor"]).endswith(".down_proj.weight")


def test_a_base_cell_with_a_tuned_checkpoint_is_refused(checkpoint, twin) -> None:
    base = checkpoint()
    with refused("cell.wrong-checkpoints", expected="no tuned checkpoint"):
        build(base, twin(base), BASE)


@pytest.mark.parametrize(
    "each", [TUNED, cell("load", "gate"), cell("tune", "gate"), cell("ablate", "gate", "zero")]
)
def test_any_other_cell_without_a_tuned_checkpoint_is_refused(checkpoint, each) -> None:
    with refused("cell.wrong-checkpoints", cell=each.id, expected="a tuned checkpoint"):
        build(checkpoint(), None, each)


def test_an_adapter_of_another_base_is_refused(checkpoint, lora) -> None:
    adapter = lora(checkpoint(num_hidden_layers=3), ["q_proj"])
    with pytest.raises(InputError, match="check that this is the base"):
        build(checkpoint(), adapter, TUNED)


@pytest.mark.parametrize("each", [BASE, TUNED, cell("load", "gate")], ids=lambda each: each.kind)
def test_a_model_that_its_checkpoints_do_not_fill_is_refused(
    checkpoint, twin, tmp_path, each
) -> None:
    name = "model.layers.0.mlp.up_proj.weight"
    base, tuned = (
        edited(folder, tmp_path / side, lambda stored: stored.pop(name))
        for side, folder in (("base", checkpoint()), ("tuned", twin(checkpoint())))
    )
    with pytest.raises(InputError, match=r"layers\.0\.mlp\.up_proj"):
        build(base, None if each == BASE else tuned, each)


@pytest.mark.parametrize("each", [cell("load", "gate"), cell("ablate", "gate", "zero")])
def test_buffers_that_older_checkpoints_store_are_no_leak(checkpoint, twin, tmp_path, each) -> None:
    # As in the published LLaMA-2 checkpoints; transformers leaves them out.
    name = "model.layers.0.self_attn.rotary_emb.inv_freq"
    base, tuned = (
        edited(folder, tmp_path / side, lambda stored: stored.update({name: torch.ones(4)}))
        for side, folder in (("base", checkpoint("llama")), ("tuned", twin(checkpoint("llama"))))
    )
    assert build(base, tuned, each)[1]["inside"] == 2


def test_an_ablation_of_a_pair_in_two_dtypes_is_built(checkpoint, twin) -> None:
    base, tuned = checkpoint(dtype="bfloat16"), twin(checkpoint(dtype="float32"))
    assert build(base, tuned, cell("ablate", "gate", "zero"))[1]["inside"] == 2


SEQUENCE = [
    ("adapter", TUNED),
    ("adapter", cell("load", "gate")),
    ("adapter", cell("ablate", "q", "zero")),
    ("other", cell("load", "q+v")),
    ("other", cell("tune", "o", seed=0)),
    (None, BASE),
    ("adapter", cell("ablate", "o+gate", "noise", 1)),
    ("adapter", cell("load", "all")),
    (None, BASE),
]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("chained", [False, True], ids=["base", "chain"])
def test_one_base_becomes_cell_after_cell_as_if_loaded_anew_each_time(
    checkpoint, lora, tmp_path, dtype, chained
) -> None:
    base = checkpoint("llama", dtype=dtype)
    folders = {
        "adapter": lora(base, ["q_proj", "gate_proj", "up_proj"], seed=1),
        "other": lora(base, ["o_proj"], seed=2),
        None: None,
    }
    start = [base]
    if chained:
        before = lora(base, ["q_proj", "down_proj"], seed=3)
        start.append(layouts.trained_only(before, tmp_path / "before.pth", {"lora_alpha": 6}))
    shared = CellModel(start)
    for which, each in SEQUENCE:
        counts = shared.become(folders[which], each, any_base=True)
        alone, expected = build(start, folders[which], each, any_base=True)
        assert counts == expected
        found = shared.model.state_dict()
        for name, tensor in alone.state_dict().items():
            assert bits(found[name]) == bits(tensor), (each.id, name)


def test_a_full_tuning_is_taken_back_whole_before_the_next_cell(checkpoint, twin) -> None:
    base = checkpoint()
    tuned = twin(base)
    shared = CellModel(base)
    shared.become(tuned, TUNED)
    shared.become(tuned, cell("load", "gate"))
    alone = tensors(base, tuned, cell("load", "gate"))
    for name, tensor in shared.model.state_dict().items():
        assert bits(tensor) == bits(alone[name]), name


# evaluate


@pytest.fixture(scope="module")
def answered(checkpoint) -> pd.DataFrame:
    base = checkpoint("llama")
    return evaluate(build(base, None, BASE)[0], asked(base), 200)


def test_the_frame_has_a_row_for_each_test_sample_and_candidate(answered) -> None:
    assert list(answered.columns) == ["task", "sample", "label", "candidate", "loglik", "tokens"]
    assert answered.index.tolist() == list(range(5 * 3 + 4 * 2))
    expected = [
        (task, row.id, row.answer, word)
        for task, frame in TASKS.items()
        for row in frame[frame["split"] == "test"].itertuples()
        for word in LABELS[task]
    ]
    found = answered[["task", "sample", "label", "candidate"]]
    assert list(found.itertuples(index=False, name=None)) == expected
    assert answered["loglik"].dtype == "float32"
    assert answered["tokens"].dtype == "int16"


def test_every_row_holds_its_own_samples_and_candidates_score(checkpoint, answered) -> None:
    prompter = Prompter(checkpoint("llama"))
    model = AutoModelForCausalLM.from_pretrained(checkpoint("llama")).eval()
    prompts = pd.concat([frame.assign(task=task) for task, frame in TASKS.items()])
    prompts = prompts.set_index(["task", "id"])["prompt"]
    for row in answered.itertuples():
        [prompt] = prompter.prompts([prompts[row.task, row.sample]], 64)
        candidate = prompter.answer(row.candidate)
        with torch.inference_mode():
            logs = model(torch.tensor([[*prompt, *candidate]])).logits[0].log_softmax(-1)
        places = range(len(prompt) - 1, len(prompt) + len(candidate) - 1)
        expected = sum(float(logs[at, id_]) for at, id_ in zip(places, candidate, strict=True))
        assert row.loglik == pytest.approx(expected, abs=1e-4)
        assert row.tokens == len(candidate)
    assert answered["tokens"].nunique() > 1


def test_labels_are_answered_in_their_given_order(checkpoint, answered) -> None:
    base = checkpoint("llama")
    turned = {task: words[::-1] for task, words in LABELS.items()}
    other = evaluate(build(base, None, BASE)[0], asked(base, turned), 200)
    assert other["candidate"].tolist()[:3] == ["very angry", "happy", "sad"]
    keys = ["task", "sample", "candidate"]
    both = answered.merge(other, on=keys, suffixes=("", "_turned"))
    assert len(both) == len(answered)
    assert both["loglik"].tolist() == pytest.approx(both["loglik_turned"].tolist(), abs=1e-4)


def test_a_prompt_beyond_max_length_is_scored_on_its_end(checkpoint, answered) -> None:
    base = checkpoint("llama")
    prompter = Prompter(base)
    short = evaluate(build(base, None, BASE)[0], asked(base, max_length=8), 200)
    lengths = [
        len(prompter.prompts([prompt], 64)[0])
        for prompt in TASKS["feel"].query("split == 'test'")["prompt"]
    ]
    assert min(lengths) > 8
    # Cut to one length, the prompts that repeat themselves have become the same.
    feel = short[short["task"] == "feel"]
    cut = feel.pivot_table(index="sample", columns="candidate", values="loglik")
    assert float(cut.std().max()) < 1e-4
    assert (feel["loglik"] - answered.loc[feel.index, "loglik"]).abs().max() > 0.01


def test_weights_with_nan_are_refused_with_the_task(checkpoint, tmp_path) -> None:
    def spoil(stored: dict[str, torch.Tensor]) -> None:
        stored[GATE][0, 0] = float("nan")

    base = edited(checkpoint("llama"), tmp_path / "nan", spoil)
    model, _ = build(base, None, BASE)
    with refused("model.scores-not-finite", task="feel"):
        evaluate(model, asked(base), 200)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_model_in_half_precision_answers_in_finite_numbers(checkpoint, dtype) -> None:
    base = checkpoint("mistral", dtype=dtype)
    found = evaluate(build(base, None, BASE)[0], asked(base), 200)
    assert found["loglik"].dtype == "float32"
    assert (found["loglik"] < 0).all()


# Texts

STORY = pd.DataFrame(
    {
        "id": ["train-0", "test-0", "test-1"],
        "split": ["train", "test", "test"],
        "prompt": ["Ben was sad.", "Anna was happy. All was well.", "Cleo!"],
    }
)


@pytest.mark.parametrize("architecture", ["qwen2", "llama"])
def test_a_text_is_a_row_for_each_document_beside_the_answers(checkpoint, architecture) -> None:
    base = checkpoint(architecture)
    model, _ = build(base, None, BASE)
    prompter = Prompter(base)
    text = TextReadout.of("story", STORY, prompter, 100)
    frame = evaluate(model, [*asked(base), text], 200)
    alone = evaluate(model, asked(base), 200)
    pd.testing.assert_frame_equal(frame[frame["task"] != "story"], alone, check_dtype=False)
    rows = frame[frame["task"] == "story"]
    assert rows["sample"].tolist() == ["test-0", "test-1"]
    assert (rows[["label", "candidate"]] == "").all(axis=None)
    for row, said in zip(rows.itertuples(), STORY["prompt"][1:], strict=True):
        ids = prompter.tokenizer(said, add_special_tokens=False)["input_ids"]
        # With a start token in front, the first word is predicted too.
        ids = [1, *ids] if architecture == "llama" else ids
        with torch.inference_mode():
            loss = model(torch.tensor([ids]), labels=torch.tensor([ids])).loss
        assert row.tokens == len(ids) - 1
        assert row.loglik == pytest.approx(-float(loss) * row.tokens, rel=1e-5)


def test_a_text_is_read_by_at_most_max_length_tokens_at_once(checkpoint) -> None:
    base = checkpoint("qwen2")
    model, _ = build(base, None, BASE)
    whole, cut = (
        evaluate(model, [TextReadout.of("story", STORY, Prompter(base), length)], 200)
        for length in (100, 4)
    )
    assert whole["tokens"].tolist() == cut["tokens"].tolist()
    assert abs(whole["loglik"][0] - cut["loglik"][0]) > 1e-3


def test_a_text_is_gone_on_from_behind_the_openings_of_its_first_documents(checkpoint) -> None:
    base = checkpoint("llama")
    model, _ = build(base, None, BASE)
    few = Samples(count=1, opening=3, max_new_tokens=6)
    text = TextReadout.of("story", STORY, Prompter(base), 100, few)
    found = evaluate(model, [text], 200)
    assert found["text"].notna().tolist() == [True, False]
    [first] = Prompter(base).prompts(["Anna was happy. All was well."], 999)
    assert text.openings == [first[:4]]  # the start token in front
    drawn = Generation(sampling="nucleus", max_new_tokens=6, top_p=0.9)
    alone, _ = generate_texts(
        model, Prompter(base).tokenizer, [first[:4]], ["story\0test-0"], drawn, 99
    )
    assert alone == [found["text"][0]]
    # What the text costs is what it costs without.
    plain = evaluate(model, [TextReadout.of("story", STORY, Prompter(base), 100)], 200)
    assert "text" not in plain
    pd.testing.assert_frame_equal(found.drop(columns="text"), plain)
    other = few.model_copy(update={"seed": 1})
    again = evaluate(model, [TextReadout.of("story", STORY, Prompter(base), 100, other)], 200)
    assert again["text"][0] != found["text"][0]


def test_a_text_without_a_token_to_predict_is_refused(checkpoint) -> None:
    base = checkpoint("qwen2")
    text = TextReadout.of("story", STORY.assign(prompt="!"), Prompter(base), 100)
    with refused("task.documents-too-short", task="story"):
        evaluate(build(base, None, BASE)[0], [text], 200)


def test_a_text_that_costs_no_number_is_refused(checkpoint) -> None:
    base = checkpoint("qwen2")
    model, _ = build(base, None, BASE)
    torch.nn.init.constant_(model.model.norm.weight, float("nan"))
    with refused("model.scores-not-finite", task="story"):
        evaluate(model, [TextReadout.of("story", STORY, Prompter(base), 100)], 200)


# free text

WRITE = Generation(sampling="nucleus", max_new_tokens=8, batch_tokens=40)


def openings(
    base: Path, model: PreTrainedModel, settings: Generation = WRITE
) -> list[FreeTextReadout]:
    frames = {task: frame.assign(text=frame["prompt"]) for task, frame in TASKS.items()}
    return [
        FreeTextReadout.of(task, frame, Prompter(base), 64, settings, model)
        for task, frame in frames.items()
    ]


def test_free_text_has_a_row_for_each_test_sample(checkpoint) -> None:
    base = checkpoint("llama")
    model, _ = build(base, None, BASE)
    found = evaluate(model, openings(base, model), 200)
    expected = [
        (task, row.id, row.answer)
        for task, frame in TASKS.items()
        for row in frame[frame["split"] == "test"].itertuples()
    ]
    keys = found[["task", "sample", "label"]]
    assert list(keys.itertuples(index=False, name=None)) == expected
    assert found[["candidate", "loglik"]].isna().all(axis=None)
    assert found["text"].map(type).eq(str).all()
    assert found["text"].nunique() > 5
    assert found["tokens"].between(1, 8).all()
    assert found["loglik"].dtype == "float32"
    assert found["tokens"].dtype == "int16"


def test_a_task_of_either_readout_stands_beside_the_other(checkpoint, tmp_path) -> None:
    base = checkpoint("llama")
    model, _ = build(base, None, BASE)
    asks, writes = asked(base)[0], openings(base, model)[1]
    evaluate(model, [asks, writes], 200).to_parquet(tmp_path / "both.parquet", index=False)
    both = pd.read_parquet(tmp_path / "both.parquet")
    assert both["text"].notna().tolist() == [False] * 15 + [True] * 4
    assert both["candidate"].isna().tolist() == both["text"].notna().tolist()
    assert both["loglik"].isna().tolist() == both["text"].notna().tolist()
    alone = evaluate(model, [asks], 200)
    assert "text" not in alone
    assert both["loglik"][:15].tolist() == alone["loglik"].tolist()


def test_cells_on_a_shared_base_write_as_each_alone(checkpoint, twin) -> None:
    base = checkpoint("qwen2")
    tuned = twin(base)
    shared = CellModel(base)
    wrote = {}
    for each in (TUNED, BASE, cell("load", "gate")):
        folder = None if each.kind == "base" else tuned
        shared.become(folder, each)
        wrote[each.kind] = evaluate(shared.model, openings(base, shared.model), 200)
        model, _ = build(base, folder, each)
        pd.testing.assert_frame_equal(wrote[each.kind], evaluate(model, openings(base, model), 200))
    assert wrote["base"]["text"].tolist() != wrote["tuned"]["text"].tolist()


def test_affectgpts_template_goes_around_the_bare_text(checkpoint) -> None:
    base = checkpoint("llama", max_position_embeddings=512)
    model, _ = build(base, None, BASE)
    settings = Generation(template="affectgpt", max_new_tokens=4)
    frame = TASKS["feel"].assign(text="Hello there.")
    found = FreeTextReadout.of("feel", frame, Prompter(base), 500, settings, model)
    told = Prompter(base).tokenizer.decode(found.prompts[0])
    assert "<Subtitle>Hello there.</Subtitle>" in told
    assert "Anna was" not in told
