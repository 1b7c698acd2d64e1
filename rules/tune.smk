# Tuned checkpoints: affective pairs, controls, and the tune cells of the matrix.
#
# in:  results/checkpoints/BASE.json and its weights, results/data/TASK.parquet
# out: checkpoints/NAME/ (adapter or model), results/checkpoints/NAME.json (manifest with losses). The file .complete
#      represents the folder: it is deleted with the folder. Rules that read the weights declare it as ancient. They
#      depend on the manifest, which holds the SHA-256 of all weights.


rule tune:
    """Tune a base on a module set within a fixed budget."""
    input:
        base=JOBS.tune.base,
        weights=ancient(JOBS.tune.weights),
        data=JOBS.tune.data,
    output:
        manifest=checkpoint("{name}"),
        complete=touch(complete("{name}")),
    log:
        "results/logs/tune/{name}.log",
    benchmark:
        "results/benchmarks/tune/{name}.tsv"
    wildcard_constraints:
        name=JOBS.tune.pattern,
    conda:
        "../envs/environment.yaml"
    threads: NEEDS.threads("tune")
    resources:
        mem_mb=NEEDS.memory("tune"),
        runtime=NEEDS.minutes("tune"),
        gpu=NEEDS.gpus("tune"),
    params:
        hardware=settings(EXPERIMENT.hardware),
        settings=JOBS.tune.settings,
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
            --out {output.manifest:q} \
            >{log:q} 2>&1
        """
