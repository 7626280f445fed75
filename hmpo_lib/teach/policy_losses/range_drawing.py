"""What the width of a clip's range does to the direction of a step, drawn from recorded ratios."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from hmpo_lib.losses import policy_loss
from hmpo_lib.methods import METHODS
from hmpo_lib.objectives import Clip, Objective
from hmpo_lib.teach.panels import Still
from hmpo_lib.teach.plotting import BLACK, GREY, ORANGE, PURPLE, Canvas, label_ticks, tidy_axes
from hmpo_lib.teach.shared.recorded_ratios import RatioSample

WIDTHS = [10 ** (-3.7 + 0.1 * k) for k in range(36)]  # of the range (e^−c, e^c)
PLACES: dict[Clip, tuple[str, str]] = {"token": (ORANGE, "-"), "sequence": (PURPLE, "--")}
PUBLISHED = {"gspo": "GSPO", "grpo": "GRPO", "gmpo": "GMPO"}


def gradient(sample: RatioSample, objective: Objective) -> Tensor:
    """The gradient of the loss by the log-ratios, as one vector."""
    d = sample.log_ratios.clone().requires_grad_()
    loss = policy_loss(d, torch.zeros_like(d), sample.advantages, sample.completion_mask, objective).loss
    return torch.autograd.grad(loss, d)[0].flatten()


def cosine(one: Tensor, other: Tensor) -> float:
    """Of the angle between two gradients."""
    return float(torch.cosine_similarity(one, other, dim=0))


def width_of(name: str) -> float:
    """Half the width of a method's own range, in the logarithm."""
    clip_range = METHODS[name].objective.clip_range
    assert clip_range is not None
    return (math.log(clip_range[1]) - math.log(clip_range[0])) / 2


def range_picture(samples: Mapping[str, RatioSample]) -> Still:
    """Cosine of a clipped step with the one without a clip, over the width of the range, at p = 0."""
    canvas = Canvas(760, 330)
    axes = canvas.mosaic([list(samples)], sharey=True)
    words = []
    for name, sample in samples.items():
        panel = axes[name]
        free = gradient(sample, Objective(0.0))
        exponent = cosine(gradient(sample, Objective(-1.0)), gradient(sample, Objective(1.0)))
        tidy_axes(
            panel, title=name, xlabel="width c of the range, 1 ± c", xlim=(WIDTHS[0], WIDTHS[-1]), ylim=(0.4, 1.02)
        )
        panel.set_xscale("log")
        label_ticks(panel, [0.001, 0.01, 0.1], ["0.1 %", "1 %", "10 %"], axis="x")
        for place, (colour, linestyle) in PLACES.items():
            steps = [gradient(sample, Objective(0.0, place, (math.exp(-c), math.exp(c)))) for c in WIDTHS]
            label = "clip on the tokens" if place == "token" else "clip on the mean"
            curve = [cosine(free, step) for step in steps]
            panel.plot(WIDTHS, curve, color=colour, linestyle=linestyle, linewidth=2.2, label=label)
            words.append(f"{name}, {label}: from {curve[0]:.2f}, narrow, to {curve[-1]:.2f}, wide")
        panel.axhline(exponent, color=BLACK, linewidth=1.2, linestyle=":", label="p = −1 against 1, no clip")
        words.append(f"{name}, p = −1 against p = 1 without a clip: {exponent:.2f}")
        for method, shown in PUBLISHED.items():
            panel.axvline(width_of(method), color=GREY, linewidth=0.8)
            panel.text(
                width_of(method), 0.41, f" {shown}", fontsize=9, color=GREY, rotation=90, va="bottom", ha="right"
            )
    first = axes[next(iter(samples))]
    first.set_ylabel("cosine of the two steps")
    first.legend(loc="lower center", fontsize=9, frameon=False)
    return Still(
        canvas,
        caption="How far a clip turns a step, by the width of its range (p = 0). Grey: ranges as published.",
        alt="Two plots of cosines over the width of a clip's range. " + "; ".join(words) + ".",
    )
