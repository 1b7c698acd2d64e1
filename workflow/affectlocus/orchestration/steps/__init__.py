"""What the rules of each step need: `rules/tune.smk` uses `JOBS.tune`, which `tune.py` defines.

Methods that take `wildcards` are Snakemake's input and parameter functions.
"""
