# What a linear probe reads from the text and from each medium of the benchmarks with media.
#
# in:  results/data/TASK.parquet, results/features/TASK/MEDIUM.safetensors
# out: results/probes.csv


rule probes:
    """Read the answers from text and media with a linear probe."""
    input:
        data=collect("results/data/{task}.parquet", task=JOBS.probes.tasks),
        features=JOBS.probes.features,
        indexes=JOBS.probes.indexes,
    output:
        report(
            "results/probes.csv",
            **report_arguments("probes", of="all", shows="what a linear probe reads"),
        ),
    log:
        "results/logs/probes.log",
    benchmark:
        "results/benchmarks/probes.tsv"
    conda:
        "../envs/environment.yaml"
    resources:
        mem_mb=2000,
        runtime=20,
    params:
        features=lambda wildcards, input: repeated("features", input.features),
        code=digest("probes"),
    shell:
        """
        affectlocus probes {input.data:q} {params.features} \
            --out {output:q} \
            >{log:q} 2>&1
        """
