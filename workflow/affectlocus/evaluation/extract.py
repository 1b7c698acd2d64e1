"""Step `extract`: a language model lists the emotions in free text. Its replies are cached.

AffectGPT does this with Qwen2.5-7B-Instruct. The prompt has two examples and asks for the emotions
in a text. For a valence task, a second prompt asks for the polarity of that reply. The prompts are
this package's own. Decoding is greedy, while AffectGPT samples: the same text has the same reply.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import pandas as pd
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from affectlocus.config.evaluation import Extraction, Generation
from affectlocus.config.hardware import Hardware
from affectlocus.config.task_answers import is_valence
from affectlocus.core.errors import InputError
from affectlocus.core.files import write_text
from affectlocus.evaluation.predictions import Predictions
from affectlocus.lm.chat_templates import chat, truncated_ids
from affectlocus.lm.config_limits import loading_errors
from affectlocus.lm.devices import load as on_device
from affectlocus.lm.generate import generate_texts, prompt_limit

Kind = Literal["emotions", "valence"]
HARDWARE = Hardware()

_ASKED: dict[Kind, str] = {
    "emotions": (
        "List the emotions that the main person in the input has, as the input names them. Write "
        "them in brackets, with commas between them, and nothing else. If no emotion can be made "
        "out, write empty brackets.\n"
        "Input: What the person feels cannot be told.\nOutput: []\n"
        "Input: She smiles, happy and somewhat proud, but a worry remains.\n"
        "Output: [happy, proud, worried]\n"
        "Input: {text}\nOutput:"
    ),
    "valence": (
        "The input lists what a person feels. Say whether that is positive, negative or neutral on "
        "the whole. Write that one word and nothing else.\n"
        "Input: []\nOutput: neutral\n"
        "Input: [joyful]\nOutput: positive\n"
        "Input: {text}\nOutput:"
    ),
}
# Increase this number when the encoding of prompts changes. Replies with another number are not
# used.
_FORM = 1
_FLUSH = 512  # new replies between two writes; a crash loses at most these


def prompt_for(kind: Kind, text: str) -> str:
    """The prompt for a text: two examples and one line of input."""
    return _ASKED[kind].replace("{text}", " ".join(text.split()))


class ReplyCache:
    """A cache of replies, in a folder of files that are written once and never changed.

    A reply's key is the SHA-256 of the model's digest, the prompt and the settings. A file is named
    by the SHA-256 of its content, so jobs that run at the same time never write different content
    under one name. If two files hold a reply to the same prompt, the first file by name is used.

    Args:
        folder: created with the first reply.
        model: the model's digest (`files.identity`).

    Raises:
        InputError: a file in the folder does not have this form.
    """

    def __init__(self, folder: Path, model: str, settings: Extraction) -> None:
        self.folder = folder
        self.about = [model, {"form": _FORM, "max_new_tokens": settings.max_new_tokens}]
        self.known: dict[str, str] = {}
        for path in sorted(folder.glob("*.jsonl")) if folder.is_dir() else []:
            try:
                for line in path.read_text(encoding="utf-8").splitlines():
                    key, reply = json.loads(line)
                    self.known.setdefault(str(key), str(reply))
            except ValueError:
                raise InputError(
                    "reply.not-a-cache-file",
                    f"{path}: not a file of replies; expected a JSON list of key and reply in each "
                    "line; delete it: its replies are generated again",
                    file=path,
                ) from None

    def key(self, prompt: str) -> str:
        """The key of the reply to a prompt."""
        return hashlib.sha256(json.dumps([*self.about, prompt]).encode()).hexdigest()

    def get(self, prompt: str) -> str | None:
        """The cached reply to a prompt, or None."""
        return self.known.get(self.key(prompt))

    def keep(self, replies: Mapping[str, str]) -> None:
        """Stores replies by their prompts."""
        new = {self.key(prompt): reply for prompt, reply in replies.items()}
        self.known = new | self.known
        lines = (json.dumps(list(one), ensure_ascii=False) for one in sorted(new.items()))
        content = "\n".join(lines) + "\n"
        name = hashlib.sha256(content.encode()).hexdigest()[:24]
        write_text(self.folder / f"{name}.jsonl", content)


class Extractor:
    """A model on the device, loaded at the first prompt.

    Args:
        folder: any causal language model. Its chat template is used if it has one.
    """

    def __init__(self, folder: Path, settings: Extraction, hardware: Hardware = HARDWARE) -> None:
        self.folder = folder
        self.hardware = hardware
        self.settings = settings
        self.loaded: tuple[PreTrainedModel, PreTrainedTokenizerBase] | None = None

    def reply(self, prompts: Sequence[str], progress: Callable[[int], None]) -> list[str]:
        """The first line of each reply, stripped."""
        if self.loaded is None:
            self.loaded = load(self.folder, self.hardware)
        model, tokenizer = self.loaded
        talks = bool(tokenizer.chat_template)
        limit = prompt_limit(model, 1 << 30, self.settings.max_new_tokens)

        def around(prompt: str) -> str:
            return chat(tokenizer, prompt) if talks else prompt

        written, _ = generate_texts(
            model,
            tokenizer,
            [truncated_ids(tokenizer, around, prompt, limit) for prompt in prompts],
            prompts,
            Generation(max_new_tokens=self.settings.max_new_tokens),
            self.settings.batch_tokens,
            # A model without a chat template continues with an input of its own.
            [] if talks else ["\n"],
            progress,
        )
        return [next(iter(reply.strip().splitlines()), "").strip() for reply in written]


def load(
    folder: Path, hardware: Hardware = HARDWARE
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A model in its stored dtype and its tokenizer.

    Raises:
        InputError: the model's files lack some of its weights.
    """
    model = on_device(folder, hardware).eval()
    with loading_errors(folder):
        tokenizer = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    return model, tokenizer


def replies(
    kind: Kind,
    given: Sequence[str],
    kept: ReplyCache,
    extractor: Extractor,
    progress: Callable[[int], None] = lambda _: None,
) -> list[str]:
    """The reply to each text, from the cache or from the model.

    An empty text has an empty reply. The model is not loaded if every reply is cached.
    """
    prompts = {text: prompt_for(kind, text) for text in dict.fromkeys(given) if text.strip()}
    # Sorted by length, so that a batch holds texts of similar length.
    new = sorted(
        (one for one in set(prompts.values()) if kept.get(one) is None),
        key=lambda one: (len(one), one),
    )
    for start in range(0, len(new), _FLUSH):
        part = new[start : start + _FLUSH]
        kept.keep(dict(zip(part, extractor.reply(part, progress), strict=True)))
    return [kept.get(prompts[text]) or "" if text in prompts else "" for text in given]


def extract(
    predictions: Predictions,
    kept: ReplyCache,
    extractor: Extractor,
    progress: Callable[[int], None] = lambda _: None,
) -> pd.DataFrame:
    """The emotions that the model finds in a cell's generated answers.

    Args:
        predictions: the predictions of one cell, with the column `text`.

    Returns:
        A row per generated answer: `task`, `sample`, `emotions` (the reply), `valence` (the
        polarity of that reply; empty except for valence tasks).
    """
    labels = predictions.labels
    # The continuation of a text's opening is not an answer.
    rows = predictions.rows
    answers = rows["text"].notna() & rows["task"].map(labels).astype(bool)
    rows = rows.loc[answers, ["task", "sample", "text"]]
    emotions = replies("emotions", rows["text"].tolist(), kept, extractor, progress)
    polar = {task for task, words in labels.items() if is_valence(words)}
    polar_replies = [
        reply if task in polar else "" for task, reply in zip(rows["task"], emotions, strict=True)
    ]
    valences = replies("valence", polar_replies, kept, extractor, progress)
    return pd.DataFrame(
        {
            "task": rows["task"].to_numpy(),
            "sample": rows["sample"].to_numpy(),
            "emotions": emotions,
            "valence": valences,
        }
    )
