# Checkpoints that the user brings: a base model, a tuned model, a PEFT adapter.
#
# in:  the files of the folder that params.yaml names
# out: results/checkpoints/NAME.json, a manifest with the SHA-256 of each file


rule retrieve:
    """Take stock of a checkpoint on disk."""
    input:
        JOBS.brought_files,
    output:
        checkpoint("{name}"),
    log:
        "results/logs/retrieve/{name}.log",
    benchmark:
        "results/benchmarks/retrieve/{name}.tsv"
    wildcard_constraints:
        name=alternatives(JOBS.brought),
    conda:
        "../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=60,
    params:
        folder=JOBS.brought_folder,
        code=digest("checkpoints"),
    shell:
        """
        affectlocus retrieve {params.folder:q} \
            --out {output:q} \
            >{log:q} 2>&1
        """
