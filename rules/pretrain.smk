# Tiny bases that are pre-trained on the generated corpus. Those of the embedded default are part of the package and
# are copied.
#
# in:  results/corpus/pretraining.txt
# out: checkpoints/NAME/ (weights), results/checkpoints/NAME.json (manifest with perplexity)


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
        name=alternatives(JOBS.pretrained),
    # Higher priority, because all other jobs depend on the bases.
    priority: 1
    conda:
        "../envs/environment.yaml"
    threads: NEEDS.threads("pretrain")
    resources:
        mem_mb=NEEDS.memory("pretrain"),
        runtime=NEEDS.minutes("pretrain"),
        gpu=NEEDS.gpus("pretrain"),
    params:
        settings=JOBS.pretrain.settings,
        shipped=JOBS.pretrain.shipped,
        folder="checkpoints/{name}",
        code=digest("pretrain"),
    shell:
        """
        affectlocus --cards {resources.gpu} pretrain \
            --text {input.text:q} \
            --settings {params.settings:q} \
            --folder {params.folder:q} \
            --out {output.manifest:q} \
            >{log:q} 2>&1
        """
