# The fluency of each cell: its perplexity of general text, and the diversity of what it generates.
#
# in:  results/scores/*
# out: results/fluency.csv, results/fluency_intervals.csv, results/figures/fluency.ARM.PAIR


rule fluency:
    """Write perplexity and distinct-n of every cell as a table."""
    input:
        JOBS.score.files,
    output:
        table=report(
            "results/fluency.csv", **report_arguments("fluency", of="all", shows="fluency")
        ),
        intervals=report(
            "results/fluency_intervals.csv",
            **report_arguments("fluency", of="all", shows="fluency, intervals"),
        ),
    log:
        "results/logs/fluency.log",
    benchmark:
        "results/benchmarks/fluency.tsv"
    conda:
        "../envs/environment.yaml"
    resources:
        **SMALL_JOB,
    params:
        code=digest("fluency"),
    shell:
        """
        affectlocus fluency {input:q} \
            --out {output.table:q} \
            --intervals {output.intervals:q} \
            >{log:q} 2>&1
        """


rule draw_fluency:
    """Plot perplexity and distinct-n of the cells of one table."""
    input:
        "results/scores/{pair}/{arm}.parquet",
    output:
        report(
            "results/figures/fluency.{arm}.{pair}.png",
            **report_arguments("draw_fluency", of="{pair}", shows="fluency, {arm}"),
        ),
        "results/figures/fluency.{arm}.{pair}.svg",
    log:
        "results/logs/figures/fluency.{arm}.{pair}.log",
    benchmark:
        "results/benchmarks/figures/fluency.{arm}.{pair}.tsv"
    conda:
        "../envs/environment.yaml"
    resources:
        **SMALL_JOB,
    params:
        stem="results/figures/fluency.{arm}.{pair}",
        title=JOBS.fluency.title,
        code=digest("fluency"),
    shell:
        """
        affectlocus fluency {input:q} \
            --figure {params.stem:q} \
            --title {params.title:q} \
            >{log:q} 2>&1
        """
