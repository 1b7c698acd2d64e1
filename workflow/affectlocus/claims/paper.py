"""The paper whose claims are judged: its claims, their sections, and its printed numbers.

Source: arXiv 2601.15906, "Opening the Black Box". The claims are paraphrased; the numbers are
quoted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SOURCE = "arXiv 2601.15906"
KEPT = 0.966
"""The share of the full model's mean score that gate_proj alone keeps (section 6.2)."""

ATTENTION_SET = "q+k+v+o"
SETS = (
    ATTENTION_SET,
    f"{ATTENTION_SET}+down",
    f"{ATTENTION_SET}+up",
    f"{ATTENTION_SET}+gate",
    f"{ATTENTION_SET}+up+down",
    f"{ATTENTION_SET}+gate+down",
    f"{ATTENTION_SET}+gate+up",
)
"""The module sets of both tables, rows 1 to 7; row 0 is the base."""


@dataclass(frozen=True)
class Claim:
    """A claim of the paper.

    Attributes:
        section: the section, figure or table.
        kind: the topic.
        text: the claim in a sentence.
    """

    section: str
    kind: str
    text: str


CLAIMS = {
    "C1": Claim(
        "section 4.1, Fig. 4",
        "locus",
        "in every affective pair of every size, the L2 change (eq. 1) of gate_proj is the largest "
        "of the seven in most layers",
    ),
    "C2": Claim(
        "appendix A, Fig. 10",
        "locus",
        "gate_proj also changes most relative to its base (eq. 2); the distribution of its "
        "weights' relative changes is wide and shifted, those of the others are narrow and around "
        "zero",
    ),
    "C3": Claim(
        "section 4.2, Fig. 5",
        "specificity",
        "after tuning on a task without emotion, with the same base and budget, up_proj changes "
        "most, and not gate_proj",
    ),
    "C4": Claim(
        "section 4.3, Fig. 6",
        "generality",
        "C1 is true of LoRA and of full tuning, and on Qwen, LLaMA and Mistral",
    ),
    "C5": Claim(
        "section 5.1, Fig. 7",
        "sufficiency",
        "loaded alone, gate_proj has the best mean score of the seven, and the most stable scores "
        "over tasks",
    ),
    "C6": Claim(
        "section 5.1, Table 1",
        "sufficiency",
        "loaded with attention, gate_proj beats attention alone, and attention with up_proj or "
        "with down_proj",
    ),
    "C7": Claim(
        "section 5.1, Table 1",
        "interference",
        "loading more modules can hurt: adding down_proj to attention and gate_proj lowers the "
        "score",
    ),
    "C8": Claim(
        "sections 5.1 (4) and 5.2 (3)",
        "synergy",
        "o_proj with gate_proj is the best combination, loaded and tuned; adding the rest of "
        "attention makes it worse",
    ),
    "C9": Claim(
        "section 5.2, Fig. 8",
        "efficiency",
        "tuned alone, gate_proj has the best mean score of the seven",
    ),
    "C10": Claim(
        "section 5.2, Table 2",
        "interference",
        "tuning attention with down_proj scores far below tuning attention alone",
    ),
    "C11": Claim(
        "section 5.2, Table 2",
        "synergy",
        "attention with gate_proj and up_proj is the best of the seven tuned combinations",
    ),
    "C12": Claim(
        "section 6.2, Fig. 9",
        "economy",
        "gate_proj tuned alone (GET) keeps 96.6% of the full LoRA's mean score with 24.5% of its "
        "trainable parameters",
    ),
    "C13": Claim(
        "abstract, section 5",
        "necessity",
        "destroying the tuned change of gate_proj costs more than destroying that of any other "
        "projection",
    ),
    "C14": Claim(
        "sections 1 and 5.1",
        "fluency",
        "loading gate_proj alone does not change general fluency",
    ),
}

TASKS = ("MER23", "MER24", "MELD", "IEMOCAP", "MOSI", "MOSEI", "SIMS", "SIMSv2")

# Rows 0 to 7; eight tasks, then the mean as printed. In percent.
_LOAD = """
46.44 40.65 48.00 41.77 79.33 66.62 74.92 74.20 58.99
50.39 41.89 48.34 41.19 80.97 69.92 72.76 74.54 60.00
54.76 52.66 50.07 41.89 82.63 70.89 78.11 78.92 63.75
53.34 51.91 51.61 44.36 81.41 68.55 75.77 76.72 62.96
73.57 77.01 56.44 56.52 80.44 78.60 85.02 84.54 74.02
60.54 57.17 50.11 44.13 83.86 71.40 77.87 78.46 65.44
58.70 55.35 52.33 48.52 83.25 74.74 76.89 77.97 65.97
76.03 79.48 57.93 59.30 81.19 80.34 86.44 85.73 75.81
"""
_TUNE = """
46.44 40.65 48.00 41.77 79.33 66.62 74.92 74.20 58.99
73.88 77.91 53.75 55.15 79.55 80.19 87.74 83.12 73.91
59.52 60.50 49.94 45.27 79.27 66.00 78.77 78.50 64.72
74.48 76.64 54.88 58.60 77.12 76.73 85.47 85.75 73.71
75.27 77.13 53.89 58.16 78.79 78.80 85.67 84.75 74.06
74.00 74.05 56.52 57.71 78.49 79.28 86.90 85.53 74.06
73.02 75.93 56.18 56.43 77.41 76.51 85.67 85.95 73.39
73.27 79.48 55.70 59.46 79.39 79.97 87.23 86.51 75.13
"""


def printed(arm: str) -> tuple[np.ndarray, np.ndarray]:
    """Table 1 (`load`) or 2 (`tune`): (8, 8) scores, base and `SETS` by `TASKS`; (8,) means."""
    rows = (_LOAD if arm == "load" else _TUNE).strip().splitlines()
    numbers = np.array([[float(word) for word in row.split()] for row in rows])
    return numbers[:, :-1], numbers[:, -1]


def misprints() -> dict[str, str]:
    """Every printed mean that differs from the mean of its row, rounded to two digits.

    Returns:
        `Table T row R` → a sentence.
    """
    found = {}
    for number, arm in ((1, "load"), (2, "tune")):
        scores, means = printed(arm)
        for row, (cells, mean) in enumerate(zip(scores, means, strict=True)):
            # A third digit of 5 may have been rounded up or down.
            if abs(cells.mean() - mean) > 0.005 + 1e-9:
                place = f"Table {number} row {row}"
                found[place] = f"{place} prints the mean {mean:.2f}, but the mean of its cells is "
                found[place] += f"{cells.mean():.2f}"
    return found
