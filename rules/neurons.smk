# Neurons of the feed-forward blocks: which ones move, and whether they respond to emotion.
#
# in:  results/deltas/PAIR.neurons.parquet, checkpoints and data of the affective pairs
# out: results/neurons/BASE.parquet, BASE.concentration, BASE.overlaps and BASE.chance,
#      results/activations/PAIR.parquet and .summary, results/figures/{neurons.BASE,activations.PAIR}


rule neurons:
    """Compare the moved neurons of all pairs on a base with each other and with chance."""
    input:
        affective=collect("results/deltas/{tuned}.neurons.parquet", tuned=JOBS.neurons.affective),
        others=collect("results/deltas/{tuned}.neurons.parquet", tuned=JOBS.neurons.others),
    output:
        moved="results/neurons/{base}.parquet",
        companions=multiext(
            "results/neurons/{base}",
            ".concentration.parquet",
            ".overlaps.parquet",
            ".chance.parquet",
        ),
    log:
        "results/logs/neurons/{base}.log",
    benchmark:
        "results/benchmarks/neurons/{base}.tsv"
    conda:
        "../envs/environment.yaml"
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        flags=JOBS.neurons.flags,
        share=EXPERIMENT.neurons.share,
        code=digest("neurons"),
    shell:
        """
        affectlocus neurons {params.flags} \
            --share {params.share} \
            --out {output.moved:q} \
            >{log:q} 2>&1
        """


rule activations:
    """Measure the shift of the gate's activations between emotional and neutral texts."""
    input:
        base=collect(checkpoint("{base}"), base=JOBS.neurons.pair_base),
        tuned=checkpoint("{tuned}"),
        neurons="results/deltas/{tuned}.neurons.parquet",
        again=collect("results/neurons/{base}.parquet", base=JOBS.neurons.pair_base),
        data=collect("results/data/{task}.parquet", task=JOBS.neurons.neutral_tasks),
        weights=ancient(JOBS.neurons.pair_weights),
        chain=JOBS.neurons.pair_chain,
    output:
        shifts="results/activations/{tuned}.parquet",
        summary="results/activations/{tuned}.summary.parquet",
    log:
        "results/logs/activations/{tuned}.log",
    benchmark:
        "results/benchmarks/activations/{tuned}.tsv"
    conda:
        "../envs/environment.yaml"
    threads: NEEDS.threads("activations")
    resources:
        mem_mb=NEEDS.memory("activations"),
        runtime=NEEDS.minutes("activations"),
        gpu=NEEDS.gpus("activations"),
    params:
        hardware=settings(EXPERIMENT.hardware),
        data=lambda wildcards, input: repeated("data", input.data),
        settings=unfilled(settings(EXPERIMENT.neurons)),
        evaluate=unfilled(settings(EXPERIMENT.evaluate)),
        reading=JOBS.neurons.pair_reading,
        chain=JOBS.neurons.pair_chain_flags,
        code=digest("activations"),
    shell:
        """
        affectlocus --cards {resources.gpu} activations \
            --base {input.base:q} \
            --tuned {input.tuned:q} \
            {params.chain} \
            --neurons {input.neurons:q} \
            --again {input.again:q} \
            {params.data} \
            --settings {params.settings:q} \
            --hardware {params.hardware:q} \
            --evaluate {params.evaluate:q} \
            --reading {params.reading:q} \
            --out {output.shifts:q} \
            --summary {output.summary:q} \
            >{log:q} 2>&1
        """


# Draw the concentration of the change, and the number of neurons that two pairs share.
use rule heat_map as draw_neurons with:
    input:
        moved="results/neurons/{base}.parquet",
        companions=multiext("results/neurons/{base}", ".concentration.parquet", ".overlaps.parquet"),
    output:
        report(
            "results/figures/neurons.{base}.png",
            **report_arguments("draw_neurons", of="{base}", shows="moved neurons"),
        ),
        "results/figures/neurons.{base}.svg",
    log:
        "results/logs/figures/neurons.{base}.log",
    benchmark:
        "results/benchmarks/figures/neurons.{base}.tsv"
    params:
        stem="results/figures/neurons.{base}",
        shown=lambda wildcards, input: repeated("neurons", [input.moved]),
        title=lambda wildcards: f"{wildcards.base}: feed-forward neurons that tuning moves",


# Draw the shift of the gate's moved neurons and that of its other neurons.
use rule heat_map as draw_activations with:
    input:
        shifts="results/activations/{tuned}.parquet",
        summary="results/activations/{tuned}.summary.parquet",
    output:
        report(
            "results/figures/activations.{tuned}.png",
            **report_arguments(
                "draw_activations", of="{tuned}", shows="emotional against neutral"
            ),
        ),
        "results/figures/activations.{tuned}.svg",
    log:
        "results/logs/figures/activations.{tuned}.log",
    benchmark:
        "results/benchmarks/figures/activations.{tuned}.tsv"
    params:
        stem="results/figures/activations.{tuned}",
        shown=lambda wildcards, input: repeated("activations", [input.shifts]),
        title=lambda wildcards: f"{wildcards.tuned}: the gate on emotional against neutral texts",
