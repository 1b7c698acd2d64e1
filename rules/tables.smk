# The paper's tables, and the intervals of each of their numbers.
#
# in:  results/scores/PAIR/ARM.parquet
# out: results/table{1,2,3}.csv (load, tune, ablate), results/table{1,2,3}_intervals.csv


rule tables:
    """Lay out one table."""
    input:
        JOBS.table_scores,
    output:
        table="results/{table}.csv",
        intervals="results/{table}_intervals.csv",
    log:
        "results/logs/tables/{table}.log",
    benchmark:
        "results/benchmarks/tables/{table}.tsv"
    conda:
        "../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        metric=EXPERIMENT.score.metric,
        code=digest("tables"),
    shell:
        """
        affectlocus tables \
            --scores {input:q} \
            --metric {params.metric:q} \
            --out {output.table:q} \
            --intervals {output.intervals:q} \
            >{log:q} 2>&1
        """
