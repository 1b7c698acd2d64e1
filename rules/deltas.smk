# The change of the weights by the tuning.
#
# in:  results/checkpoints/BASE.json, results/checkpoints/TUNED.json (PAIR.seedN, or PAIR)
# out: results/deltas/TUNED.parquet, a row per (layer, projection, weight or bias);
#      results/deltas/TUNED.experts (of a mixture), .histogram (relative change), .neurons (of the
#      feed-forward blocks)

#
# Each checkpoint has a job of its own, or several seeds of a pair share one (deltas.checkpoints_per_job).

DELTAS = """
    affectlocus deltas \
        {params.base} {params.tuned} {params.chain} \
        --settings {params.settings:q} \
        --reading {params.reading:q} \
        {params.out} \
        >{log:q} 2>&1
    """
COMPANIONS = (".experts.parquet", ".histogram.parquet", ".neurons.parquet")


rule deltas:
    """Measure the deltas of a pair."""
    input:
        base=collect(checkpoint("{base}"), base=JOBS.deltas.pair_base),
        tuned=checkpoint("{tuned}"),
        weights=ancient(JOBS.deltas.pair_weights),
        chain=JOBS.deltas.pair_chain,
    output:
        table="results/deltas/{tuned}.parquet",
        companions=multiext("results/deltas/{tuned}", *COMPANIONS),
    log:
        "results/logs/deltas/{tuned}.log",
    benchmark:
        "results/benchmarks/deltas/{tuned}.tsv"
    wildcard_constraints:
        tuned=alternatives(JOBS.deltas.single),
    conda:
        "../envs/environment.yaml"
    threads: NEEDS.threads("deltas")
    resources:
        mem_mb=NEEDS.memory("deltas"),
        runtime=NEEDS.minutes("deltas"),
    params:
        settings=settings(EXPERIMENT.deltas),
        reading=JOBS.deltas.pair_reading,
        base=lambda wildcards, input: repeated("base", input.base),
        tuned=lambda wildcards, input: repeated("tuned", [input.tuned]),
        out=lambda wildcards, output: repeated("out", [output.table]),
        chain=JOBS.deltas.pair_chain_flags,
        code=digest("deltas"),
    shell:
        DELTAS


for number, names in enumerate(JOBS.deltas.groups, 1):

    rule:
        name:
            f"deltas_group_{number}"
        input:
            base=JOBS.deltas.together(names).base,
            tuned=JOBS.deltas.together(names).tuned,
            weights=ancient(JOBS.deltas.together(names).weights),
            chain=JOBS.deltas.together(names).chain,
        output:
            table=[f"results/deltas/{name}.parquet" for name in names],
            companions=[
                f"results/deltas/{name}{companion}" for name in names for companion in COMPANIONS
            ],
        log:
            f"results/logs/deltas/{names[0]}.log",
        benchmark:
            f"results/benchmarks/deltas/{names[0]}.tsv"
        conda:
            "../envs/environment.yaml"
        threads: NEEDS.threads("deltas", names)
        resources:
            mem_mb=NEEDS.memory("deltas", names),
            runtime=NEEDS.minutes("deltas", names),
        params:
            settings=unfilled(settings(EXPERIMENT.deltas)),
            reading=unfilled(JOBS.deltas.together(names).reading),
            base=lambda wildcards, input: repeated("base", input.base),
            tuned=lambda wildcards, input: repeated("tuned", input.tuned),
            out=lambda wildcards, output: repeated("out", output.table),
            chain=JOBS.deltas.together(names).chain_flags,
            code=digest("deltas"),
        shell:
            DELTAS
