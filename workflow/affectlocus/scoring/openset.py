"""Step `openset`: free text into the words for feelings that it names, by fixed rules.

What is read, the first of these that the text has:

1. A list in brackets: `[happy, 'sad']`, to the closing bracket or the end of its line.
2. Sentences that say a state: "emotional state is …", "emotions: …", "feels …", "seems to be …",
   情绪状态是…, 感到…; of each, what stands behind those words.
3. The first sentence; where it has a verb such as "is" or "was", what stands behind that.

What was read is taken apart at commas, semicolons, slashes and line breaks, English or full-width,
and at and, or, but, as well as, 和, 与, 以及 and the like (平和 and 温和 stay whole). A piece then

- goes, if it is negated: "not happy", "no longer sad", "没有生气". "Not happy or sad" negates both,
  "not angry, sad or happy" all three, "not happy but sad" the first. A bare
  不 makes another word (不安, 不满), as un- does: it stays;
- loses bullets, numbers, quotation marks, brackets, and what only weakens or strengthens: "a bit",
  "very", "a sense of", 有点, 非常; and words such as "emotions" behind it;
- ends where a reason begins: "happy because …", "angry at …";
- goes, if more than three words are left: that is prose.

Words come out in lower case, each once, in the order of the text. A piece that is one of the task's
labels is kept as it is.

What an extraction model replied is taken apart as MER-UniBench's scorer does, without these rules.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import pandas as pd

from affectlocus.config.tasks import is_valence
from affectlocus.core.errors import InputError
from affectlocus.scoring.valence_lexicon import valence as polarity

_LONGEST = 3  # words of a label: "let down", "at a loss"

_LIST = re.compile(r"[\[【]([^\]】\n]*)")
# A full stop ends a sentence before a blank or the end: "3.5" has none.
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
    # Not the second half, or the first, of a word: 平和, 温和, 和蔼, 和睦.
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


def open_set(text: str, labels: Iterable[str] = ()) -> list[str]:
    """The words for feelings that a text names, as the rules above take them.

    Args:
        text: what a model wrote; any text, of any length, gives a list.
        labels: words that are kept whole where they make a piece ("very angry", "no emotion").
    """
    known = {label.strip().lower() for label in labels}
    words: dict[str, None] = {}
    for part in _read(text):
        for word in _pieces(part.lower(), known):
            words.setdefault(word)
    return list(words)


def _read(text: str) -> list[str]:
    """The parts of a text that name feelings."""
    listed = _LIST.search(text)
    if listed:
        return [listed[1]]
    text = _BULLET.sub("", text.strip()).strip()
    sentences = [one.strip() for one in _SENTENCE.split(text) if one.strip()]
    told = [
        sentence[found.end() :] if not _negated(sentence, found.end()) else ""
        for sentence in sentences
        for found in [_STATE.search(sentence)]
        if found
    ]
    if told:
        return told
    if not sentences:
        return []
    first = sentences[0]
    verb = _VERB.search(first)
    return [first[verb.end() :] if verb else first]


def _negated(sentence: str, end: int) -> bool:
    """Whether the words that lead up to a state deny it: "we cannot say what he feels"."""
    return bool(_NEGATION.search(sentence[:end])) and "but" not in sentence[:end]


def _pieces(part: str, known: set[str]) -> list[str]:
    words = []
    for clause in _CONTRAST.split(part):
        # "Not angry, sad or happy" denies all three, "not angry, happy" the first.
        carried = bool(_ALTERNATIVE.search(clause))
        denied = False
        for listed in _SEPARATOR.split(clause):
            denied = denied and carried
            for piece in _ALTERNATIVE.split(listed):
                bare = piece.strip(_MARKS)
                denied = denied or (bare not in known and bool(_NEGATION.search(bare)))
                word = "" if denied else bare if bare in known else _word(bare)
                if word:
                    words.append(word)
    return words


def _word(piece: str) -> str:
    """A piece without what surrounds its word; empty where it is prose."""
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


def named(words: Sequence[str], labels: Sequence[str]) -> str | None:
    """The first of an open set's words that is a label, as the label is written; None for none.

    A word is a label if it is its text in lower case, or what the rules make of that: "very angry"
    is named by "angry", unless another label is that very word.
    """
    exact = {label.strip().lower(): label for label in labels}
    meant: dict[str, str] = {}
    for label in labels:
        for word in _pieces(label.lower(), set()):
            meant.setdefault(word, label)
    return next((found for word in words if (found := exact.get(word, meant.get(word)))), None)


def listed(reply: str) -> list[str]:
    """The labels of a list that a model was asked for, as MER-UniBench's scorer reads it.

    One bracket goes at each end, and commas and quotation marks part labels. Where that scorer
    crashes, at a lone bracket, there is no label. What stands in front of the list goes as well.
    """
    at = reply.find("[")
    inner = reply[at + 1 :] if at >= 0 else reply
    pieces = re.split("[,'\"]", inner.removesuffix("]"))
    return [word for piece in pieces if (word := piece.strip().lower())]


def opened(predictions: pd.DataFrame, extracted: pd.DataFrame | None = None) -> pd.DataFrame:
    """A cell's answers with what its free texts say.

    Args:
        predictions: of one cell, as `evaluate` wrote them, with the labels in `attrs`.
        extracted: of the same cell, what a model read out of its texts (`extract`); without it,
            the rules read.

    Returns:
        The rows of `predictions` with three more columns, empty where there is no text: `openset`
        (a list of words), `valence` (of valence tasks: positive, negative, neutral or whatever the
        model replied), `answer` (a label of the task, or empty: none was named).

    Raises:
        InputError: texts that were not extracted.
    """
    labels: dict[str, list[str]] = predictions.attrs["labels"]
    rows = predictions.copy()
    # What goes on from a text's opening answers nothing.
    spoken = rows["text"].notna() & rows["task"].map(labels).astype(bool)
    sets: list[list[str]]
    if extracted is None:
        sets = [
            open_set(text, labels[task])
            for task, text in rows.loc[spoken, ["task", "text"]].itertuples(index=False)
        ]
        polar = [polarity(words) or "" for words in sets]
    else:
        keys = pd.MultiIndex.from_frame(rows.loc[spoken, ["task", "sample"]])
        found = extracted.set_index(["task", "sample"])
        lost = keys[~keys.isin(found.index)]
        if len(lost):
            task, sample = lost[0]
            raise InputError(
                f"task {task}: nothing was extracted from the text of sample {sample!r}; run "
                "extract again on these predictions"
            )
        found = found.loc[keys]
        sets = [listed(reply) for reply in found["emotions"]]
        polar = found["valence"].tolist()
    tasks = rows.loc[spoken, "task"].tolist()
    polar = [
        word if is_valence(labels[task]) else "" for task, word in zip(tasks, polar, strict=True)
    ]
    answers = [
        _answer(words, word, labels[task])
        for task, words, word in zip(tasks, sets, polar, strict=True)
    ]
    index = rows.index[spoken]
    rows["openset"] = pd.Series(sets, index=index, dtype=object).reindex(rows.index)
    rows["valence"] = pd.Series(polar, index=index, dtype=object).reindex(rows.index)
    rows["answer"] = pd.Series(answers, index=index, dtype=object).reindex(rows.index)
    return rows


def _answer(words: list[str], valence: str, labels: Sequence[str]) -> str:
    """The label that is named first; of a valence task the polarity, where that is a label."""
    polar = valence.strip().lower().removesuffix(".")
    if polar in labels:
        return polar
    return named(words, labels) or ""
