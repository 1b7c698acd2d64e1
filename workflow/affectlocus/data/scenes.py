"""Short scenes whose emotion follows from appraisals and not from a keyword.

A scene describes what a person wished for, what happened, whether it was expected, and who caused
it. The emotion is a function of five appraisals (`Appraisal.emotion`), as in appraisal theories of
emotion: desirability, certainty, agency, expectedness, and whether the deed is revolting.

Desirability, expectedness and agency are written in a plain or a negated form. With both forms
equally likely, no single word predicts the label: "lose" after "did not" is good news, and rain is
good news for a person who hoped for it. Certainty ("may") and revulsion have their own words. These
words narrow the emotion down but do not determine its valence.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Literal

Desirable = Literal["good", "bad", "indifferent"]
Agent = Literal["self", "other", "nobody"]
Valence = Literal["positive", "negative", "neutral"]

EMOTIONS = ("happy", "sad", "angry", "worried", "surprised", "disgusted", "hopeful", "neutral")

PEOPLE = ("Mia", "Tom", "Ana", "Ben", "Lea", "Sam", "Eva", "Max", "Ida", "Leo", "Nora", "Finn")


@dataclass(frozen=True)
class Topic:
    """A goal that a person can reach or miss: the hoped-for outcome and its opposite."""

    good: str
    bad: str


TOPICS = (
    Topic("win the match", "lose the match"),
    Topic("pass the exam", "fail the exam"),
    Topic("catch the bus", "miss the bus"),
    Topic("catch the train", "miss the train"),
    Topic("find the keys", "lose the keys"),
    Topic("find the dog", "lose the dog"),
    Topic("keep the job", "lose the job"),
    Topic("mend the vase", "break the vase"),
    Topic("save the roses", "ruin the roses"),
    Topic("save the cake", "burn the cake"),
)


@dataclass(frozen=True)
class Happening:
    """An event that affects everybody; it is good or bad only relative to a person's wish."""

    clause: str  # "it would rain"
    may: str  # "it may rain"
    came: str  # "it rained"
    stayed_away: str  # "it did not rain"


HAPPENINGS = tuple(
    Happening(*line.split("|"))
    for line in (
        "it would rain|it may rain|it rained|it did not rain",
        "the guests would stay|the guests may stay|the guests stayed|the guests did not stay",
        "the shop would close|the shop may close|the shop closed|the shop did not close",
        "the music would stop|the music may stop|the music stopped|the music did not stop",
        "the ship would leave|the ship may leave|the ship left|the ship did not leave",
        "the lamp would go out|the lamp may go out|the lamp went out|the lamp did not go out",
    )
)

FOUL = (
    "spat in the soup of {p}",
    "left dead mice on the plate of {p}",
    "put rotten fish in the bed of {p}",
    "sneezed on the bread of {p}",
)

LUCK: dict[Valence, str] = {
    "positive": "This was good luck for {p}.",
    "negative": "This was bad luck for {p}.",
    "neutral": "This was nothing to {p}.",
}

REACTIONS: dict[str, tuple[str, ...]] = {
    "happy": ("{p} smiled.", "{p} danced.", "{p} sang a song."),
    "sad": ("{p} cried.", "{p} sat alone.", "{p} wept for hours."),
    "angry": ("{p} shouted.", "{p} slammed the door.", "{p} stamped and swore."),
    "worried": ("{p} paced up and down.", "{p} trembled.", "{p} could not sleep."),
    "surprised": ("{p} gasped.", "{p} stared with open mouth.", "{p} blinked twice."),
    "disgusted": ("{p} turned away.", "{p} felt sick.", "{p} washed both hands."),
    "hopeful": ("{p} crossed two fingers.", "{p} waited by the window."),
    "neutral": ("{p} went on as before.", "{p} said nothing more.", "{p} read a book."),
}


@dataclass(frozen=True)
class Appraisal:
    """How the focal person appraises the event; the emotion depends on nothing else."""

    desirable: Desirable
    certain: bool
    expected: bool
    agent: Agent
    foul: bool = False

    @property
    def emotion(self) -> str:
        """One of `EMOTIONS`, by the first rule that applies."""
        if self.desirable == "indifferent":
            return "neutral"
        if not self.certain:
            return "worried" if self.desirable == "bad" else "hopeful"
        if self.foul:
            return "disgusted"
        if self.desirable == "bad" and self.agent == "other":
            return "angry"
        if not self.expected:
            return "surprised"
        return "happy" if self.desirable == "good" else "sad"

    @property
    def valence(self) -> Valence:
        """The sign of the event for the focal person."""
        signs: dict[Desirable, Valence] = {
            "good": "positive",
            "bad": "negative",
            "indifferent": "neutral",
        }
        return signs[self.desirable]


@dataclass(frozen=True)
class Scene:
    """A scene: its text, the focal person, the other person, and the appraisal it expresses."""

    text: str
    person: str
    other: str
    appraisal: Appraisal

    @property
    def emotion(self) -> str:
        return self.appraisal.emotion

    @property
    def valence(self) -> Valence:
        return self.appraisal.valence


def draw_appraisal(rng: random.Random, emotion: str) -> Appraisal:
    """An appraisal that gives `emotion`, drawn uniformly from all that do.

    Raises:
        ValueError: no appraisal gives this emotion.
    """
    valid = [
        Appraisal(desirable, certain, expected, agent, foul)
        for desirable in ("good", "bad", "indifferent")
        for certain in (True, False)
        for expected in (True, False)
        for agent in ("self", "other", "nobody")
        for foul in (True, False)
        # A foul deed is always certain, undesirable, and done by the other person.
        if not foul or (certain and desirable == "bad" and agent == "other")
    ]
    matching = [appraisal for appraisal in valid if appraisal.emotion == emotion]
    if not matching:
        raise ValueError(f"no appraisal gives {emotion!r}; expected one of {', '.join(EMOTIONS)}")
    return rng.choice(matching)


def _outcome(
    rng: random.Random, person: str, good: bool, certain: bool, negated_share: float
) -> list[str]:
    """Sentences that state the person's wish and what happened."""
    if rng.random() < 0.5:
        topic = rng.choice(TOPICS)
        negated = rng.random() < negated_share
        act = topic.good if good != negated else topic.bad
        # "did lose" instead of "lost": the simple past is never negated, so it would reveal the
        # outcome.
        verb = ("did" if certain else "may") + (" not" if negated else "")
        return [f"{person} hoped to {topic.good}.", f"{person} {verb} {act}."]
    happening = rng.choice(HAPPENINGS)
    came = rng.random() >= negated_share
    # An outcome is good if it was hoped for and happened, or was dreaded and did not happen.
    verb = "hoped" if good == came else "dreaded"
    wish = f"{person} {verb} that {happening.clause}."
    if certain:
        event = happening.came if came else happening.stayed_away
    else:
        event = happening.may if came else happening.may.replace(" may ", " may not ")
    return [wish, f"{event}."]


def _expectation(rng: random.Random, expected: bool, negated_share: float) -> str:
    plain, negated = (
        ("it was expected", "it was no news")
        if expected
        else ("it was news", "it was not expected")
    )
    return f"{negated if rng.random() < negated_share else plain}."


def _agency(rng: random.Random, person: str, other: str, agent: Agent) -> str:
    """Who did it. Every form names both persons, so that a name alone predicts nothing."""
    if agent == "nobody":
        return f"neither {person} nor {other} did it."
    doer, bystander = (person, other) if agent == "self" else (other, person)
    forms = (
        f"{doer} did it, not {bystander}.",
        f"not {bystander}, but {doer} did it.",
    )
    return rng.choice(forms)


def write_scene(
    rng: random.Random,
    appraisal: Appraisal,
    negated_share: float = 0.5,
    luck_share: float = 0.0,
) -> Scene:
    """A scene that expresses the given appraisal.

    Args:
        negated_share: probability that a clue is written in its negated form. At 0.5, no single
            word predicts the appraisal; below 0.5, the plain form is the more likely one.
        luck_share: probability of a sentence that states whether it was good or bad luck.
    """
    person, other = rng.sample(PEOPLE, 2)
    if appraisal.foul:
        deed = rng.choice(FOUL).format(p=person)
        event = [f"{other} {deed}."]
    elif appraisal.desirable == "indifferent":
        # The same outcomes as in other scenes, and a sentence that makes them irrelevant.
        event = _outcome(rng, person, rng.random() < 0.5, appraisal.certain, negated_share)
        event.append(f"{person} did not mind.")
    else:
        event = _outcome(
            rng, person, appraisal.desirable == "good", appraisal.certain, negated_share
        )
        if rng.random() < 0.35:
            event.append(f"{person} did mind.")
    if rng.random() < luck_share:
        event.append(LUCK[appraisal.valence].format(p=person))
    # The defaults (it was expected, nobody did it) are stated in only 40 % of the scenes.
    tail = []
    if not appraisal.expected or rng.random() < 0.4:
        tail.append(_expectation(rng, appraisal.expected, negated_share))
    if appraisal.agent != "nobody" or rng.random() < 0.4:
        tail.append(_agency(rng, person, other, appraisal.agent))
    rng.shuffle(tail)
    sentences = [line[0].upper() + line[1:] for line in (*event, *tail)]
    return Scene(" ".join(sentences), person, other, appraisal)


def write_reaction(rng: random.Random, scene: Scene) -> str:
    """A sentence about what the focal person did next: it implies the emotion without naming it."""
    return rng.choice(REACTIONS[scene.emotion]).format(p=scene.person)
