"""Step `encode`: features once for each file, by content, and samples without a usable file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from command import in_process
from media_writer import pictures, tone, write_array, write_sound, write_video
from refusal import printed_code, refused
from safetensors.torch import load_file
from tiny_encoders import save_encoder

from affectlocus.config.media import Medium
from affectlocus.config.tasks import Task
from affectlocus.core.files import read_json
from affectlocus.data.prepare import prepare
from affectlocus.data.prepared_task import PreparedTask
from affectlocus.data.unusable import UnusableError
from affectlocus.lm.encode import Encoded, encode, refusal
from affectlocus.lm.encoders import MediaEncoder, as_stored
from affectlocus.lm.feature_store import FeatureStore
from affectlocus.lm.features import TENSOR, Features

AUDIO = Medium.model_validate({"kind": "audio", "encoder": "x"})
ARRAYS = Medium.model_validate({"kind": "features"})
TASK = {
    "columns": {"label": "emotion", "id": "id"},
    "labels": ["joy", "fear"],
    "media": {"voice": "voices/{id}.wav"},
}


@pytest.fixture(scope="module")
def hubert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_encoder("hubert", tmp_path_factory.mktemp("encoder") / "hubert")


class Counted:
    """An encoder that counts the files that it is given, and may stop at one of them."""

    def __init__(self, stop_at: int = -1) -> None:
        self.calls = 0
        self._stop_at = stop_at

    def __call__(self, read: np.ndarray) -> torch.Tensor:
        if self.calls == self._stop_at:
            raise KeyboardInterrupt
        self.calls += 1
        return torch.from_numpy(np.stack([read.mean(axis=1), read.std(axis=1)], axis=1))


def voices(folder: Path, count: int = 6) -> pd.DataFrame:
    """Recordings of different lengths, and the samples that name them."""
    for index in range(count):
        write_sound(folder / f"voices/s{index}.wav", tone(0.3 + 0.1 * index, 150 + 30 * index))
    return pd.DataFrame(
        {
            "split": ["train" if index < count // 2 else "test" for index in range(count)],
            "id": [f"s{index}" for index in range(count)],
            "file": [f"voices/s{index}.wav" for index in range(count)],
        }
    )


def of(found: Encoded, sample: str) -> torch.Tensor:
    row = found.index[found.index["id"] == sample].iloc[0]
    return found.values[row["start"] : row["start"] + row["tokens"]]


NOWHERE = FeatureStore(None)


def test_features_are_those_of_each_file_alone(tmp_path: Path, hubert: Path) -> None:
    samples, run = voices(tmp_path), MediaEncoder(hubert, AUDIO)
    from affectlocus.data.media_files import read_media

    found = encode(samples, tmp_path, AUDIO, run, NOWHERE)
    for row in samples.itertuples():
        alone = run(read_media(tmp_path / row.file, AUDIO))
        assert torch.equal(of(found, row.id), alone)


def test_the_order_of_samples_and_the_number_of_threads_change_no_features(
    tmp_path: Path, hubert: Path
) -> None:
    samples, run = voices(tmp_path), MediaEncoder(hubert, AUDIO)
    one = encode(samples, tmp_path, AUDIO, run, NOWHERE)
    other = encode(samples[::-1], tmp_path, AUDIO, run, NOWHERE, threads=3)
    for name in samples["id"]:
        assert torch.equal(of(one, name), of(other, name))


def test_kept_features_equal_computed_ones_and_need_no_encoder(
    tmp_path: Path, hubert: Path
) -> None:
    samples, run = voices(tmp_path), MediaEncoder(hubert, AUDIO)
    plain = encode(samples, tmp_path, AUDIO, run, NOWHERE)
    first = encode(samples, tmp_path, AUDIO, run, FeatureStore(tmp_path / "kept", a=1))
    counted = Counted()
    again = encode(samples, tmp_path, AUDIO, counted, FeatureStore(tmp_path / "kept", a=1))
    assert counted.calls == 0
    assert (first.found, again.found) == (0, len(samples))
    for found in (first, again):
        assert torch.equal(found.values, plain.values)
        assert found.index.equals(plain.index)


def test_only_a_changed_file_is_encoded_again(tmp_path: Path) -> None:
    samples = voices(tmp_path)
    store = tmp_path / "kept"
    encode(samples, tmp_path, AUDIO, Counted(), FeatureStore(store, a=1))
    write_sound(tmp_path / "voices/s2.wav", tone(0.4, 500))
    (tmp_path / "voices/s3.wav").touch()
    counted = Counted()
    encode(samples, tmp_path, AUDIO, counted, FeatureStore(store, a=1))
    assert counted.calls == 1
    # Of other settings, or of another encoder, nothing is taken.
    other = Counted()
    encode(samples, tmp_path, AUDIO, other, FeatureStore(store, a=2))
    assert other.calls == len(samples)


def test_an_interrupted_job_continues_after_the_files_that_it_finished(tmp_path: Path) -> None:
    samples, store = voices(tmp_path), tmp_path / "kept"
    with pytest.raises(KeyboardInterrupt):
        encode(samples, tmp_path, AUDIO, Counted(stop_at=4), FeatureStore(store, a=1))
    counted = Counted()
    found = encode(samples, tmp_path, AUDIO, counted, FeatureStore(store, a=1))
    assert counted.calls == len(samples) - 4
    assert torch.equal(found.values, encode(samples, tmp_path, AUDIO, Counted(), NOWHERE).values)


@pytest.mark.parametrize("damage", ["truncated", "one byte"])
def test_a_damaged_shard_is_not_used(tmp_path: Path, damage: str) -> None:
    samples, store = voices(tmp_path), tmp_path / "kept"
    whole = encode(samples, tmp_path, AUDIO, Counted(), FeatureStore(store, a=1))
    (shard,) = store.rglob("*.safetensors")
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(bytes(content if damage == "one byte" else content[: len(content) // 2]))
    counted = Counted()
    found = encode(samples, tmp_path, AUDIO, counted, FeatureStore(store, a=1))
    assert counted.calls == (1 if damage == "one byte" else len(samples))
    assert torch.equal(found.values, whole.values)


def test_samples_with_the_same_bytes_share_their_tokens(tmp_path: Path) -> None:
    samples = voices(tmp_path, 4)
    (tmp_path / "voices/s3.wav").write_bytes((tmp_path / "voices/s0.wav").read_bytes())
    counted = Counted()
    found = encode(samples, tmp_path, AUDIO, counted, NOWHERE)
    assert counted.calls == len(found.values) == 3
    assert torch.equal(of(found, "s3"), of(found, "s0"))


def test_features_are_stored_in_half_precision_where_asked(tmp_path: Path) -> None:
    samples = voices(tmp_path, 2)
    half = AUDIO.model_copy(update={"store": "float16"})
    found = encode(samples, tmp_path, half, Counted(), NOWHERE)
    found.write(tmp_path / "voice.safetensors")
    assert load_file(tmp_path / "voice.safetensors")[TENSOR].dtype == torch.float16
    assert Features.read(tmp_path / "voice.safetensors", "train").of("s0").dtype == torch.float32


def test_every_unusable_file_has_its_reason_and_no_features(tmp_path: Path) -> None:
    samples = voices(tmp_path)
    write_sound(tmp_path / "voices/s1.wav", np.zeros(8000, np.float32))
    (tmp_path / "voices/s2.wav").unlink()
    (tmp_path / "voices/s4.wav").write_bytes(b"RIFF")
    found = encode(samples, tmp_path, AUDIO, Counted(), NOWHERE)
    reasons = dict(zip(found.index["id"], found.index["reason"], strict=True))
    assert reasons == {
        "s0": "",
        "s1": "silent",
        "s2": "missing",
        "s3": "",
        "s4": "undecodable",
        "s5": "",
    }
    assert found.index.loc[found.index["reason"] != "", "tokens"].sum() == 0
    assert len(found.values) == 3
    assert refusal("mine", "voice", found, "drop") is None
    error = refusal("mine", "voice", found, "refuse")
    assert error is not None
    assert error.code == "encode.unusable-files"
    assert error.fields["found"] == {"silent": 1, "missing": 1, "undecodable": 1}


def test_an_encoder_may_refuse_a_file_too(tmp_path: Path) -> None:
    def run(read: np.ndarray) -> torch.Tensor:
        if read.shape[1] < 6000:
            raise UnusableError("short", f"{read.shape[1]} samples")
        return torch.ones(1, 2)

    found = encode(voices(tmp_path), tmp_path, AUDIO, run, NOWHERE)
    assert found.index["reason"].tolist() == ["short", *[""] * 5]


def test_no_usable_file_at_all_is_refused(tmp_path: Path) -> None:
    samples = voices(tmp_path).assign(file="nothing.wav")
    with refused("encode.no-usable-file", reason="missing"):
        encode(samples, tmp_path, AUDIO, Counted(), NOWHERE)


def test_given_features_of_another_width_are_refused(tmp_path: Path) -> None:
    for number, (name, width) in enumerate((("a", 3), ("b", 3), ("c", 4))):
        write_array(tmp_path / f"{name}.npy", np.full((2, width), number, np.float32))
    samples = pd.DataFrame(
        {"split": "test", "id": ["a", "b", "c"], "file": ["a.npy", "b.npy", "c.npy"]}
    )
    with refused("encode.other-width", found=4, expected=3, file=tmp_path / "c.npy"):
        encode(samples, tmp_path, ARRAYS, as_stored, NOWHERE)
    found = encode(samples[:2], tmp_path, ARRAYS, as_stored, NOWHERE)
    assert found.values.tolist() == [[0] * 3] * 2 + [[1] * 3] * 2


# Prepared samples


def table(folder: Path, count: int = 6) -> Path:
    rows = [
        f"s{i},{'train' if i < count // 2 else 'test'},text {i},{'joy' if i % 2 else 'fear'}"
        for i in range(count)
    ]
    (folder / "clips.csv").write_text("id,split,text,emotion\n" + "\n".join(rows) + "\n")
    return folder / "clips.csv"


def index_of(samples: pd.DataFrame, **reasons: str) -> dict[str, pd.DataFrame]:
    frame = samples.assign(reason=[reasons.get(name, "") for name in samples["id"]])
    return {"voice": frame}


def test_a_prepared_task_names_the_files_and_leaves_out_what_cannot_be_used(
    tmp_path: Path,
) -> None:
    samples, files = voices(tmp_path), {"all": table(tmp_path)}
    task = Task.model_validate({**TASK, "files": {"all": "clips.csv"}, "absent": "drop"})
    prepared, report = prepare("mine", task, files, index_of(samples, s4="silent"))
    assert prepared["media.voice"].tolist() == [f"voices/s{i}.wav" for i in (0, 1, 2, 3, 5)]
    assert report["splits"]["test"]["without_media"] == 1
    assert report["splits"]["test"]["media"] == {"voice": {"silent": 1}}
    assert report["splits"]["test"]["kept"] == 2
    assert report["splits"]["train"]["media"] == {"voice": {}}
    strict = task.model_copy(update={"absent": "refuse"})
    assert len(prepare("mine", strict, files, index_of(samples))[0]) == 6
    with refused("split.without-media", split="test"):
        prepare("mine", strict, files, index_of(samples, s4="silent"))
    gone = dict.fromkeys(("s3", "s4", "s5"), "missing")
    with refused("split.without-media", split="test"):
        prepare("mine", task, files, index_of(samples, **gone))


def test_an_index_of_other_samples_is_refused(tmp_path: Path) -> None:
    samples, files = voices(tmp_path), {"all": table(tmp_path)}
    task = Task.model_validate({**TASK, "files": {"all": "clips.csv"}})
    with refused("encode.other-samples", found="s2"):
        prepare("mine", task, files, index_of(samples[samples["id"] != "s2"]))


def test_the_path_of_a_file_has_columns_the_id_and_the_split(tmp_path: Path) -> None:
    (tmp_path / "meld.csv").write_text(
        "Dialogue_ID,Utterance_ID,text,emotion\n0,1,hello,joy\n2,3,go away,fear\n"
    )
    task = Task.model_validate(
        {
            **TASK,
            "columns": {
                "label": "emotion",
                "id": ["Dialogue_ID", "Utterance_ID"],
                "id_per_split": True,
            },
            "files": {"test": "meld.csv"},
            "media": {
                "face": "{split}/dia{Dialogue_ID}_utt{Utterance_ID}.mp4",
                "voice": "{id}.wav",
            },
        }
    )
    prepared, _ = prepare("meld", task, {"test": tmp_path / "meld.csv"})
    assert prepared["media.face"].tolist() == ["test/dia0_utt1.mp4", "test/dia2_utt3.mp4"]
    assert prepared["media.voice"].tolist() == ["0_1.wav", "2_3.wav"]
    assert prepared["id"].tolist() == ["test-0_1", "test-2_3"]
    wrong = task.model_copy(update={"media": {"voice": "{file}.wav"}})
    with refused("prompt.no-such-column", column="file"):
        prepare("meld", wrong, {"test": tmp_path / "meld.csv"})


# The command


def command(folder: Path, hubert: Path, absent: str, **reading: Any) -> Any:
    return in_process(
        folder,
        *("encode", "--name", "mine", "--all", table(folder), "--medium", "voice"),
        *("--settings", json.dumps({**TASK, "absent": absent}), "--root", folder),
        *("--reading", json.dumps({"kind": "audio", "encoder": "x", **reading})),
        *("--encoder", hubert, "--kept", "kept", "--out", "features/voice.safetensors"),
    )


def test_the_command_writes_features_that_prepare_and_the_reader_take(
    tmp_path: Path, hubert: Path
) -> None:
    voices(tmp_path)
    write_sound(tmp_path / "voices/s4.wav", np.zeros(8000, np.float32))
    refused_call = command(tmp_path, hubert, "refuse")
    assert printed_code(refused_call.stderr) == "encode.unusable-files"
    assert not (tmp_path / "features").exists()
    done = command(tmp_path, hubert, "drop")
    assert done.returncode == 0, done.stderr
    assert "5 of 6 voice files were encoded by an earlier job" in done.stderr
    assert "is silent" in done.stderr
    prepared = in_process(
        tmp_path,
        *("prepare", "--name", "mine", "--all", "clips.csv", "--media", "features/voice.parquet"),
        *("--settings", json.dumps({**TASK, "absent": "drop"})),
        *("--out", "mine.parquet", "--report", "mine.json"),
    )
    assert prepared.returncode == 0, prepared.stderr
    test = PreparedTask.read(tmp_path / "mine.parquet").test
    features = Features.read(tmp_path / "features/voice.safetensors")
    assert test["id"].tolist() == features.ids == ["s3", "s5"]
    assert features.of("s3").shape == (1, 16)
    assert read_json(tmp_path / "mine.json")["splits"]["test"]["media"] == {"voice": {"silent": 1}}


def test_the_command_refuses_what_does_not_fit(tmp_path: Path, hubert: Path) -> None:
    voices(tmp_path)
    clips = command(tmp_path, hubert, "refuse", layers=[7])
    assert printed_code(clips.stderr) == "encoder.no-such-layer"
    rest = (
        *("--name", "mine", "--all", table(tmp_path), "--settings", json.dumps(TASK)),
        *("--out", "features/voice.safetensors"),
    )
    reading = json.dumps({"kind": "audio", "encoder": "x"})
    for more, code in (
        (("--medium", "face", "--reading", reading), "encode.no-such-medium"),
        (("--medium", "voice", "--reading", reading), "encode.no-encoder"),
        (("--medium", "voice", "--reading", reading, "--encoder", "voices"), "media.no-config"),
        (("--medium", "voice", "--reading", '{"kind": "audio"}'), "media.no-encoder"),
    ):
        done = in_process(tmp_path, "encode", *rest, *more)
        assert printed_code(done.stderr) == code
    no_index = in_process(
        tmp_path,
        *("prepare", "--name", "mine", "--all", "clips.csv", "--settings", json.dumps(TASK)),
        *("--out", "mine.parquet", "--report", "mine.json"),
    )
    assert printed_code(no_index.stderr) == "prepare.no-index"


@pytest.mark.parametrize(
    ("kind", "name", "make", "said"),
    [
        ("audio", "a.wav", lambda p: write_sound(p, np.zeros(8000, np.float32)), "is silent"),
        (
            "video",
            "a.mp4",
            lambda p: write_video(p, None, tone(1.0)),
            "has no stream of this kind (no pictures in it)",
        ),
        (
            "frames",
            "a.npy",
            lambda p: write_array(p, np.zeros((4, 8, 8, 3), np.uint8)),
            "has no face (every pixel is the same)",
        ),
        (
            "frames",
            "a.npy",
            lambda p: write_array(p, np.array([{"a": 1}], object)),
            "is an array of Python objects, which are never unpickled",
        ),
    ],
)
def test_a_refusal_names_the_file_and_what_is_wrong_with_it(
    tmp_path: Path, kind: str, name: str, make: Callable[[Path], Path], said: str
) -> None:
    make(tmp_path / name)
    good = write_array(tmp_path / "good.npy", pictures(4))
    one = Medium.model_validate(
        {"kind": kind, "encoder": "x", "frames": 2}
        if kind != "audio"
        else {"kind": kind, "encoder": "x"}
    )
    samples = pd.DataFrame({"split": "test", "id": ["a"], "file": [name]})
    if kind == "frames":
        samples.loc[1] = ["test", "b", good.name]
        found = encode(samples, tmp_path, one, lambda _: torch.ones(1, 2), NOWHERE)
        error = refusal("mine", "face", found, "refuse")
        assert error is not None
        assert f"{name} {said}" in str(error)
    else:
        with refused("encode.no-usable-file") as caught:
            encode(samples, tmp_path, one, Counted(), NOWHERE)
        assert f"{name}, {said}" in str(caught.value)
