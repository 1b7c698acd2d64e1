# The generated corpus: pre-training text and tasks.
#
# in:  the corpus section of params.yaml
# out: results/corpus/pretraining.txt, results/corpus/TASK.csv


rule corpus:
    """Generate scenes, arithmetic problems and benchmarks."""
    output:
        text="results/corpus/pretraining.txt",
        tasks=JOBS.corpus.tasks,
    log:
        "results/logs/corpus.log",
    benchmark:
        "results/benchmarks/corpus.tsv"
    conda:
        "../envs/environment.yaml"
    resources:
        **SMALL_JOB,
    params:
        settings=settings(EXPERIMENT.corpus) if EXPERIMENT.corpus else "{}",
        folder=subpath(output.text, parent=True),
        code=digest("corpus"),
    shell:
        """
        affectlocus corpus \
            --settings {params.settings:q} \
            --out {params.folder:q} \
            >{log:q} 2>&1
        """
