# The tiny encoders of the embedded example, media.X.encoder.pretrain. Those of experiments/senses are part of the
# package and are copied.
#
# in:  -
# out: checkpoints/encoders/MEDIUM/ (weights), results/encoders/MEDIUM.json (manifest)


rule encoders:
    """Make a tiny encoder of drawn faces or synthetic voices."""
    output:
        manifest="results/encoders/{medium}.json",
        complete=touch(complete("encoders/{medium}")),
    log:
        "results/logs/encoders/{medium}.log",
    benchmark:
        "results/benchmarks/encoders/{medium}.tsv"
    wildcard_constraints:
        medium=alternatives(JOBS.encoders.media),
    # Higher priority, because all features depend on it.
    priority: 1
    conda:
        "../envs/environment.yaml"
    resources:
        mem_mb=3000,
        runtime=30,
        gpu=NEEDS.any_card,
    params:
        settings=JOBS.encoders.settings,
        folder="checkpoints/encoders/{medium}",
        shipped=JOBS.encoders.shipped,
        code=digest("encoders"),
    shell:
        """
        affectlocus --cards {resources.gpu} encoders \
            --settings {params.settings:q} \
            --folder {params.folder:q} \
            --out {output.manifest:q} \
            >{log:q} 2>&1
        """
