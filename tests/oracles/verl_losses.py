"""verl's own policy losses, asked about a batch of ours through its registry and its actor configuration."""

import math
from dataclasses import replace

from torch import Tensor

from hmpo_lib import METHODS, Objective

from .parity import LONGEST, Batch, Case

# How verl names the length weights. Its geo_mean ignores the setting: it is always a mean of completions.
AGGREGATIONS = {
    "equal": "seq-mean-token-mean",
    "proportional": "token-mean",
    "constant": "seq-mean-token-sum-norm",
}


def verl_loss(batch: Batch, objective: Objective, name: str) -> Tensor:
    """A loss of verl's registry. The clip range of its geo_mean is one of log-ratios, of the others one of ratios."""
    from verl.trainer.ppo.core_algos import get_policy_loss_fn
    from verl.workers.config import ActorConfig

    lo, hi = objective.clip_range
    low, high = (-math.log(lo), math.log(hi)) if name == "geo_mean" else (1 - lo, hi - 1)
    config = ActorConfig(
        strategy="fsdp",
        rollout_n=1,
        ppo_micro_batch_size_per_gpu=1,
        clip_ratio_low=low,
        clip_ratio_high=high,
        global_batch_info={"loss_scale_factor": objective.max_length},
        **({} if objective.ratio_cap is None else {"clip_ratio_c": objective.ratio_cap}),
    )
    # Of integers, as verl makes it itself: the 1e-8 that it adds to lengths is then lost in a float32.
    mask = batch.completion_mask
    advantages = batch.advantages.unsqueeze(1).expand_as(mask)
    loss_of = get_policy_loss_fn(name)
    mode = AGGREGATIONS[objective.length_weight]
    loss, _metrics = loss_of(batch.old_logprobs, batch.logprobs, advantages, mask, loss_agg_mode=mode, config=config)
    return loss


def _case(name: str, objective: Objective) -> Case:
    return Case(lambda batch, objective: verl_loss(batch, objective, name), objective)


DUAL_CLIP = 3.0  # vanilla always caps the ratios of completions with A < 0; verl's default for `clip_ratio_c`
GSPO_CAP = math.exp(10)  # gspo clamps log-ratios at 10; for A > 0 its clip is far below, so that this is a ratio cap

VERL_CASES = {
    "vanilla": _case("vanilla", replace(METHODS["grpo"].objective, ratio_cap=DUAL_CLIP)),
    "vanilla, dapo": _case("vanilla", replace(METHODS["dapo"].objective, ratio_cap=DUAL_CLIP)),
    "vanilla, dr_grpo": _case(
        "vanilla", replace(METHODS["dr_grpo"].objective, ratio_cap=DUAL_CLIP, max_length=LONGEST + 56)
    ),
    "gspo": _case("gspo", replace(METHODS["gspo"].objective, ratio_cap=GSPO_CAP)),
    "gspo, token-mean": _case(
        "gspo", replace(METHODS["gspo"].objective, ratio_cap=GSPO_CAP, length_weight="proportional")
    ),
    "geo_mean": _case("geo_mean", METHODS["gmpo"].objective),
}
