# The labels in free text. Extraction is separate from inference, so a change of its rules reruns no
# evaluation. An extraction model is asked once for each text.
#
# in:  results/cells/CELL/predictions.parquet, results/checkpoints/_extractor.json
# out: results/cells/CELL/extracted.parquet (the replies of the model, cached in results/extraction),
#      results/cells/CELL/openset.parquet


rule extract:
    """Extract the emotions in a cell's texts with a language model."""
    input:
        predictions="results/cells/{cell}/predictions.parquet",
        model=checkpoint(EXTRACTOR),
    output:
        "results/cells/{cell}/extracted.parquet",
    log:
        "results/logs/extract/{cell}.log",
    benchmark:
        "results/benchmarks/extract/{cell}.tsv"
    conda:
        "../envs/environment.yaml"
    threads: NEEDS.threads("extract")
    resources:
        mem_mb=NEEDS.memory("extract"),
        runtime=NEEDS.minutes("extract"),
        gpu=NEEDS.gpus("extract"),
    params:
        hardware=settings(EXPERIMENT.hardware),
        settings=settings(EXPERIMENT.extraction),
        cache="results/extraction",
        code=digest("extract"),
    shell:
        """
        affectlocus --cards {resources.gpu} extract {input.predictions:q} \
            --model {input.model:q} \
            --settings {params.settings:q} \
            --hardware {params.hardware:q} \
            --cache {params.cache:q} \
            --out {output:q} \
            >{log:q} 2>&1
        """


rule openset:
    """Find the labels in a cell's texts."""
    input:
        predictions="results/cells/{cell}/predictions.parquet",
        extracted=JOBS.openset.extracted,
    output:
        "results/cells/{cell}/openset.parquet",
    log:
        "results/logs/openset/{cell}.log",
    benchmark:
        "results/benchmarks/openset/{cell}.tsv"
    conda:
        "../envs/environment.yaml"
    resources:
        **SMALL_JOB,
    params:
        extracted=lambda wildcards, input: repeated("extracted", input.extracted),
        code=digest("openset"),
    shell:
        """
        affectlocus openset {input.predictions:q} {params.extracted} \
            --out {output:q} \
            >{log:q} 2>&1
        """
