"""All that changes while a model is fine-tuned: what the loop moves, and what a checkpoint has to hold."""

import copy
import dataclasses
from collections import deque
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from hmpo_lib.lm.config import FineTuneConfig, OptimizerName
from hmpo_lib.lm.unsupported_models import require_float32
from hmpo_lib.methods import Method
from hmpo_lib.optim import MaxLogitMonitor, MuonAdamW, MuonClip, QKClip
from hmpo_lib.schedules import LearnableExponent


@dataclasses.dataclass
class TrainingState:
    """Where a run stands, between two rollouts.

    Attributes:
        model: the policy, trained in place.
        method: objective and schedule; a LearnableExponent in it is trained in place too.
        optimizer: over the model and, if there is one, the exponent.
        rates: the learning rate of each of its parameter groups, after warm-up.
        monitor: of the attention logits, or None.
        reference: the model as it was at the start, for a KL penalty, or None.
        past: the weights before each of the last ``policy_lag`` rollouts, the oldest first.
        lagged: a model of the same shape that takes the oldest of them, or None where there is no lag.
        prompt_generator: draws prompts and minibatches; its state is the position in the data.
        token_generator: draws tokens, on the model's device.
        rollouts_done: the index of the next rollout.
    """

    model: PreTrainedModel
    method: Method
    optimizer: torch.optim.Optimizer
    rates: list[float]
    monitor: MaxLogitMonitor | None
    reference: PreTrainedModel | None
    past: deque[dict[str, Tensor]]
    lagged: PreTrainedModel | None
    prompt_generator: torch.Generator
    token_generator: torch.Generator
    rollouts_done: int = 0

    @classmethod
    def start(cls, model: PreTrainedModel, config: FineTuneConfig) -> "TrainingState":
        """The state before the first rollout; moves the model to the config's device.

        Raises:
            ValueError: weights that are not float32; a model without matrices for Muon, or whose attention logits
                cannot be watched or clipped.
        """
        require_float32(model)
        if config.device is not None:
            model.to(config.device)
        # Before the monitor, so that the copies are plain models.
        reference = copy.deepcopy(model).requires_grad_(False) if config.kl_coefficient else None
        lagged = copy.deepcopy(model).requires_grad_(False) if config.policy_lag else None
        method = config.resolved_method()
        # Without weight decay: a decayed policy drifts even where no reward asks for it.
        options = {"threshold": config.qk_clip_threshold} if config.optimizer == "muonclip" else {}
        optimizer = make_optimizer(model, config.optimizer, config.learning_rate, weight_decay=0.0, **options)
        if isinstance(method.p_schedule, LearnableExponent):
            method.p_schedule.reset()  # another run with the same config must be the same run
            optimizer.add_param_group({"params": method.p_schedule.parameters(), "lr": method.p_schedule.learning_rate})
        if isinstance(optimizer, QKClip):
            monitor: MaxLogitMonitor | None = optimizer.monitor
        else:
            monitor = MaxLogitMonitor(model, measure="max_logit") if config.monitor_logits else None
        return cls(
            model=model,
            method=method,
            optimizer=optimizer,
            rates=[group["lr"] for group in optimizer.param_groups],
            monitor=monitor,
            reference=reference,
            past=deque(maxlen=config.policy_lag),
            lagged=lagged,
            prompt_generator=torch.Generator().manual_seed(config.seed),
            token_generator=torch.Generator(model.device).manual_seed(config.seed),
        )

    @property
    def exponent(self) -> LearnableExponent | None:
        """The exponent that is learned, if one is."""
        schedule = self.method.p_schedule
        return schedule if isinstance(schedule, LearnableExponent) else None

    def sampler(self) -> PreTrainedModel:
        """The policy that samples the next rollout: the model itself, or what it was ``policy_lag`` rollouts ago."""
        if self.lagged is None or not self.past:
            return self.model
        for name, weight in self.lagged.named_parameters():
            weight.copy_(self.past[0][name])
        return self.lagged

    def remember(self) -> None:
        """Keeps the present weights, before a rollout's steps, for as many rollouts as the sampler lags behind."""
        if self.lagged is not None:
            self.past.append({name: weight.detach().clone() for name, weight in self.model.named_parameters()})

    def release(self) -> None:
        """Gives the model back its own attention, where a monitor looks at it."""
        if self.monitor is not None:
            self.monitor.remove()

    def set_learning_rates(self, step: int, warmup_steps: int) -> None:
        """Sets the learning rates of optimizer step ``step``, counted from 0 over the run: the last ones at the end.

        A function of the step alone, so that a resumed run needs no scheduler's state.
        """
        factor = min(1.0, (step + 1) / warmup_steps) if warmup_steps else 1.0
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = factor * rate


def make_optimizer(
    model: PreTrainedModel, name: OptimizerName, learning_rate: float, **options: Any
) -> torch.optim.Optimizer:
    """An optimizer over all of a model's weights.

    Muon's default factor, "match_rms_adamw", makes its steps as large as AdamW's: one learning rate serves both.

    Args:
        model: what it trains.
        name: "adamw"; "muon" for the matrices inside the blocks and AdamW for the rest; "muonclip", with QK-Clip.
        learning_rate: of AdamW or Muon.
        options: of `torch.optim.AdamW`, `MuonAdamW` or `MuonClip`.
    """
    if name == "adamw":
        return torch.optim.AdamW(model.parameters(), learning_rate, fused=True, **options)
    return {"muon": MuonAdamW, "muonclip": MuonClip}[name](model, learning_rate, **options)
