"""Clips of one attention layer by hand, right ones and careless ones: what each does to every head's largest logit."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hmpo_lib.optim.qk_clip import clip_factors

KINDS = ("query and key by √γ", "key by γ", "query by γ")


@dataclass(frozen=True)
class Clip:
    """One clip of a layer.

    Attributes:
        before, after: the largest logit of each head, for the same inputs.
        queries: what each head's query was scaled by.
        keys: what each key was scaled by; fewer than heads where they are shared.
    """

    threshold: float
    before: tuple[float, ...]
    after: tuple[float, ...]
    queries: tuple[float, ...]
    keys: tuple[float, ...]

    @property
    def states(self) -> list[str]:
        """What became of each head, in words."""
        return [self._state(one, two) for one, two in zip(self.before, self.after, strict=True)]

    def _state(self, before: float, after: float) -> str:
        if before <= self.threshold:
            return "kept" if before == after else "changed"
        gap = after - self.threshold
        return "at τ" if abs(gap) < 1e-9 else "above τ" if gap > 0 else "below τ"


def clip_by_hand(layer: Any, x: Tensor, threshold: float, kind: str, *, biases: bool = True) -> Clip:
    """Scales what `kind` says for each head above the threshold, by γ = τ / S_max in all.

    A shared key is scaled for each hot head that uses it.

    Args:
        layer: with linear maps ``q_proj`` and ``k_proj`` of heads of ``size`` features.
        x: ``[batch, time, features]``.
        threshold: τ.
        kind: one of KINDS.
        biases: whether they are scaled with the weights.
    """
    if kind not in KINDS:
        raise ValueError(f"kind is {kind!r}: expected one of {', '.join(map(repr, KINDS))}.")
    maps = (layer.q_proj, layer.k_proj)
    heads, keys = (projection.out_features // layer.size for projection in maps)
    before = _maxima(layer, x, torch.ones(heads), torch.ones(keys), biases=biases)
    gammas = clip_factors(before, threshold)
    query, key = {
        KINDS[0]: (gammas.sqrt(), gammas.sqrt()),
        KINDS[1]: (torch.ones_like(gammas), gammas),
        KINDS[2]: (gammas, torch.ones_like(gammas)),
    }[kind]
    key = key.view(keys, -1).prod(dim=1)
    after = _maxima(layer, x, query, key, biases=biases)
    rows = (tuple(values.tolist()) for values in (before, after, query, key))
    return Clip(threshold, *rows)


@torch.no_grad()
def _maxima(layer: Any, x: Tensor, queries: Tensor, keys: Tensor, *, biases: bool) -> Tensor:
    """The largest logit of each head, ``[heads]``, with its query and key scaled; with their biases or without."""
    scaled = []
    for projection, factors in ((layer.q_proj, queries), (layer.k_proj, keys)):
        rows = factors.to(x.dtype).repeat_interleave(layer.size)
        y = x @ (rows[:, None] * projection.weight).mT + (rows if biases else 1) * projection.bias
        scaled.append(y.unflatten(-1, (-1, layer.size)).transpose(1, 2))
    q, k = scaled
    k = k.repeat_interleave(q.shape[1] // k.shape[1], dim=1)
    return (q @ k.mT / layer.size**0.5).amax(dim=(0, 2, 3))
