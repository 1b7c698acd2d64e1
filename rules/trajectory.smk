# The deltas at several steps of the tuning.
#
# in:  results/checkpoints/BASE.json, results/checkpoints/TUNED.json and the snapshots of its tuning
# out: results/trajectory/TUNED.parquet, a row per (step, layer, projection);
#      results/figures/trajectory.PAIR

#
# Each checkpoint has a job of its own, or several seeds of a pair share one (deltas.checkpoints_per_job).

TRAJECTORY = """
    affectlocus trajectory \
        {params.base} {params.tuned} {params.out} \
        >{log:q} 2>&1
    """


rule trajectory:
    """Measure the delta at several steps of a tuning."""
    input:
        base=collect(checkpoint("{base}"), base=JOBS.trajectory.pair_base),
        tuned=checkpoint("{tuned}"),
        weights=ancient(JOBS.trajectory.pair_weights),
    output:
        table="results/trajectory/{tuned}.parquet",
    log:
        "results/logs/trajectory/{tuned}.log",
    benchmark:
        "results/benchmarks/trajectory/{tuned}.tsv"
    wildcard_constraints:
        tuned=alternatives(JOBS.trajectory.single),
    conda:
        "../envs/environment.yaml"
    threads: NEEDS.threads("deltas")
    resources:
        mem_mb=2000,
        runtime=120,
    params:
        base=lambda wildcards, input: repeated("base", input.base),
        tuned=lambda wildcards, input: repeated("tuned", [input.tuned]),
        out=lambda wildcards, output: repeated("out", [output.table]),
        code=digest("trajectory"),
    shell:
        TRAJECTORY


for number, names in enumerate(JOBS.trajectory.groups, 1):

    rule:
        name:
            f"trajectory_group_{number}"
        input:
            base=JOBS.trajectory.together(names).base,
            tuned=JOBS.trajectory.together(names).tuned,
            weights=ancient(JOBS.trajectory.together(names).weights),
        output:
            table=[f"results/trajectory/{name}.parquet" for name in names],
        log:
            f"results/logs/trajectory/{names[0]}.log",
        benchmark:
            f"results/benchmarks/trajectory/{names[0]}.tsv"
        conda:
            "../envs/environment.yaml"
        threads: NEEDS.threads("deltas", names)
        resources:
            mem_mb=2000,
            runtime=120,
        params:
            base=lambda wildcards, input: repeated("base", input.base),
            tuned=lambda wildcards, input: repeated("tuned", input.tuned),
            out=lambda wildcards, output: repeated("out", output.table),
            code=digest("trajectory"),
        shell:
            TRAJECTORY


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
