# What the tuning changed.
#
# in:  results/checkpoints/BASE.json, results/checkpoints/PAIR.json
# out: results/deltas/PAIR.parquet, a row per (layer, projection, weight or bias)


rule deltas:
    """Measure a pair's deltas."""
    input:
        base=JOBS.pair_base,
        tuned=checkpoint("{pair}"),
    output:
        "results/deltas/{pair}.parquet",
    log:
        "results/logs/deltas/{pair}.log",
    benchmark:
        "results/benchmarks/deltas/{pair}.tsv"
    conda:
        "../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        code=digest("deltas"),
    shell:
        """
        affectlocus deltas \
            --base {input.base:q} \
            --tuned {input.tuned:q} \
            --out {output:q} \
            >{log:q} 2>&1
        """
