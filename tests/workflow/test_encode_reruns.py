"""Rule `encode`: what reruns after a change, and what an unusable file does to a run."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from programs import heavy
from project import ROOT, environment
from transformers import LlamaConfig

sys.path.insert(0, str(ROOT / "tests/unit"))

from media_writer import tone, write_sound
from tiny_encoders import save_encoder

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("runs")]

PARAMETERS = """
bases: {small: {folder: base}}
pairs: {felt: {base: small, tuning: {data: [mine], rank: 2, steps: 2}}}
media:
  voice: {kind: audio, encoder: hubert, layers: [-1]}
tasks:
  mine:
    files: {all: clips.csv}
    columns: {label: emotion, id: id}
    labels: [joy, fear]
    media: {voice: "voices/{id}.wav"}
    prompt: "{text} <voice>"
    absent: refuse
matrix: {pairs: [felt], tune: [], load: [gate]}
"""
TABLE = "results/data/mine.parquet"
LOG = "results/logs/encode/mine/voice.log"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An experiment with six recordings and an encoder."""
    save_encoder("hubert", tmp_path / "hubert")
    LlamaConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2).save_pretrained(
        tmp_path / "base"
    )
    rows = ["id,split,text,emotion"]
    for index in range(6):
        write_sound(tmp_path / f"voices/s{index}.wav", tone(0.4, 150 + 40 * index))
        split, emotion = ("train", "test")[index % 2], ("joy", "fear")[index // 2 % 2]
        rows.append(f"s{index},{split},text {index},{emotion}")
    (tmp_path / "clips.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    (tmp_path / "params.yaml").write_text(PARAMETERS, encoding="utf-8")
    return tmp_path


def snakemake(folder: Path, *words: str) -> tuple[int, str, set[str]]:
    """Exit code, output, and the rules whose jobs ran or would run."""
    done = subprocess.run(
        [heavy() / "snakemake", "--cores", "1", "--directory", folder, *words, TABLE],
        cwd=ROOT,
        env=environment(ROOT, heavy()),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    rules = set(re.findall(r"^(?:local)?rule (\w+):", done.stdout, re.M))
    return done.returncode, done.stdout, rules


def change(folder: Path, old: str, new: str) -> None:
    file = folder / "params.yaml"
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new), encoding="utf-8")


def test_only_what_changed_is_encoded_again(folder: Path) -> None:
    code, said, rules = snakemake(folder)
    assert code == 0, said[-3000:]
    assert rules == {"retrieve", "encode", "prepare"}
    assert snakemake(folder)[2] == set()
    # The encoder does not use the prompt.
    change(folder, '"{text} <voice>"', '"{text}: <voice>"')
    assert snakemake(folder)[2] == {"prepare"}
    features = folder / "results/features/mine/voice.safetensors"
    before = features.read_bytes()
    write_sound(folder / "voices/s1.wav", tone(0.5, 700))
    assert snakemake(folder)[2] == {"encode", "prepare"}
    assert "5 of 6 voice files were encoded by an earlier job" in (folder / LOG).read_text()
    assert features.read_bytes() != before
    change(folder, "layers: [-1]", "layers: [-1, -2]")
    assert snakemake(folder, "--dry-run")[2] == {"encode", "prepare"}
    change(folder, "layers: [-1, -2]", "layers: [-1]")
    assert snakemake(folder, "--dry-run")[2] == set()


def test_a_file_that_cannot_be_used_stops_the_run_or_is_left_out(folder: Path) -> None:
    write_sound(folder / "voices/s1.wav", np.zeros(8000, np.float32))
    code, said, _ = snakemake(folder)
    assert code != 0
    assert "voices/s1.wav is silent" in said
    assert "[encode.unusable-files]" in said
    assert not (folder / TABLE).exists()
    change(folder, "absent: refuse", "absent: drop")
    code, said, _ = snakemake(folder)
    assert code == 0, said[-3000:]
    assert '"silent": 1' in (folder / "results/data/mine.json").read_text(encoding="utf-8")
    # A missing file is found before any job runs.
    change(folder, "absent: drop", "absent: refuse")
    (folder / "voices/s2.wav").unlink()
    code, said, rules = snakemake(folder, "--dry-run")
    assert (code, rules) == (1, set())
    assert "[task.no-media-file]" in said
