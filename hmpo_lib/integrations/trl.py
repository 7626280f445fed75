"""TRL's GRPOTrainer with any objective of this library: it overrides how the loss is computed, and nothing else.

TRL computes its own part (KL penalty, entropy bonus, auxiliary losses, logging) with advantages of 0, in the same
forward pass, and `policy_loss` is added to it. Generation, rewards, PEFT, checkpoints and resuming are TRL's.
Run with TRL 1.12.0, 1.14.2 and 1.16.0.
"""

import copy
import dataclasses
import math
from typing import Any

import torch
from torch import Tensor, nn

from hmpo_lib import METHODS, Method, Objective, policy_loss
from hmpo_lib.optim import QKClip

try:
    import trl
    from trl import GRPOConfig, GRPOTrainer
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"hmpo_lib.integrations.trl needs TRL ({error}): install the extra, pip install 'hmpo-lib[trl]'.",
        name=error.name,
    ) from error

for _hook in ("_compute_loss", "_get_per_token_logps_and_entropies"):
    if not hasattr(GRPOTrainer, _hook):
        raise ImportError(
            f"GRPOTrainer of TRL {trl.__version__} has no {_hook}, which this trainer builds on: expected a version "
            "that it was run with, 1.12 to 1.16."
        )

# The largest ratio of a completion with A < 0 where the objective has none: exp of a larger log-ratio soon is infinite,
# and one such token ends the run. verl clamps its sequence ratios at the same number.
RATIO_CAP = math.exp(10)

# How TRL then averages its KL penalty.
_LOSS_TYPES = {"equal": "grpo", "constant": "dr_grpo", "proportional": "dapo"}
# Settings of TRL's own policy loss, which is not computed; set, they would do nothing.
_NOT_OURS = ("epsilon", "epsilon_high", "delta", "loss_type", "importance_sampling_level", "top_entropy_quantile")
_OWN_LOSS = ("clip_ratio/", "policy_loss")  # what TRL logs of it


class PowerMeanGRPOTrainer(GRPOTrainer):  # type: ignore[misc]
    """A GRPOTrainer whose policy loss is `policy_loss` with an objective of this library.

    Args:
        model, reward_funcs, args: of GRPOTrainer, as everything that is not named below. ``args`` keeps its defaults
            for what belongs to TRL's own policy loss (epsilon, delta, loss_type, …).
        objective: an Objective, a Method or the name of one. "constant" without a ``max_length`` takes
            ``max_completion_length``; without a ``ratio_cap`` the cap is `RATIO_CAP`. A method that does not divide its
            advantages by the standard deviation sets ``scale_rewards`` to "none". A schedule of p follows the trainer's
            progress.
        qk_clip_threshold: the largest attention logit that QK-Clip leaves alone; None: no QK-Clip. The clip is
            ``trainer.qk_clip`` once there is an optimizer.

    Raises:
        ValueError: an unknown method; settings of TRL that mean nothing here, or weigh single tokens.
    """

    def __init__(
        self,
        model: Any,
        reward_funcs: Any = None,
        args: GRPOConfig | None = None,
        *others: Any,
        objective: Objective | Method | str,
        qk_clip_threshold: float | None = None,
        **kwargs: Any,
    ) -> None:
        args = GRPOConfig() if args is None else copy.copy(args)  # it is changed below, and is the caller's
        _refuse(args)
        self.method = _method(objective, args)
        if self.method.advantage_scale == "none":
            args.scale_rewards = "none"
        self.qk_clip_threshold = qk_clip_threshold
        self.qk_clip: QKClip | None = None
        self._scored: list[Tensor] = []
        super().__init__(model, reward_funcs, args, *others, **kwargs)
        cell = self.method.objective
        self.loss_type = args.loss_type = "luspo" if cell.max_length == 1 else _LOSS_TYPES[cell.length_weight]

    def _get_per_token_logps_and_entropies(self, *args: Any, **kwargs: Any) -> Any:
        """TRL's, looked at: the log-probabilities of its forward pass are those of ours."""
        scores = super()._get_per_token_logps_and_entropies(*args, **kwargs)
        self._scored.append(scores[0])
        return scores

    def _compute_loss(self, model: nn.Module, inputs: dict[str, Any]) -> Tensor:
        self._scored.clear()
        loss = super()._compute_loss(model, self._without_policy_loss(inputs))
        scored, self._scored = self._scored, []
        mask = inputs["completion_mask"] * inputs.get("tool_mask", 1)
        if len(scored) != 1 or scored[0].shape != mask.shape:
            raise RuntimeError(
                f"_compute_loss of TRL {trl.__version__} made {len(scored)} passes over the completions: expected one, "
                "as in the versions that this trainer was run with, 1.12 to 1.16."
            )
        logprobs = scored[0]
        # Absent where every step is on-policy.
        old_logprobs = inputs.get("old_per_token_logps")
        old_logprobs = logprobs.detach() if old_logprobs is None else old_logprobs
        advantages = self._weighted_advantages(inputs, logprobs, old_logprobs, mask)
        progress = min(1.0, self.state.global_step / max(1, self.state.max_steps - 1))
        log_ratios = torch.where(mask.bool(), logprobs.detach() - old_logprobs, 0.0)
        own = policy_loss(
            logprobs,
            old_logprobs,
            advantages,
            mask,
            self.method.step_objective(progress, log_ratios, mask, advantages),
            normalizer=self._normalizer(inputs, mask),
            metrics=True,
        )
        self._log_policy_loss(own.metrics, mask)
        return loss + own.loss

    def _without_policy_loss(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """The inputs with which TRL's policy loss is 0: also where a ratio overflows, since 0 · inf is nan."""
        rest = inputs | {"advantages": torch.zeros_like(inputs["advantages"])}
        if not (self.beta and self.args.use_bias_correction_kl):  # that one needs the ratios
            rest.pop("old_per_token_logps", None)
        if "importance_sampling_ratio" in rest:
            rest["importance_sampling_ratio"] = torch.ones_like(rest["importance_sampling_ratio"])
        return rest

    def _weighted_advantages(
        self, inputs: dict[str, Any], logprobs: Tensor, old_logprobs: Tensor, mask: Tensor
    ) -> Tensor:
        """Advantages times what TRL weighs a completion with: neither changes a sign, so no clip changes its side."""
        advantages: Tensor = inputs["advantages"]
        if self.off_policy_mask_threshold is not None:
            keep = self.get_off_policy_mask(
                advantages=advantages.unsqueeze(1),
                per_token_logps=logprobs,
                sampling_per_token_logps=inputs.get("sampling_per_token_logps", old_logprobs),
                mask=mask,
                off_policy_threshold=self.off_policy_mask_threshold,
            )
            advantages = advantages * keep.squeeze(1)
        if self.use_vllm and self.vllm_importance_sampling_correction:
            advantages = advantages * inputs["importance_sampling_ratio"].squeeze(1)
        return advantages

    def _normalizer(self, inputs: dict[str, Any], mask: Tensor) -> float | Tensor:
        """What makes the mean over ranks, summed over a step's micro-batches, the mean over the step's whole batch.

        TRL gives every rank equally many completions; their tokens it counts over all ranks, and over everything that
        was generated together, which is several steps' worth.
        """
        training = self.model.training
        accumulation = self.current_gradient_accumulation_steps if training else 1
        if self.method.objective.length_weight != "proportional":
            return len(mask) * accumulation
        tokens: Tensor = inputs["num_items_in_batch"].clamp(min=1) / self.accelerator.num_processes
        return tokens * accumulation / self.args.steps_per_generation if training else tokens

    def _log_policy_loss(self, metrics: dict[str, Tensor], mask: Tensor) -> None:
        """Our metrics in place of TRL's of its own policy loss; over all ranks, each weighing as many tokens as it has.

        Every rank comes here, even one without a token: the others wait for it in `gather`.
        """
        logged = self._metrics["train" if self.model.training else "eval"]
        for name in [name for name in logged if name.startswith(_OWN_LOSS)]:
            del logged[name]
        numbers = torch.stack([value.float() for value in (*metrics.values(), mask.sum())])
        *columns, tokens = self.accelerator.gather(numbers.unsqueeze(0)).unbind(dim=1)
        seen = tokens > 0
        if not bool(seen.any()):
            return
        for name, column in zip(metrics, columns, strict=True):
            of_ranks = column[seen]
            if name.endswith(("_min", "_max")):
                value = of_ranks.min() if name.endswith("_min") else of_ranks.max()
            else:
                value = (of_ranks * tokens[seen]).sum() / tokens.sum()
            logged[f"hmpo/{name}"].append(value.item())

    def create_optimizer(self, *args: Any, **kwargs: Any) -> torch.optim.Optimizer:
        """TRL's, with QK-Clip after its step where a threshold was given."""
        optimizer = super().create_optimizer(*args, **kwargs)
        if self.qk_clip_threshold is not None and self.qk_clip is None:
            self.qk_clip = QKClip(optimizer, self.model, self.qk_clip_threshold)
        return optimizer


def _refuse(args: GRPOConfig) -> None:
    """Raises where the settings ask for something that would be ignored, or cannot be."""
    defaults = {field.name: field.default for field in dataclasses.fields(args)}
    for name in _NOT_OURS:
        if getattr(args, name) != defaults[name]:
            raise ValueError(
                f"{name} is {getattr(args, name)!r}: expected TRL's default, {defaults[name]!r}, since the policy loss "
                "is not TRL's here; the objective has the clip, the ratio cap and the length weight, and a weight for "
                "single tokens does not go with a mean over them."
            )
    if args.use_vllm and args.vllm_importance_sampling_correction:
        mode = args.vllm_importance_sampling_mode
        if not mode.startswith("sequence"):
            raise ValueError(
                f"vllm_importance_sampling_mode is {mode!r}: expected 'sequence_truncate' or 'sequence_mask', since a "
                "weight for single tokens does not go with a mean over them."
            )
    if args.use_liger_kernel and hasattr(GRPOTrainer, "compute_liger_loss"):
        raise ValueError(
            f"use_liger_kernel is True, and TRL {trl.__version__} then computes its own policy loss in a fused kernel: "
            "expected False."
        )


def _method(objective: Objective | Method | str, args: GRPOConfig) -> Method:
    """The method asked for, with the length and the cap that it has not set itself."""
    if isinstance(objective, str):
        if objective not in METHODS:
            raise ValueError(f"unknown method {objective!r}: expected one of {', '.join(METHODS)}.")
        objective = METHODS[objective]
    method = Method(objective) if isinstance(objective, Objective) else objective
    if isinstance(method.p_schedule, nn.Module):
        raise ValueError(
            f"p_schedule is a {type(method.p_schedule).__name__}, whose parameter no optimizer of TRL knows: expected "
            "a function; `fine_tune` trains it."
        )
    method = method.with_max_length(args.max_completion_length)
    if method.objective.ratio_cap is not None:
        return method
    return dataclasses.replace(method, objective=dataclasses.replace(method.objective, ratio_cap=RATIO_CAP))
