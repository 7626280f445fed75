"""The console script ``hmpo``: make the base model, fine-tune one."""

import sys
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
@click.option("--seed", type=click.IntRange(0, 2**64 - 1), default=0, help="Of the weights and the data.")
def pretrain_command(out: Path, steps: int, seed: int) -> None:
    """Make a base model that answers sums about half of the time (a minute or two)."""
    from hmpo_lib.lm.model import make_model, make_tokenizer, save_model
    from hmpo_lib.lm.pretrain import pretrain
    from hmpo_lib.lm.run_folder import require_new_folder

    require_new_folder(out)
    out.mkdir(parents=True, exist_ok=True)
    model, tokenizer = make_model(seed), make_tokenizer()
    with tqdm(pretrain(model, tokenizer, steps=steps, seed=seed), total=steps, unit="step") as progress:
        for record in progress:
            progress.set_postfix(loss=f"{record['loss']:.3f}")
    save_model(model, tokenizer, out)
    click.echo(f"The base model is in {out}.")


@cli.command("fine-tune")
@click.option("--method", required=True, help="grpo, gspo, gmpo, hmpo, ... : a name in hmpo_lib.METHODS.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder to make, for all that is written.")
@click.option("--model", help="Folder or hub name.  [default: the base model that is shipped]")
@click.option("--pad-token", help="A token of the model's that never occurs in text, where its pad is its eos.")
@click.option("--task", default="sums", help="sums, gym:NAME (of reasoning_gym), or a .jsonl file of questions.")
@click.option("--rollouts", default=50, help="How many times to sample and learn.")
@click.option("--prompts", default=32, help="Prompts per rollout.")
@click.option("--group-size", default=8, help="Completions per prompt.")
@click.option("--minibatches", default=1, help="Optimizer steps per pass; with 1 pass of 1, no mean differs.")
@click.option("--epochs", default=1, help="Passes over each rollout.")
@click.option("--policy-lag", default=0, help="Rollouts by which the sampler's policy lags behind.")
@click.option("--max-new-tokens", default=40, help="Limit per completion, eos included.")
@click.option("--temperature", default=1.0, help="Of sampling.")
@click.option("--optimizer", default="adamw", help="adamw, muon, or muonclip: Muon with QK-Clip.")
@click.option("--learning-rate", default=1e-4, help="Of any of them: Muon's steps are scaled to AdamW's.")
@click.option("--warmup-steps", default=0, help="Optimizer steps over which the learning rate rises to its value.")
@click.option("--max-gradient-norm", default=1.0, help="The gradient is scaled down to it.")
@click.option("--qk-clip-threshold", default=100.0, help="The largest attention logit that muonclip leaves alone.")
@click.option("--monitor-logits", is_flag=True, help="Record the largest attention logit; muonclip always does.")
@click.option("--max-tokens-per-pass", type=int, help="Split a minibatch that needs more memory.  [default: one pass]")
@click.option("--kl-coefficient", default=0.0, help="Of a penalty on KL(new || ref), ref being the model at the start.")
@click.option("--kl-estimator", default="k2", help="k1, k2, k3 or k3_weighted.")
@click.option("--seed", default=0, help="Of prompts, sampling and minibatches.")
@click.option("--dtype", default="float32", help="Of the arithmetic: float32 or bfloat16; weights stay float32.")
@click.option("--device", help="cpu, cuda, cuda:1, ...  [default: cpu]")
@click.option("--checkpoint-every", type=click.IntRange(min=1), default=10, help="Rollouts between two checkpoints.")
def fine_tune_command(out: Path, **settings: Any) -> None:
    """Fine-tune a model, by default on sums, rewarded for the right number only.

    The folder --out gets config.json, metrics.csv (a row a rollout), checkpoints/ and, at the end, model/. A file of
    questions is copied into it. After a crash or Ctrl-C, `hmpo resume` goes on.
    """
    from hmpo_lib.lm.run_folder import RunFolder

    # A path has to hold when the run is resumed from another folder.
    if settings["model"] and Path(settings["model"]).exists():
        settings["model"] = str(Path(settings["model"]).resolve())
    if settings["task"].endswith(".jsonl"):  # any other is a name, whatever folder there may be of that name
        settings["task"] = str(Path(settings["task"]).resolve())
    if settings["pad_token"] and not settings["model"]:
        raise click.UsageError("--pad-token needs a --model: the shipped one has a pad.")
    _go(RunFolder(out), None, settings, new=True)


@cli.command("resume")
@click.argument("run", type=click.Path(path_type=Path))
def resume_command(run: Path) -> None:
    """Go on with the run in the folder RUN, behind its last checkpoint, as if nothing had happened.

    RUN is the --out of `hmpo fine-tune`, or one of the run's checkpoints, such as runs/x/checkpoints/000010.
    """
    from hmpo_lib.lm.run_folder import open_run

    folder, checkpoint = open_run(run)
    names = {parameter.name for parameter in fine_tune_command.params} - {"out"}
    settings = folder.settings(names={name for name in names if name})
    if folder.finished:
        click.echo(f"The run in {folder.path} is finished: its model is in {folder.model}.")
        return
    _go(folder, checkpoint, settings, new=False)


def _go(run: Any, checkpoint: Path | None, settings: dict[str, Any], *, new: bool) -> None:
    try:
        _fine_tune(run, checkpoint, settings, new=new)
    except KeyboardInterrupt:
        if run.config.exists():
            click.echo(f"Stopped. To go on: hmpo resume {run.path}", err=True)
        sys.exit(130)  # 128 + SIGINT


def _fine_tune(run: Any, checkpoint: Path | None, settings: dict[str, Any], *, new: bool) -> None:
    """Fine-tunes from the start or behind a checkpoint, and writes what comes of it into the run's folder."""
    from hmpo_lib.lm import Checkpoints, FineTuneConfig, fine_tune, load_base_model, load_model
    from hmpo_lib.lm.datasets import load_task
    from hmpo_lib.lm.tasks import require_readable

    others = ("model", "pad_token", "task", "checkpoint_every")
    config = FineTuneConfig(**{name: value for name, value in settings.items() if name not in others})
    if new:
        task = load_task(settings["task"])
        run.require_new()
    else:
        run.lock()
        task = load_task(run.keep_task(settings["task"]))
    if settings["model"]:
        model, tokenizer = load_model(settings["model"], pad_token=settings["pad_token"])
    else:
        require_readable(task)
        model, tokenizer = load_base_model()
    checkpoints = Checkpoints(run.checkpoints, every=settings["checkpoint_every"])
    done = int(checkpoint.name) if checkpoint and checkpoint.name.isdecimal() else 0
    if not new:
        run.require_rows(done)  # before later checkpoints go
    records = fine_tune(model, tokenizer, config, **task._asdict(), checkpoints=checkpoints, resume_from=checkpoint)
    if new:
        run.create(settings)
    else:
        run.rewind(done)
        click.echo(f"Going on behind rollout {done} of {config.rollouts}.", err=True)
    with tqdm(total=config.rollouts, initial=done, unit="rollout") as bar:
        for row in run.write_rows(records, config):
            bar.update()
            bar.set_postfix(reward=f"{row['reward_mean']:.2f}", length=f"{row['completion_length_mean']:.0f}")
    run.finish(model, tokenizer)
    click.echo(f"Metrics are in {run.metrics}, the model in {run.model}.")


def main() -> None:
    """Runs the console script; what the user can mend is one line and exit code 1, the rest a traceback."""
    try:
        cli()
    except _mendable() as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(1)


def _mendable() -> tuple[type[Exception], ...]:
    import torch  # by now it is there, where anything has run that needs it

    return ValueError, OSError, FloatingPointError, torch.OutOfMemoryError
