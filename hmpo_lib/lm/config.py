"""What a fine-tuning run is told: the method, sizes, optimizer, seed. Frozen, checked, and written as plain JSON."""

import dataclasses
import math
from typing import Any, Literal, get_args

import torch

from hmpo_lib.kl import Estimator
from hmpo_lib.methods import METHODS, Method

OptimizerName = Literal["adamw", "muon", "muonclip"]
ComputeType = Literal["float32", "bfloat16"]


@dataclasses.dataclass(frozen=True)
class FineTuneConfig:
    """What `fine_tune` needs to know besides the model and the task.

    One step of the optimizer is made for each minibatch of each pass over a rollout.

    Attributes:
        method: a name in METHODS, or a Method of your own: objective and schedule of p.
        rollouts: how many times to sample and learn.
        prompts: prompts per rollout.
        group_size: completions per prompt.
        minibatches: optimizer steps per pass over a rollout; at most ``prompts``.
        epochs: passes over a rollout.
        policy_lag: rollouts are sampled by the policy as it was so many rollouts ago, the first ones by that of the
            start; ``old_logprobs`` are the sampler's. As in asynchronous training, whose samplers run behind.
        max_new_tokens: limit per completion, tokens, eos included.
        learning_rate: of AdamW or Muon; Muon's steps are scaled to the size of AdamW's, so that one rate serves both.
        temperature: divides the logits, in sampling and in every log-probability.
        max_gradient_norm: the gradient is scaled down to this Euclidean norm; ``math.inf`` for no limit.
        kl_coefficient: of a penalty on KL(new ‖ ref), nats, with the model as it was at the start for the reference.
        kl_estimator: of `kl_penalty`; k2 has the gradient of KL(new ‖ ref) on-policy, k3_weighted off-policy too, k1
            has none.
        seed: of prompts, sampling and minibatches.
        optimizer: "adamw"; "muon" for the matrices inside the blocks and AdamW for the rest (see `MuonAdamW`);
            "muonclip", the same with QK-Clip. None of them decays weights.
        qk_clip_threshold: the largest attention logit that "muonclip" leaves alone.
        warmup_steps: optimizer steps over which every learning rate rises linearly to its value; 0 for none.
        monitor_logits: whether to record each head's largest attention logit; "muonclip" does so anyway.
        max_tokens_per_pass: the most completion tokens whose activations are held at a time; a minibatch of more goes
            through the model in several passes, with the same gradient to rounding. None: one pass. A group stays
            together where it fits.
        dtype: of the arithmetic inside the model's forward passes ("bfloat16": torch.autocast). Weights, optimizer and
            losses are float32 in any case, as `load_model` makes them.
        device: where to train, such as "cpu", "cuda" or "cuda:1"; None: where the model is.

    Raises:
        ValueError: a setting that means nothing.
    """

    method: str | Method = "gspo"
    rollouts: int = 50
    prompts: int = 32
    group_size: int = 8
    minibatches: int = 1
    epochs: int = 1
    policy_lag: int = 0
    max_new_tokens: int = 40
    learning_rate: float = 1e-4
    temperature: float = 1.0
    max_gradient_norm: float = 1.0
    kl_coefficient: float = 0.0
    kl_estimator: Estimator = "k2"
    seed: int = 0
    optimizer: OptimizerName = "adamw"
    qk_clip_threshold: float = 100.0
    warmup_steps: int = 0
    monitor_logits: bool = False
    max_tokens_per_pass: int | None = None
    dtype: ComputeType = "float32"
    device: str | None = None

    def __post_init__(self) -> None:
        if isinstance(self.method, str) and self.method not in METHODS:
            raise ValueError(f"unknown method {self.method!r}: expected one of {', '.join(METHODS)}.")
        for name in ("rollouts", "prompts", "group_size", "minibatches", "epochs", "max_new_tokens"):
            self._require(name, self._is_whole(name, least=1), "a whole number from 1")
        for name in ("seed", "warmup_steps", "policy_lag"):
            self._require(name, self._is_whole(name, least=0), "a whole number from 0")
        fits = self.max_tokens_per_pass is None or self._is_whole("max_tokens_per_pass", least=1)
        self._require("max_tokens_per_pass", fits, "a whole number from 1, or None")
        self._require("seed", self.seed < 2**64, "one of at most 64 bits, which is what torch's generators take")
        for name in ("learning_rate", "temperature"):
            self._require(name, 0 < getattr(self, name) < math.inf, "a number above 0")
        for name in ("max_gradient_norm", "qk_clip_threshold"):
            self._require(name, getattr(self, name) > 0, "a number above 0")
        self._require("kl_coefficient", 0 <= self.kl_coefficient < math.inf, "0 or more")
        choices = {"kl_estimator": Estimator, "optimizer": OptimizerName, "dtype": ComputeType}
        for name, choice in choices.items():
            self._require(name, getattr(self, name) in get_args(choice), f"one of {', '.join(get_args(choice))}")
        if self.group_size == 1 and not self.kl_coefficient:
            raise ValueError("group_size is 1: expected at least 2, since an answer's advantage is over its group.")
        if self.minibatches > self.prompts:
            raise ValueError(
                f"minibatches is {self.minibatches} with prompts {self.prompts}: groups stay whole, so expected at "
                "most one minibatch a prompt."
            )
        if self.device is not None:
            _require_device(self.device)

    def _is_whole(self, name: str, *, least: int) -> bool:
        value = getattr(self, name)
        return isinstance(value, int) and not isinstance(value, bool) and value >= least

    def _require(self, name: str, holds: bool, expected: str) -> None:
        if not holds:
            raise ValueError(f"{name} is {getattr(self, name)!r}: expected {expected}.")

    @property
    def steps_per_rollout(self) -> int:
        """Optimizer steps between one sampling and the next."""
        return self.epochs * self.minibatches

    @property
    def steps(self) -> int:
        """Optimizer steps in the whole run."""
        return self.rollouts * self.steps_per_rollout

    def resolved_method(self) -> Method:
        """The Method, with its length weight's ``max_length`` set to ``max_new_tokens`` where it has none."""
        method = METHODS[self.method] if isinstance(self.method, str) else self.method
        return method.with_max_length(self.max_new_tokens)

    def autocast(self, device: torch.device) -> torch.autocast:
        """The context of every forward pass, which computes in ``dtype``."""
        return torch.autocast(device.type, torch.bfloat16, enabled=self.dtype == "bfloat16")

    def settings(self) -> dict[str, Any]:
        """All fields as plain JSON values. A Method of your own is described; it cannot be made again from that."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        if isinstance(self.method, Method):
            schedule = self.method.p_schedule
            fields["method"] = {
                "objective": repr(self.method.objective),
                "advantage_scale": self.method.advantage_scale,
                "p_schedule": getattr(schedule, "__qualname__", repr(schedule)),  # a module tells its settings
            }
        return fields


def _require_device(name: str) -> None:
    """Raises where torch does not know a device, or has none of its kind here."""
    try:
        kind = torch.device(name).type
    except RuntimeError as error:
        raise ValueError(
            f"device is {name!r}: expected a name of torch's, such as 'cpu', 'cuda' or 'cuda:1'."
        ) from error
    here = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if kind != "cpu" and (here is None or here.type != kind):
        raise ValueError(
            f"device is {name!r}, and torch finds no such device here: expected {here or 'cpu'}; see "
            "torch.accelerator.is_available()."
        )
