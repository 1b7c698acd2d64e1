# Checkpoints of the user: a base model, a tuned model, a PEFT adapter.
#
# in:  the files of the folder in params.yaml; for a hub id or a URL no files, as its revision or
#      SHA-256 identifies the content
# out: results/checkpoints/NAME.json, a manifest with the SHA-256 of each file


rule retrieve:
    """Download a checkpoint, or list and verify the files of one on disk."""
    input:
        JOBS.retrieve.files,
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
    resources:
        mem_mb=1000,
        runtime=720,
    params:
        source=JOBS.retrieve.flags,
        code=digest("retrieve"),
    shell:
        """
        affectlocus retrieve {params.source} \
            --out {output:q} \
            >{log:q} 2>&1
        """
