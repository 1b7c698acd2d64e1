"""Pre-trains the bases that the package holds, and writes hashes.json.

    python workflow/make_bases.py [--out FOLDER]     default: where the package looks for them

Each base is a folder BASE/seedN in the Hugging Face layout. On another kind of CPU the weights
differ, because training amplifies rounding errors; the losses on held-out documents agree
(tests/unit/test_shipped.py).
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import torch
import yaml

from affectlocus.config.corpus import Corpus, Pretraining
from affectlocus.core.files import sha256
from affectlocus.core.provenance import hardware, versions
from affectlocus.data.corpus import PRETRAINING, write_corpus
from affectlocus.training.pretrain import pretrain
from affectlocus.training.shipped import FOLDER, RECORD


def make(recipe: Pretraining, text: Path, folder: Path) -> dict[str, Any]:
    """Pre-trains one base: its recipe, its measurements, and its files with their SHA-256."""
    measured = pretrain(text, recipe, folder)
    return {
        "recipe": recipe.model_dump(mode="json"),
        "measured": measured,
        "files": {path.name: sha256(path) for path in sorted(folder.iterdir())},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=FOLDER)
    out: Path = parser.parse_args().out
    wanted = yaml.safe_load((FOLDER / "recipe.yaml").read_text(encoding="utf-8"))
    torch.set_num_threads(1)
    bases: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        write_corpus(Corpus(**wanted["corpus"]), Path(scratch, "corpus"))
        text = Path(scratch, "corpus", PRETRAINING)
        digest = sha256(text)
        for base, settings in wanted["bases"].items():
            for seed in wanted["seeds"]:
                name = f"{base}/seed{seed}"
                bases[name] = make(Pretraining(**settings, seed=seed), text, out / name)
                print(f"{name}: {bases[name]['measured']}", flush=True)  # noqa: T201
    record = {"hardware": hardware(), "versions": versions(), "text": digest, "bases": bases}
    (out / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
