# Measures of a base that may tell where a tuning helps (matrix.forecast). They are written before any tuning starts:
# the jobs of rules/tune.smk wait for them.
#
# in:  results/checkpoints/BASE.json and its weights, results/data/TASK.parquet
# out: results/forecasts/TUNED.parquet


rule forecast:
    """Measure gradients, feature norms and spectra of a base before it is tuned."""
    input:
        base=JOBS.forecast.base,
        weights=ancient(JOBS.forecast.weights),
        data=JOBS.forecast.data,
    output:
        "results/forecasts/{tuned}.parquet",
    log:
        "results/logs/forecast/{tuned}.log",
    benchmark:
        "results/benchmarks/forecast/{tuned}.tsv"
    conda:
        "../envs/environment.yaml"
    threads: NEEDS.threads("forecast")
    resources:
        mem_mb=NEEDS.memory("forecast"),
        runtime=NEEDS.minutes("forecast"),
        gpu=NEEDS.gpus("forecast"),
    params:
        settings=JOBS.forecast.settings,
        samples=EXPERIMENT.matrix.forecast,
        data=lambda wildcards, input: repeated("data", input.data),
        hardware=settings(EXPERIMENT.hardware),
        code=digest("forecast"),
    shell:
        """
        affectlocus --cards {resources.gpu} forecast \
            --base {input.base:q} \
            {params.data} \
            --settings {params.settings:q} \
            --samples {params.samples} \
            --hardware {params.hardware:q} \
            --out {output:q} \
            >{log:q} 2>&1
        """
