#!/usr/bin/env bash
# A PBS job's state in one word, as snakemake-executor-plugin-cluster-generic asks for it.
# Usage: status.sh JOB
set -u
job=$(qstat -x -f "${1:?usage: status.sh JOB}" 2>/dev/null)
state=$(sed -n 's/^ *job_state = //p' <<<"$job")
status=$(sed -n 's/^ *Exit_status = //p' <<<"$job")
case "$state" in
  F | C | X)
    if [ "$status" = 0 ]; then echo success; else echo failed; fi
    ;;
  # A server that does not answer just now says nothing of the job.
  *) echo running ;;
esac
