"""The jobs of an experiment: one attribute for each step of the workflow.

`Dag.tune` serves the rules in rules/tune.smk and is defined in steps/tune.py. It can be read and
tested without Snakemake.
"""

from __future__ import annotations

from functools import cached_property

from affectlocus.config.experiment import Parameters
from affectlocus.orchestration.artifacts import Artifacts
from affectlocus.orchestration.steps.claims import ClaimsJobs
from affectlocus.orchestration.steps.convert import ConvertJobs
from affectlocus.orchestration.steps.corpus import CorpusJobs
from affectlocus.orchestration.steps.deltas import DeltasJobs
from affectlocus.orchestration.steps.directions import DirectionsJobs
from affectlocus.orchestration.steps.encode import EncodeJobs
from affectlocus.orchestration.steps.encoders import EncodersJobs
from affectlocus.orchestration.steps.evaluate import EvaluateJobs
from affectlocus.orchestration.steps.figures import FiguresJobs
from affectlocus.orchestration.steps.fluency import FluencyJobs
from affectlocus.orchestration.steps.forecast import ForecastJobs
from affectlocus.orchestration.steps.learning import LearningJobs
from affectlocus.orchestration.steps.ledger import LedgerJobs
from affectlocus.orchestration.steps.neurons import NeuronsJobs
from affectlocus.orchestration.steps.openset import OpensetJobs
from affectlocus.orchestration.steps.places import PlacesJobs
from affectlocus.orchestration.steps.prepare import PrepareJobs
from affectlocus.orchestration.steps.pretrain import PretrainJobs
from affectlocus.orchestration.steps.probes import ProbesJobs
from affectlocus.orchestration.steps.report import ReportJobs
from affectlocus.orchestration.steps.retrieve import RetrieveJobs
from affectlocus.orchestration.steps.revisions import RevisionsJobs
from affectlocus.orchestration.steps.score import ScoreJobs
from affectlocus.orchestration.steps.senses import SensesJobs
from affectlocus.orchestration.steps.smallest import SmallestJobs
from affectlocus.orchestration.steps.tables import TablesJobs
from affectlocus.orchestration.steps.trajectory import TrajectoryJobs
from affectlocus.orchestration.steps.tune import TuneJobs
from affectlocus.orchestration.steps.wheels import WheelsJobs


class Dag(Artifacts):
    """The cells, checkpoints and tables of an experiment, and the jobs of every step."""

    def __init__(self, parameters: Parameters) -> None:
        super().__init__(parameters)
        self.corpus = CorpusJobs(self)
        self.senses = SensesJobs(self)
        self.retrieve = RetrieveJobs(self)
        self.convert = ConvertJobs(self)
        self.pretrain = PretrainJobs(self)
        self.encoders = EncodersJobs(self)
        self.prepare = PrepareJobs(self)
        self.encode = EncodeJobs(self, self.prepare)
        self.forecast = ForecastJobs(self)
        self.probes = ProbesJobs(self)
        self.tune = TuneJobs(self, self.forecast)
        self.learning = LearningJobs(self)
        self.deltas = DeltasJobs(self)
        self.trajectory = TrajectoryJobs(self)
        self.evaluate = EvaluateJobs(self)
        self.openset = OpensetJobs(self)
        self.wheels = WheelsJobs(self)
        self.score = ScoreJobs(self, self.openset)
        self.tables = TablesJobs(self)
        self.claims = ClaimsJobs(self, self.forecast)
        self.figures = FiguresJobs(self, self.deltas, self.tables, self.claims)
        self.fluency = FluencyJobs(self)
        self.ledger = LedgerJobs(self, self.tables)
        self.neurons = NeuronsJobs(self)
        self.directions = DirectionsJobs(self)
        self.places = PlacesJobs(self)
        self.smallest = SmallestJobs(self)
        self.revisions = RevisionsJobs(self, self.deltas)

    @property
    def all_figures(self) -> list[str]:
        """The figures of all steps."""
        return [
            *self.figures.files,
            *self.trajectory.figures,
            *self.learning.figures,
            *self.ledger.figures,
            *self.neurons.figures,
            *self.directions.figures,
            *self.neurons.activation_figures,
            *self.places.figures,
            *self.smallest.figures,
        ]

    @cached_property
    def report(self) -> ReportJobs:
        """The jobs of rules/report.smk, which show the results of the other steps."""
        exhibits = [
            *self.probes.files,
            *self.tables.files,
            *self.figures.files,
            *self.trajectory.figures,
            *self.learning.files,
            *self.learning.figures,
            *self.fluency.files,
            *self.ledger.files,
            *self.ledger.figures,
            *self.neurons.figures,
            *self.directions.figures,
            *self.neurons.activation_figures,
            *self.places.files,
            *self.places.figures,
            *self.smallest.files,
            *self.smallest.figures,
        ]
        return ReportJobs(self, self.evaluate, self.openset, exhibits)
