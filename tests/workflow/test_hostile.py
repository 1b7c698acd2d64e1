"""Snakemake runs jobs on hostile names and texts: nothing of them is run, no log has a secret."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from safetensors.numpy import save_file

# The workers would each run the experiment.
pytestmark = [pytest.mark.full, pytest.mark.xdist_group("hostile")]

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
SHELL = "$(touch ran) `touch ran`; touch ran & 'touch ran' \"touch ran\" | #"
QUESTION = "{cell} {input} {x}: $(touch ran) <script>alert(1)</script>"
SECRETS = {
    "HF_TOKEN": "tok-0000-hf-hub",
    "HUGGING_FACE_HUB_TOKEN": "hf_zzzzzzzzzzzzzzzz",
    "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG",
    "MY_KEY": "key/with+signs-0000",
    "DATA_BASE": "postgres://ann:hunter2hunter2@127.0.0.1:9/",
}
TARGETS = [
    *("results/checkpoints/base.json", "results/checkpoints/pair.json"),
    *("results/data/moods.parquet", "results/deltas/pair.parquet"),
]


def weights(seed: int) -> dict[str, np.ndarray]:
    """A layer of LLaMA's."""
    drawn = np.random.default_rng(seed)
    shapes = {f"self_attn.{name}_proj": (8, 8) for name in "qkvo"}
    shapes |= {"mlp.gate_proj": (12, 8), "mlp.up_proj": (12, 8), "mlp.down_proj": (8, 12)}
    return {
        f"model.layers.0.{name}.weight": drawn.normal(size=shape).astype(np.float32)
        for name, shape in shapes.items()
    }


def snakemake(folder: Path, *arguments: str) -> str:
    """Runs it to a good end; what it printed."""
    run = subprocess.run(
        [
            *(BIN / "snakemake", "--snakefile", ROOT / "Snakefile", "--directory", folder),
            *("--cores", "2", *arguments),
        ],
        env={
            **os.environ,
            **SECRETS,
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT / "workflow"),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]
    return run.stdout + run.stderr


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An experiment on files of hostile names, its first jobs run."""
    folder = tmp_path_factory.mktemp("hostile")
    data = folder / f"--data {SHELL}"
    for name, seed in (("--base", 0), (f"pair {SHELL}", 1)):
        (data / name).mkdir(parents=True)
        save_file(weights(seed), data / name / "model.safetensors")
        (data / name / "config.json").write_text(json.dumps({"model_type": "llama"}))
    rows = {"id": ["1", "2", "3"], "mood": ["joy", "</script>", "=1+1"]}
    texts = [f"{SHELL} {{task}}\n\0".rstrip("\0"), "<script>alert(1)</script>", "=cmd|' /C x'!A1"]
    pd.DataFrame(rows | {"text": texts}).to_csv(data / f"-- {SHELL}.csv", index=False)
    parameters = {
        "data_root": data.name,
        "bases": {"base": {"folder": "--base"}},
        "pairs": {"pair": {"base": "base", "tuned": f"pair {SHELL}"}},
        "tasks": {
            "moods": {
                "files": {"test": f"-- {SHELL}.csv"},
                "columns": {"label": "mood", "id": "id"},
                "labels": {"joy": f"joy {SHELL}", "</script>": "</script>", "=1+1": "{task}"},
                "prompt": "{text} {{task}} $(touch ran)",
            }
        },
        "matrix": {"pairs": ["pair"], "load": ["gate"], "tune": [], "ablate": []},
        "evaluate": {
            "readout": "generation",
            "generation": {"question": QUESTION, "stop": ["{x}"]},
        },
    }
    (folder / "params.yaml").write_text(yaml.safe_dump(parameters), encoding="utf-8")
    snakemake(folder, *TARGETS)
    return folder


def test_texts_and_names_arrive_as_they_are(experiment: Path) -> None:
    frame = pd.read_parquet(experiment / "results/data/moods.parquet")
    assert frame["text"].iloc[0].startswith(SHELL)
    assert frame["prompt"].iloc[1] == "<script>alert(1)</script> {task} $(touch ran)"
    assert frame["answer"].tolist() == [f"joy {SHELL}", "</script>", "{task}"]
    record = json.loads((experiment / "results/checkpoints/pair.json").read_text())
    assert record["folder"].endswith(SHELL)
    assert len(pd.read_parquet(experiment / "results/deltas/pair.parquet")) == 7


def test_nothing_of_them_is_run(experiment: Path) -> None:
    assert not [path for path in experiment.rglob("ran*") if path.name == "ran"]
    assert not (Path.cwd() / "ran").exists()


def test_snakemake_fills_in_no_braces_of_settings(experiment: Path) -> None:
    planned = snakemake(experiment, "--dry-run", "--printshellcmds", "results/table1.csv")
    assert json.dumps(QUESTION)[1:-1] in planned


def test_every_job_has_one_log_that_begins_with_its_circumstances(experiment: Path) -> None:
    logs = sorted((experiment / "results/logs").rglob("*.log"))
    assert len(logs) == len(TARGETS)
    for log in logs:
        text = log.read_text(encoding="utf-8")
        for topic in ("step", "code", "versions", "hardware", "seed", "parameters"):
            assert len(re.findall(rf"^# {topic}: .+$", text, re.M)) == 1, log
        assert re.search(r"^# code: affectlocus \S+, git ([0-9a-f]{40}|none)", text, re.M)


def test_no_file_of_a_run_holds_a_secret(experiment: Path) -> None:
    hidden = [*SECRETS.values(), "hunter2hunter2", "key%2Fwith%2Bsigns-0000"]
    files = [path for path in experiment.rglob("*") if path.is_file()]
    assert len(files) > 10
    for path in files:
        content = path.read_bytes()
        assert not [one for one in hidden if one.encode() in content], path
