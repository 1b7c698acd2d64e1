# Module sets among random places of the same size (matrix.random_places). A job evaluates all random places of a
# checkpoint on one loaded base.
#
# in:  results/checkpoints/BASE.json, results/checkpoints/TUNED.json, results/data/TASK.parquet, of pairs with a bridge
#      results/features/TASK/MEDIUM.safetensors and .parquet
# out: results/places/TUNED.parquet (answers of all cells), results/random_places.PAIR.csv (percentiles),
#      results/places/PAIR.csv (scores of all cells), results/figures/places.PAIR; the cache of answers in
#      results/answers/_places, with which an interrupted job resumes


rule places:
    """Evaluate module sets, and random places of the same size."""
    input:
        base=collect(checkpoint("{base}"), base=JOBS.places.pair_base),
        tuned=checkpoint("{tuned}"),
        weights=ancient(JOBS.places.pair_weights),
        data=JOBS.places.data,
        chain=JOBS.places.pair_chain,
        features=JOBS.places.features,
        indices=JOBS.places.indices,
        initial=JOBS.places.initial,
    output:
        "results/places/{tuned}.parquet",
    log:
        "results/logs/places/{tuned}.log",
    benchmark:
        "results/benchmarks/places/{tuned}.tsv"
    conda:
        "../envs/environment.yaml"
    threads: NEEDS.threads("places")
    resources:
        mem_mb=NEEDS.memory("places"),
        runtime=NEEDS.minutes("places"),
        gpu=NEEDS.gpus("places"),
    params:
        of=JOBS.places.flags,
        data=lambda wildcards, input: repeated("data", input.data),
        settings=unfilled(settings(EXPERIMENT.matrix.random_places)),
        evaluate=unfilled(settings(EXPERIMENT.evaluate)),
        hardware=settings(EXPERIMENT.hardware),
        reading=JOBS.places.pair_reading,
        chain=JOBS.places.pair_chain_flags,
        features=lambda wildcards, input: repeated("features", input.features),
        initial=lambda wildcards, input: repeated("initial", input.initial),
        kept="results/answers/_places",
        code=digest("places"),
    shell:
        """
        affectlocus --cards {resources.gpu} places {params.of} \
            --base {input.base:q} \
            --tuned {input.tuned:q} \
            {params.chain} \
            {params.data} {params.features} {params.initial} \
            --settings {params.settings:q} \
            --evaluate {params.evaluate:q} \
            --hardware {params.hardware:q} \
            --reading {params.reading:q} \
            --kept {params.kept:q} \
            --out {output:q} \
            >{log:q} 2>&1
        """


rule percentiles:
    """Score random places, and find the percentile of each module set among them."""
    input:
        JOBS.places.answers,
    output:
        summary=report(
            "results/random_places.{pair}.csv",
            **report_arguments("percentiles", of="{pair}", shows="percentiles"),
        ),
        draws="results/places/{pair}.csv",
    log:
        "results/logs/percentiles/{pair}.log",
    benchmark:
        "results/benchmarks/percentiles/{pair}.tsv"
    conda:
        "../envs/environment.yaml"
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        settings=settings(EXPERIMENT.score),
        tasks=settings(EXPERIMENT.scorings),
        code=digest("percentiles"),
    shell:
        """
        affectlocus percentiles {input:q} \
            --settings {params.settings:q} \
            --tasks {params.tasks:q} \
            --out {output.summary:q} \
            --draws {output.draws:q} \
            >{log:q} 2>&1
        """


# Draw the score of each module set among those of its random places.
use rule heat_map as draw_places with:
    input:
        summary="results/random_places.{pair}.csv",
        draws="results/places/{pair}.csv",
    output:
        report(
            "results/figures/places.{pair}.png",
            **report_arguments("draw_places", of="{pair}", shows="random places"),
        ),
        "results/figures/places.{pair}.svg",
    log:
        "results/logs/figures/places.{pair}.log",
    benchmark:
        "results/benchmarks/figures/places.{pair}.tsv"
    params:
        stem="results/figures/places.{pair}",
        shown=JOBS.places.figure_flags,
        title=lambda wildcards: f"{wildcards.pair}: module sets among random places of the same size",
