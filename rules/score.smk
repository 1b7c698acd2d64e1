# Scores, apart from inference: a changed metric costs no evaluation.
#
# in:  results/cells/CELL/predictions.parquet
# out: results/scores/PAIR/ARM.parquet (a table's cells), results/scores/others.parquet


rule score:
    """Score the cells of one table."""
    input:
        JOBS.arm_predictions,
    output:
        "results/scores/{pair}/{arm}.parquet",
    log:
        "results/logs/score/{pair}/{arm}.log",
    benchmark:
        "results/benchmarks/score/{pair}/{arm}.tsv"
    conda:
        "../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        settings=settings(EXPERIMENT.score),
        tasks=settings(EXPERIMENT.scorings),
        code=digest("score"),
    shell:
        """
        affectlocus score {input:q} \
            --settings {params.settings:q} \
            --tasks {params.tasks:q} \
            --out {output:q} \
            >{log:q} 2>&1
        """


use rule score as score_others with:
    input:
        JOBS.other_predictions,
    output:
        "results/scores/others.parquet",
    log:
        "results/logs/score/others.log",
    benchmark:
        "results/benchmarks/score/others.tsv"
