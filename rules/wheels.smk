# The emotion wheels of the protocol mer-unibench, if params.yaml has `wheels: released`.
#
# in:  none; the SHA-256 of each file is fixed in the code
# out: results/wheels/, AffectGPT's seven files


rule wheels:
    """Download the released emotion wheels."""
    output:
        RELEASED_WHEELS,
    log:
        "results/logs/wheels.log",
    benchmark:
        "results/benchmarks/wheels.tsv"
    conda:
        "../envs/environment.yaml"
    resources:
        mem_mb=1000,
        runtime=60,
    params:
        folder=subpath(output[0], parent=True),
        code=digest("wheels"),
    shell:
        """
        affectlocus wheels \
            --out {params.folder:q} \
            >{log:q} 2>&1
        """
