# Bases that are converted from a GGUF file, on disk or in a Python package that the user has installed. The model is
# kept below HF_HOME by the file's content, so that several experiments convert it once.
#
# in:  the GGUF file on disk; for a package no file, as its version identifies the content
# out: results/checkpoints/NAME.json, a manifest with the quantisation, the perplexity and the SHA-256 of each file


rule convert:
    """Dequantise a GGUF file into a Hugging Face model."""
    input:
        JOBS.convert.files,
    output:
        checkpoint("{name}"),
    log:
        "results/logs/convert/{name}.log",
    benchmark:
        "results/benchmarks/convert/{name}.tsv"
    wildcard_constraints:
        name=alternatives(JOBS.converted),
    priority: 1
    conda:
        "../envs/environment.yaml"
    resources:
        mem_mb=NEEDS.memory("convert"),
        runtime=NEEDS.minutes("convert"),
    params:
        source=JOBS.convert.flags,
        code=digest("convert"),
    shell:
        """
        affectlocus convert {params.source} \
            --manifest {output:q} \
            >{log:q} 2>&1
        """
