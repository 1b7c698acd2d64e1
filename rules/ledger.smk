# The cost of tuning: parameters, optimizer, adapter and step time of every module set.
#
# in:  results/checkpoints/BASE.json, results/table2_intervals.csv; with a bridge the features of one task
# out: results/ledger.csv (counted), results/step_times.csv (measured), results/figures/fig9_get


rule ledger:
    """Count the trained parameters of each tune cell from the configuration of the base."""
    input:
        models=collect(checkpoint("{base}"), base=JOBS.ledger.bases),
        weights=ancient(JOBS.ledger.weights),
        features=JOBS.ledger.features,
        indices=JOBS.ledger.indices,
    output:
        report(
            "results/ledger.csv",
            **report_arguments("ledger", of="all", shows="what each set trains"),
        ),
    log:
        "results/logs/ledger.log",
    benchmark:
        "results/benchmarks/ledger.tsv"
    conda:
        "../envs/environment.yaml"
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        flags=JOBS.ledger.flags,
        bridge=JOBS.ledger.bridge_flags,
        code=digest("ledger"),
    shell:
        """
        affectlocus ledger {input.models:q} {params.flags} {params.bridge} \
            --out {output:q} \
            >{log:q} 2>&1
        """


rule step_times:
    """Time a tuning step of each module set on a small stand-in for the base."""
    input:
        models=collect(checkpoint("{base}"), base=JOBS.ledger.bases),
        weights=ancient(JOBS.ledger.weights),
    output:
        report(
            "results/step_times.csv",
            **report_arguments("step_times", of="all", shows="time of a step"),
        ),
    log:
        "results/logs/step_times.log",
    benchmark:
        "results/benchmarks/step_times.tsv"
    conda:
        "../envs/environment.yaml"
    resources:
        mem_mb=4000,
        runtime=30,
        gpu=NEEDS.any_card,
    params:
        flags=JOBS.ledger.flags,
        code=digest("ledger"),
    shell:
        """
        affectlocus --cards {resources.gpu} ledger {input.models:q} {params.flags} \
            --measure \
            --out {output:q} \
            >{log:q} 2>&1
        """


# Draw the mean score against the number of trainable parameters (Fig. 9).
use rule heat_map as trade_off with:
    input:
        intervals=collect("results/{table}_intervals.csv", table=JOBS.ledger.tables),
        baselines=collect("results/{table}_baselines.csv", table=JOBS.ledger.tables),
        ledger="results/ledger.csv",
    output:
        report(
            "results/figures/{trade_off}.png",
            **report_arguments("trade_off", of="{trade_off}", shows="score against parameters"),
        ),
        "results/figures/{trade_off}.svg",
    log:
        "results/logs/figures/{trade_off}.log",
    benchmark:
        "results/benchmarks/figures/{trade_off}.tsv"
    wildcard_constraints:
        trade_off=alternatives(JOBS.ledger.trade_offs),
    params:
        stem="results/figures/{trade_off}",
        shown=JOBS.ledger.figure_flags,
        title=lambda wildcards: JOBS.ledger.trade_offs[wildcards.trade_off]
        + ": score against trainable parameters",
