"""The console script ``hmpo``: make the base model, fine-tune one."""

import csv
import sys
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

try:
    import click
    from tqdm import tqdm
except ModuleNotFoundError as error:  # a plain `pip install hmpo-lib` brings the losses alone
    sys.exit(f"Error: the command hmpo needs {error.name}: install it with the language model, hmpo-lib[lm].")


@click.group(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.version_option(package_name="hmpo-lib")
def cli() -> None:
    """What does the mean of the importance ratios do to policy optimization?

    Fine-tune a small language model by GRPO (arithmetic mean), GSPO (geometric), HMPO (harmonic) or another method.
    Everything runs on a laptop's CPU and without a network.
    """


@cli.command("pretrain")
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs/base_model"), help="Folder to make.")
@click.option("--steps", type=click.IntRange(min=1), default=400, help="Optimizer steps.")
@click.option("--seed", default=0, help="Of the weights and the data.")
def pretrain_command(out: Path, steps: int, seed: int) -> None:
    """Make a base model that answers sums about half of the time (a minute or two)."""
    from hmpo_lib.lm.model import make_model, make_tokenizer, save_model
    from hmpo_lib.lm.pretrain import pretrain

    _make_empty_folder(out)
    model, tokenizer = make_model(seed), make_tokenizer()
    with tqdm(pretrain(model, tokenizer, steps=steps, seed=seed), total=steps, unit="step") as progress:
        for record in progress:
            progress.set_postfix(loss=f"{record['loss']:.3f}")
    save_model(model, tokenizer, out)
    click.echo(f"The base model is in {out}.")


@cli.command("fine-tune")
@click.option("--method", required=True, help="grpo, gspo, gmpo, hmpo, ... : a name in hmpo_lib.METHODS.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder for metrics.csv and model/.")
@click.option("--rollouts", default=50, help="How many times to sample and learn.")
@click.option("--seed", default=0, help="Of prompts, sampling and minibatches.")
@click.option("--model", "model_path", help="Folder or hub name.  [default: the base model that is shipped]")
@click.option("--prompts", default=32, help="Prompts per rollout.")
@click.option("--group-size", default=8, help="Completions per prompt.")
@click.option("--minibatches", default=1, help="Optimizer steps per pass; with 1 pass of 1, no mean differs.")
@click.option("--epochs", default=1, help="Passes over each rollout.")
@click.option("--max-new-tokens", default=40, help="Limit per completion, eos included.")
@click.option("--learning-rate", default=1e-4, help="Of AdamW.")
@click.option("--kl-coefficient", default=0.0, help="Of a penalty on KL(new || ref), ref being the model at the start.")
def fine_tune_command(out: Path, model_path: str | None, **settings: Any) -> None:
    """Fine-tune a model on sums, rewarded for the right number only."""
    from hmpo_lib.lm import FineTuneConfig, fine_tune, load_base_model, load_model
    from hmpo_lib.lm.model import save_model

    config = FineTuneConfig(**settings)
    model, tokenizer = load_model(model_path) if model_path else load_base_model()
    _make_empty_folder(out)
    _write_rows(out / "metrics.csv", _rollout_rows(fine_tune(model, tokenizer, config)), config.rollouts)
    save_model(model, tokenizer, out / "model")
    click.echo(f"Metrics are in {out / 'metrics.csv'}, the model in {out / 'model'}.")


def _rollout_rows(records: Iterator[Any]) -> Iterator[dict[str, float]]:
    from hmpo_lib.lm import rollout_row

    for _, steps in groupby(records, key=lambda record: record.rollout):
        yield rollout_row(list(steps))


def _write_rows(path: Path, rows: Iterator[dict[str, float]], total: int) -> None:
    """One line a rollout, written as it comes, so that an interrupted run leaves what it measured."""
    with path.open("w", newline="", encoding="utf-8", buffering=1) as file, tqdm(total=total, unit="rollout") as bar:
        writer = None
        for row in rows:
            if writer is None:
                writer = csv.DictWriter(file, list(row))
                writer.writeheader()
            writer.writerow({name: f"{value:.6g}" for name, value in row.items()})
            bar.update()
            bar.set_postfix(reward=f"{row['reward_mean']:.2f}", length=f"{row['completion_length_mean']:.0f}")


def _make_empty_folder(path: Path) -> None:
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise FileExistsError(f"{path} exists and is not an empty folder: expected a new one; give another --out.")
    path.mkdir(parents=True, exist_ok=True)


def main() -> None:
    """Runs the console script; what the user can mend is one line and exit code 1, the rest a traceback."""
    try:
        cli()
    except (ValueError, OSError, FloatingPointError) as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(1)
