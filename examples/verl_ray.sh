#!/usr/bin/env bash
# Several machines: verl with HMPO, by its own command line and Ray. Not run here: it needs NVIDIA GPUs and vLLM.
#
# On every machine:    pip install "verl[vllm]" && pip install --no-deps hmpo-lib     (or the path of a checkout)
#                      python -m hmpo_lib.integrations.verl                           (says that the plug-in is in place)
# On the first:        ray start --head --port 6379
# On the others:       ray start --address FIRST:6379
# Then, on the first:  NODES=2 GPUS=8 DATA=~/data/gsm8k bash examples/verl_ray.sh
#
# DATA has train.parquet and test.parquet, as verl's own examples/data_preprocess make them. A loss that reaches the
# workers is a loss that is installed there: verl finds it by itself (entry point verl.plugins).
set -euo pipefail

# The first block is what is HMPO's. loss_agg_mode is said because verl's default, token-mean, weighs a completion by its
# length; the clip range is the method's, so clip_ratio* stay at their defaults; clip_ratio_c caps ratios of bad ones.
# ppo_mini_batch_size below train_batch_size makes steps stale: at one step a batch no mean differs from another.
python -m verl.trainer.main_ppo \
    actor_rollout_ref.actor.policy_loss.loss_mode=power_mean_hmpo \
    actor_rollout_ref.actor.loss_agg_mode=seq-mean-token-mean \
    actor_rollout_ref.actor.clip_ratio_c=3.0 \
    algorithm.adv_estimator=grpo \
    algorithm.norm_adv_by_std_in_grpo=True \
    data.train_batch_size=512 \
    actor_rollout_ref.actor.ppo_mini_batch_size=128 \
    data.train_files="$DATA/train.parquet" \
    data.val_files="$DATA/test.parquet" \
    data.max_prompt_length=512 \
    data.max_response_length=1024 \
    actor_rollout_ref.model.path="${MODEL:-Qwen/Qwen3-0.6B}" \
    actor_rollout_ref.model.enable_gradient_checkpointing=True \
    actor_rollout_ref.actor.optim.lr=1e-6 \
    actor_rollout_ref.actor.use_dynamic_bsz=True \
    actor_rollout_ref.actor.ppo_max_token_len_per_gpu=16384 \
    actor_rollout_ref.actor.use_kl_loss=False \
    actor_rollout_ref.rollout.name=vllm \
    actor_rollout_ref.rollout.n=8 \
    actor_rollout_ref.rollout.tensor_model_parallel_size=1 \
    actor_rollout_ref.rollout.gpu_memory_utilization=0.5 \
    trainer.nnodes="${NODES:-2}" \
    trainer.n_gpus_per_node="${GPUS:-8}" \
    trainer.total_epochs=3 \
    trainer.logger='["console"]' \
    "$@"
