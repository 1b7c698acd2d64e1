# Figures, each as PNG and SVG.
#
# in:  results/deltas/PAIR.parquet and PAIR.histogram.parquet, results/table{1,2,3}_intervals.csv
# out: results/figures/deltas.PAIR, relative.PAIR, load.PAIR, tune.PAIR, ablate.PAIR


rule heat_map:
    """Draw a pair's deltas: layers by projections, three scores side by side."""
    input:
        JOBS.pair_deltas,
    output:
        report(
            "results/figures/deltas.{pair}.png",
            **described("heat_map", of="{pair}", shows="change of the weights"),
        ),
        "results/figures/deltas.{pair}.svg",
    log:
        "results/logs/figures/deltas.{pair}.log",
    benchmark:
        "results/benchmarks/figures/deltas.{pair}.tsv"
    conda:
        "../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        stem="results/figures/deltas.{pair}",
        deltas=lambda wildcards, input: repeated("heat-map", input),
        title=lambda wildcards: f"{wildcards.pair}: change of the weights by tuning",
        code=digest("figures"),
    shell:
        """
        affectlocus figures \
            {params.deltas} \
            --title {params.title:q} \
            --out {params.stem:q} \
            >{log:q} 2>&1
        """


rule relative_changes:
    """Draw how each projection's weights changed, relative to themselves."""
    input:
        JOBS.pair_histograms,
    output:
        report(
            "results/figures/relative.{pair}.png",
            **described(
                "relative_changes", pair="{pair}", shows="relative change of single weights"
            ),
        ),
        "results/figures/relative.{pair}.svg",
    log:
        "results/logs/figures/relative.{pair}.log",
    benchmark:
        "results/benchmarks/figures/relative.{pair}.tsv"
    conda:
        "../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        stem="results/figures/relative.{pair}",
        histograms=lambda wildcards, input: repeated("histogram", input),
        title=lambda wildcards: f"{wildcards.pair}: relative change of single weights",
        code=digest("figures"),
    shell:
        """
        affectlocus figures \
            {params.histograms} \
            --title {params.title:q} \
            --out {params.stem:q} \
            >{log:q} 2>&1
        """


rule bars:
    """Draw a table: bars of single modules, or drops of ablations."""
    input:
        unpack(JOBS.table_companions),
    output:
        report("results/figures/{arm}.{pair}.png", **described("bars", of="{pair}", shows="{arm}")),
        "results/figures/{arm}.{pair}.svg",
    log:
        "results/logs/figures/{arm}.{pair}.log",
    benchmark:
        "results/benchmarks/figures/{arm}.{pair}.tsv"
    conda:
        "../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        kind=lambda wildcards: "ablation" if wildcards.arm == "ablate" else "singles",
        stem="results/figures/{arm}.{pair}",
        baselines=lambda wildcards, input: (
            "" if wildcards.arm == "ablate" else repeated("baselines", [input.baselines])
        ),
        title=JOBS.arm_title,
        code=digest("figures"),
    shell:
        """
        affectlocus figures \
            --{params.kind} {input.intervals:q} {params.baselines} \
            --title {params.title:q} \
            --out {params.stem:q} \
            >{log:q} 2>&1
        """
