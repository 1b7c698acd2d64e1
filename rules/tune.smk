# Tuned checkpoints: affective pairs, controls, and the matrix's tune cells, all by one rule.
#
# in:  results/checkpoints/BASE.json, results/data/TASK.parquet
# out: checkpoints/NAME/ (adapter or model), results/checkpoints/NAME.json (manifest with losses)


rule tune:
    """Tune a base on a module set within a fixed budget."""
    input:
        base=JOBS.tuning_base,
        data=JOBS.tuning_data,
    output:
        checkpoint("{name}"),
    log:
        "results/logs/tune/{name}.log",
    benchmark:
        "results/benchmarks/tune/{name}.tsv"
    wildcard_constraints:
        name=JOBS.tuned_named,
    conda:
        "../envs/environment.yaml"
    threads: NEEDS.threads("tune")
    resources:
        mem_mb=NEEDS.memory("tune"),
        runtime=NEEDS.minutes("tune"),
        gpu=NEEDS.gpus("tune"),
    params:
        hardware=settings(EXPERIMENT.hardware),
        settings=JOBS.tuning_settings,
        data=lambda wildcards, input: repeated("data", input.data),
        folder="checkpoints/{name}",
        code=digest("tune"),
    shell:
        """
        affectlocus --cards {resources.gpu} tune \
            --base {input.base:q} \
            {params.data} \
            --settings {params.settings:q} \
            --hardware {params.hardware:q} \
            --folder {params.folder:q} \
            --out {output:q} \
            >{log:q} 2>&1
        """
