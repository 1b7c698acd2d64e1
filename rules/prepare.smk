# Tasks: from their owners' files to one tidy table each.
#
# in:  the files that params.yaml names, or results/corpus/TASK.csv
# out: results/data/TASK.parquet (id, split, text, prompt, answer), results/data/TASK.json (report)


rule prepare:
    """Read and check a task's samples."""
    input:
        unpack(JOBS.task_files),
    output:
        samples="results/data/{task}.parquet",
        report="results/data/{task}.json",
    log:
        "results/logs/prepare/{task}.log",
    benchmark:
        "results/benchmarks/prepare/{task}.tsv"
    conda:
        "../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        settings=JOBS.task_settings,
        files=JOBS.task_flags,
        code=digest("prepare"),
    shell:
        """
        affectlocus prepare \
            --name {wildcards.task:q} \
            --settings {params.settings:q} \
            {params.files} \
            --out {output.samples:q} \
            --report {output.report:q} \
            >{log:q} 2>&1
        """
