"""Token ids of prompts and answers, encoded in the same way for tuning and for evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from affectlocus.core.errors import InputError
from affectlocus.lm import soft_tokens
from affectlocus.lm.config_limits import loading_errors

_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "spiece.model")


class Prompter:
    """Encodes prompts and answers with a checkpoint's own tokenizer."""

    def __init__(self, folder: Path) -> None:
        with loading_errors(folder):
            self.tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
            # Without a tokenizer's files transformers creates an empty tokenizer.
            if not self.tokenizer("a:", add_special_tokens=False)["input_ids"]:
                raise InputError(
                    "tokenizer.missing",
                    f"{folder}: no tokenizer; expected tokenizer.json, or other tokenizer files "
                    "that transformers reads, in the folder of config.json",
                    file=folder,
                )
        self._answers: dict[str, list[int]] = {}

    def prompts(
        self,
        texts: list[str],
        max_length: int,
        tokens: Mapping[str, int] | None = None,
        start: int | None = None,
    ) -> list[list[int]]:
        """Token ids of each prompt, at most `max_length`: a longer prompt is cut at its start.

        The start token, if the tokenizer has one, comes first, even if the tokenizer does not add
        it.

        Args:
            start: the start token, if it is not the tokenizer's.
            tokens: placeholder → the number of its soft tokens, which have negative ids
                (`soft_tokens`). They are never cut.

        Raises:
            InputError: more soft tokens than `max_length`.
        """
        if not texts:
            return []
        begin = self.tokenizer.bos_token_id if start is None else start
        first = [] if begin is None else [begin]
        room = max_length - len(first)
        if tokens:
            found = [soft_tokens.encoded(self.tokenizer, text, tokens) for text in texts]
            found = [ids[1:] if first and ids[:1] == first else ids for ids in found]
            return [[*first, *soft_tokens.shortened(ids, room)] for ids in found]
        encoded = self.tokenizer(texts, add_special_tokens=False)["input_ids"]
        bare = [ids[1:] if first and ids[:1] == first else ids for ids in encoded]
        return [[*first, *ids[max(0, len(ids) - room) :]] for ids in bare]

    def answer(self, word: str) -> list[int]:
        """Token ids of an answer that follows a prompt and a space, without an end token.

        The answer is encoded after a colon, whose ids are then removed, because tokenizers may
        encode a word differently at the start of a text.
        """
        if word not in self._answers:
            lead = self.tokenizer("a:", add_special_tokens=False)["input_ids"]
            whole = self.tokenizer(f"a: {word}", add_special_tokens=False)["input_ids"]
            self._answers[word] = whole[len(lead) :]
        return list(self._answers[word])

    def separate(self, text: str) -> list[int]:
        """Token ids of a text of its own, without start and end tokens."""
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def token(self, text: str) -> int:
        """The id of a token.

        Raises:
            InputError: the text is not one token of the tokenizer.
        """
        found = self.tokenizer.get_vocab().get(text)
        if found is None:
            raise InputError(
                "tokenizer.no-such-token",
                f"{self.tokenizer.name_or_path}: its vocabulary has no token {text!r}; name a "
                "token of the base's tokenizer",
                file=self.tokenizer.name_or_path,
                found=text,
            )
        return int(found)

    def end(self) -> list[int]:
        """The end token as a list, which is empty if the tokenizer has none."""
        end = self.tokenizer.eos_token_id
        return [] if end is None else [end]

    def for_checkpoint(self, tuned: Path) -> Prompter:
        """A prompter with the checkpoint's tokenizer if its vocabulary differs, else this prompter.

        Raises:
            InputError: transformers cannot load the checkpoint's tokenizer.
        """
        if not any((tuned / name).is_file() for name in _TOKENIZERS):
            return self
        other = Prompter(tuned)
        same = other.tokenizer.get_vocab() == self.tokenizer.get_vocab()
        return self if same else other
