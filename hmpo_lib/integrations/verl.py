"""verl's policy losses ``power_mean_<method>``: for every method one that a run's ``policy_loss.loss_mode`` can name.

verl loads this module by itself where hmpo-lib is installed beside it (entry point ``verl.plugins``). A plug-in that
cannot be imported is passed over in silence: ``python -m hmpo_lib.integrations.verl`` says whether it is in place.
Run with verl 0.9.0 and 0.9.1.
"""

import dataclasses
import math
import sys
import warnings
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points, version
from typing import Any

import torch
from torch import Tensor

from hmpo_lib import METHODS, Method, Objective, policy_loss
from hmpo_lib.objectives import LengthWeight
from hmpo_lib.schedules import holder_schedule

PREFIX = "power_mean_"
# verl's loss_agg_mode -> our length weight. What its sums are divided by follows in `_normalizer`.
LENGTH_WEIGHTS: dict[str, LengthWeight] = {
    "token-mean": "proportional",
    "token-sum": "proportional",
    "seq-mean-token-mean": "equal",
    "seq-mean-token-sum": "constant",
    "seq-mean-token-sum-norm": "constant",
}
# verl's own defaults. Another number was meant for a loss that is not this one.
_CLIP_RATIO = 0.2
_DUAL_CLIP = 3.0

Loss = Callable[..., tuple[Tensor, dict[str, float]]]


def policy_loss_of(name: str, method: Method) -> Loss:
    """A policy loss with verl's signature: loss = Σ_i w_i A_i M_p(r_i) · dp_size / normalizer, negated.

    Clip and exponent are the method's; the length weight is that of verl's ``loss_agg_mode``, and the cap of bad
    completions' ratios ``clip_ratio_c`` where the method has none.

    Args:
        name: what the errors call it.
        method: the method; a schedule of p may look at ratios and advantages, and not at the progress.

    Returns:
        (old_log_prob, log_prob, advantages, response_mask, loss_agg_mode, config, rollout_is_weights) -> loss, metrics;
        tensors are ``[batch, time]``.
    """

    def loss(
        old_log_prob: Tensor,
        log_prob: Tensor,
        advantages: Tensor,
        response_mask: Tensor,
        loss_agg_mode: str = "token-mean",
        config: Any = None,
        rollout_is_weights: Tensor | None = None,
    ) -> tuple[Tensor, dict[str, float]]:
        _refuse(name, method, config)
        mask = response_mask.bool()
        weights = _one_a_completion("advantages", advantages, mask)
        if rollout_is_weights is not None:
            weights = weights * _one_a_completion("rollout_is_weights", rollout_is_weights, mask)
        info = {} if config is None else config.global_batch_info
        cell = _cell(name, method.objective, loss_agg_mode, config, width=mask.shape[1])
        log_ratios = torch.where(mask, (log_prob - old_log_prob).detach(), 0.0)
        # The progress is not known: a schedule of one's own that asks for it gives nan, which Objective refuses.
        step = dataclasses.replace(method, objective=cell).step_objective(math.nan, log_ratios, mask, weights)
        normalizer = _normalizer(loss_agg_mode, info, mask)
        value, metrics = policy_loss(log_prob, old_log_prob, weights, mask, step, normalizer=normalizer, metrics=True)
        empty = not bool(mask.any())
        # verl wants the same names of every micro-batch, and the mean over them; of no tokens it takes 0, too.
        numbers = {key: 0.0 if empty else float(number) for key, number in metrics.items()}
        return value, {f"actor/hmpo/{key}": number for key, number in numbers.items()} | {
            "actor/pg_clipfrac": numbers["blocked_fraction"],
            "actor/ppo_kl": numbers["kl_old_new"],
        }

    return loss


def register(name: str, objective: Objective | Method) -> None:
    """Puts a loss of your own into verl's registry, as ``power_mean_<name>``; call it in a module that verl imports.

    Raises:
        ValueError: the name is taken.
    """
    full = PREFIX + name
    if full in _core_algos().POLICY_LOSS_REGISTRY:
        raise ValueError(f"{full} is registered already: expected a name of its own.")
    method = Method(objective) if isinstance(objective, Objective) else objective
    _core_algos().register_policy_loss(full)(policy_loss_of(full, method))


def _refuse(name: str, method: Method, config: Any) -> None:
    """Raises for what would not be what it says."""
    if method.p_schedule is holder_schedule or isinstance(method.p_schedule, torch.nn.Module):
        raise ValueError(
            f"{name} moves p over training, and verl tells a policy loss nothing of its progress: expected a method "
            "with one p, or one that follows from ratios and advantages."
        )
    if config is None:
        return
    for setting in ("clip_ratio", "clip_ratio_low", "clip_ratio_high"):
        given = config.get(setting, None)
        if given not in (None, _CLIP_RATIO):
            raise ValueError(
                f"{setting} is {given}, and {name} has a clip range of its own, {method.objective.clip_range}: leave "
                f"it at {_CLIP_RATIO}, or register an Objective with your range (hmpo_lib.integrations.verl.register)."
            )


def _one_a_completion(name: str, values: Tensor, mask: Tensor) -> Tensor:
    """``[batch]`` from ``[batch, time]``, where a completion's tokens all have the same; 0 without tokens."""
    first = values.gather(1, mask.int().argmax(dim=1, keepdim=True))
    if not bool((values == first)[mask].all()):
        what = "adv_estimator=grpo or rloo" if name == "advantages" else "a rollout correction by sequence"
        raise ValueError(
            f"{name} differ within a completion: expected one number a completion, since a mean over its tokens is "
            f"weighed as a whole ({what})."
        )
    return torch.where(mask.any(dim=1), first.squeeze(1), 0.0)


def _cell(name: str, objective: Objective, loss_agg_mode: str, config: Any, *, width: int) -> Objective:
    """The objective with verl's length weight and cap."""
    if loss_agg_mode not in LENGTH_WEIGHTS:
        raise ValueError(f"loss_agg_mode is {loss_agg_mode!r}: expected one of {', '.join(LENGTH_WEIGHTS)}.")
    weight = LENGTH_WEIGHTS[loss_agg_mode]
    if weight != objective.length_weight:
        fitting = " or ".join(mode for mode, meant in LENGTH_WEIGHTS.items() if meant == objective.length_weight)
        warnings.warn(
            f"loss_agg_mode is {loss_agg_mode!r}, and {name} as published weighs completions as {fitting} does: the "
            "loss follows loss_agg_mode.",
            stacklevel=3,
        )
    lengths = {"seq-mean-token-sum": 1, "seq-mean-token-sum-norm": width}
    max_length = lengths.get(loss_agg_mode)
    if loss_agg_mode == "seq-mean-token-sum-norm" and config is not None:
        max_length = config.global_batch_info.get("loss_scale_factor") or width
    cap = objective.ratio_cap
    if cap is None and config is not None:
        cap = config.get("clip_ratio_c", _DUAL_CLIP)
    return dataclasses.replace(objective, length_weight=weight, max_length=max_length, ratio_cap=cap)


def _normalizer(loss_agg_mode: str, info: Mapping[str, Any], mask: Tensor) -> float | Tensor:
    """What this micro-batch's sum is divided by, so that the mean over ranks is the loss of the whole batch."""
    ranks = info.get("dp_size") or 1
    if loss_agg_mode == "token-sum":
        return 1.0 / ranks
    counted = "batch_num_tokens" if loss_agg_mode == "token-mean" else "global_batch_size"
    whole = info.get(counted)
    if whole is None:
        if ranks > 1:
            raise ValueError(f"global_batch_info has no {counted} with dp_size {ranks}: expected the whole batch's.")
        whole = (mask.sum() if loss_agg_mode == "token-mean" else mask.any(dim=1).sum()).clamp(min=1)
    return whole / ranks


def check() -> str:
    """One line: which of our losses a plain ``import verl`` registers.

    Raises:
        RuntimeError: none; with the reason.
        ImportError: verl is not there, or what verl was silent about.
    """
    registry = _core_algos().POLICY_LOSS_REGISTRY
    registered = [name for name in registry if name.startswith(PREFIX)]
    if registered:
        return f"verl {version('verl')} knows {', '.join(registered)}"
    points = [point for point in entry_points(group="verl.plugins") if point.value == "hmpo_lib.integrations.verl"]
    if not points:
        raise RuntimeError("no entry point: hmpo-lib is not installed beside verl; run pip install 'hmpo-lib[verl]'.")
    points[0].load()
    raise RuntimeError("verl passed the plug-in over: expected VERL_USE_EXTERNAL_PLUGINS unset, 'auto' or with 'hmpo'.")


def _core_algos() -> Any:
    """verl's module of losses, or an error that names the extra."""
    try:
        from verl.trainer.ppo import core_algos
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"hmpo_lib.integrations.verl needs verl ({error}): install the extra, pip install 'hmpo-lib[verl]'.",
            name=error.name,
        ) from error
    return core_algos


if __name__ == "__main__":
    try:
        print(check())
    except (ImportError, RuntimeError) as error:
        sys.exit(f"error: {error}")
else:
    for _name, _method in METHODS.items():
        _core_algos().register_policy_loss(PREFIX + _name)(policy_loss_of(PREFIX + _name, _method))
