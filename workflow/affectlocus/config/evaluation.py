"""Sections `evaluate` and `extraction`: how cells answer, and how free text is read."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from affectlocus.config.fields import Count, Listed, Name, Positive, Seed, Strict, as_folder
from affectlocus.config.sources import Source

Readout = Literal["candidates", "generation"]


class Generation(Strict):
    """How a cell writes free text."""

    sampling: Literal["greedy", "nucleus"] = Field(
        "greedy", description="the likeliest token each time, or drawn from the likeliest ones"
    )
    temperature: Positive = Field(1.0, description="nucleus: divides the logits")
    top_p: Annotated[float, Field(gt=0, le=1)] = Field(
        0.9, description="nucleus: share of the probability that a token is drawn from"
    )
    seed: Seed = Field(0, description="nucleus: with task and sample id, decides every draw")
    max_new_tokens: Count = Field(
        128, description="tokens at most; the paper's evaluation allows 1200"
    )
    template: Literal["task", "affectgpt", "chat"] = Field(
        "task",
        description="what the model reads: the task's prompt, AffectGPT's around the bare text, or "
        "the chat template of the base's tokenizer around the task's prompt",
    )
    question: str = Field(
        "Please recognize all possible emotional states of the character.",
        min_length=1,
        description="affectgpt: what is asked",
    )
    stop: Listed = Field(
        [], description="texts before which an answer ends; affectgpt has ### beside them"
    )
    batch_tokens: Count = Field(
        32768,
        description="tokens of the prompts and of the longest possible answers in one batch; "
        "halved where memory runs out",
    )

    @model_validator(mode="after")
    def _stops(self) -> Self:
        if "" in self.stop:
            raise ValueError("stop holds an empty text, before which every answer would end")
        return self


class Samples(Strict):
    """How a cell goes on from the openings of general text: what distinct-n is counted in."""

    count: Annotated[int, Field(ge=0, le=2**31 - 1)] = Field(
        64, description="documents gone on from, the first of the test split; 0: none"
    )
    opening: Count = Field(8, description="tokens of a document that the model is given")
    max_new_tokens: Count = Field(48, description="tokens at most")
    temperature: Positive = Field(1.0, description="divides the logits")
    top_p: Annotated[float, Field(gt=0, le=1)] = Field(
        0.9, description="share of the probability that a token is drawn from"
    )
    seed: Seed = Field(0, description="with task and sample id, decides every draw")

    @property
    def generation(self) -> Generation:
        """The same as settings of a text that is drawn."""
        drawn = self.model_dump(exclude={"count", "opening"})
        return Generation(sampling="nucleus", **drawn)


class Evaluate(Strict):
    """How a cell answers: every label's log-likelihood behind the prompt, or free text."""

    readout: Readout = Field(
        "candidates",
        description="candidates: the labels' log-likelihoods; generation: free text, from which "
        "labels are read afterwards",
    )
    readouts: dict[Name, Readout] = Field({}, description="tasks with another readout")
    generation: Generation = Generation()
    samples: Samples = Field(
        Samples(), description="tasks with fluency: text that a cell writes, for distinct-n"
    )
    batch_tokens: Count = Field(
        8192,
        description="candidates: tokens in one forward pass, padding included; halved where memory "
        "runs out",
    )
    max_length: Count = Field(512, description="tokens of a prompt; a longer one loses its start")

    def of(self, task: str) -> Readout:
        """A task's readout."""
        return self.readouts.get(task, self.readout)


class Extraction(Strict):
    """How labels are read out of free text; without a model, by fixed rules."""

    model: (
        Annotated[Source, BeforeValidator(as_folder, json_schema_input_type=str | Source)] | None
    ) = Field(
        None,
        description="a causal language model that lists the emotions in a text: its path, or where "
        "it comes from (AffectGPT's is Qwen/Qwen2.5-7B-Instruct)",
    )
    batch_tokens: Count = Field(
        8192,
        description="tokens of the prompts and of the longest possible replies in one batch; "
        "halved where memory runs out",
    )
    max_new_tokens: Count = Field(64, description="tokens of its reply")
