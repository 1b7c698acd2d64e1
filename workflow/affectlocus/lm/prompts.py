"""From a task's row to token ids: the same for tuning and for scoring."""

from __future__ import annotations

from pathlib import Path

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from affectlocus.core.errors import InputError
from affectlocus.lm.config_limits import explained

_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "spiece.model")


class Prompter:
    """Encodes prompts and answers with a checkpoint's own tokenizer."""

    def __init__(self, folder: Path) -> None:
        with explained(folder):
            self.tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
            # Where no file is one, transformers makes a tokenizer that knows nothing.
            if not self.tokenizer("a:", add_special_tokens=False)["input_ids"]:
                raise InputError(
                    f"{folder}: no tokenizer in it; expected tokenizer.json, or another that "
                    "transformers reads, beside config.json"
                )
        self._answers: dict[str, list[int]] = {}

    def prompts(self, texts: list[str], max_length: int) -> list[list[int]]:
        """Token ids of each prompt, at most `max_length`: a longer one loses its start.

        A tokenizer with a start token gets it in front, whether or not it adds one itself.
        """
        if not texts:
            return []
        encoded = self.tokenizer(texts, add_special_tokens=False)["input_ids"]
        start = self.tokenizer.bos_token_id
        first = [] if start is None else [start]
        room = max_length - len(first)
        bare = [ids[1:] if first and ids[:1] == first else ids for ids in encoded]
        return [[*first, *ids[max(0, len(ids) - room) :]] for ids in bare]

    def answer(self, word: str) -> list[int]:
        """Token ids of an answer behind a prompt and a space, without an end token.

        The answer is encoded behind a colon and the colon's ids are taken off, so that a
        tokenizer that marks word starts sees the start of a word.
        """
        if word not in self._answers:
            lead = self.tokenizer("a:", add_special_tokens=False)["input_ids"]
            whole = self.tokenizer(f"a: {word}", add_special_tokens=False)["input_ids"]
            self._answers[word] = whole[len(lead) :]
        return list(self._answers[word])

    def end(self) -> list[int]:
        """The end token, where there is one."""
        end = self.tokenizer.eos_token_id
        return [] if end is None else [end]

    def of(self, tuned: Path) -> Prompter:
        """The tuned checkpoint's own tokenizer where it knows other tokens; else this one.

        Raises:
            InputError: transformers cannot load the tuned one.
        """
        if not any((tuned / name).is_file() for name in _TOKENIZERS):
            return self
        other = Prompter(tuned)
        same = other.tokenizer.get_vocab() == self.tokenizer.get_vocab()
        return self if same else other
