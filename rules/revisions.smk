# Files with which DVC compares two revisions.
#
# in:  results/claims.csv, results/metrics.json, results/deltas/*.parquet
# out: results/revisions/verdicts.json and summary.json (dvc metrics), results/revisions/l2/*.csv (dvc plots)


rule revisions:
    """Write verdicts and L2 by layer in the form that DVC reads."""
    input:
        claims="results/claims.csv",
        deltas=JOBS.deltas.files,
        means="results/metrics.json",
    output:
        verdicts="results/revisions/verdicts.json",
        summary="results/revisions/summary.json",
        l2=JOBS.revisions.layers,
    log:
        "results/logs/revisions.log",
    benchmark:
        "results/benchmarks/revisions.tsv"
    conda:
        "../envs/environment.yaml"
    resources:
        **SMALL_JOB,
    params:
        folder=subpath(output.verdicts, parent=True),
        metric=EXPERIMENT.score.metric,
        code=digest("revisions"),
    shell:
        """
        affectlocus revisions {input.deltas:q} \
            --claims {input.claims:q} \
            --means {input.means:q} \
            --metric {params.metric:q} \
            --out {params.folder:q} \
            >{log:q} 2>&1
        """
