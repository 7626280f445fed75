"""How the cost of a rollout grows with completions, their length and the model's width: python tools/cost_growth.py

Writes data/results/cost_growth.csv and docs/cost_growth.png (a few minutes); with --draw, the figure from the CSV.
Random Llamas of 2 layers, whose tokenizer's end is a token that they cannot say: every completion has its full length.
Sampling, and learning (one forward, backward and AdamW step over all completions), are timed apart. All points are
visited in turn, again and again in random order, and the clock is the processor's own, on one thread: a busy machine
disturbs it least.
"""

import argparse
import csv
import math
import random
import statistics
import time
from pathlib import Path
from typing import NamedTuple

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter
from transformers import LlamaConfig, LlamaForCausalLM

from hmpo_lib import METHODS, policy_loss
from hmpo_lib.lm import sample_completions, token_logprobs
from hmpo_lib.lm.model import make_tokenizer
from hmpo_lib.lm.tasks import sample_prompts
from hmpo_lib.teach.plotting import BLUE, GREY, VERMILLION

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "data" / "results" / "cost_growth.csv"
FIGURE = ROOT / "docs" / "cost_growth.png"
GROUP_SIZE = 8
FITTED = 3  # the largest sizes, where overhead no longer hides the slope


class Point(NamedTuple):
    """A size of rollout and model."""

    completions: int = 32
    tokens: int = 32
    width: int = 128


SWEEPS = {
    "completions": [Point(completions=n) for n in (8, 16, 32, 64, 128, 256, 512, 1024)],
    "tokens": [Point(tokens=n) for n in (8, 16, 32, 64, 128, 256, 512, 1024)],
    "width": [Point(width=n) for n in (32, 64, 128, 256, 512, 1024)],
}
LABELS = {"completions": "completions", "tokens": "tokens a completion", "width": "width of the model"}
STYLES = {"sampling": (BLUE, "s", "-"), "learning": (VERMILLION, "^", "--")}


def measure(point: Point) -> dict[str, float]:
    """Processor seconds of sampling and of learning at one size."""
    tokenizer = make_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=point.width,
        intermediate_size=3 * point.width,
        num_hidden_layers=2,
        num_attention_heads=max(1, point.width // 32),
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        eos_token_id=None,
    )
    tokenizer.add_special_tokens({"eos_token": "<unsayable>"})
    torch.manual_seed(0)
    model = LlamaForCausalLM(config).eval()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6)
    prompts = sample_prompts(point.completions // GROUP_SIZE, torch.Generator().manual_seed(0))
    advantages = torch.randn(point.completions)
    start = time.process_time()
    rollout = sample_completions(model, tokenizer, prompts, group_size=GROUP_SIZE, max_new_tokens=point.tokens)
    sampled = time.process_time()
    logprobs = token_logprobs(model, rollout)
    objective = METHODS["grpo"].objective
    policy_loss(logprobs, rollout.logprobs, advantages, rollout.completion_mask, objective).loss.backward()
    optimizer.step()
    learned = time.process_time()
    assert rollout.completion_mask.all(), "no completion ends early"
    return {"sampling": sampled - start, "learning": learned - sampled}


def record(rounds: int) -> None:
    """Medians over the rounds, as CSV."""
    points = sorted({point for sweep in SWEEPS.values() for point in sweep})
    seconds: dict[Point, list[dict[str, float]]] = {point: [] for point in points}
    for _ in range(rounds):
        for point in random.Random(0).sample(points, len(points)):
            seconds[point].append(measure(point))
    with RESULTS.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["sweep", *Point._fields, "sampling", "learning"])
        for sweep, visited in SWEEPS.items():
            for point in visited:
                medians = [statistics.median(turn[part] for turn in seconds[point]) for part in STYLES]
                writer.writerow([sweep, *point, *(f"{value:.4g}" for value in medians)])


def slope(sizes: list[float], seconds: list[float]) -> float:
    """Of the line through the largest sizes, both axes logarithmic: the power with which the cost grows."""
    x, y = map(math.log, sizes[-FITTED:]), map(math.log, seconds[-FITTED:])
    return statistics.linear_regression(list(x), list(y)).slope


def draw() -> None:
    """The figure of docs/results.md."""
    with RESULTS.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    figure = Figure(figsize=(9.6, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, sweep in zip(figure.subplots(1, len(SWEEPS), sharey=True), SWEEPS, strict=True):
        visited = [row for row in rows if row["sweep"] == sweep]
        sizes = [float(row[sweep]) for row in visited]
        for part, (colour, marker, linestyle) in STYLES.items():
            seconds = [float(row[part]) for row in visited]
            label = f"{part}: slope {slope(sizes, seconds):.2f}"
            axes.loglog(sizes, seconds, color=colour, marker=marker, ms=4, ls=linestyle, label=label)
        for power, dots in ((1, ":"), (2, "-.")):
            top = max(float(visited[-1][part]) for part in STYLES)
            reference = [top * (size / sizes[-1]) ** power for size in sizes]
            axes.loglog(sizes, reference, color=GREY, ls=dots, lw=0.8, label=f"slope {power}")
        axes.set_xscale("log", base=2)
        axes.set_xlabel(LABELS[sweep])
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.set_ylim(0.005, 100)
        axes.legend(fontsize=7, loc="upper left")
    figure.axes[0].set_ylabel("processor seconds")
    figure.savefig(FIGURE, dpi=110, metadata={"Software": None})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--draw", action="store_true", help="only draw the figure again")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if not options.draw:
        record(options.rounds)
    draw()
