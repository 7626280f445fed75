#!/usr/bin/env bash
# One machine, several processes: the same script, launched once a device. Run here on two CPU cores (gloo); on GPUs leave
# ACCELERATE_USE_CPU out. (`--cpu --num_processes 2` would start one process.)
set -euo pipefail
cd "$(dirname "$0")"

ACCELERATE_USE_CPU="${ACCELERATE_USE_CPU-true}" accelerate launch --multi_gpu --num_processes "${PROCESSES:-2}" \
    --num_machines 1 --mixed_precision no --dynamo_backend no trl_sums.py --method hmpo --rollouts "${ROLLOUTS:-10}" "$@"
