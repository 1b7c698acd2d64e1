# Tasks: converts the files of each task into one table of samples.
#
# in:  the files in params.yaml, or results/corpus/TASK.csv; of tasks with media the indexes of their features
# out: results/data/TASK.parquet (id, split, text, prompt, answer), results/data/TASK.json (report);
#      results/data/sources/TASK.SPLIT.json, the manifest of a file from a hub


rule retrieve_data:
    """Download a file of a data set on the hub."""
    output:
        "results/data/sources/{name}.json",
    log:
        "results/logs/retrieve_data/{name}.log",
    benchmark:
        "results/benchmarks/retrieve_data/{name}.tsv"
    wildcard_constraints:
        name=alternatives(JOBS.prepare.hub_tables),
    conda:
        "../envs/environment.yaml"
    resources:
        mem_mb=1000,
        runtime=60,
    params:
        source=JOBS.prepare.hub_flags,
        code=digest("retrieve"),
    shell:
        """
        affectlocus retrieve {params.source} \
            --out {output:q} \
            >{log:q} 2>&1
        """


rule prepare:
    """Read and check the samples of a task."""
    input:
        unpack(JOBS.prepare.files),
    output:
        samples="results/data/{task}.parquet",
        report="results/data/{task}.json",
    log:
        "results/logs/prepare/{task}.log",
    benchmark:
        "results/benchmarks/prepare/{task}.tsv"
    conda:
        "../envs/environment.yaml"
    resources:
        **SMALL_JOB,
    params:
        settings=JOBS.prepare.settings,
        files=JOBS.prepare.flags,
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
