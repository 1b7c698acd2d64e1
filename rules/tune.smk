# Tuned checkpoints: affective pairs, controls, and the matrix's tune cells, all by one rule.
#
# in:  results/checkpoints/BASE.json, results/data/TASK.parquet
# out: checkpoints/NAME/ (adapter or model), results/checkpoints/NAME.json (manifest with losses)


rule tune:
    """Tune a base on a module set within a fixed budget."""
    input:
        base=tuning_base,
        data=tuning_data,
    output:
        checkpoint("{name}"),
    params:
        settings=tuning_settings,
        data=lambda wildcards: " ".join(f"--data {quote(f)}" for f in tuning_data(wildcards)),
        folder="checkpoints/{name}",
        code=digest("tune"),
    log:
        "results/logs/tune/{name}.log",
    benchmark:
        "results/benchmarks/tune/{name}.tsv"
    wildcard_constraints:
        name=alternatives(
            [
                *(name for name, pair in EXPERIMENT.pairs.items() if pair.tuning is not None),
                *TUNED_CELLS,
            ]
        ),
    threads: 1
    resources:
        mem_mb=memory_of_tuning,
        runtime=240,
        gpu=GPU,
    conda:
        "../envs/environment.yaml"
    shell:
        """
        affectlocus tune \
            --base {input.base:q} \
            {params.data} \
            --settings {params.settings:q} \
            --folder {params.folder:q} \
            --out {output:q} \
            >{log:q} 2>&1
        """
