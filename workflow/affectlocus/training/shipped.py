"""The bases in the package, pre-trained with the recipe of the embedded default.

Training amplifies rounding errors, so another kind of CPU would train other weights, and every
result would differ. `affectlocus pretrain` therefore takes a base from `shipped_bases` if one was
trained there with the same recipe, seed and text.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from affectlocus.config.corpus import Pretraining
from affectlocus.core.errors import InputError
from affectlocus.core.files import read_json, sha256

FOLDER = Path(__file__).with_name("shipped_bases")
RECORD = "hashes.json"
"""The text's SHA-256, and for each base its recipe, measurements and files with their SHA-256."""


@dataclass(frozen=True)
class ShippedBase:
    """A base in the package.

    Attributes:
        name: BASE/seedN, its folder.
        measured: what `pretrain` returned when it was trained.
        files: file name → SHA-256.
        package: the folder of the package that holds it.
    """

    name: str
    measured: dict[str, float]
    files: dict[str, str]
    package: Path

    def copy(self, folder: Path) -> None:
        """Copies the files into a folder, which must not exist.

        Raises:
            InputError: a file is missing or damaged.
        """
        source = self.package / self.name
        for name, digest in self.files.items():
            if not (source / name).is_file() or sha256(source / name) != digest:
                raise InputError(
                    "base.shipped-damaged",
                    f"{source / name}: missing, or not the file that was shipped; install "
                    "affectlocus again, or restore the file (git checkout)",
                    file=source / name,
                )
        folder.mkdir(parents=True)
        for name in self.files:
            shutil.copyfile(source / name, folder / name)


def shipped_base(recipe: Pretraining, text: str) -> ShippedBase | None:
    """The base in the package that was trained with a recipe on a text; None if there is none.

    Args:
        recipe: with the seed of one base.
        text: SHA-256 of the pre-training text.
    """
    record = read_json(FOLDER / RECORD)
    if text != record["text"]:
        return None
    wanted = recipe.model_dump(mode="json")
    for name, base in record["bases"].items():
        if base["recipe"] == wanted:
            return ShippedBase(name, base["measured"], base["files"], FOLDER)
    return None
