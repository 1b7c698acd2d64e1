"""Step `extract`: a language model reads the emotions out of free text, and its replies are kept.

As AffectGPT does with Qwen2.5-7B-Instruct: the model is asked, behind two examples, for the
emotions in a text; for a valence task it is then asked for the polarity of its reply. The wording
is this package's own, and replies are greedy, where AffectGPT draws them: the same text has the
same reply.
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
from affectlocus.config.tasks import is_valence
from affectlocus.core.errors import InputError
from affectlocus.core.files import write_text
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
# Goes up with any change of how a prompt reaches the model: older replies are then no answers.
_FORM = 1
_FLUSH = 512  # new replies that a crash may cost


def prompt_for(kind: Kind, text: str) -> str:
    """What the model is asked about a text: one line of input behind two examples."""
    return _ASKED[kind].replace("{text}", " ".join(text.split()))


class ReplyCache:
    """Replies by content, in a folder of files that are written once and never changed.

    A reply's key is the SHA-256 of the model's digest, the prompt and the settings. A file is named
    by its own content's, so that jobs that run at once never write the same name with different
    content; what two of them asked at once is kept twice, and the first file's reply counts.

    Args:
        folder: made when the first reply is kept.
        model: the model's digest (`files.identity`).

    Raises:
        InputError: a file in it is not of this form.
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
                    f"{path}: not a file of replies; expected a JSON list of key and reply in each "
                    "line; delete it, and what it held is asked again"
                ) from None

    def key(self, prompt: str) -> str:
        """Where the reply to a prompt is kept."""
        return hashlib.sha256(json.dumps([*self.about, prompt]).encode()).hexdigest()

    def get(self, prompt: str) -> str | None:
        """The reply to a prompt, if the model has given it before."""
        return self.known.get(self.key(prompt))

    def keep(self, replies: Mapping[str, str]) -> None:
        """Keeps the replies to some prompts."""
        new = {self.key(prompt): reply for prompt, reply in replies.items()}
        self.known = new | self.known
        lines = (json.dumps(list(one), ensure_ascii=False) for one in sorted(new.items()))
        content = "\n".join(lines) + "\n"
        name = hashlib.sha256(content.encode()).hexdigest()[:24]
        write_text(self.folder / f"{name}.jsonl", content)


class Extractor:
    """A model on the device at hand, loaded when it is first asked.

    Args:
        folder: any causal language model; its chat template is used where it has one.
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
            # A model that was not taught to chat goes on with an input of its own.
            [] if talks else ["\n"],
            progress,
        )
        return [next(iter(reply.strip().splitlines()), "").strip() for reply in written]


def load(
    folder: Path, hardware: Hardware = HARDWARE
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A model in its stored dtype and its tokenizer.

    Raises:
        InputError: weights that the model needs are missing.
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
    """The reply to each text, of which only those that nobody has asked before are asked.

    An empty text has an empty reply. The model is not even loaded where every reply is kept.
    """
    prompts = {text: prompt_for(kind, text) for text in dict.fromkeys(given) if text.strip()}
    # Long texts go with long ones, across the parts that are kept together.
    new = sorted((one for one in set(prompts.values()) if kept.get(one) is None), key=_by_length)
    for start in range(0, len(new), _FLUSH):
        part = new[start : start + _FLUSH]
        kept.keep(dict(zip(part, extractor.reply(part, progress), strict=True)))
    return [kept.get(prompts[text]) or "" if text in prompts else "" for text in given]


def _by_length(prompt: str) -> tuple[int, str]:
    return len(prompt), prompt


def extract(
    predictions: pd.DataFrame,
    kept: ReplyCache,
    extractor: Extractor,
    progress: Callable[[int], None] = lambda _: None,
) -> pd.DataFrame:
    """What the model reads out of a cell's generated answers.

    Args:
        predictions: of one cell, as `evaluate` wrote them, with the labels in `attrs`.

    Returns:
        A row per generated answer: `task`, `sample`, `emotions` (the reply), `valence` (the reply
        about that one; empty but for valence tasks).
    """
    labels = predictions.attrs["labels"]
    # What goes on from a text's opening answers nothing.
    answers = predictions["text"].notna() & predictions["task"].map(labels).astype(bool)
    rows = predictions.loc[answers, ["task", "sample", "text"]]
    emotions = replies("emotions", rows["text"].tolist(), kept, extractor, progress)
    polar = {task for task, words in labels.items() if is_valence(words)}
    told = [
        reply if task in polar else "" for task, reply in zip(rows["task"], emotions, strict=True)
    ]
    valences = replies("valence", told, kept, extractor, progress)
    return pd.DataFrame(
        {
            "task": rows["task"].to_numpy(),
            "sample": rows["sample"].to_numpy(),
            "emotions": emotions,
            "valence": valences,
        }
    )
