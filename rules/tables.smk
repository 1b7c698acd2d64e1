# The paper's tables, the intervals of their numbers, and the baselines.
#
# in:  results/scores/PAIR/ARM.parquet, results/data/TASK.parquet
# out: results/table{1,2,3}.csv (load, tune, ablate), results/table{1,2,3}_intervals.csv,
#      results/table{1,2,3}_baselines.csv (the majority answer and a uniform guess; for free text
#      under a protocol also the best pair of words and the list of every label)


rule tables:
    """Write one table, its intervals and its baselines."""
    input:
        scores=JOBS.tables.scores,
        data=collect("results/data/{task}.parquet", task=JOBS.tables.columns),
        wheels=JOBS.wheels.files,
    output:
        table=report(
            "results/{table}.csv", **report_arguments("tables", of="{table}", shows="scores")
        ),
        intervals=report(
            "results/{table}_intervals.csv",
            **report_arguments("tables", of="{table}", shows="intervals"),
        ),
        baselines=report(
            "results/{table}_baselines.csv",
            **report_arguments("tables", of="{table}", shows="baselines"),
        ),
    log:
        "results/logs/tables/{table}.log",
    benchmark:
        "results/benchmarks/tables/{table}.tsv"
    conda:
        "../envs/environment.yaml"
    resources:
        **SMALL_JOB,
    params:
        metric=EXPERIMENT.score.metric,
        data=lambda wildcards, input: repeated("data", input.data),
        settings=settings(EXPERIMENT.score),
        tasks=settings(EXPERIMENT.scorings),
        wheels=JOBS.wheels.flags,
        code=digest("tables"),
    shell:
        """
        affectlocus tables \
            --scores {input.scores:q} \
            {params.data} \
            --metric {params.metric:q} \
            --settings {params.settings:q} {params.wheels} \
            --tasks {params.tasks:q} \
            --out {output.table:q} \
            --intervals {output.intervals:q} \
            --baselines {output.baselines:q} \
            >{log:q} 2>&1
        """
