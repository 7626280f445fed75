"""The iteration that brings singular values near 1, for many matrices at once."""

import torch
from torch import Tensor

_JORDAN = (3.4445, -4.7750, 2.0315)  # coefficients of the quintic, from his post
_EPS = 1e-7  # of the first division; torch.optim.Muon's


def orthogonalized(matrices: Tensor, steps: int = 5) -> Tensor:
    """Newton-Schulz with Jordan's coefficients: each matrix with its singular values brought near 1.

    X ← a X + b (X Xᵀ) X + c (X Xᵀ)² X, from X = G / ‖G‖ (https://kellerjordan.github.io/posts/muon/), in bfloat16.

    Args:
        matrices: ``[matrices, out, in]``, apart from each other.
        steps: how many.

    Returns:
        The same shape.

    >>> orthogonalized(torch.diag(torch.tensor([3.0, 0.5]))[None]).shape
    torch.Size([1, 2, 2])
    """
    a, b, c = _JORDAN
    x = matrices.bfloat16()
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    x = x / torch.linalg.vector_norm(x, dim=(-2, -1), keepdim=True).clamp(min=_EPS)
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x
