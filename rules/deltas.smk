# The change of the weights by the tuning.
#
# in:  results/checkpoints/BASE.json, results/checkpoints/TUNED.json (PAIR.seedN, or PAIR)
# out: results/deltas/TUNED.parquet, a row per (layer, projection, weight or bias);
#      results/deltas/TUNED.experts (of a mixture), .histogram (relative change), .neurons (of the
#      feed-forward blocks)


rule deltas:
    """Measure the deltas of a pair."""
    input:
        base=collect(checkpoint("{base}"), base=JOBS.deltas.pair_base),
        tuned=checkpoint("{tuned}"),
        weights=ancient(JOBS.deltas.pair_weights),
        chain=JOBS.deltas.pair_chain,
    output:
        table="results/deltas/{tuned}.parquet",
        companions=multiext(
            "results/deltas/{tuned}", ".experts.parquet", ".histogram.parquet", ".neurons.parquet"
        ),
    log:
        "results/logs/deltas/{tuned}.log",
    benchmark:
        "results/benchmarks/deltas/{tuned}.tsv"
    conda:
        "../envs/environment.yaml"
    threads: 2
    resources:
        mem_mb=NEEDS.memory("deltas"),
        runtime=NEEDS.minutes("deltas"),
    params:
        settings=settings(EXPERIMENT.deltas),
        reading=JOBS.deltas.pair_reading,
        chain=JOBS.deltas.pair_chain_flags,
        code=digest("deltas"),
    shell:
        """
        affectlocus deltas \
            --base {input.base:q} \
            --tuned {input.tuned:q} \
            {params.chain} \
            --settings {params.settings:q} \
            --reading {params.reading:q} \
            --out {output.table:q} \
            >{log:q} 2>&1
        """
