"""Step `corpus`: the embedded corpus."""

from __future__ import annotations

from affectlocus.config.corpus import CORPUS_TASKS
from affectlocus.orchestration.steps.step import StepJobs


class CorpusJobs(StepJobs):
    """The jobs of rules/corpus.smk."""

    @property
    def tasks(self) -> list[str]:
        """The files of all tasks that the generator can write.

        They do not depend on which tasks the experiment uses. So an added task does not rerun the
        generator, and the bases are not pre-trained again.
        """
        return [f"results/corpus/{name}.csv" for name in CORPUS_TASKS]
