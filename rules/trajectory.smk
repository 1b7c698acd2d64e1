# The deltas at several steps of the tuning.
#
# in:  results/checkpoints/BASE.json, results/checkpoints/TUNED.json and the snapshots of its tuning
# out: results/trajectory/TUNED.parquet, a row per (step, layer, projection);
#      results/figures/trajectory.PAIR


rule trajectory:
    """Measure the delta at several steps of a tuning."""
    input:
        base=collect(checkpoint("{base}"), base=JOBS.trajectory.pair_base),
        tuned=checkpoint("{tuned}"),
        weights=ancient(JOBS.trajectory.pair_weights),
    output:
        "results/trajectory/{tuned}.parquet",
    log:
        "results/logs/trajectory/{tuned}.log",
    benchmark:
        "results/benchmarks/trajectory/{tuned}.tsv"
    conda:
        "../envs/environment.yaml"
    threads: 2
    resources:
        mem_mb=2000,
        runtime=120,
    params:
        code=digest("trajectory"),
    shell:
        """
        affectlocus trajectory \
            --base {input.base:q} \
            --tuned {input.tuned:q} \
            --out {output:q} \
            >{log:q} 2>&1
        """


# Draw the deltas of a pair along the tuning.
use rule heat_map as draw_trajectory with:
    input:
        collect("results/trajectory/{tuned}.parquet", tuned=JOBS.trajectory.of_pair),
    output:
        report(
            "results/figures/trajectory.{pair}.png",
            **report_arguments("draw_trajectory", of="{pair}", shows="change along the tuning"),
        ),
        "results/figures/trajectory.{pair}.svg",
    log:
        "results/logs/figures/trajectory.{pair}.log",
    benchmark:
        "results/benchmarks/figures/trajectory.{pair}.tsv"
    params:
        stem="results/figures/trajectory.{pair}",
        shown=lambda wildcards, input: repeated("trajectory", input),
        title=lambda wildcards: f"{wildcards.pair}: change of the weights along the tuning",
