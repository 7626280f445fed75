"""The largest attention logit of each head, without the logits."""

import torch
from torch import Tensor

# Logits that are computed at a time: on a CPU so many that they fit its cache, elsewhere so many that a GPU is busy.
_CHUNK_ELEMENTS = {"cpu": 2**20}
_CHUNK_ELEMENTS_ELSEWHERE = 2**26


def max_attention_logits(
    query: Tensor, key: Tensor, *, scaling: float, mask: Tensor | None = None, causal: bool = False
) -> Tensor:
    """The largest logit of each head over the batch and the allowed (query, key) pairs.

    S_max[h] = max over b, i, j allowed of  scaling · q[b, h, i] · k[b, h, j]  (+ mask, if it is one of numbers).

    Signed: −inf for a head that may look at nothing. Computed for a few queries at a time, so that the
    [time, time] logits never exist; in float32 at least.

    Args:
        query: ``[batch, heads, queries, size]``.
        key: ``[batch, key heads, keys, size]``; fewer than the heads if each serves several.
        scaling: a positive number.
        mask: broadcasts to ``[batch, heads, queries, keys]``: true where allowed, or numbers to add.
        causal: without a mask: query i sees the keys 0 … i.

    >>> q = torch.tensor([[[[1.0], [-2.0]]]])
    >>> max_attention_logits(q, q, scaling=0.5), max_attention_logits(-q, q, scaling=0.5, causal=True)
    (tensor([2.]), tensor([1.]))
    """
    batch, heads, queries, size = query.shape
    key_heads, keys = key.shape[1], key.shape[2]
    if mask is not None:
        mask = mask[(None,) * (4 - mask.dim())].expand(-1, -1, queries, keys)
    dtype = torch.promote_types(query.dtype, torch.float32)
    columns = key.to(dtype).reshape(batch * key_heads, keys, size).mT
    elements = _CHUNK_ELEMENTS.get(query.device.type, _CHUNK_ELEMENTS_ELSEWHERE)
    step = max(1, elements // (batch * heads * keys))
    maxima = torch.full((heads,), -torch.inf, dtype=dtype, device=query.device)
    for start in range(0, queries, step):
        stop = min(start + step, queries)
        allowed = _allowed(mask, causal, start, stop, keys, query.device)
        # Where all come at once, little would be saved, and a GPU would be waited for.
        seen = keys if allowed is None or step >= queries else _last_allowed(allowed)
        if seen == 0:
            continue
        rows = query[:, :, start:stop].to(dtype).reshape(batch * key_heads, -1, size) * scaling
        logits = torch.bmm(rows, columns[..., :seen]).view(batch, heads, stop - start, seen)
        if allowed is not None:
            allowed = allowed[..., :seen]
            # Adding 0 or −inf to the whole costs a fraction of a masked_fill.
            logits += torch.where(allowed, 0.0, -torch.inf) if allowed.dtype == torch.bool else allowed
        maxima = torch.maximum(maxima, logits.flatten(2).amax(dim=2).amax(dim=0))
    return maxima


def _allowed(
    mask: Tensor | None, causal: bool, start: int, stop: int, keys: int, device: torch.device
) -> Tensor | None:
    """The mask's rows of some queries."""
    if mask is not None:
        return mask[:, :, start:stop]
    if not causal:
        return None
    return (torch.arange(keys, device=device) <= torch.arange(start, stop, device=device)[:, None])[None, None]


def _last_allowed(allowed: Tensor) -> int:
    """How many keys from the first on hold all that are allowed; the rest need not be computed."""
    if allowed.dtype != torch.bool:
        return allowed.shape[-1]
    some = allowed.flatten(0, 2).any(dim=0).nonzero()
    return int(some[-1]) + 1 if len(some) else 0
