# The matrix: every cell answers every benchmark, as a job of its own.
#
# in:  results/checkpoints/BASE.json, results/checkpoints/TUNED.json, results/data/TASK.parquet
# out: results/cells/CELL/predictions.parquet, results/cells/CELL/verification.json


rule evaluate:
    """Build a cell's model, verify it bit for bit, and let it answer."""
    input:
        unpack(JOBS.cell_checkpoints),
        data=JOBS.benchmark_data,
        chain=JOBS.cell_chain,
    output:
        predictions="results/cells/{cell}/predictions.parquet",
        verification="results/cells/{cell}/verification.json",
    log:
        "results/logs/evaluate/{cell}.log",
    benchmark:
        "results/benchmarks/evaluate/{cell}.tsv"
    conda:
        "../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=JOBS.memory_of_cell,
        runtime=120,
        gpu=GPUS,
    params:
        cell=JOBS.cell_json,
        tuned=JOBS.cell_flags,
        data=lambda wildcards, input: repeated("data", input.data),
        settings=settings(EXPERIMENT.evaluate),
        reading=JOBS.cell_reading,
        chain=JOBS.cell_chain_flags,
        code=digest("evaluate"),
    shell:
        """
        affectlocus evaluate \
            --cell {params.cell:q} \
            --base {input.base:q} \
            {params.tuned} {params.chain} \
            {params.data} \
            --settings {params.settings:q} \
            --reading {params.reading:q} \
            --out {output.predictions:q} \
            --verification {output.verification:q} \
            >{log:q} 2>&1
        """
