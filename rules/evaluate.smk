# The matrix: evaluate every cell on the benchmarks of its domain. Each cell is a separate job, or several cells of
# one arm share a job (matrix.cells_per_job). Tasks with fluency also read the texts.
#
# in:  results/checkpoints/BASE.json, results/checkpoints/TUNED.json, results/data/TASK.parquet; for pairs with a
#      bridge results/features/TASK/MEDIUM.safetensors and .parquet
# out: results/cells/CELL/predictions.parquet, results/cells/CELL/verification.json; the cache of predictions in
#      results/answers/CELL/TASK.parquet, with which an interrupted job resumes

EVALUATE = """
    affectlocus --cards {resources.gpu} evaluate {output.predictions:q} \
        --cells {params.cells:q} \
        {params.base} {params.tuned} {params.chain} \
        {params.data} {params.features} {params.initial} \
        --settings {params.settings:q} \
        --hardware {params.hardware:q} \
        --reading {params.reading:q} \
        --kept {params.kept:q} \
        >{log:q} 2>&1
    """


rule evaluate:
    """Build a cell's model, verify it bit for bit, and write its predictions."""
    input:
        base=JOBS.evaluate.of_cell("base"),
        weights=ancient(JOBS.evaluate.of_cell("weights")),
        tuned=JOBS.evaluate.of_cell("tuned"),
        data=JOBS.evaluate.of_cell("data"),
        chain=JOBS.evaluate.of_cell("chain"),
        features=JOBS.evaluate.of_cell("features"),
        indices=JOBS.evaluate.of_cell("indices"),
        initial=JOBS.evaluate.of_cell("initial"),
    output:
        predictions="results/cells/{cell}/predictions.parquet",
        verification="results/cells/{cell}/verification.json",
    log:
        "results/logs/evaluate/{cell}.log",
    benchmark:
        "results/benchmarks/evaluate/{cell}.tsv"
    wildcard_constraints:
        cell=JOBS.evaluate.pattern(JOBS.evaluate.single),
    conda:
        "../envs/environment.yaml"
    threads: NEEDS.threads("evaluate")
    resources:
        mem_mb=NEEDS.memory("evaluate"),
        runtime=NEEDS.minutes("evaluate"),
        gpu=NEEDS.gpus("evaluate"),
    params:
        cells=JOBS.evaluate.cells_json,
        base=lambda wildcards, input: repeated("base", input.base),
        tuned=lambda wildcards, input: repeated("tuned", input.tuned),
        data=lambda wildcards, input: repeated("data", input.data),
        settings=unfilled(settings(EXPERIMENT.evaluate)),
        kept="results/answers",
        hardware=settings(EXPERIMENT.hardware),
        reading=JOBS.evaluate.of_cell("reading"),
        chain=JOBS.evaluate.of_cell("chain_flags"),
        features=lambda wildcards, input: repeated("features", input.features),
        initial=lambda wildcards, input: repeated("initial", input.initial),
        code=digest("evaluate"),
    shell:
        EVALUATE


for number, group in enumerate(JOBS.evaluate.groups, 1):

    # Inputs and parameters of load, dose and ablate cells of one seed do not depend on which of them share the job, so
    # another number of cells per job (matrix.cells_per_job) reruns none. A job of several seeds, of tune cells or of
    # bases reads more checkpoints with each of them; it starts again, and finds its answers in results/answers.
    rule:
        name:
            f"evaluate_group_{number}"
        input:
            base=JOBS.evaluate.together(group).base,
            weights=ancient(JOBS.evaluate.together(group).weights),
            tuned=JOBS.evaluate.together(group).tuned,
            data=JOBS.evaluate.together(group).data,
            chain=JOBS.evaluate.together(group).chain,
            features=JOBS.evaluate.together(group).features,
            indices=JOBS.evaluate.together(group).indices,
            initial=JOBS.evaluate.together(group).initial,
        output:
            predictions=[f"results/cells/{cell.id}/predictions.parquet" for cell in group],
            verification=[f"results/cells/{cell.id}/verification.json" for cell in group],
        log:
            f"results/logs/evaluate/{group[0].id}.log",
        benchmark:
            f"results/benchmarks/evaluate/{group[0].id}.tsv"
        conda:
            "../envs/environment.yaml"
        threads: NEEDS.threads("evaluate", group)
        resources:
            mem_mb=NEEDS.memory("evaluate", group),
            runtime=NEEDS.minutes("evaluate", group),
            gpu=NEEDS.gpus("evaluate", group),
        params:
            cells=JOBS.evaluate.cells_json,
            base=lambda wildcards, input: repeated("base", input.base),
            tuned=lambda wildcards, input: repeated("tuned", input.tuned),
            data=lambda wildcards, input: repeated("data", input.data),
            settings=unfilled(settings(EXPERIMENT.evaluate)),
            kept="results/answers",
            hardware=settings(EXPERIMENT.hardware),
            reading=JOBS.evaluate.together(group).reading,
            chain=JOBS.evaluate.together(group).chain_flags,
            features=lambda wildcards, input: repeated("features", input.features),
            initial=lambda wildcards, input: repeated("initial", input.initial),
            code=digest("evaluate"),
        shell:
            EVALUATE
