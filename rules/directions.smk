# Whether the deltas of two pairs on one base have the same direction.
#
# in:  results/checkpoints/BASE.json, results/checkpoints/PAIR.json
# out: results/directions/BASE.parquet, results/figures/directions.FIRST-and-SECOND


rule directions:
    """Compare the directions of every two pairs on a base."""
    input:
        base=checkpoint("{base}"),
        tuned=JOBS.directions.tuned,
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
    threads: 2
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
        JOBS.directions.of_duo,
    output:
        report(
            "results/figures/directions.{duo}.png",
            **report_arguments("draw_directions", of="{duo}", shows="directions"),
        ),
        "results/figures/directions.{duo}.svg",
    log:
        "results/logs/figures/directions.{duo}.log",
    benchmark:
        "results/benchmarks/figures/directions.{duo}.tsv"
    params:
        stem="results/figures/directions.{duo}",
        shown=JOBS.directions.figure_flags,
        title=lambda wildcards: " and ".join(JOBS.directions.duos[wildcards.duo]) + ": directions",
