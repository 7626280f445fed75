"""The evidence as Markdown: the tables of docs/results.md, which a test computes again."""

import numpy as np
import torch

from hmpo_lib.evaluation import bootstrap_interval
from hmpo_lib.teach.what_the_evidence_says.cells import Cell
from hmpo_lib.teach.what_the_evidence_says.plan import FAMILIES, label
from hmpo_lib.teach.what_the_evidence_says.records import Evidence, end_of, rollouts_to_goal
from hmpo_lib.teach.what_the_evidence_says.settings import FAMILY_TITLES, verdicts
from hmpo_lib.teach.what_the_evidence_says.shares import FACTORS, Share

UNSEEN = ("tuning", "design", "design_block", "design_again")  # families whose cells are not summed up one by one


def finished_cells(evidence: Evidence) -> dict[Cell, list[int]]:
    """Every cell that has all the seeds of a family, with these seeds, in the plan's order."""
    found: dict[Cell, list[int]] = {}
    for family, runs in FAMILIES.items():
        for cell in dict.fromkeys(cell for cell, _ in runs):
            seeds = sorted(seed for c, seed in runs if c == cell)
            if family not in UNSEEN and cell not in found and evidence.has(cell, seeds):
                found[cell] = seeds
    return found


def cells_table(evidence: Evidence) -> str:
    """A line a cell: the primary metric, collapses, and what else was watched."""
    lines = [
        "| p | clip | what else | seeds | mean reward over a run | worst seed | collapsed | last quarter | held out |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for cell, seeds in finished_cells(evidence).items():
        scores = evidence.mean_reward(cell, seeds)
        middle, low, high = bootstrap_interval(torch.as_tensor(scores))
        runs = [evidence.by_cell[cell.name][seed] for seed in seeds]
        held_out = np.mean([0.0 if run.held_out is None else run.held_out[0] for run in runs])
        parts = (
            *_name(cell),
            str(len(seeds)),
            f"{middle:.3f} ({low:.3f} to {high:.3f})",
            f"{scores.min():.3f}",
            f"{int(evidence.collapsed(cell, seeds).sum())} of {len(seeds)}",
            f"{end_of(evidence.curves(cell, seeds=seeds)).mean():.3f}",
            f"{held_out:.3f}",
        )
        lines.append(f"| {' | '.join(parts)} |")
    return "\n".join(lines)


def metrics_table(evidence: Evidence) -> str:
    """A line a cell: the secondary metrics, means over its seeds where nothing else is said."""
    lines = [
        "| p | clip | what else | rollouts to 0.8, median (reached) | blocked | tokens heard | largest gradient norm "
        "| tokens an answer, last quarter | entropy, held out |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for cell, seeds in finished_cells(evidence).items():
        goals = [rollouts_to_goal(evidence.curve(cell, seed)) for seed in seeds]
        reached = sorted(goal for goal in goals if np.isfinite(goal))
        half = f"{np.median(goals):.0f}" if 2 * len(reached) > len(goals) else "not reached"
        entropies = [run.held_out[1] for seed in seeds if (run := evidence.by_cell[cell.name][seed]).held_out]
        parts = (
            *_name(cell),
            f"{half} ({len(reached)} of {len(seeds)})",
            f"{np.nanmean(evidence.curves(cell, 'blocked', seeds)):.1%}",
            f"{np.nanmean(evidence.curves(cell, 'ess', seeds)):.1%}",
            f"{np.nanmax(evidence.curves(cell, 'gradient_norm_max', seeds), axis=1).mean():.3g}",
            f"{np.nanmean(end_of(evidence.curves(cell, 'length', seeds))):.1f}",
            f"{np.mean(entropies):.3f}" if entropies else "none",
        )
        lines.append(f"| {' | '.join(parts)} |")
    return "\n".join(lines)


def _name(cell: Cell) -> tuple[str, str, str]:
    """Its first three columns: exponents, clip, what else differs from the plain cell."""
    clip = "none" if cell.clip_range is None else f"{cell.clip}, {cell.clip_range[0]:.6g} to {cell.clip_range[1]:.6g}"
    return _escaped(label(cell.exponents)), clip, _rest(cell)


def _rest(cell: Cell) -> str:
    parts = [part for part in cell.name.split(",")[1:] if not part.startswith(("token=", "sequence="))]
    return ", ".join(parts).replace("_", " ")


def _escaped(text: str) -> str:
    """A bar would end the cell of a table."""
    return text.replace("|", "\\|")


def verdict_table(evidence: Evidence) -> str:
    """A line a comparison."""
    lines = ["| where | difference | mean (95 %) | P(better) | p, differs | p, equivalent | verdict |"]
    lines.append("|---|---|---|---|---|---|---|")
    for family, rows in verdicts(evidence).items():
        for comparison, v in rows:
            parts = (
                _escaped(FAMILY_TITLES[family]),
                _escaped(comparison.label),
                f"{v.difference:+.3f} ({v.low:+.3f} to {v.high:+.3f})",
                f"{v.better:.2f}",
                f"{v.p_differs:.3f}",
                f"{v.p_equivalent:.3f}",
                f"*{v.word}*",
            )
            lines.append(f"| {' | '.join(parts)} |")
    return "\n".join(lines)


def shares_table(shares: dict[str, Share]) -> str:
    """A line a factor, the largest first."""
    lines = ["| factor | share of the variance | mean reward at each level |", "|---|---|---|"]
    for name, share in sorted(shares.items(), key=lambda item: -item[1].share):
        means = ", ".join(f"{level:g}: {mean:.3f}" for level, mean in share.means.items())
        lines.append(f"| {FACTORS[name]} | {share.share:.1%} ({share.low:.1%} to {share.high:.1%}) | {means} |")
    return "\n".join(lines)
