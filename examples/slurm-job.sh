#!/usr/bin/env -S wlcg-isolate run --experiment cms --image el9 --keep-env SLURM_ARRAY_TASK_ID --script -- bash
#SBATCH --array=1-50
#SBATCH --time=60
# Each task runs in a container of its own; sbatch takes this file as it is.
set -eu
echo "task $SLURM_ARRAY_TASK_ID in $(. /etc/os-release && echo "$PRETTY_NAME")"
