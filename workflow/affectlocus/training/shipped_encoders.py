"""The encoders in the package, made with the recipes of experiments/senses.

Training amplifies rounding errors, so another kind of CPU would train other weights.
`affectlocus encoders` therefore copies an encoder from `shipped_encoders` if it was made
there with the same recipe, from faces or voices that are drawn in the same way.
"""

from __future__ import annotations

from pathlib import Path

from affectlocus.config.encoder_recipes import EncoderRecipe
from affectlocus.core.files import read_json
from affectlocus.training.shipped import RECORD, ShippedBase

FOLDER = Path(__file__).with_name("shipped_encoder_files")


def shipped_encoder(recipe: EncoderRecipe, examples: str) -> ShippedBase | None:
    """The encoder in the package with this recipe; None if there is none.

    Args:
        examples: the fingerprint of the drawn faces or voices.
    """
    wanted = recipe.model_dump(mode="json")
    for name, encoder in read_json(FOLDER / RECORD)["encoders"].items():
        if encoder["recipe"] == wanted and encoder["examples"] == examples:
            return ShippedBase(name, encoder["measured"], encoder["files"], FOLDER)
    return None
