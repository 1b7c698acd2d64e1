"""`affectlocus diff` and `convert`, as a person with two checkpoints types them."""

from __future__ import annotations

import html
import json
import math
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import layouts
import pandas as pd
import pytest
import torch
from adapter_files import on_layers, peft_folder
from command import in_process, own_process
from hub import serving
from refusal import refused
from safetensors.torch import load_file, save_file

from affectlocus.checkpoints.adapters import Adapter
from affectlocus.checkpoints.convert import convert
from affectlocus.checkpoints.pairs import Pair
from affectlocus.cli import app
from affectlocus.core.errors import InputError
from affectlocus.core.output_files import MARKER
from affectlocus.deltas import layer_values
from affectlocus.deltas.delta_tables import DeltaTables, write_tables
from affectlocus.deltas.deltas import deltas
from affectlocus.deltas.diff import ranked

REAL = Path(__file__).parents[3] / "shared" / "real" / "adapters"
GATE = "model.layers.1.mlp.gate_proj.weight"


def run(folder: Path, *arguments: str | Path, **more: str) -> subprocess.CompletedProcess[str]:
    own = {"COLUMNS": "200", "NO_COLOR": "1", "HF_HUB_OFFLINE": "0"}
    return in_process(folder, *arguments, **own | more)


def refusal(code: str, folder: Path, /, *arguments: str | Path, **fields: Any) -> InputError:
    """The error of a command in this process: its message is one line, and nothing is written."""
    before = sorted(folder.rglob("*"))
    with refused(code, **fields) as error:
        app([str(argument) for argument in arguments], standalone_mode=False)
    assert len(str(error.value).splitlines()) == 1
    assert sorted(folder.rglob("*")) == before
    return error.value


def test_a_pair_is_ranked_and_its_files_are_written(checkpoint, lora, tmp_path) -> None:
    base = checkpoint("llama")
    adapter = lora(base, ["gate_proj", "q_proj"])
    done = run(tmp_path, "diff", base, adapter, "--score", "l2")
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines() if "│" in line]
    names = [row[1] for row in rows[:7]]
    means = {
        name: sum(
            row["l2"] for row in deltas(Pair(base, adapter)).rows if row["projection"] == name
        )
        for name in ("gate", "q")
    }
    assert names[:2] == sorted(means, key=lambda name: -means[name])
    assert sorted(names[2:]) == ["down", "k", "o", "up", "v"]
    assert done.stdout.count("not adapted") == 5
    written = sorted(path.name for path in (tmp_path / "diff").iterdir())
    assert written == [
        "deltas.histogram.parquet",
        "deltas.neurons.parquet",
        "deltas.parquet",
        "heat_map.png",
        "heat_map.svg",
    ]
    assert all(f"diff/{name}" in done.stderr for name in written[:3])
    assert "experts" not in done.stderr
    assert len(pd.read_parquet(tmp_path / "diff/deltas.parquet")) == 14
    for name in ("histogram", "neurons"):
        assert len(pd.read_parquet(tmp_path / f"diff/deltas.{name}.parquet"))


def test_json_is_one_object_with_null_where_there_is_nothing(checkpoint, lora, tmp_path) -> None:
    base = checkpoint("llama")
    adapter = lora(base, ["gate_proj"])
    done = run(tmp_path, "diff", base, adapter, "--json")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert list(found["projections"]) == ["q", "k", "v", "o", "gate", "up", "down"]
    gate, up = found["projections"]["gate"], found["projections"]["up"]
    values = [row for row in deltas(Pair(base, adapter)).rows if row["projection"] == "gate"]
    for name in ("l2", "relative", "rms", "spectral_norm"):
        mean = sum(row[name] for row in values) / len(values)
        assert gate[name] == pytest.approx(mean, rel=1e-12), name
        assert up[name] is None
    assert (gate["adapted"], up["adapted"]) == (True, False)
    assert not list(tmp_path.iterdir()), "--json without --out writes no file"


def test_what_an_adapter_alone_does_not_tell_is_unknown(tmp_path) -> None:
    adapter = peft_folder(tmp_path / "a", on_layers("model.", "self_attn.q_proj"))
    done = run(tmp_path, "diff", adapter)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("unknown") == 6
    assert "not adapted" not in done.stdout
    assert "no factors of k, v, o, gate, up, down" in done.stderr
    told = json.loads(run(tmp_path, "diff", adapter, "--json").stdout)["projections"]
    assert [told[name]["adapted"] for name in ("q", "k", "gate")] == [True, None, None]


def test_layers_are_told_in_text_in_json_and_in_a_sentence(checkpoint, lora, tmp_path) -> None:
    base = checkpoint("llama")
    adapter = lora(base, ["gate_proj", "q_proj"])
    measured = deltas(Pair(base, adapter)).rows
    done = run(tmp_path, "diff", base, adapter, "--json")
    found = json.loads(done.stdout)
    assert len(found["layers"]) == 14
    for row, expected in zip(
        found["layers"], (one for one in measured if one["parameter"] == "weight"), strict=True
    ):
        assert (row["layer"], row["projection"]) == (expected["layer"], expected["projection"])
        assert row["rms"] == (None if math.isnan(expected["rms"]) else expected["rms"])
    sizes = {(r["projection"], r["layer"]): r["rms"] for r in found["layers"] if r["adapted"]}
    means = {name: (sizes[name, 0] + sizes[name, 1]) / 2 for name in ("gate", "q")}
    first, second = sorted(means, key=lambda name: -means[name])
    at = max((0, 1), key=lambda layer: sizes[first, layer])
    said = found["conclusion"]
    assert said.startswith(
        f"{first} changed most (RMS {means[first]:.3g}, {means[first] / means[second]:.3g} times "
        f"that of {second}), most of all in layer {at} ({sizes[first, at]:.3g}, "
    )
    assert "half of the squared change is in 1 of 2 layers" in said
    text = run(tmp_path, "diff", base, adapter, "--out", "out").stdout
    assert said in " ".join(text.split())
    _, _, after = text.partition("RMS by layer")
    heat = [line.split("│") for line in after.splitlines() if "│" in line]
    power = re.match(r", ×10\^(-?\d+)", after)
    assert power
    for layer, line in enumerate(heat):
        _, name, q, k, _, _, gate, *_ = (cell.split() for cell in line)
        assert name == [str(layer)]
        for cell, projection in ((q, "q"), (gate, "gate")):
            expected = sizes[projection, layer] / 10 ** int(power[1])
            assert float(cell[-1]) == pytest.approx(expected, abs=0.0051)
        assert k == [], "k was not adapted"


@pytest.mark.parametrize("columns", [80, 200])
def test_the_tables_fit_into_the_terminal(checkpoint, lora, tmp_path, columns) -> None:
    base = checkpoint("llama")
    done = run(tmp_path, "diff", base, lora(base, ["gate_proj"]), COLUMNS=str(columns))
    lines = done.stdout.splitlines()
    tables = [line for line in lines if re.search("[─━│┃┼]", line)]
    assert max(map(len, tables)) <= columns
    assert "…" not in "".join(tables)
    assert ("stable rank" in "".join(tables)) == (columns == 200)
    said = " ".join(done.stdout.split())
    left_out = re.search(r"Too wide for this terminal: (.*) \(see --json\)", said)
    assert (left_out is not None) == (columns == 80)
    assert left_out is None or left_out[1].endswith("spectral norm, stable rank")


def test_many_layers_are_put_together_in_the_heat_map() -> None:
    rows = [
        {"layer": layer, "projection": "q", "parameter": "weight", "adapted": True}
        | dict.fromkeys(("l2", "relative", "rms", "share_ratio"), float(layer))
        for layer in range(80)
    ]
    grid = layer_values.heat_map(rows, "rms")
    assert grid is not None and grid.row_count == 40
    assert list(grid.columns[0].cells)[:2] == ["0-1", "2-3"]
    assert list(grid.columns[1].cells)[:2] == ["▁ 0.5", "▁ 2.5"]
    assert "each row is the mean of 2 layers" in str(grid.title)
    said = layer_values.conclusion(rows, "rms")
    assert said == (
        "q changed most (RMS 39.5), most of all in layer 79 (79, 2.00 times its mean over "
        "layers); half of the squared change is in 17 of 80 layers."
    )


def test_a_pair_without_a_difference_has_no_heat_map(checkpoint, tmp_path) -> None:
    base = checkpoint("llama")
    done = run(tmp_path, "diff", base, base)
    assert "No projection differs." in done.stdout
    assert "by layer" not in done.stdout


def test_a_page_is_one_file_that_loads_nothing(checkpoint, lora, tmp_path) -> None:
    base = checkpoint("llama")
    hostile = tmp_path / "<b>&'a"
    lora(base, ["gate_proj", "q_proj"]).rename(hostile)
    for name in ("one", "two"):
        done = run(tmp_path, "diff", base, hostile, "--json", "--html", f"{name}.html")
        assert done.returncode == 0, done.stderr
    page = (tmp_path / "one.html").read_text(encoding="utf-8")
    assert page == (tmp_path / "two.html").read_text(encoding="utf-8")
    assert sorted(path.name for path in tmp_path.glob("*.html")) == ["one.html", "two.html"]
    assert html.escape(json.loads(done.stdout)["conclusion"]) in page
    assert "&lt;b&gt;&amp;&#x27;a" in page and "<b>" not in page
    assert set(re.findall(r'(?:src|href)="(\w+:)', page)) == {"data:"}
    assert "default-src 'none'" in page
    assert page.count("<h1>") == 1 and 'lang="en"' in page
    assert 'alt="Heat maps' in page
    assert len(re.findall(r'<th scope="row">\d (?:gate|q)<', page)) == 4
    assert len(page) < 200_000


def test_a_page_does_not_replace_an_input(checkpoint, lora, tmp_path) -> None:
    base = checkpoint("llama")
    file = next(base.glob("*.safetensors"))
    given = ("diff", file, lora(base, ["q_proj"]), "--html", file)
    refusal("output.is-an-input", tmp_path, *given, file=file)


def test_an_adapter_alone_needs_no_base(checkpoint, lora, tmp_path) -> None:
    adapter = lora(checkpoint("llama"), ["gate_proj"])
    done = run(tmp_path, "diff", adapter, "--json", "--out", "here")
    assert done.returncode == 0, done.stderr
    gate = json.loads(done.stdout)["projections"]["gate"]
    assert gate["l2"] > 0
    assert gate["relative"] is None
    assert (tmp_path / "here/heat_map.png").stat().st_size > 10_000
    assert not list((tmp_path / "here").glob("deltas.*.parquet")), "no companion has a row"


@pytest.mark.parametrize("pair", [False, True])
def test_nothing_heavy_is_imported(checkpoint, lora, twin, tmp_path, pair) -> None:
    base = checkpoint("llama")
    given = [str(base), str(twin(base))] if pair else [str(lora(base, ["gate_proj"]))]
    heavy = {"torch", "transformers", "peft", "pandas", "matplotlib"}
    heavy |= set() if pair else {"numba"}
    code = (
        "import sys; from affectlocus.cli import app; "
        f"app(['diff', *{given!r}, '--json'], standalone_mode=False); "
        f"print(sorted({heavy!r} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stderr.splitlines()[-1] == "[]"


def test_projections_without_a_score_come_last() -> None:
    rows = {"q": {"rms": None}, "gate": {"rms": 1.0}, "up": {"rms": 2.0}}
    assert ranked(rows, "rms") == ["up", "gate", "q"]


def test_a_chain_is_given_by_then(checkpoint, lora, tmp_path) -> None:
    base = checkpoint("llama")
    files = [
        layouts.trained_only(lora(base, ["q_proj"], seed=seed), tmp_path / f"{seed}.pth")
        for seed in (1, 2)
    ]
    done = run(tmp_path, "diff", base, files[1], "--then", files[0], "--alpha", "6", "--json")
    assert done.returncode == 0, done.stderr
    rows = deltas(Pair([base, files[0]], files[1], alpha=6)).rows
    l2 = [row["l2"] for row in rows if row["projection"] == "q"]
    found = json.loads(done.stdout)["projections"]
    assert found["q"]["l2"] == pytest.approx(sum(l2) / 2, rel=1e-9)
    assert found["gate"]["adapted"] is False
    assert "20 trained tensors outside the base" in done.stderr


def test_changes_outside_the_seven_are_noted_with_and_without_a_base(
    checkpoint, lora, tmp_path
) -> None:
    base = checkpoint("llama")
    adapter = lora(base, ["q_proj", "embed_tokens"], modules_to_save=["lm_head"])
    note = f"note: {adapter} also adapts embed_tokens: outside the seven projections, so not"
    assert note in run(tmp_path, "diff", adapter, "--json").stderr
    said = run(tmp_path, "diff", base, adapter, "--json").stderr
    assert note in said
    assert f"note: {adapter} also holds whole lm_head: outside the seven" in said
    assert "outside the seven projections it also changes embed_tokens, lm_head. Tuned" in said
    assert len(said.splitlines()) == 3
    # What made the base is no part of the change.
    later = lora(base, ["q_proj"], seed=2)
    assert "also" not in " ".join(Pair([base, adapter], later).notes)


def test_a_whole_model_that_changes_more_than_the_seven_says_so(checkpoint, tmp_path) -> None:
    base = checkpoint("llama")

    def change(tensors) -> None:
        tensors["model.layers.1.input_layernorm.weight"] += 1
        tensors["model.embed_tokens.weight"][3] += 1

    tuned = edited(base, tmp_path / "tuned", change)
    ran = run(tmp_path, "diff", base, tuned, "--json")
    assert json.loads(ran.stdout)["outside"] == ["embed_tokens", "input_layernorm"]
    assert "it also changes embed_tokens, input_layernorm. Tuned and ablate cells" in ran.stderr
    assert "note: no projection differs\n" in ran.stderr


def edited(folder: Path, out: Path, change) -> Path:
    shutil.copytree(folder, out)
    file = next(out.glob("*.safetensors"))
    tensors = load_file(file)
    change(tensors)
    save_file({name: value.contiguous() for name, value in tensors.items()}, file)
    return out


def configured(folder: Path, out: Path, name: str, **values: Any) -> Path:
    shutil.copytree(folder, out)
    file = out / name
    config = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    file.write_text(json.dumps(config | values), encoding="utf-8")
    return out


def bad(
    kind: str, make: dict[str, Any], tmp_path: Path
) -> tuple[list[str | Path], str, dict[str, Any]]:
    """A bad pair of each kind, and the code and fields of its refusal."""
    base: Path = make["checkpoint"]("llama")
    lora, twin = make["lora"], make["twin"]
    there = tmp_path / "there"
    if kind == "no gated feed-forward":
        for side in ("a", "b"):
            (tmp_path / side).mkdir()
            save_file(
                {"h.0.attn.c_attn.weight": torch.ones(2, 2)}, tmp_path / side / "model.safetensors"
            )
        return [tmp_path / "a", tmp_path / "b"], "model.no-gate", {"file": tmp_path / "a"}
    if kind == "shapes differ":
        tuned = edited(base, there, lambda one: one.update({GATE: one[GATE].T}))
        shapes = {"found": (32, 48), "expected": (48, 32)}
        return [base, tuned], "pair.shapes-differ", {"file": tuned, "tensor": GATE, **shapes}
    if kind == "a missing tensor":
        tuned = edited(base, there, lambda one: one.pop(GATE))
        return [base, tuned], "pair.tensor-missing", {"file": tuned, "tensor": GATE}
    if kind == "quantised by its configuration":
        quantised = {"quant_method": "gptq", "bits": 4}
        packed = {GATE.replace("weight", "qweight"): torch.ones(4, 48, dtype=torch.int32)}
        edited(base, there, lambda one: one.update(packed))
        tuned = configured(there, tmp_path / "tuned", "config.json", quantization_config=quantised)
        return [base, tuned], "model.quantised", {"file": tuned, "found": "gptq"}
    if kind == "quantised tensors":
        tuned = edited(base, there, lambda one: one.update({GATE: one[GATE].to(torch.int8)}))
        return [base, tuned], "model.quantised", {"tensor": GATE, "found": "int8"}
    if kind == "another base":
        snapshot = tmp_path / "models--Qwen--Qwen2.5-7B" / "snapshots" / ("0" * 40)
        shutil.copytree(base, snapshot)
        adapter = configured(
            lora(base, ["q_proj"]),
            there,
            "adapter_config.json",
            base_model_name_or_path="Qwen/Qwen2.5-3B",
        )
        bases = {"found": "Qwen/Qwen2.5-7B", "expected": "Qwen/Qwen2.5-3B"}
        return [snapshot, adapter], "adapter.other-base", bases
    if kind == "another base's shapes":
        adapter = lora(make["checkpoint"]("llama", intermediate_size=64), ["gate_proj"])
        shapes = {"found": (64, 32), "expected": (48, 32)}
        return [base, adapter], "pair.shapes-differ", {"file": adapter, **shapes}
    if kind == "infinity":
        tuned = edited(base, there, lambda one: one[GATE][3, 4:6].fill_(math.inf))
        return [base, tuned], "checkpoint.not-finite", {"file": tuned, "tensor": GATE, "found": 2}
    if kind == "pickled code":
        file = tmp_path / "code.pth"
        torch.save({"model": Path("x")}, file)
        fields = {"file": file, "found": "pathlib.PosixPath"}
        return [base, file], "checkpoint.needs-code", fields
    if kind == "no alpha":
        file = layouts.trained_only(lora(base, ["q_proj"]), tmp_path / "a.pth")
        return [base, file], "adapter.no-alpha", {"file": file, "option": "alpha"}
    if kind == "a model alone":
        return [base], "pair.no-tuned", {"file": base}
    if kind == "nothing there":
        return [base, tmp_path / "nowhere"], "checkpoint.missing", {}
    if kind == "a cut file":
        tuned = shutil.copytree(twin(base), there)
        data = (tuned / "model.safetensors").read_bytes()
        (tuned / "model.safetensors").write_bytes(data[:-100])
        fields = {"file": tuned / "model.safetensors"}
        return [base, tuned], "checkpoint.broken-safetensors", fields
    if kind == "an unknown score":
        fields = {"option": "--score", "found": "size"}
        return [base, twin(base), "--score", "size"], "option.unknown-value", fields
    if kind == "a file for a folder":
        there.touch()
        return [base, twin(base), "--out", there], "output.is-a-file", {"file": there}
    if kind == "a folder for a file":
        (there / "heat_map.svg").mkdir(parents=True)
        fields = {"file": there / "heat_map.svg"}
        return [base, twin(base), "--out", there], "output.is-a-folder", fields
    if kind == "a folder below a file":
        there.touch()
        return [base, twin(base), "--out", there / "below"], "output.below-a-file", {"found": there}
    if kind == "a folder's name that is too long":
        fields = {"reason": "File name too long"}
        return [base, twin(base), "--out", "x" * 5000], "output.not-writable", fields
    if kind == "a path that is too long":
        return [base, "x" * 5000], "checkpoint.unreadable", {}
    if kind == "a slip in a path":
        return [base, "models/./tuned"], "checkpoint.missing", {}
    if kind == "a slip in a file's name":
        return (
            [base, "runs/model.safetensors"],
            "checkpoint.missing",
            {"says": "expected a model's"},
        )
    if kind == "a path of another system":
        return [base, "models\\a/b"], "checkpoint.missing", {}
    if kind == "a slip below a folder":
        (tmp_path / "runs").mkdir()
        return [base, "runs/tuend"], "checkpoint.missing", {"says": " in runs; if it is a hub id"}
    if kind == "a link that leads nowhere":
        (tmp_path / "runs").mkdir()
        (tmp_path / "runs" / "last").symlink_to("gone")
        fields = {"says": "it is a link to gone, which does not exist"}
        return [base, "runs/last"], "checkpoint.missing", fields
    if kind.startswith("--"):
        alone: list[str | Path] = [lora(base, ["q_proj"])]
        option, _, against = kind.partition(" ")
        sides = {"": alone, "adapter": [base, *alone], "model": [base, twin(base)]}[against]
        value = {"--any-base": [], "--alpha": ["2"]}.get(option, ["x"])
        return [*sides, option, *value], "option.no-effect", {"option": option}
    assert kind == "another kind of adapter"
    adapter = configured(lora(base, ["q_proj"]), there, "adapter_config.json", peft_type="IA3")
    fields = {"key": "peft_type", "found": "IA3"}
    return [base, adapter], "adapter.unsupported-setting", fields


KINDS = (
    *("no gated feed-forward", "shapes differ", "a missing tensor"),
    *("quantised by its configuration", "quantised tensors", "another base"),
    *("another base's shapes", "infinity", "pickled code", "no alpha", "a model alone"),
    *("nothing there", "a cut file", "an unknown score", "another kind of adapter"),
    *("a file for a folder", "a folder for a file", "a folder below a file"),
    *("a folder's name that is too long", "a path that is too long", "a slip in a path"),
    *("a slip in a file's name", "a path of another system", "a slip below a folder"),
    *("a link that leads nowhere", "--alpha", "--prefix", "--then", "--any-base"),
    *("--alpha adapter", "--alpha model", "--prefix adapter", "--any-base model"),
)


@pytest.mark.parametrize("kind", KINDS)
def test_bad_input_is_refused_in_one_line(
    kind, checkpoint, lora, twin, tmp_path, monkeypatch
) -> None:
    make = {"checkpoint": checkpoint, "lora": lora, "twin": twin}
    arguments, code, fields = bad(kind, make, tmp_path)
    monkeypatch.chdir(tmp_path)
    says = fields.pop("says", "")
    error = refusal(code, tmp_path, "diff", *arguments, **fields)
    assert says in str(error)
    assert len(str(error)) < 500


def test_what_would_be_misread_is_refused_with_its_own_reason(
    checkpoint, lora, tmp_path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    base = checkpoint()
    adapter, garbage = lora(base, ["q_proj"]), tmp_path / "garbage.pth"
    garbage.write_bytes(b"x" * 500)
    for arguments, code in (
        ((adapter, adapter), "pair.base-is-adapter"),
        ((base, garbage), "checkpoint.not-pytorch"),
        ((adapter, "--score", "relative"), "option.needs-base"),
    ):
        refusal(code, tmp_path, "diff", *arguments)


def test_equal_checkpoints_give_a_note(checkpoint, tmp_path) -> None:
    base = checkpoint()
    ran = run(tmp_path, "diff", base, base)
    assert ran.returncode == 0, ran.stderr
    assert "both are the same model" in ran.stderr
    assert "the earlier diff" not in ran.stderr
    assert "note: the earlier diff in diff is replaced" in run(tmp_path, "diff", base, base).stderr


def test_an_out_that_cannot_be_written_is_refused_before_anything_is_read(tmp_path) -> None:
    (tmp_path / "file").touch()
    refusal("output.is-a-file", tmp_path, "diff", "a/b", "--out", tmp_path / "file")


def test_a_path_may_hold_what_markup_and_formulae_are_made_of(
    checkpoint, lora, tmp_path, monkeypatch, capsys
) -> None:
    name = r"[red][/b]$\frac{$[b]"
    shutil.copytree(lora(checkpoint("llama"), ["gate_proj"]), tmp_path / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    app(["diff", f"./{name}"], standalone_mode=False)
    title = f"./{name} (no base given: absolute sizes only)"
    assert title in capsys.readouterr().out
    # Above the figure stands the name, not where it lay.
    drawn = html.unescape((tmp_path / "diff/heat_map.svg").read_text(encoding="utf-8"))
    assert Path(name).name in drawn
    assert name not in drawn


def test_a_companion_of_an_earlier_pair_does_not_stay(tmp_path) -> None:
    measured = DeltaTables(neurons=[{"layer": 0, "projection": "up", "neuron": 0, "l2": 1.0}])
    out = tmp_path / "deltas.parquet"
    neurons = tmp_path / "deltas.neurons.parquet"
    assert write_tables(measured, out, empty=False) == [out, neurons]
    assert write_tables(DeltaTables(), out, empty=False) == [out]
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize("command", ["convert", "graft"])
def test_a_folder_with_other_files_is_refused_as_output(
    command, checkpoint, lora, tmp_path
) -> None:
    base = checkpoint("llama")
    adapter = lora(base, ["q_proj"])
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.tex").touch()
    inside = adapter / "out"
    arguments: list[str | Path] = [adapter]
    if command == "graft":
        arguments = ["--base", base, "--tuned", adapter, "--modules", "q"]
    for out, code in (
        (tmp_path / "home", "output.holds-other-files"),
        (adapter, "output.is-an-input"),
        (adapter.parent, "output.contains-input"),
        (inside, "output.inside-input"),
    ):
        refusal(code, tmp_path, command, *arguments, "--out", out)


def test_convert_replaces_what_it_wrote(checkpoint, lora, tmp_path) -> None:
    adapter, out = lora(checkpoint("llama"), ["q_proj"]), tmp_path / "out"
    for _ in range(2):
        convert(Adapter(adapter), out)
    names = {"adapter_config.json", "adapter_model.safetensors", MARKER}
    assert {path.name for path in out.iterdir()} == names


def test_a_resized_vocabulary_is_noted_and_the_seven_are_measured(checkpoint, tmp_path) -> None:
    base = checkpoint("llama")

    def grow(tensors: dict[str, torch.Tensor]) -> None:
        for name in ("model.embed_tokens.weight", "lm_head.weight"):
            tensors[name] = torch.cat([tensors[name], torch.zeros(2, 32)])
        tensors[GATE] = tensors[GATE] + 1

    done = run(tmp_path, "diff", base, edited(base, tmp_path / "tuned", grow), "--json")
    assert done.returncode == 0, done.stderr
    assert "the vocabulary was resized: lm_head.weight has 290 rows" in done.stderr
    gate = json.loads(done.stdout)["projections"]["gate"]
    assert gate["l2"] == pytest.approx(math.sqrt(48 * 32) / 2, rel=1e-6)


def test_convert_writes_what_peft_loads_and_names_the_rest(checkpoint, lora, tmp_path) -> None:
    base = checkpoint("llama")
    file = layouts.trained_only(lora(base, ["q_proj"], r=3, lora_alpha=6), tmp_path / "a.pth")
    done = run(tmp_path, "convert", file, "--alpha", "6", "--modules", "q", "--out", "out")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["modules"], told["rank"], told["alpha"]) == (2, 3, 6)
    assert "image_llama_proj.weight" in told["other"]
    assert (tmp_path / "out/adapter_config.json").is_file()


@pytest.mark.real
@pytest.mark.skipif(not REAL.is_dir(), reason="the real material is not beside the checkout")
def test_real_adapters_are_shown(tmp_path) -> None:
    done = run(tmp_path, "diff", REAL / "law-qwen2.5-3b")
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines() if "│" in line]
    assert [line[1] for line in lines[:2]] == ["v", "q"]  # by RMS; by L2 it is the other way round
    assert "0.458" in done.stdout
    assert done.stdout.count("not adapted") == 5
    mlx = json.loads(run(tmp_path, "diff", REAL / "mlx-qwen2.5-0.5b", "--json").stdout)
    assert mlx["projections"]["q"]["layers"] == 4
    assert mlx["projections"]["gate"]["adapted"] is False


ON_HUB = {"o/base": "a1" * 20, "o/adapter": "b2" * 20}


@pytest.fixture
def pair_on_hub(checkpoint, lora):
    """A hub with a base and an adapter; `environment(folder)` for a process that asks it."""
    base = checkpoint("llama")
    adapter = lora(base, ["gate_proj"])
    with serving() as hub:
        for name, folder in (("o/base", base), ("o/adapter", adapter)):
            files = {path.name: path.read_bytes() for path in folder.iterdir()}
            hub.add(name, ON_HUB[name], files)
        home = {"HF_ENDPOINT": hub.url, "NO_PROXY": "127.0.0.1", "HF_HUB_OFFLINE": "0"}
        yield hub, base, adapter, lambda folder: home | {"HF_HOME": str(folder / "home")}


def gate(printed: str) -> float:
    return json.loads(printed)["projections"]["gate"]["l2"]


def test_a_pair_may_lie_on_a_hub(pair_on_hub, tmp_path) -> None:
    hub, base, adapter, environment = pair_on_hub
    work = tmp_path / "work"
    work.mkdir()
    given = ("diff", f"o/base@{ON_HUB['o/base']}", "o/adapter", "--json")
    done = own_process(work, *given, **environment(tmp_path))
    assert done.returncode == 0, done.stderr
    assert f"note: o/adapter@main is {ON_HUB['o/adapter']}" in done.stderr
    assert not list(work.iterdir()), "--json writes no file"
    rows = deltas(Pair(base, adapter)).rows
    right = sum(r["l2"] for r in rows if r["adapted"]) / 2
    assert gate(done.stdout) == pytest.approx(right, rel=1e-9)
    # Again without network: the branch is what it was, and the files are in the cache.
    asked = len(hub.requests)
    offline = environment(tmp_path) | {"HF_HUB_OFFLINE": "1"}
    again = own_process(work, *given, **offline)
    assert again.returncode == 0, again.stderr
    assert again.stdout == done.stdout
    assert len(hub.requests) == asked
    # A local folder of that name is taken first.
    shutil.copytree(adapter, work / "o/adapter")
    (work / "o/adapter/adapter_model.safetensors").write_bytes(b"")
    local = own_process(work, *given, **environment(tmp_path))
    assert local.returncode == 1
    assert "o/adapter/adapter_model.safetensors: not a whole safetensors file" in local.stderr


def test_a_branch_that_moved_is_seen(pair_on_hub, tmp_path) -> None:
    hub, base, adapter, environment = pair_on_hub
    given = ("diff", str(base), "o/adapter", "--json")
    first = own_process(tmp_path, *given, **environment(tmp_path))
    moved = hub.repositories["o/adapter"]
    config = json.loads((adapter / "adapter_config.json").read_text())
    config["lora_alpha"] *= 2
    changed = {"adapter_config.json": json.dumps(config).encode()}
    moved.commits["c3" * 20] = moved.commits[ON_HUB["o/adapter"]] | changed
    moved.branches["main"] = "c3" * 20
    second = own_process(tmp_path, *given, **environment(tmp_path))
    assert gate(second.stdout) == pytest.approx(2 * gate(first.stdout))
    pinned = ("diff", str(base), f"o/adapter@{ON_HUB['o/adapter']}", "--json")
    assert gate(own_process(tmp_path, *pinned, **environment(tmp_path)).stdout) == gate(
        first.stdout
    )


@pytest.mark.parametrize(
    ("source", "why", "environment"),
    [
        ("o/nothing", "o/nothing: ", {}),
        ("o/base@nothing", "o/base: ", {}),
        ("o/base", "because HF_HUB_OFFLINE is set", {"HF_HUB_OFFLINE": "1"}),
    ],
)
def test_a_checkpoint_that_a_hub_lacks_is_refused_in_one_line(
    pair_on_hub, tmp_path, source, why, environment
) -> None:
    own = pair_on_hub[3](tmp_path) | environment
    done = own_process(tmp_path, "diff", source, "o/adapter", **own)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert why in line
    assert not (tmp_path / "diff").exists()


def test_a_damaged_download_is_fetched_again(pair_on_hub, tmp_path) -> None:
    _, base, _, environment = pair_on_hub
    given = ("diff", str(base), "o/adapter", "--json")
    first = own_process(tmp_path, *given, **environment(tmp_path))
    (file,) = (tmp_path / "home").rglob("snapshots/*/adapter_model.safetensors")
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.resolve().write_bytes(content)
    done = own_process(tmp_path, *given, **environment(tmp_path))
    assert "damaged in the cache; downloading it again" in done.stderr
    assert done.stdout == first.stdout
