#!/bin/bash
# Detection on the machines of a Slurm job:  sbatch slurm.sh ARCHIVE DETECTED [OPTIONS OF malaria-cells run]
# All machines see ARCHIVE, DETECTED and the environment with malaria-cells[ray], which is activated where sbatch is called.
#SBATCH --nodes=8
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=32
#SBATCH --mem-per-cpu=1G
#SBATCH --time=08:00:00
#SBATCH --requeue
set -eu
archive=$1 detected=$2
export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK # since Slurm 22.05 srun does not take it from sbatch, and Ray would get one processor
export RAY_USAGE_STATS_ENABLED=0
export RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S=0 # what is finished is written, so the end need not wait
RAY_AUTH_TOKEN=$(python -c "import secrets; print(secrets.token_hex(32))") # other users of the machines do not have it
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN

others=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | tail -n +2 | paste -sd,) # this script runs on the first one
ip=$(python -c "import ray; print(ray.util.get_node_ip_address())")             # its name may mean the loopback to itself
address=$ip:$((20000 + SLURM_JOB_ID % 10000))                                    # two jobs may share a machine
trap 'kill $(jobs -p) 2> /dev/null || true; wait' EXIT

ray start --head --node-ip-address="$ip" --port="${address#*:}" --num-cpus="$SLURM_CPUS_PER_TASK" --include-dashboard=false --block &
until ray status --address="$address" 2> /dev/null | grep -q " node_"; do
    kill -0 $! || { echo "error: Ray did not start on $(hostname), see above" >&2; exit 1; }
    sleep 1
done
if [ -n "$others" ]; then
    n=$((SLURM_NNODES - 1))
    srun --nodes=$n --ntasks=$n --nodelist="$others" ray start --address="$address" --num-cpus="$SLURM_CPUS_PER_TASK" --block &
fi
malaria-cells run --cluster "$address" --image "$archive" --output "$detected" "${@:3}"
