# The matrix: every cell answers every benchmark, as a job of its own.
#
# in:  results/checkpoints/BASE.json, results/checkpoints/TUNED.json, results/data/TASK.parquet
# out: results/cells/CELL/predictions.parquet, results/cells/CELL/verification.json


rule evaluate:
    """Build a cell's model, verify it bit for bit, and let it answer."""
    input:
        unpack(cell_checkpoints),
        data=[f"results/data/{task}.parquet" for task in EXPERIMENT.benchmarks],
    output:
        predictions="results/cells/{cell}/predictions.parquet",
        verification="results/cells/{cell}/verification.json",
    params:
        cell=cell_json,
        tuned=cell_flags,
        data=lambda wildcards, input: " ".join(f"--data {quote(f)}" for f in input.data),
        settings=settings(EXPERIMENT.evaluate),
        code=digest("evaluate"),
    log:
        "results/logs/evaluate/{cell}.log",
    benchmark:
        "results/benchmarks/evaluate/{cell}.tsv"
    threads: 1
    resources:
        mem_mb=memory_of_cell,
        runtime=120,
        gpu=GPU,
    conda:
        "../envs/environment.yaml"
    shell:
        """
        affectlocus evaluate \
            --cell {params.cell:q} \
            --base {input.base:q} \
            {params.tuned} \
            {params.data} \
            --settings {params.settings:q} \
            --out {output.predictions:q} \
            --verification {output.verification:q} \
            >{log:q} 2>&1
        """
