# Checkpoints that the user brings: a base model, a tuned model, a PEFT adapter.
#
# in:  the files of the folder that params.yaml names
# out: results/checkpoints/NAME.json, a manifest with the SHA-256 of each file


rule retrieve:
    """Take stock of a checkpoint on disk."""
    input:
        source_files,
    output:
        checkpoint("{name}"),
    params:
        folder=source_folder,
        code=digest("checkpoints"),
    log:
        "results/logs/retrieve/{name}.log",
    benchmark:
        "results/benchmarks/retrieve/{name}.tsv"
    wildcard_constraints:
        name=alternatives(
            [
                *(name for name, base in EXPERIMENT.bases.items() if base.folder is not None),
                *(name for name, pair in EXPERIMENT.pairs.items() if pair.tuned is not None),
            ]
        ),
    threads: 1
    resources:
        mem_mb=1000,
        runtime=60,
    conda:
        "../envs/environment.yaml"
    shell:
        """
        affectlocus retrieve {params.folder:q} \
            --out {output:q} \
            >{log:q} 2>&1
        """
