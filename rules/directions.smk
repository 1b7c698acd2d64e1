# Whether the deltas of two pairs on one base point the same way.
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


rule draw_directions:
    """Draw the directions of two pairs: layers by projections."""
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
    conda:
        "../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        pairs=JOBS.directions.duo_flags,
        stem="results/figures/directions.{duo}",
        title=lambda wildcards: " and ".join(JOBS.directions.duos[wildcards.duo]) + ": directions",
        code=digest("figures"),
    shell:
        """
        affectlocus figures \
            --directions {input:q} {params.pairs} \
            --title {params.title:q} \
            --out {params.stem:q} \
            >{log:q} 2>&1
        """
