"""Masked power means in log space: the one formula that every method here shares.

    log M_p(d) = ( logsumexp_t(p · d_t) − log n ) / p

with p → 0: the mean of d; p → +∞: its maximum; p → −∞: its minimum. Its derivative by d_t is the escort weight
W_t = softmax_t(p · d_t), and by p it is KL(W ‖ uniform) / p² ≥ 0: the mean inequality.

How this departs from the formula: d is centred before it is multiplied by p, and p near 0 goes through
``log1p(mean expm1(p · u)) / p``, since plain logsumexp loses all digits there (0.04 of error at p = 1e-6 in float32).
The derivative by p is a difference of series there, whose terms do not cancel and are not divided by p.
"""

import math

import torch
from torch import Tensor

# Where |p| · (max d − min d) stays below this, the formulas for small p are used. Both sides are accurate around 1.
_SMALL = 1.0

# Entries in a block of rows on a CPU: some ten elementwise steps then run in the processor's cache, not in memory.
_BLOCK = 1 << 16

# Coefficients of (e^x − 1 − x) / x² = Σ x^k / (k + 2)!, the highest first; for |x| < 1 the next is beyond float64.
_SERIES = tuple(1 / math.factorial(k + 2) for k in range(16, -1, -1))


def log_power_mean(log_x: Tensor, p: float | Tensor, mask: Tensor | None = None, dim: int = -1) -> Tensor:
    """Logarithm of the power mean of exp(log_x) over ``dim``, differentiable in ``log_x`` and in a tensor ``p``.

    log M_p = ( logsumexp(p · log_x) − log n ) / p

    Source: Hardy, Littlewood, Pólya, *Inequalities*, ch. 2; the escort weights are its gradient.

    Args:
        log_x: real tensor, any shape. bfloat16 and float16 are computed, and returned, in float32.
        p: the exponent, any real number or ±inf; a tensor must broadcast to ``log_x`` without ``dim``.
        mask: true where an entry counts, broadcasts to ``log_x``. Masked entries, inf and nan included, change
            neither the value nor any gradient.
        dim: the dimension to average over.

    Returns:
        ``log_x``'s shape without ``dim``. A slice with nothing to average is 0 with zero gradient.

    Raises:
        ValueError: p is nan, or the shapes do not fit.
        IndexError: ``log_x`` has no dimension ``dim``.

    >>> log_power_mean(torch.tensor([0.5, 1.0, 1.5]).log(), -1.0).exp()  # 9/11
    tensor(0.8182)
    """
    value: Tensor = _LogPowerMean.apply(*_as_rows(log_x, p, mask, dim))
    return value.reshape(log_x.shape[:dim] + log_x.shape[dim:][1:])


def power_mean(x: Tensor, p: float | Tensor, mask: Tensor | None = None, dim: int = -1) -> Tensor:
    """Power mean M_p of positive numbers: ( mean x^p )^(1/p); p = 1 arithmetic, 0 geometric, −1 harmonic.

    Args and errors as in `log_power_mean`, with ``x`` > 0 wherever the mask is true. A slice with nothing to average
    is 1.

    >>> power_mean(torch.tensor([1.0, 2.0, 4.0, 8.0]), 0.0)
    tensor(2.8284)
    """
    x = _float32_at_least(x)
    counted = x if mask is None else torch.where(_fitting(mask, x), x, 1.0)
    if not bool((counted > 0).all()):
        raise ValueError(
            f"power_mean needs positive numbers, got a smallest entry of {counted.min().item():g}: "
            "mask the others out, or use log_power_mean on logarithms."
        )
    return log_power_mean(counted.log(), p, mask, dim).exp()


def power_mean_weights(log_x: Tensor, p: float | Tensor, mask: Tensor | None = None, dim: int = -1) -> Tensor:
    """Escort weights W = softmax(p · log_x) over ``dim``: whom the mean listens to, and the gradient of log M_p.

    At p = ±inf the weight is shared by the largest (smallest) entries. Args and errors as in `log_power_mean`.

    Returns:
        ``log_x``'s shape; sums to 1 over ``dim`` (to 0 where nothing counts); 0 where masked.

    >>> power_mean_weights(torch.tensor([0.5, 1.0, 1.5]).log(), -1.0) * 11
    tensor([6.0000, 3.0000, 2.0000])
    """
    rows, p, mask = _as_rows(log_x, p, mask, dim)
    _require_no_nan(p)
    return _weights(rows, p, mask).reshape(log_x.movedim(dim, -1).shape).movedim(-1, dim)


def _as_rows(log_x: Tensor, p: float | Tensor, mask: Tensor | None, dim: int) -> tuple[Tensor, Tensor, Tensor]:
    """Checks the shapes; gives float data ``[rows, n]`` with ``dim`` last, p ``[rows, 1]`` and a boolean mask."""
    log_x = _float32_at_least(log_x)
    p = _as_exponent(p, log_x)
    n = log_x.size(dim)  # before the slices below, which would take any dim
    reduced = log_x.shape[:dim] + log_x.shape[dim:][1:]
    if not _broadcasts(p.shape, reduced):
        raise ValueError(
            f"p has shape {tuple(p.shape)}, expected one number or a shape that broadcasts to {tuple(reduced)}, "
            f"which is log_x's shape {tuple(log_x.shape)} without dim {dim}."
        )
    mask = torch.ones((), dtype=torch.bool, device=log_x.device) if mask is None else _fitting(mask, log_x)
    shape = (math.prod(reduced), n)  # not (-1, n), which means nothing at n = 0
    rows, mask = (x.expand(log_x.shape).movedim(dim, -1).reshape(shape) for x in (log_x, mask))
    return rows, p.expand(reduced).reshape(-1, 1), mask


def _as_exponent(p: float | Tensor, log_x: Tensor) -> Tensor:
    """p beside ``log_x``. A number is filled in there: copied to a GPU from here, it would be waited for."""
    if isinstance(p, Tensor):
        return p.to(dtype=log_x.dtype, device=log_x.device)
    return log_x.new_full((), p)


def _require_no_nan(p: Tensor) -> None:
    # A compiler could not go on after a question about numbers.
    if not torch.compiler.is_compiling() and bool(p.isnan().any()):
        raise ValueError("p is nan: expected a real number or ±inf, the exponent of the power mean.")


def _fitting(mask: Tensor, x: Tensor) -> Tensor:
    """The mask as truth values, if its shape fits."""
    if not _broadcasts(mask.shape, x.shape):
        raise ValueError(
            f"mask has shape {tuple(mask.shape)}, expected one that broadcasts to {tuple(x.shape)}, the shape of what "
            "is averaged."
        )
    return mask.bool()


def _float32_at_least(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _broadcasts(shape: torch.Size, target: torch.Size) -> bool:
    sizes = zip(reversed(shape), reversed(target), strict=False)
    return len(shape) <= len(target) and all(size in (1, wanted) for size, wanted in sizes)


def _blocks(log_x: Tensor) -> list[slice]:
    """Slices of rows; on other devices than a CPU one slice, since many small steps would leave them idle.

    A compiler makes blocks of its own.
    """
    rows, n = log_x.shape
    whole = log_x.device.type != "cpu" or torch.compiler.is_compiling()
    step = max(rows, 1) if whole else max(1, _BLOCK // max(n, 1))
    return [slice(start, start + step) for start in range(0, rows, step)]


def _extremes(log_x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    if log_x.shape[-1] == 0:  # amin and amax refuse a row without entries
        return log_x.new_full((log_x.shape[0], 1), torch.inf), log_x.new_full((log_x.shape[0], 1), -torch.inf)
    smallest = torch.where(mask, log_x, torch.inf).amin(-1, keepdim=True)
    return smallest, torch.where(mask, log_x, -torch.inf).amax(-1, keepdim=True)


def _scores(log_x: Tensor, p: Tensor, mask: Tensor, extreme: Tensor) -> Tensor:
    """p · (log_x − extreme) ≤ 0, −inf where masked. Nothing overflows; at p = ±inf only the extreme entries stay."""
    # p = 0 hears all alike, even an infinite log-ratio, where the product would be nan.
    scores = torch.where((log_x == extreme) | (p == 0), 0.0, p * (log_x - extreme))
    return torch.where(mask, scores, -torch.inf)


def _weights(log_x: Tensor, p: Tensor, mask: Tensor) -> Tensor:
    # Before any exp: what stands at a masked place must not reach even a gradient (0 · inf is nan).
    log_x = torch.where(mask, log_x, 0.0)
    smallest, largest = _extremes(log_x, mask)
    shares = _scores(log_x, p, mask, torch.where(p > 0, largest, smallest)).exp()  # the extreme one's is 1
    return shares / shares.sum(-1, keepdim=True).clamp(min=1)  # a row without entries: 0 in place of nan


def _values(log_x: Tensor, p: Tensor, mask: Tensor) -> Tensor:
    """log M_p of each row, ``[rows, 1]``, by the formula that is accurate for its p and its entries."""
    log_x = torch.where(mask, log_x, 0.0)
    count = mask.sum(-1, keepdim=True).to(log_x.dtype)  # the logarithm of an integer tensor would be a float32
    centre = log_x.sum(-1, keepdim=True) / count.clamp(min=1)
    smallest, largest = _extremes(log_x, mask)
    is_zero, is_small = _regimes(p, largest - smallest)

    near, far = centre, centre
    if _is_any(is_small):
        u = torch.where(mask & ~is_zero, log_x - centre, 0.0)
        mean = torch.expm1(torch.where(is_small, p, 0.0) * u).sum(-1, keepdim=True) / count.clamp(min=1)
        near = centre + torch.log1p(mean) / torch.where(is_zero, 1.0, p)
    if _is_any(~is_small):
        extreme = torch.where(p > 0, largest, smallest)
        far = extreme + (torch.logsumexp(_scores(log_x, p, mask, extreme), -1, keepdim=True) - count.log()) / p
    return torch.where(count > 0, torch.where(is_small, near, far), 0.0)


def _is_any(rows: Tensor) -> bool:
    """Whether some row needs a formula. A compiler, which cannot ask, computes it for all, and selects later."""
    return torch.compiler.is_compiling() or bool(rows.any())


def _regimes(p: Tensor, spread: Tensor) -> tuple[Tensor, Tensor]:
    """Where p is so near 0 that p · d would lose digits to underflow, and where |p| times the spread of d is small."""
    is_zero = p.abs() < torch.finfo(p.dtype).tiny / torch.finfo(p.dtype).eps
    # A row without entries has a spread of −inf, which must not make p = ±inf a small one.
    return is_zero, is_zero | (p.abs() * spread.clamp(min=0) < _SMALL)


class _LogPowerMean(torch.autograd.Function):
    """The value by the formula that is accurate for the given p, the gradients in closed form.

    Under `torch.func.vmap` what is mapped becomes more rows, in the value and in the gradients.
    """

    @staticmethod
    def forward(log_x: Tensor, p: Tensor, mask: Tensor) -> Tensor:
        _require_no_nan(p)
        blocks = [_values(log_x[block], p[block], mask[block]) for block in _blocks(log_x)]
        return torch.cat(blocks) if blocks else torch.zeros_like(p)

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, upstream: Tensor):  # type: ignore[no-untyped-def]
        wanted = ctx.needs_input_grad
        grad_x, grad_p = _Gradients.apply(upstream, *ctx.saved_tensors, *wanted[:2])
        return grad_x if wanted[0] else None, grad_p if wanted[1] else None, None

    @staticmethod
    def vmap(info, in_dims, *tensors: Tensor):  # type: ignore[no-untyped-def]
        rows = _more_rows(info.batch_size, in_dims, tensors)
        return _LogPowerMean.apply(*rows).unflatten(0, (info.batch_size, -1)), 0


class _Gradients(torch.autograd.Function):
    """Upstream · W by log_x, and upstream · d log M_p / dp by p; zeros where a gradient is not wanted.

    The weights are computed anew: block by block that is faster than to fetch them from memory.
    """

    @staticmethod
    def forward(
        upstream: Tensor, log_x: Tensor, p: Tensor, mask: Tensor, wants_x: bool, wants_p: bool
    ) -> tuple[Tensor, Tensor]:
        grad_x = torch.empty_like(log_x) if wants_x else log_x.new_zeros(())
        grad_p = torch.empty_like(p) if wants_p else p.new_zeros(())
        for block in _blocks(log_x):
            weights = _weights(log_x[block], p[block], mask[block])
            if wants_x:
                grad_x[block] = upstream[block] * weights
            if wants_p:
                grad_p[block] = upstream[block] * _slopes(log_x[block], p[block], mask[block], weights)
        return grad_x, grad_p

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
        pass

    @staticmethod
    def backward(ctx, *upstream: Tensor):  # type: ignore[no-untyped-def]
        raise NotImplementedError("log_power_mean has first derivatives only: it cannot be differentiated twice.")

    @staticmethod
    def vmap(info, in_dims, *arguments):  # type: ignore[no-untyped-def]
        rows = _more_rows(info.batch_size, in_dims[:4], arguments[:4])
        gradients = _Gradients.apply(*rows, *arguments[4:])
        shaped = [x.unflatten(0, (info.batch_size, -1)) if x.dim() else x for x in gradients]
        return tuple(shaped), tuple(0 if x.dim() else None for x in shaped)


def _more_rows(batch: int, in_dims: tuple[int | None, ...], tensors: tuple[Tensor, ...]) -> list[Tensor]:
    """What `torch.func.vmap` maps over, as further rows; what it does not map is the same in each."""
    whole = [
        x.expand(batch, *x.shape) if dim is None else x.movedim(dim, 0) for x, dim in zip(tensors, in_dims, strict=True)
    ]
    return [x.flatten(0, 1) for x in whole]


def _slopes(log_x: Tensor, p: Tensor, mask: Tensor, weights: Tensor) -> Tensor:
    """d log M_p / dp = KL(W ‖ uniform) / p², which is Var(d) / 2 at p = 0 and 0 at p = ±inf."""
    count = mask.sum(-1, keepdim=True).to(log_x.dtype).clamp(min=1)
    smallest, largest = _extremes(log_x, mask)
    _, is_small = _regimes(p, largest - smallest)
    near = far = torch.zeros_like(p)
    if _is_any(is_small):
        near = _slopes_near_zero(log_x, torch.where(is_small, p, 0.0), mask, count)
    if _is_any(~is_small):
        kl = torch.special.xlogy(weights, weights * count).sum(-1, keepdim=True)  # log n apart would drown a small one
        far = kl / torch.where(is_small, 1.0, p) ** 2
    return torch.where(is_small, near, far)


def _slopes_near_zero(log_x: Tensor, p: Tensor, mask: Tensor, count: Tensor) -> Tensor:
    """(E_W[u] − log M_p(u)) / p with u = d − mean d and x = p · u, |x| < 1.

    E_W[u] / p = mean(u² φ₁) / (1 + m) and log M_p(u) / p = mean(u² φ₂) · log1p(m) / m, where φ₁ = (e^x − 1) / x,
    φ₂ = (e^x − 1 − x) / x² and m = p² mean(u² φ₂): near p = 0 they go to Var(d) and Var(d) / 2.
    """
    u = torch.where(mask, log_x, 0.0)
    u = torch.where(mask, u - u.sum(-1, keepdim=True) / count, 0.0)
    x = p * u
    phi_2 = torch.full_like(x, _SERIES[0])
    for coefficient in _SERIES[1:]:
        phi_2 = phi_2.mul_(x).add_(coefficient)
    square = u * u
    second = (square * phi_2).sum(-1, keepdim=True) / count
    first = (square * phi_2.mul_(x).add_(1.0)).sum(-1, keepdim=True) / count  # φ₁ = 1 + x φ₂
    m = p * p * second
    return first / (1 + m) - second * torch.where(m > 0, torch.log1p(m) / torch.where(m > 0, m, 1.0), 1.0)
