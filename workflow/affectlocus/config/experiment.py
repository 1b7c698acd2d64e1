"""An experiment's params.yaml, defined by the model `Parameters`.

`affectlocus schema` generates the JSON schema in `workflow/schemas` from it. `load` reports every
error as one sentence with the file and the key.
"""

from __future__ import annotations

import json
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, ValidationError

from affectlocus.config.bridges import BridgeConfig
from affectlocus.config.claims import Claims
from affectlocus.config.corpus import Corpus, Senses
from affectlocus.config.evaluation import Evaluate, Extraction
from affectlocus.config.fields import Name, Seed, Strict, distinct
from affectlocus.config.hardware import Hardware, PlanAssumptions
from affectlocus.config.layers import missing_layers
from affectlocus.config.matrix import Matrix
from affectlocus.config.measures import Deltas, Directions, Neurons
from affectlocus.config.media import Medium
from affectlocus.config.messages import located, problems, without_unknown_keys
from affectlocus.config.name_collisions import clashes
from affectlocus.config.pairs import PairConfig
from affectlocus.config.paths import missing_files
from affectlocus.config.references import broken_references, unwritable_texts
from affectlocus.config.scoring import Score
from affectlocus.config.sources import Base
from affectlocus.config.task_answers import Scoring, Scorings
from affectlocus.config.tasks import Task
from affectlocus.config.tuning import Recipe
from affectlocus.config.yaml_text import LONGEST, parsed
from affectlocus.core.cells import replicate_name
from affectlocus.core.errors import InputError, Problems


class Parameters(Strict):
    """One experiment."""

    data_root: str = Field(
        ".", description="the folder to which paths are relative; itself relative to params.yaml"
    )
    corpus: Corpus | None = None
    senses: Senses | None = Field(
        None, description="generates the tasks with a face and a voice, such as mini-face"
    )
    bases: Annotated[dict[Name, Base], Field(min_length=1)]
    bridges: dict[Name, BridgeConfig] = Field(
        {}, description="what turns the features of media into soft tokens of a language model"
    )
    pairs: Annotated[dict[Name, PairConfig], Field(min_length=1)]
    tasks: Annotated[dict[Name, Task], Field(min_length=1)]
    media: dict[Name, Medium] = Field(
        {}, description="audio, video, image and face files that samples have: how they are read"
    )
    matrix: Matrix
    tune: Recipe | None = Field(None, description="the recipe of the tune cells of the matrix")
    seeds: Annotated[list[Seed], AfterValidator(distinct), Field(min_length=1)] = Field(
        [0],
        description="every tuning is run once for each seed, which also seeds the random ablations "
        "of the tuned model; for existing checkpoints see matrix.draws",
    )
    deltas: Deltas = Deltas()
    neurons: Neurons = Neurons()
    directions: Directions = Directions()
    evaluate: Evaluate = Evaluate()
    extraction: Extraction = Extraction()
    score: Score = Score()
    claims: Claims = Claims()
    hardware: Hardware = Hardware()
    plan: PlanAssumptions = PlanAssumptions()

    @property
    def base_models(self) -> dict[str, Base]:
        """Every base checkpoint: BASE, or BASE.seedN for each seed that has its own."""
        return {
            replicate_name(name, seed): model
            for name in self.bases
            for seed, model in self.models_of(name).items()
        }

    def models_of(self, base: str) -> dict[int | None, Base]:
        """Seed → the model of a base; None → the model, if one serves every seed.

        A base has the seeds that its pairs need.
        """
        pairs = [pair for pair in self.pairs.values() if pair.base == base]
        counts = [pair.replicates or len(self.seeds) for pair in pairs]
        return self.bases[base].models(self.seeds[: max(counts, default=None)])

    def base_seeds(self, base: str) -> list[int | None]:
        """The seeds of a base's models; [None] if one model serves every seed."""
        return list(self.models_of(base))

    def tuning_seeds(self, pair: str) -> list[int]:
        """The seeds of the tunings of a pair, and of the tune cells on its base."""
        return self.seeds[: self.pairs[pair].replicates]

    @property
    def benchmarks(self) -> list[str]:
        """The tasks that cells are scored on, in the order of params.yaml."""
        return [name for name, task in self.tasks.items() if task.scored]

    @property
    def scorings(self) -> Scorings:
        """The settings of the benchmarks that scoring needs in addition to their labels."""
        known = {name: self.tasks[name].scoring for name in self.benchmarks}
        return Scorings({name: one for name, one in known.items() if one != Scoring()})

    @property
    def texts(self) -> list[str]:
        """The tasks with fluency: general text that cells read."""
        return [name for name, task in self.tasks.items() if task.fluency]

    @property
    def spoken(self) -> list[str]:
        """The benchmarks that are answered with free text."""
        return [name for name in self.benchmarks if self.evaluate.of(name) == "generation"]

    def columns_of(self, pair: str) -> list[str]:
        """The benchmarks that a pair's cells answer: those of its domain.

        A null answers the affective ones, and so does a control without benchmarks of its own
        domain. A pair tuned on shuffled answers has the benchmarks of its domain.
        """
        domain = "control" if self.pairs[pair].domain == "control" else "affective"
        own = [name for name in self.benchmarks if self.tasks[name].domain == domain]
        return own or [name for name in self.benchmarks if self.tasks[name].domain == "affective"]


def validate(
    config: dict[str, Any], folder: Path, source: str = "params.yaml", planning: bool = False
) -> Parameters:
    """The parameters in `config`, checked against each other and against the files they name.

    Args:
        config, folder, source, planning: as in `examine`.

    Raises:
        InputError: one sentence with the file and the key; `CombinedError` with a sentence for each
            of several problems.
    """
    parameters, found = examine(config, folder, source, planning)
    found.raise_any()
    return parameters


def examine(
    config: dict[str, Any], folder: Path, source: str = "params.yaml", planning: bool = False
) -> tuple[Parameters, Problems]:
    """The parameters in `config`, as far as they can be read, and everything that is wrong.

    Unknown keys are problems, and the rest is checked without them.

    Args:
        config: the parsed params.yaml.
        folder: the experiment's folder, where `data_root` starts from.
        source: how error messages name the file.
        planning: nothing will run, so that files marked `awaited` may be missing.

    Raises:
        InputError: values that cannot be read, as in `validate`.
    """
    for problem in unwritable_texts(config):
        raise located(problem, source)
    found = Problems()
    try:
        parameters = Parameters.model_validate(config)
    except ValidationError as error:
        found.add(*(located(problem, source) for problem in problems(error, Parameters)))
        meant = without_unknown_keys(config, error, Parameters)
        try:
            parameters = Parameters.model_validate(meant)
        except ValidationError:
            found.raise_any()
            raise
    for problem in chain(
        broken_references(parameters),
        clashes(parameters.bases, parameters.pairs, parameters.tasks),
        missing_files(parameters, folder, planning),
        missing_layers(parameters, folder),
    ):
        found.add(located(problem, source))
    return parameters, found


def read(path: Path) -> dict[str, Any]:
    """The keys and values of a params.yaml, not validated; `InputError` if it is not YAML."""
    try:
        with path.open("rb") as stream:
            # One more byte than the limit, to detect a longer file.
            content = stream.read(LONGEST + 1)
    except FileNotFoundError:
        raise InputError(
            "params.no-file",
            f"{path}: no such file; expected an experiment's params.yaml",
            file=path,
        ) from None
    except OSError as error:
        raise InputError(
            "params.unreadable",
            f"{path}: cannot be read ({error.strerror})",
            file=path,
            reason=error.strerror,
        ) from None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            "params.not-utf-8", f"{path}: not UTF-8 ({error}); save it as UTF-8", file=path
        ) from None
    config = parsed(text, str(path))
    if not isinstance(config, dict):
        raise InputError(
            "params.not-a-mapping",
            f"{path}: expected keys and values, found {type(config).__name__}",
            file=path,
            found=config,
        )
    return config


def load(path: Path, planning: bool = False) -> Parameters:
    """The parameters in a params.yaml or in a folder with one; `InputError` names file and key."""
    if path.is_dir():
        path = path / "params.yaml"
    return validate(read(path), path.parent, str(path), planning)


def schema_text() -> str:
    """The JSON schema of params.yaml, generated from the models."""
    schema = Parameters.model_json_schema()
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
