# Scores. Scoring is separate from inference, so a changed metric reruns no evaluation.
#
# in:  results/cells/CELL/predictions.parquet, or openset.parquet if any task has free text
# out: results/scores/PAIR/ARM.parquet (the cells of one table), results/scores/others.parquet (the
#      cells of no table)


rule score:
    """Score the cells of one table."""
    input:
        answers=JOBS.score.answers,
        wheels=JOBS.wheels.files,
    output:
        "results/scores/{pair}/{arm}.parquet",
    log:
        "results/logs/score/{pair}/{arm}.log",
    benchmark:
        "results/benchmarks/score/{pair}/{arm}.tsv"
    conda:
        "../envs/environment.yaml"
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        order=JOBS.score.order,
        settings=settings(EXPERIMENT.score),
        tasks=settings(EXPERIMENT.scorings),
        wheels=JOBS.wheels.flags,
        code=digest("score"),
    shell:
        """
        affectlocus score {input.answers:q} \
            --settings {params.settings:q} {params.wheels} \
            --tasks {params.tasks:q} \
            --out {output:q} \
            >{log:q} 2>&1
        """


use rule score as score_others with:
    input:
        answers=JOBS.score.other_answers,
        wheels=JOBS.wheels.files,
    output:
        "results/scores/others.parquet",
    log:
        "results/logs/score/others.log",
    benchmark:
        "results/benchmarks/score/others.tsv"
    params:
        order=JOBS.score.other_order,
