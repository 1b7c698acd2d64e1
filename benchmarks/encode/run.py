"""What the features of media cost: made once, or again for every cell.

python benchmarks/encode/run.py                  about 3 minutes; writes results.csv and the table
python benchmarks/encode/run.py --real FOLDER    also RAVDESS with Whisper, from that folder
python benchmarks/encode/run.py --quick          four recordings, to see that it runs
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
import wave
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from timing import put_results  # noqa: E402

BIN = Path(sys.executable).parent
CELLS = 16
"""Cells that read the features: the load cells of one replicate of Table 1."""
READ = """
import sys, time
from pathlib import Path
from affectlocus.lm.features import Features
start = time.process_time()
features = Features.read(Path(sys.argv[1]))
for name in features.ids:
    features.of(name)
print(time.process_time() - start)
"""
ENCODER = """
import sys, torch
from transformers import HubertConfig, HubertModel, Wav2Vec2FeatureExtractor
torch.manual_seed(0)
HubertModel(HubertConfig()).save_pretrained(sys.argv[1])
Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(sys.argv[1])
"""


def recordings(folder: Path, count: int) -> list[str]:
    """Writes recordings of three seconds with noise from a seed; returns their paths."""
    import numpy as np

    draws = np.random.default_rng(0)
    (folder / "voices").mkdir()
    names = [f"voices/{number}.wav" for number in range(count)]
    for name in names:
        sound = (3000 * draws.standard_normal(48_000)).astype("<i2")
        with wave.open(str(folder / name), "wb") as file:
            file.setparams((1, 2, 16_000, 0, "NONE", ""))
            file.writeframes(sound.tobytes())
    return names


def clips(folder: Path, real: Path, count: int) -> list[str]:
    """Links every n-th clip of RAVDESS into the folder; returns their paths."""
    found = sorted((real / "audio/ravdess/clips").rglob("*.flac"))
    (folder / "voices").mkdir()
    names = []
    for path in found[:: max(1, len(found) // count)][:count]:
        names.append(f"voices/{path.name}")
        (folder / names[-1]).write_bytes(path.read_bytes())
    return names


def spent(command: list[str | Path], folder: Path) -> tuple[float, float]:
    """Seconds and CPU seconds of a process, which computes with one thread."""
    before, start = os.times(), time.perf_counter()
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
    seconds, after = time.perf_counter() - start, os.times()
    cpu = after.children_user + after.children_system
    return seconds, cpu - before.children_user - before.children_system


def measured(
    folder: Path, what: str, names: list[str], encoder: Path, reading: dict[str, object]
) -> list[list[str]]:
    """The rows of one encoder: encoded, kept, one file changed, and all cells."""
    with (folder / "samples.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label", "path"])
        writer.writerows([f"text {i}", ("a", "b")[i % 2], name] for i, name in enumerate(names))
    task = {"columns": {"label": "label"}, "labels": ["a", "b"], "media": {"voice": "{path}"}}
    command: list[str | Path] = [
        *(BIN / "affectlocus", "encode", "--name", "clips", "--medium", "voice"),
        *("--test", "samples.csv", "--settings", json.dumps(task), "--encoder", encoder),
        *("--reading", json.dumps({"kind": "audio", "encoder": "x", **reading})),
        *("--kept", "kept", "--out", "voice.safetensors"),
    ]
    encoded = spent(command, folder)
    kept = spent(command, folder)
    changed = folder / names[0]
    changed.write_bytes((folder / names[1]).read_bytes()[:-2] + b"\1\1")
    if changed.suffix == ".flac":
        changed.write_bytes((folder / names[1]).read_bytes() + b"\0")
    one = spent(command, folder)
    run = subprocess.run(
        [sys.executable, "-c", READ, "voice.safetensors"],
        cwd=folder,
        check=True,
        capture_output=True,
        text=True,
    )
    read = float(run.stdout)
    again = CELLS * encoded[1]
    once = encoded[1] + CELLS * read
    rows = [
        ("encode, nothing kept", *encoded),
        ("encode, everything kept", *kept),
        ("encode, one file changed", *one),
        ("read the features, in a cell", None, read),
        (f"{CELLS} cells, encoding for each", None, again),
        (f"{CELLS} cells, features made once", None, once),
    ]
    return [
        [
            *(what, str(len(names)), name),
            "" if seconds is None else f"{seconds:.2f}",
            f"{cpu:.3f}",
            f"{cpu / again:.4f}",
        ]
        for name, seconds, cpu in rows
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--real", type=Path, help="folder with audio/ravdess and encoders")
    parser.add_argument("--quick", action="store_true", help="four recordings; writes no page")
    given = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        folder, encoder = Path(scratch, "drawn"), Path(scratch, "hubert")
        folder.mkdir()
        subprocess.run([sys.executable, "-c", ENCODER, encoder], check=True)
        names = recordings(folder, 4 if given.quick else 48)
        reading: dict[str, object] = {"layers": [-4, -3, -2, -1]}
        rows += measured(folder, "HuBERT base, 3 s", names, encoder, reading)
        if given.real:
            folder = Path(scratch, "real")
            folder.mkdir()
            names = clips(folder, given.real, 4 if given.quick else 240)
            whisper = given.real.absolute() / "encoders/whisper-base-encoder"
            own = {"window": "none", "parts": 4}
            rows += measured(folder, "Whisper base, RAVDESS", names, whisper, own)
    for row in rows:
        print(*row, sep="\t")  # noqa: T201
    if not given.quick:
        head = ["encoder", "files", "arm", "seconds", "cpu_seconds", "ratio"]
        put_results(HERE, head, rows, "|---|--:|---|--:|--:|--:|")
    return 0


if __name__ == "__main__":
    sys.exit(main())
