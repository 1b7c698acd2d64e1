"""Step `openset`: the emotion words in a free text, extracted by fixed rules.

The rules read the first of these parts that a text has:

1. A list in brackets, `[happy, 'sad']`, up to the closing bracket or the end of the line.
2. Sentences that express a state: "emotional state is …", "emotions: …", "feels …", "seems to be
   …", 情绪状态是…, 感到…. Of each sentence, the part after these words is read.
3. The first sentence; if it has a verb such as "is" or "was", the part after the verb.

These parts are split at commas, semicolons, slashes and line breaks (ASCII or full-width), and at
conjunctions such as and, or, but, as well as, 和, 与, 以及 (not inside the words 平和, 温和). These
rules then apply to each piece:

- A negated piece is removed: "not happy", "no longer sad", "没有生气". "Not happy or sad" negates
  both words, "not angry, sad or happy" negates all three, "not happy but sad" negates the first. A
  single 不 is part of a word (不安, 不满), like un-, and is kept.
- Bullets, numbers, quotation marks, brackets and modifiers are removed: "a bit", "very", "a sense
  of", 有点, 非常. Trailing words such as "emotions" are removed too.
- A reason is removed: "happy because …", "angry at …".
- A piece with more than three remaining words is prose and is removed.

The result has each word once, in lower case, in the order of the text. A piece that is one of the
task's labels is kept unchanged.

The reply of an extraction model is split as MER-UniBench's scorer does it, without these rules.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

import pandas as pd

from affectlocus.config.task_answers import is_valence
from affectlocus.core.errors import InputError
from affectlocus.evaluation.predictions import Predictions
from affectlocus.scoring.valence_lexicon import valence as polarity

_LONGEST = 3  # most words of a label: "let down", "at a loss"

_LIST = re.compile(r"[\[【]([^\]】\n]*)")
# A full stop ends a sentence only before a blank or at the end of the text, not in "3.5".
_SENTENCE = re.compile(r"(?<=[!?。！？])|(?<=\.)(?=\s|$)")
_BULLET = re.compile(r"(?m)^[ \t]*(?:[-*•·]|\(?\d{1,2}[.)、:：])[ \t]*")

_TO_BE = r"(?:\s+(?:to\s+be|to\s+feel|to\s+have|as\s+if|like|both|being|feeling))*"
_STATE = re.compile(
    r"\b(?:emotion(?:al)?|feeling|affective|mental|mood)s?\b(?:\s+(?:states?|labels?|words?))?"
    r"(?:\s+(?:of|in)\s+[^,.:;]{1,60}?)?\s*"
    r"(?::|\b(?:is|are|was|were|be|includes?|including|such\s+as|like)\b)" + _TO_BE + r"|"
    r"\b(?:feels?|felt|feeling|seems?|seemed|appears?|appeared|looks?|looked|sounds?|sounded|"
    r"expresses|expressing|conveys|experiences|experiencing)\b(?!\s+(?:at|for|around|away)\b)"
    + _TO_BE
    + r"|\b(?:answer|output|labels?|emotions?|feelings?)\s*:"
    r"|(?:情绪|情感|心情|感情)(?:状态)?(?:分别)?(?:是|为|有|包括|[:：])"
    r"|感到|觉得|显得|感觉|答案[:：是]",
    re.IGNORECASE,
)
_VERB = re.compile(r"(?:\b(?:is|are|was|were|am)\b|['’](?:s|m|re)\b(?=\s)|[是为])" + _TO_BE, re.I)

_SEPARATOR = re.compile(
    r"[,;/|\n，、；｜&+]+"
    r"|\b(?:and\s+also|and|as\s+well\s+as|along\s+with|mixed\s+with|yet|then)\b"
    # Not as a part of the words 平和, 温和, 和蔼, 和睦.
    r"|(?<![平温柔缓祥随谦缓])和(?![蔼睦谐气善平])|以及|与|及|并且|而且"
)
_ALTERNATIVE = re.compile(r"\b(?:or|nor)\b|或者?|还是", re.I)
_CONTRAST = re.compile(r"\b(?:but|rather|instead)\b|但是?|而是", re.I)
_NEGATION = re.compile(
    r"n['’]t\b|\b(?:not|no|never|neither|nor|without|none|cannot|lacks?|hardly)\b"
    r"|^(?:没有?|并不|并非|不是|无法|毫无)",
    re.I,
)
_LEAD = re.compile(
    r"^(?:(?:(?:an?|the)\s+)?(?:bit|little|lot|touch|hint|mix(?:ture)?|sense|state|feelings?|"
    r"emotions?|kind|sort|range|combination)(?:\s+of)?|"
    r"feeling|being|very|quite|rather|somewhat|slightly|mildly|extremely|deeply|highly|really|"
    r"truly|so|too|also|still|even|just|mostly|mainly|primarily|probably|possibly|perhaps|maybe|"
    r"likely|clearly|both|more|most|some|strong|intense|full\s+of|filled\s+with|with|in|such\s+as|"
    r"an?|"
    r"the|his|her|their|its|to\s+be|be|is|are|was|were)\b\s*"
)
_LEAD_CHINESE = re.compile(
    r"^(?:有一?[点些]儿?|非常|十分|特别|相当|比较|略微|稍微|略|很|太|极其|极为|更加?|也|还|既|又|"
    r"感到|觉得|显得|感觉|一种|一丝|处于|充满)"
)
_TAIL = re.compile(
    r"\s+(?:emotions?|feelings?|states?|moods?|emotional\s+states?|tones?|too|as\s+well|overall|"
    r"respectively|now|at\s+all)$"
)
_TAIL_CHINESE = re.compile(r"(?:之中|之情|的?(?:情绪|情感|心情|感觉|感情|状态)|[的了呢啊吧])$")
_REASON = re.compile(
    r"\s+(?:because|as|since|when|while|although|though|which|who|that|after|before|despite|if|"
    r"about|with|at|by|for|from|in|on|over|towards?|to|regarding|due|of|during|unless|so)\b.*$"
    r"|因为.*$|由于.*$"
)
_MARKS = " \t\r\"'“”‘’`*_~()（）{}<>《》「」:：.!?。！？…-–—"


def emotion_words(text: str, labels: Iterable[str] = ()) -> list[str]:
    """The emotion words in a text, extracted by the rules of this module.

    Args:
        text: the text that a model generated; any text is accepted.
        labels: pieces that are kept unchanged ("very angry", "no emotion").
    """
    known = {label.strip().lower() for label in labels}
    words: dict[str, None] = {}
    for part in _emotion_parts(text):
        for word in _split_words(part.lower(), known):
            words.setdefault(word)
    return list(words)


def _emotion_parts(text: str) -> list[str]:
    """The parts of a text that name emotions."""
    bracketed = _LIST.search(text)
    if bracketed:
        return [bracketed[1]]
    text = _BULLET.sub("", text.strip()).strip()
    sentences = [sentence.strip() for sentence in _SENTENCE.split(text) if sentence.strip()]
    states = [
        sentence[found.end() :] if not _is_negated(sentence, found.end()) else ""
        for sentence in sentences
        for found in [_STATE.search(sentence)]
        if found
    ]
    if states:
        return states
    if not sentences:
        return []
    first = sentences[0]
    verb = _VERB.search(first)
    return [first[verb.end() :] if verb else first]


def _is_negated(sentence: str, end: int) -> bool:
    """Whether the words before a state negate it: "we cannot say what he feels"."""
    return bool(_NEGATION.search(sentence[:end])) and "but" not in sentence[:end]


def _split_words(part: str, known: set[str]) -> list[str]:
    """The words of a part after splitting; negated words and prose are removed."""
    words = []
    for clause in _CONTRAST.split(part):
        # "Not angry, sad or happy" negates all three words, "not angry, happy" only the first.
        negates_all = bool(_ALTERNATIVE.search(clause))
        negated = False
        for item in _SEPARATOR.split(clause):
            negated = negated and negates_all
            for piece in _ALTERNATIVE.split(item):
                bare = piece.strip(_MARKS)
                negated = negated or (bare not in known and bool(_NEGATION.search(bare)))
                word = "" if negated else bare if bare in known else _clean(bare)
                if word:
                    words.append(word)
    return words


def _clean(piece: str) -> str:
    """A piece without modifiers, trailing words and reasons; empty if it is prose."""
    before = None
    while piece != before:
        before = piece
        piece = _LEAD_CHINESE.sub("", _LEAD.sub("", piece)).strip(_MARKS)
    piece = re.sub(r"\s*[(（].*$", "", piece)
    piece = _REASON.sub("", piece).strip()
    before = None
    while piece != before:
        before = piece
        piece = _TAIL_CHINESE.sub("", _TAIL.sub("", piece)).strip(_MARKS)
    return piece if len(piece.split()) <= _LONGEST else ""


def first_label(words: Sequence[str], labels: Sequence[str]) -> str | None:
    """The label that matches the first matching word of an open set; None if no word matches.

    A word matches a label if it is the label in lower case, or the word that the rules extract from
    the label: "angry" matches the label "very angry", unless "angry" is another label.
    """
    exact = {label.strip().lower(): label for label in labels}
    extracted: dict[str, str] = {}
    for label in labels:
        for word in _split_words(label.lower(), set()):
            extracted.setdefault(word, label)
    return next((found for word in words if (found := exact.get(word, extracted.get(word)))), None)


def parse_reply(reply: str) -> list[str]:
    """The labels in the list that an extraction model replied, as MER-UniBench's scorer reads it.

    Text before the list is ignored. One bracket is removed at each end; commas and quotation marks
    separate labels. A single bracket, on which that scorer crashes, has no labels.
    """
    at = reply.find("[")
    inner = reply[at + 1 :] if at >= 0 else reply
    pieces = re.split("[,'\"]", inner.removesuffix("]"))
    return [word for piece in pieces if (word := piece.strip().lower())]


def with_open_sets(predictions: Predictions, extracted: pd.DataFrame | None = None) -> Predictions:
    """A cell's predictions with the emotion words and the labels in its free texts.

    Args:
        predictions: of one cell, as `evaluate` writes them, with the column `text`.
        extracted: of the same cell, the emotions that a model extracted from its texts
            (`extract`); if None, the rules of this module extract them.

    Returns:
        The predictions with three more columns, which are missing in rows without free
        text: `openset` (a list of words), `valence` (of valence tasks: positive, negative, neutral,
        or the reply of the model; else empty), `answer` (a label of the task; empty if the text
        names none).

    Raises:
        InputError: `extracted` has no row for a text.
    """
    labels = predictions.labels
    rows = predictions.rows.copy()
    # The continuation of a text's opening (a task without labels) is not an answer.
    is_answer = rows["text"].notna() & rows["task"].map(labels).astype(bool)
    texts = rows.loc[is_answer, ["task", "sample", "text"]]
    tasks = texts["task"].tolist()
    sets: list[list[str]]
    if extracted is None:
        sets = [
            emotion_words(text, labels[task])
            for task, text in zip(tasks, texts["text"], strict=True)
        ]
        valences = [polarity(words) or "" for words in sets]
    else:
        keys = pd.MultiIndex.from_frame(texts[["task", "sample"]])
        found = extracted.set_index(["task", "sample"])
        missing = keys[~keys.isin(found.index)]
        if len(missing):
            task, sample = missing[0]
            raise InputError(
                "prediction.not-extracted",
                f"task {task}: no emotions were extracted from the text of sample {sample!r} "
                f"({len(missing)} such samples); run `affectlocus extract` again on these "
                "predictions",
                task=task,
                sample=sample,
                rows=len(missing),
            )
        found = found.loc[keys]
        sets = [parse_reply(reply) for reply in found["emotions"]]
        valences = found["valence"].tolist()
    valences = [
        word if is_valence(labels[task]) else "" for task, word in zip(tasks, valences, strict=True)
    ]
    answers = [
        _answer(words, word, labels[task])
        for task, words, word in zip(tasks, sets, valences, strict=True)
    ]
    for column, values in (("openset", sets), ("valence", valences), ("answer", answers)):
        column_values = pd.Series(values, index=texts.index, dtype=object)
        rows[column] = column_values.reindex(rows.index)
    return replace(predictions, rows=rows)


def _answer(words: list[str], valence: str, labels: Sequence[str]) -> str:
    """The valence if it is a label, otherwise the label that is named first, otherwise empty."""
    polar = valence.strip().lower().removesuffix(".")
    if polar in labels:
        return polar
    return first_label(words, labels) or ""
