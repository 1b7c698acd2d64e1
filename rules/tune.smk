# Tuned checkpoints: affective pairs, controls, and the tune cells of the matrix. Each is a separate job, or several
# share a job (matrix.tunings_per_job): tune cells of one pair and seed, or several seeds of a pair.
#
# in:  results/checkpoints/BASE.json and its weights, results/data/TASK.parquet; for pairs with a bridge
#      results/features/TASK/MEDIUM.safetensors and .parquet; results/forecasts/TUNED.parquet is awaited, not read
# out: checkpoints/NAME/ (adapter or model), results/checkpoints/NAME.json (manifest with losses). The file .complete
#      represents the folder: it is deleted with the folder. Rules that read the weights declare it as ancient. They
#      depend on the manifest, which holds the SHA-256 of all weights.

TUNE = """
    affectlocus --cards {resources.gpu} tune \
        {params.base} {params.data} {params.features} \
        --settings {params.settings:q} \
        --tunings {params.tunings:q} \
        --hardware {params.hardware:q} \
        >{log:q} 2>&1
    """


rule tune:
    """Tune a base on a module set within a fixed budget."""
    input:
        base=JOBS.tune.of("base"),
        weights=ancient(JOBS.tune.of("weights")),
        data=JOBS.tune.of("data"),
        features=JOBS.tune.of("features"),
        indices=JOBS.tune.of("indices"),
        forecast=ancient(JOBS.tune.of("forecast")),
    output:
        manifest=checkpoint("{name}"),
        complete=touch(complete("{name}")),
    log:
        "results/logs/tune/{name}.log",
    benchmark:
        "results/benchmarks/tune/{name}.tsv"
    wildcard_constraints:
        name=JOBS.tune.pattern,
    # Before evaluations of other cells, because those of tune cells depend on it.
    priority: 1
    conda:
        "../envs/environment.yaml"
    threads: NEEDS.threads("tune")
    resources:
        mem_mb=NEEDS.memory("tune"),
        runtime=NEEDS.minutes("tune"),
        gpu=NEEDS.gpus("tune"),
    params:
        hardware=settings(EXPERIMENT.hardware),
        settings=JOBS.tune.of("settings"),
        base=lambda wildcards, input: repeated("base", input.base),
        data=lambda wildcards, input: repeated("data", input.data),
        features=lambda wildcards, input: repeated("features", input.features),
        tunings=JOBS.tune.own_json,
        code=digest("tune"),
    shell:
        TUNE


for number, names in enumerate(JOBS.tune.groups, 1):

    # Inputs and parameters of tune cells do not depend on which of them share the job, so another number of tunings
    # per job (matrix.tunings_per_job) reruns none. Jobs of a pair's seeds read a base for each of them; they start
    # again, and find their checkpoints complete.
    rule:
        name:
            f"tune_group_{number}"
        input:
            base=JOBS.tune.together(names).base,
            weights=ancient(JOBS.tune.together(names).weights),
            data=JOBS.tune.together(names).data,
            features=JOBS.tune.together(names).features,
            indices=JOBS.tune.together(names).indices,
            forecast=ancient(JOBS.tune.together(names).forecast),
        output:
            manifest=[checkpoint(name) for name in names],
            complete=touch([complete(name) for name in names]),
        log:
            f"results/logs/tune/{names[0]}.log",
        benchmark:
            f"results/benchmarks/tune/{names[0]}.tsv"
        priority: 1
        conda:
            "../envs/environment.yaml"
        threads: NEEDS.threads("tune", names)
        resources:
            mem_mb=NEEDS.memory("tune", names),
            runtime=NEEDS.minutes("tune", names),
            gpu=NEEDS.gpus("tune", names),
        params:
            hardware=settings(EXPERIMENT.hardware),
            settings=unfilled(JOBS.tune.together(names).settings),
            base=lambda wildcards, input: repeated("base", input.base),
            data=lambda wildcards, input: repeated("data", input.data),
            features=lambda wildcards, input: repeated("features", input.features),
            tunings=JOBS.tune.own_json,
            code=digest("tune"),
        shell:
            TUNE
