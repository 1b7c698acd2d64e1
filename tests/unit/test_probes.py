"""What a linear probe reads from the text and the media of a task."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from command import in_process
from safetensors.torch import save_file

from affectlocus.core.step_tables import write_step_table
from affectlocus.data.prepared_task import PreparedTask
from affectlocus.lm.features import INDEX, TENSOR
from affectlocus.scoring.probes import interval, probe

COUNT = 400


@pytest.fixture
def samples() -> pd.DataFrame:
    """The answer is one of four: the voice tells its first half, the face its second."""
    rng = np.random.default_rng(0)
    loud, glad = rng.integers(0, 2, COUNT), rng.integers(0, 2, COUNT)
    names = np.array([["sad", "calm"], ["angry", "happy"]])
    return pd.DataFrame(
        {
            "split": ["train"] * 200 + ["test"] * 200,
            "text": [f"one said word{number % 7}" for number in range(COUNT)],
            "answer": names[loud, glad],
            "loud": loud,
            "glad": glad,
        }
    )


def media(samples: pd.DataFrame) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    noise = {name: rng.normal(size=(COUNT, 5)) for name in ("face", "voice")}
    noise["face"][:, 3] += 8 * samples["glad"].to_numpy()
    noise["voice"][:, 0] += 8 * samples["loud"].to_numpy()
    return noise


def accuracy(found: pd.DataFrame) -> dict[str, float]:
    return dict(zip(found["read"], found["accuracy"], strict=True))


def test_one_medium_reads_half_of_it_and_both_together_read_it(samples: pd.DataFrame) -> None:
    read = accuracy(probe("t", samples, media(samples)))
    assert read["face + voice"] > 97
    assert read["text + face + voice"] > 90
    assert 40 < read["face"] < 60
    assert 40 < read["voice"] < 60
    assert read["text"] < 35


def test_the_probe_is_scored_on_samples_that_it_was_not_fitted_to(samples: pd.DataFrame) -> None:
    # Five hundred numbers of noise separate 200 training samples perfectly, and no other.
    noise = np.random.default_rng(2).normal(size=(COUNT, 500))
    found = probe("t", samples, {"voice": noise})
    assert accuracy(found)["voice"] < 40
    assert set(found["train"]) == set(found["test"]) == {200}


def test_words_of_the_text_are_read(samples: pd.DataFrame) -> None:
    told = samples.assign(text=samples["text"] + " and was " + samples["answer"])
    assert accuracy(probe("t", told, media(samples)))["text"] > 99


def test_a_task_without_a_test_split_or_with_one_answer_has_no_rows(samples: pd.DataFrame) -> None:
    features = media(samples)
    assert probe("t", samples.assign(split="train"), features).empty
    assert probe("t", samples.assign(answer="sad"), features).empty


def test_the_interval_is_wilsons() -> None:
    # 50 of 100: 40.38 to 59.62 (Wilson 1927)
    assert interval(50, 100) == pytest.approx((40.383, 59.617), abs=1e-3)
    low, high = interval(0, 20)
    assert low == pytest.approx(0, abs=1e-9)
    assert high == pytest.approx(16.11, abs=0.01)


def write_features(samples: pd.DataFrame, values: np.ndarray, path: Path, parts: int = 2) -> None:
    """The features of each sample as some tokens of equal width, in the opposite order."""
    path.parent.mkdir(exist_ok=True)
    tokens = values.reshape(len(values) * parts, -1)
    save_file({TENSOR: torch.from_numpy(tokens[::-1].copy()).float()}, path)
    starts = [(len(values) - 1 - row) * parts for row in range(len(values))]
    index = samples.assign(file="", sha256="", reason="", start=starts, tokens=parts)
    write_step_table(path.with_suffix(".parquet"), index[list(INDEX)])


def test_the_command_reads_the_features_of_each_sample_by_its_id(
    tmp_path: Path, samples: pd.DataFrame
) -> None:
    named = samples.assign(id=[str(number) for number in range(COUNT)], prompt="")
    PreparedTask("t", ["sad", "calm", "angry", "happy"], named).write(tmp_path / "t.parquet")
    flags = []
    for name, values in media(samples).items():
        padded = np.hstack([values, np.zeros((COUNT, 1))])
        write_features(named, padded, tmp_path / "t" / f"{name}.safetensors")
        flags += ["--features", f"t/{name}.safetensors"]
    done = in_process(tmp_path, "probes", "t.parquet", *flags, "--out", "probes.csv")
    assert done.returncode == 0, done.stderr
    read = accuracy(pd.read_csv(tmp_path / "probes.csv"))
    assert read["face + voice"] > 97
    assert 40 < read["face"] < 60


def test_a_task_without_features_is_refused(tmp_path: Path, samples: pd.DataFrame) -> None:
    named = samples.assign(id=[str(number) for number in range(COUNT)], prompt="")
    PreparedTask("t", ["sad", "calm", "angry", "happy"], named).write(tmp_path / "t.parquet")
    done = in_process(
        *(tmp_path, "probes", "t.parquet", "--features", "other/face.safetensors"),
        *("--out", "probes.csv"),
    )
    assert done.returncode == 1
    assert "probes.no-features" in done.stderr
    assert not (tmp_path / "probes.csv").exists()
