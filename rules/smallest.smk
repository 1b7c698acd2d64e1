# Small sets of blocks that keep most of a tuning's gain (matrix.smallest). A job searches and evaluates all sets of a
# checkpoint on one loaded base.
#
# in:  results/checkpoints/BASE.json, results/checkpoints/TUNED.json, results/data/TASK.parquet
# out: results/smallest/TUNED.parquet (answers of all sets), results/smallest.PAIR.csv (size against score),
#      results/figures/frontier.PAIR


rule smallest:
    """Search for small sets of blocks, and evaluate them."""
    input:
        base=collect(checkpoint("{base}"), base=JOBS.smallest.pair_base),
        tuned=checkpoint("{tuned}"),
        weights=ancient(JOBS.smallest.pair_weights),
        data=JOBS.smallest.data,
        chain=JOBS.smallest.pair_chain,
    output:
        "results/smallest/{tuned}.parquet",
    log:
        "results/logs/smallest/{tuned}.log",
    benchmark:
        "results/benchmarks/smallest/{tuned}.tsv"
    conda:
        "../envs/environment.yaml"
    threads: NEEDS.threads("smallest")
    resources:
        mem_mb=NEEDS.memory("smallest"),
        runtime=NEEDS.minutes("smallest"),
        gpu=NEEDS.gpus("smallest"),
    params:
        of=JOBS.smallest.flags,
        named=JOBS.smallest.named_flags,
        data=lambda wildcards, input: repeated("data", input.data),
        settings=unfilled(settings(EXPERIMENT.matrix.smallest)),
        evaluate=unfilled(settings(EXPERIMENT.evaluate)),
        hardware=settings(EXPERIMENT.hardware),
        reading=JOBS.smallest.pair_reading,
        chain=JOBS.smallest.pair_chain_flags,
        code=digest("smallest"),
    shell:
        """
        affectlocus --cards {resources.gpu} smallest {params.of} \
            --base {input.base:q} \
            --tuned {input.tuned:q} \
            {params.chain} \
            {params.data} \
            {params.named} \
            --settings {params.settings:q} \
            --evaluate {params.evaluate:q} \
            --hardware {params.hardware:q} \
            --reading {params.reading:q} \
            --out {output:q} \
            >{log:q} 2>&1
        """


rule frontier:
    """Score small sets of blocks, and name the smallest that keeps the gain."""
    input:
        JOBS.smallest.answers,
    output:
        report(
            "results/smallest.{pair}.csv",
            **report_arguments("frontier", of="{pair}", shows="smallest sets"),
        ),
    log:
        "results/logs/frontier/{pair}.log",
    benchmark:
        "results/benchmarks/frontier/{pair}.tsv"
    conda:
        "../envs/environment.yaml"
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        settings=settings(EXPERIMENT.score),
        tasks=settings(EXPERIMENT.scorings),
        keep=EXPERIMENT.matrix.smallest.keep,
        code=digest("frontier"),
    shell:
        """
        affectlocus frontier {input:q} \
            --settings {params.settings:q} \
            --tasks {params.tasks:q} \
            --keep {params.keep} \
            --out {output:q} \
            >{log:q} 2>&1
        """


# Draw the gain that sets of each size keep.
use rule heat_map as draw_frontier with:
    input:
        "results/smallest.{pair}.csv",
    output:
        report(
            "results/figures/frontier.{pair}.png",
            **report_arguments("draw_frontier", of="{pair}", shows="size against score"),
        ),
        "results/figures/frontier.{pair}.svg",
    log:
        "results/logs/figures/frontier.{pair}.log",
    benchmark:
        "results/benchmarks/figures/frontier.{pair}.tsv"
    params:
        stem="results/figures/frontier.{pair}",
        shown=lambda wildcards, input: repeated("frontier", input),
        title=lambda wildcards: f"{wildcards.pair}: how small a set keeps the gain",
