# Figures, each as PNG and SVG.
#
# in:  results/deltas/PAIR.parquet and PAIR.histogram.parquet, results/table{1,2,3}_intervals.csv
# out: results/figures/deltas.PAIR, dose.PAIR, bands.PAIR, ablate.PAIR, and with the paper's names fig4_l2,
#      fig5_control, fig6_architectures, fig7_load, fig8_tune, fig10_relative (further pairs: with .PAIR)
#
# The other figures use rule heat_map with other files: all run the same command, with other options
# (`shown`).


rule heat_map:
    """Draw heat maps of a pair's deltas: layers by projections, one for each of three scores."""
    input:
        collect("results/deltas/{tuned}.parquet", tuned=JOBS.figures.of_pair),
    output:
        report(
            "results/figures/deltas.{pair}.png",
            **report_arguments("heat_map", of="{pair}", shows="change of the weights"),
        ),
        "results/figures/deltas.{pair}.svg",
    log:
        "results/logs/figures/deltas.{pair}.log",
    benchmark:
        "results/benchmarks/figures/deltas.{pair}.tsv"
    conda:
        "../envs/environment.yaml"
    resources:
        **SMALL_JOB,
    params:
        stem="results/figures/deltas.{pair}",
        shown=lambda wildcards, input: repeated("heat-map", input),
        title=lambda wildcards: f"{wildcards.pair}: change of the weights by tuning",
        code=digest("figures"),
    shell:
        """
        affectlocus figures \
            {params.shown} \
            --title {params.title:q} \
            --out {params.stem:q} \
            >{log:q} 2>&1
        """


# Draw the distribution of the relative change of single weights, by projection.
use rule heat_map as relative_changes with:
    input:
        collect("results/deltas/{tuned}.histogram.parquet", tuned=JOBS.figures.of_relative),
    output:
        report(
            "results/figures/{relative}.png",
            **report_arguments(
                "relative_changes", of="{relative}", shows="relative change of single weights"
            ),
        ),
        "results/figures/{relative}.svg",
    log:
        "results/logs/figures/{relative}.log",
    benchmark:
        "results/benchmarks/figures/{relative}.tsv"
    wildcard_constraints:
        relative=alternatives(JOBS.figures.relatives),
    params:
        stem="results/figures/{relative}",
        shown=lambda wildcards, input: repeated("histogram", input),
        title=lambda wildcards: JOBS.figures.relatives[wildcards.relative]
        + ": relative change of single weights",


# Draw a table: scores of single modules as bars, or changes by ablations.
use rule heat_map as bars with:
    input:
        intervals=collect("results/{table}_intervals.csv", table=JOBS.figures.bar_table),
        baselines=collect("results/{table}_baselines.csv", table=JOBS.figures.bar_table),
    output:
        report(
            "results/figures/{bars}.png", **report_arguments("bars", of="{bars}", shows="scores")
        ),
        "results/figures/{bars}.svg",
    log:
        "results/logs/figures/{bars}.log",
    benchmark:
        "results/benchmarks/figures/{bars}.tsv"
    wildcard_constraints:
        bars=alternatives(JOBS.figures.bars),
    params:
        stem="results/figures/{bars}",
        shown=JOBS.figures.bar_flags,
        title=JOBS.figures.bar_title,


# Draw the score against the dose of a load.
use rule heat_map as draw_dose with:
    input:
        intervals=collect("results/{table}_intervals.csv", table=JOBS.figures.dose_table),
        baselines=collect("results/{table}_baselines.csv", table=JOBS.figures.dose_table),
    output:
        report(
            "results/figures/dose.{pair}.png",
            **report_arguments("draw_dose", of="{pair}", shows="score against the dose"),
        ),
        "results/figures/dose.{pair}.svg",
    log:
        "results/logs/figures/dose.{pair}.log",
    benchmark:
        "results/benchmarks/figures/dose.{pair}.tsv"
    params:
        stem="results/figures/dose.{pair}",
        shown=JOBS.figures.dose_flags,
        title=lambda wildcards: f"{wildcards.pair}: score against the dose of a load",


# Draw the gain of each projection that is loaded in one band of layers alone.
use rule heat_map as draw_bands with:
    input:
        collect("results/{table}_intervals.csv", table=JOBS.figures.band_table),
    output:
        report(
            "results/figures/bands.{pair}.png",
            **report_arguments("draw_bands", of="{pair}", shows="gain by layer band"),
        ),
        "results/figures/bands.{pair}.svg",
    log:
        "results/logs/figures/bands.{pair}.log",
    benchmark:
        "results/benchmarks/figures/bands.{pair}.tsv"
    params:
        stem="results/figures/bands.{pair}",
        shown=lambda wildcards, input: repeated("bands", input),
        title=lambda wildcards: f"{wildcards.pair}: gain by layer band and projection",


# Draw the deltas of several pairs in one figure (Figs. 4, 5 and 6).
use rule heat_map as draw_panels with:
    input:
        collect("results/deltas/{tuned}.parquet", tuned=JOBS.figures.of_panels),
    output:
        report(
            "results/figures/{panels}.png",
            **report_arguments("draw_panels", of="{panels}", shows="change of the weights"),
        ),
        "results/figures/{panels}.svg",
    log:
        "results/logs/figures/{panels}.log",
    benchmark:
        "results/benchmarks/figures/{panels}.tsv"
    wildcard_constraints:
        panels=alternatives(JOBS.figures.panels),
    params:
        stem="results/figures/{panels}",
        shown=JOBS.figures.panel_flags,
        title=lambda wildcards: JOBS.figures.panels[wildcards.panels].title,
