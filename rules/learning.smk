# The losses of all tunings of pairs, with those of their nulls: the same recipe with shuffled answers.
#
# in:  results/checkpoints/PAIR.json, the manifests of the tunings, which have their losses
# out: results/training.csv, results/figures/training.PAIR


rule learning:
    """Collect the losses of the tunings."""
    input:
        JOBS.learning.manifests,
    output:
        report(
            "results/training.csv",
            **report_arguments("learning", of="all", shows="losses of the tunings"),
        ),
    log:
        "results/logs/learning.log",
    benchmark:
        "results/benchmarks/learning.tsv"
    conda:
        "../envs/environment.yaml"
    resources:
        **SMALL_JOB,
    params:
        nulls=unfilled(JOBS.learning.nulls_json),
        code=digest("learning"),
    shell:
        """
        affectlocus learning {input:q} \
            --nulls {params.nulls:q} \
            --out {output:q} \
            >{log:q} 2>&1
        """


# Draw the losses of a pair and of its null.
use rule heat_map as draw_learning with:
    input:
        "results/training.csv",
    output:
        report(
            "results/figures/training.{pair}.png",
            **report_arguments("draw_learning", of="{pair}", shows="losses of the tuning"),
        ),
        "results/figures/training.{pair}.svg",
    log:
        "results/logs/figures/training.{pair}.log",
    benchmark:
        "results/benchmarks/figures/training.{pair}.tsv"
    params:
        stem="results/figures/training.{pair}",
        shown=lambda wildcards, input: repeated("training", input)
        + " "
        + repeated("pair", [wildcards.pair]),
        title=lambda wildcards: f"{wildcards.pair}: loss during the tuning",
