# Features of media: each file that a sample names is encoded once by a frozen encoder, whatever the number of cells.
#
# in:  the task's tables, the media files that they name (the parameter `media` is a digest of their names, sizes and
#      times), the encoder's manifest
# out: results/features/TASK/MEDIUM.safetensors and its index, MEDIUM.parquet; features by content in results/encoded,
#      with which an interrupted job resumes


rule encode:
    """Encode one medium of a task's samples."""
    input:
        unpack(JOBS.encode.files),
    output:
        features="results/features/{task}/{medium}.safetensors",
        index="results/features/{task}/{medium}.parquet",
    log:
        "results/logs/encode/{task}/{medium}.log",
    benchmark:
        "results/benchmarks/encode/{task}/{medium}.tsv"
    wildcard_constraints:
        medium=alternatives(EXPERIMENT.media),
    conda:
        "../envs/environment.yaml"
    threads: NEEDS.threads("encode")
    resources:
        mem_mb=NEEDS.memory("encode"),
        runtime=NEEDS.minutes("encode"),
        gpu=NEEDS.gpus("encode"),
    params:
        settings=JOBS.encode.settings,
        reading=JOBS.encode.reading,
        encoder=JOBS.encode.encoder_flag,
        root=JOBS.encode.root,
        files=JOBS.encode.flags,
        media=JOBS.encode.state,
        kept="results/encoded",
        code=digest("encode"),
    shell:
        """
        affectlocus --cards {resources.gpu} encode \
            --name {wildcards.task:q} \
            --medium {wildcards.medium:q} \
            --settings {params.settings:q} \
            --reading {params.reading:q} \
            {params.encoder} \
            --root {params.root:q} \
            {params.files} \
            --kept {params.kept:q} \
            --threads {threads} \
            --out {output.features:q} \
            >{log:q} 2>&1
        """
