"""Sections `evaluate` and `extraction`: how cells answer, and how labels are read from text."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from affectlocus.config.fields import WHOLE, Count, Listed, Name, Positive, Seed, Strict
from affectlocus.config.messages import ParameterError
from affectlocus.config.sources import SourceOrPath

Readout = Literal["candidates", "generation"]


class Generation(Strict):
    """How a cell generates free text."""

    sampling: Literal["greedy", "nucleus"] = Field(
        "greedy",
        description="greedy: always the most likely token; nucleus: sampling from the most likely "
        "tokens",
    )
    temperature: Positive = Field(1.0, description="nucleus: divides the logits")
    top_p: Annotated[float, Field(gt=0, le=1)] = Field(
        0.9, description="nucleus: cumulative probability of the tokens to sample from"
    )
    seed: Seed = Field(
        0, description="nucleus: seed; sampling is seeded by it, the task and the sample id"
    )
    max_new_tokens: Count = Field(
        128, description="maximum number of tokens; the paper's evaluation uses 1200"
    )
    template: Literal["task", "affectgpt", "chat"] = Field(
        "task",
        description="the model's input: task: the task's prompt; affectgpt: AffectGPT's prompt "
        "around the text; chat: the chat template of the base's tokenizer around the task's prompt",
    )
    question: str = Field(
        "Please recognize all possible emotional states of the character.",
        min_length=1,
        description="affectgpt: the question in the prompt",
    )
    stop: Listed = Field(
        [], description="texts at which an answer ends; affectgpt also ends at ###"
    )
    batch_tokens: Count = Field(
        32768,
        description="maximum number of tokens in one batch, prompts and longest possible answers "
        "together; halved if memory runs out",
    )

    @model_validator(mode="after")
    def _stops(self) -> Self:
        if "" in self.stop:
            raise ParameterError(
                "params.empty-stop",
                "stop contains an empty text, at which every answer would end; remove it",
                found=self.stop,
            )
        return self


class Samples(Strict):
    """Continuations of general text, in which distinct-n is counted."""

    count: Annotated[int, Field(ge=0, le=2**31 - 1), WHOLE] = Field(
        64, description="number of documents to continue, from the start of the test split; 0: none"
    )
    opening: Count = Field(
        8, description="number of tokens of a document that the model gets as a prompt"
    )
    max_new_tokens: Count = Field(48, description="maximum number of generated tokens")
    temperature: Positive = Field(1.0, description="divides the logits")
    top_p: Annotated[float, Field(gt=0, le=1)] = Field(
        0.9, description="cumulative probability of the tokens to sample from"
    )
    seed: Seed = Field(0, description="seed; sampling is seeded by it, the task and the sample id")

    @property
    def generation(self) -> Generation:
        """The same values as settings of generation."""
        values = self.model_dump(exclude={"count", "opening"})
        return Generation(sampling="nucleus", **values)


class Evaluate(Strict):
    """How a cell answers: by the log-likelihood of each label after the prompt, or by free text."""

    readout: Readout = Field(
        "candidates",
        description="candidates: log-likelihoods of the labels; generation: free text, from which "
        "a later step reads labels",
    )
    readouts: dict[Name, Readout] = Field({}, description="task → its readout, if different")
    generation: Generation = Generation()
    samples: Samples = Field(
        Samples(), description="tasks with fluency: continuations of text, for distinct-n"
    )
    batch_tokens: Count = Field(
        8192,
        description="candidates: maximum number of tokens in one forward pass, with padding; "
        "halved if memory runs out",
    )
    max_length: Count = Field(
        512, description="maximum number of tokens of a prompt; a longer one is cut at its start"
    )

    def of(self, task: str) -> Readout:
        """The readout of a task."""
        return self.readouts.get(task, self.readout)


class Extraction(Strict):
    """How labels are read from free text: by a model, or by fixed rules without one."""

    model: SourceOrPath | None = Field(
        None,
        description="a causal language model that lists the emotions in a text: a path or a source "
        "(AffectGPT uses Qwen/Qwen2.5-7B-Instruct)",
    )
    batch_tokens: Count = Field(
        8192,
        description="maximum number of tokens in one batch, prompts and longest possible replies "
        "together; halved if memory runs out",
    )
    max_new_tokens: Count = Field(64, description="maximum number of tokens of a reply")
