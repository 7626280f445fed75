"""The exponents that panels offer and recordings hold: one set, and quarters for curves and fine sliders."""

EXPONENTS = (-4.0, -2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 4.0)


def quarters(largest: int) -> tuple[float, ...]:
    """From −largest to largest in steps of 1/4.

    >>> quarters(1)
    (-1.0, -0.75, -0.5, -0.25, 0.0, 0.25, 0.5, 0.75, 1.0)
    """
    return tuple(k / 4 for k in range(-4 * largest, 4 * largest + 1))
