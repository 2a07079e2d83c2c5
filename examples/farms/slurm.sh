#!/bin/sh
#SBATCH --job-name=elastic-profile
#SBATCH --array=0-3
#SBATCH --constraint=orin
#SBATCH --exclusive
#SBATCH --time=00:30:00
#SBATCH --requeue
# A SLURM array: each task measures one shard of the plan in PLAN, a folder that all nodes see.
#
#   elastic profile plan --platform jetson --out /shared/plan
#   sbatch --export=ALL,PLAN=/shared/plan --wait examples/farms/slurm.sh
#   elastic profile merge --plan /shared/plan
#
# --exclusive, since two jobs on a node disturb each other. A task that is requeued finds what it has measured already.
set -eu
export INDEX="$SLURM_ARRAY_TASK_ID" COUNT="$SLURM_ARRAY_TASK_COUNT"
# sbatch runs a copy of this file; the job begins in the folder that it was submitted from.
exec sh "${SLURM_SUBMIT_DIR:-.}/examples/farms/shard.sh"
