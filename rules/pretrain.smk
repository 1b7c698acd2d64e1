# Tiny bases that are pre-trained on the generated corpus. Those of the embedded default are part of the package and
# are copied. Each is a separate job, or several seeds of one base share a job (matrix.tunings_per_job).
#
# in:  results/corpus/pretraining.txt
# out: checkpoints/NAME/ (weights), results/checkpoints/NAME.json (manifest with perplexity)

PRETRAIN = """
    affectlocus --cards {resources.gpu} pretrain \
        --text {input.text:q} \
        --settings {params.settings:q} \
        --bases {params.bases:q} \
        >{log:q} 2>&1
    """


rule pretrain:
    """Pre-train a base on the generated corpus."""
    input:
        text="results/corpus/pretraining.txt",
    output:
        manifest=checkpoint("{name}"),
        complete=touch(complete("{name}")),
    log:
        "results/logs/pretrain/{name}.log",
    benchmark:
        "results/benchmarks/pretrain/{name}.tsv"
    wildcard_constraints:
        name=alternatives(JOBS.pretrain.single),
    # Higher priority, because all other jobs depend on the bases.
    priority: 2
    conda:
        "../envs/environment.yaml"
    threads: NEEDS.threads("pretrain")
    resources:
        mem_mb=NEEDS.memory("pretrain"),
        runtime=NEEDS.minutes("pretrain"),
        gpu=NEEDS.gpus("pretrain"),
    params:
        settings=JOBS.pretrain.of_base,
        bases=JOBS.pretrain.own_json,
        shipped=JOBS.pretrain.shipped,
        code=digest("pretrain"),
    shell:
        PRETRAIN


for number, names in enumerate(JOBS.pretrain.groups, 1):

    rule:
        name:
            f"pretrain_group_{number}"
        input:
            text="results/corpus/pretraining.txt",
        output:
            manifest=[checkpoint(name) for name in names],
            complete=touch([complete(name) for name in names]),
        log:
            f"results/logs/pretrain/{names[0]}.log",
        benchmark:
            f"results/benchmarks/pretrain/{names[0]}.tsv"
        priority: 2
        conda:
            "../envs/environment.yaml"
        threads: NEEDS.threads("pretrain", names)
        resources:
            mem_mb=NEEDS.memory("pretrain", names),
            runtime=NEEDS.minutes("pretrain", names),
            gpu=NEEDS.gpus("pretrain", names),
        params:
            settings=unfilled(JOBS.pretrain.settings(names[0])),
            bases=JOBS.pretrain.own_json,
            shipped=JOBS.pretrain.shipped,
            code=digest("pretrain"),
        shell:
            PRETRAIN
