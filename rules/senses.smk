# The generated tasks in which each sample has a text, a drawn face and a synthetic voice.
#
# in:  the section senses of params.yaml
# out: results/senses/TASK.csv, and the media that it names: results/senses/faces, results/senses/voices


rule senses:
    """Generate scenes as text, face and voice."""
    output:
        tasks=JOBS.senses.tasks,
    log:
        "results/logs/senses.log",
    benchmark:
        "results/benchmarks/senses.tsv"
    conda:
        "../envs/environment.yaml"
    resources:
        **SMALL_JOB,
    params:
        settings=unfilled(JOBS.senses.settings),
        folder=lambda wildcards, output: str(Path(output.tasks[0]).parent),
        code=digest("senses"),
    shell:
        """
        affectlocus senses \
            --settings {params.settings:q} \
            --out {params.folder:q} \
            >{log:q} 2>&1
        """
