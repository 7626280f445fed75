"""TRL's own loss code, asked about a batch of ours.

`GRPOTrainer._compute_loss` is called as it stands, on a stand-in for the trainer: its log-probabilities are our leaf
tensor in place of a model's output, and its settings are those of the objective. An attribute that another version
reads beside these is an AttributeError, not another loss.
"""

import math
from collections import defaultdict
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from hmpo_lib import METHODS, Objective

from .parity import LONGEST, Batch, Case


def trl_loss(
    batch: Batch,
    objective: Objective,
    loss_type: str,
    *,
    generation_tokens: int | None = None,
    accumulation_steps: int = 1,
) -> Tensor:
    """The loss of TRL's GRPOTrainer; the clip's place is its `importance_sampling_level`.

    `generation_tokens` is what its dapo divides by: the tokens of the whole generation batch (default: this batch's).
    """
    from trl.trainer.grpo_trainer import GRPOTrainer

    lo, hi = objective.clip_range
    trainer = _stand_in(
        batch,
        accumulation_steps,
        loss_type=loss_type,
        importance_sampling_level=objective.clip,
        epsilon_low=1 - lo,
        epsilon_high=hi - 1,
        max_completion_length=objective.max_length,
    )
    trainer.args.delta = objective.ratio_cap
    return GRPOTrainer._compute_loss(trainer, None, _inputs(batch, generation_tokens))


def trl_gmpo_loss(batch: Batch, objective: Objective) -> Tensor:
    """The loss of TRL's experimental GMPOTrainer, whose clip range is one of log-ratios."""
    from trl.import_utils import suppress_experimental_warning

    with suppress_experimental_warning():  # that its interface may change; its version is pinned
        from trl.experimental.gmpo import GMPOTrainer

    lo, hi = objective.clip_range
    trainer = _stand_in(batch, 1, epsilon_low=-math.log(lo), epsilon_high=math.log(hi))
    return GMPOTrainer._compute_loss(trainer, None, _inputs(batch, None))


def _stand_in(batch: Batch, accumulation_steps: int, **settings: Any) -> SimpleNamespace:
    """One process, training, with everything off that is not the policy loss."""
    entropies = torch.zeros_like(batch.logprobs)
    return SimpleNamespace(
        _get_per_token_logps_and_entropies=lambda *_, **__: (batch.logprobs, entropies, None),
        _metrics={"train": defaultdict(list)},
        accelerator=SimpleNamespace(num_processes=1, gather=lambda x: x, reduce=lambda x, reduction: x),
        model=SimpleNamespace(training=True),
        args=SimpleNamespace(delta=None, steps_per_generation=accumulation_steps),
        current_gradient_accumulation_steps=accumulation_steps,
        aux_loss_enabled=False,
        beta=0.0,
        off_policy_mask_threshold=None,
        top_entropy_quantile=1.0,
        use_vllm=False,
        _entropy_bonus_enabled=False,
        **settings,
    )


def _inputs(batch: Batch, generation_tokens: int | None) -> dict[str, Tensor]:
    ids = torch.zeros_like(batch.completion_mask)
    tokens = batch.completion_mask.sum() if generation_tokens is None else torch.tensor(generation_tokens)
    return {
        "prompt_ids": ids[:, :1],
        "prompt_mask": torch.ones_like(ids[:, :1]),
        "completion_ids": ids,
        "completion_mask": batch.completion_mask,
        "old_per_token_logps": batch.old_logprobs,
        "advantages": batch.advantages,
        "num_items_in_batch": tokens,
    }


def _case(loss_type: str, objective: Objective) -> Case:
    return Case(lambda batch, objective: trl_loss(batch, objective, loss_type), objective)


GRPO, GSPO, DAPO = (METHODS[name].objective for name in ("grpo", "gspo", "dapo"))
# `max_length`: TRL's `max_completion_length`, which need not be the padded width.
DR_GRPO = replace(METHODS["dr_grpo"].objective, max_length=LONGEST + 56)
SUM = {"length_weight": "constant", "max_length": 1}  # luspo: each completion counts by its length

TRL_CASES = {
    "grpo": _case("grpo", GRPO),
    "grpo with delta": _case("grpo", replace(GRPO, ratio_cap=4.0)),
    "gspo": _case("grpo", GSPO),
    "gspo with delta": _case("grpo", replace(GSPO, ratio_cap=4.0)),
    "dr_grpo": _case("dr_grpo", DR_GRPO),
    "dr_grpo of sequences": _case("dr_grpo", replace(GSPO, length_weight="constant", max_length=DR_GRPO.max_length)),
    "dapo": _case("dapo", DAPO),
    "dapo of sequences": _case("dapo", replace(GSPO, length_weight="proportional")),
    "luspo": _case("luspo", METHODS["luspo"].objective),
    "luspo of tokens": _case("luspo", replace(GRPO, **SUM)),
    "gmpo": Case(trl_gmpo_loss, METHODS["gmpo"].objective),
}
