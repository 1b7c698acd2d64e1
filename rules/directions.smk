# Whether the deltas of two pairs on one base have the same direction.
#
# in:  results/checkpoints/BASE.json, results/checkpoints/PAIR.json
# out: results/directions/BASE.parquet, results/figures/directions.FIRST-and-SECOND


rule directions:
    """Compare the directions of every two pairs on a base."""
    input:
        base=checkpoint("{base}"),
        tuned=collect(checkpoint("{tuned}"), tuned=JOBS.directions.tuned),
        weights=ancient(JOBS.directions.weights),
        chain=JOBS.directions.chain,
    output:
        "results/directions/{base}.parquet",
    log:
        "results/logs/directions/{base}.log",
    benchmark:
        "results/benchmarks/directions/{base}.tsv"
    conda:
        "../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=NEEDS.memory("directions"),
        runtime=NEEDS.minutes("directions"),
    params:
        tuned=lambda wildcards, input: repeated("tuned", input.tuned),
        settings=settings(EXPERIMENT.directions),
        readings=JOBS.directions.readings,
        chain=JOBS.directions.chain_flags,
        code=digest("directions"),
    shell:
        """
        affectlocus directions \
            --base {input.base:q} \
            {params.tuned} {params.chain} \
            --settings {params.settings:q} \
            --readings {params.readings:q} \
            --out {output:q} \
            >{log:q} 2>&1
        """


# Draw the directions of two pairs, as a map of layers by projections.
use rule heat_map as draw_directions with:
    input:
        collect("results/directions/{base}.parquet", base=JOBS.directions.common_base),
    output:
        report(
            "results/figures/directions.{pair_of_pairs}.png",
            **report_arguments("draw_directions", of="{pair_of_pairs}", shows="directions"),
        ),
        "results/figures/directions.{pair_of_pairs}.svg",
    log:
        "results/logs/figures/directions.{pair_of_pairs}.log",
    benchmark:
        "results/benchmarks/figures/directions.{pair_of_pairs}.tsv"
    params:
        stem="results/figures/directions.{pair_of_pairs}",
        shown=JOBS.directions.figure_flags,
        title=lambda wildcards: " and ".join(
            JOBS.directions.pairs_of_pairs[wildcards.pair_of_pairs]
        )
        + ": directions",
