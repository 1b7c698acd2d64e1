"""Makes the encoders that the package holds, and writes hashes.json.

python workflow/make_encoders.py [--out FOLDER]     default: where the package looks for them
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
import yaml

from affectlocus.config.encoder_recipes import EncoderRecipe
from affectlocus.core.files import sha256
from affectlocus.core.provenance import hardware, versions
from affectlocus.training.shipped import RECORD
from affectlocus.training.shipped_encoders import FOLDER
from affectlocus.training.tiny_encoders import fingerprint, make_encoder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=FOLDER)
    out: Path = parser.parse_args().out
    torch.set_num_threads(1)
    encoders: dict[str, Any] = {}
    for name, settings in yaml.safe_load((FOLDER / "recipe.yaml").read_text("utf-8")).items():
        recipe = EncoderRecipe(**settings)
        measured = make_encoder(recipe, out / name)
        encoders[name] = {
            "recipe": recipe.model_dump(mode="json"),
            "examples": fingerprint(recipe),
            "measured": measured,
            "files": {path.name: sha256(path) for path in sorted((out / name).iterdir())},
        }
        print(f"{name}: {measured}", flush=True)  # noqa: T201
    record = {"hardware": hardware(), "versions": versions(), "encoders": encoders}
    (out / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
