"""Fine-tunes the shipped model on sums through TRL's GRPOTrainer, with any method of the library.

    python examples/trl_sums.py --method hmpo --rollouts 30 --seed 0 --out rewards.csv         # one CPU or GPU
    accelerate launch --num_processes 2 examples/trl_sums.py --method hmpo --rollouts 30       # one machine, two ranks

Needs the extra `trl`. Sizes and optimizer are the defaults of `FineTuneConfig` with four minibatches, whatever the
number of processes. With a model and questions of your own, change `MODEL`, `prompts` and `reward`.
"""

import argparse
import csv
import os
import tempfile
from pathlib import Path

import torch
from datasets import Dataset
from transformers import AutoTokenizer, PrinterCallback
from trl import GRPOConfig

from hmpo_lib.integrations.trl import PowerMeanGRPOTrainer
from hmpo_lib.lm.model import base_model_path
from hmpo_lib.lm.tasks import reward_correct, sample_prompts

MODEL = str(base_model_path())
PROMPTS, GROUP_SIZE, MINIBATCHES, MAX_NEW_TOKENS = 32, 8, 4, 40


def train(method: str, rollouts: int, seed: int, folder: str) -> list[float]:
    """The mean reward of each rollout."""
    processes = int(os.environ.get("WORLD_SIZE", 1))
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    questions = sample_prompts(PROMPTS * rollouts, torch.Generator().manual_seed(seed))

    def reward(prompts, completions, completion_ids, **_):
        """1 for the right number; a truncated completion earns nothing."""
        ended = [len(ids) < MAX_NEW_TOKENS or ids[-1] == tokenizer.eos_token_id for ids in completion_ids]
        return [end * reward_correct(*pair) for end, *pair in zip(ended, prompts, completions, strict=True)]

    trainer = PowerMeanGRPOTrainer(
        MODEL,
        reward,
        GRPOConfig(
            output_dir=folder,
            max_steps=rollouts * MINIBATCHES,
            per_device_train_batch_size=PROMPTS * GROUP_SIZE // MINIBATCHES // processes,
            steps_per_generation=MINIBATCHES,
            num_generations=GROUP_SIZE,
            max_completion_length=MAX_NEW_TOKENS,
            learning_rate=1e-4,
            lr_scheduler_type="constant",
            shuffle_dataset=False,
            seed=seed,
            bf16=False,
            gradient_checkpointing=False,
            use_cpu=not torch.accelerator.is_available(),
            dataloader_pin_memory=torch.accelerator.is_available(),
            logging_steps=MINIBATCHES,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        ),
        train_dataset=Dataset.from_dict({"prompt": questions}),
        processing_class=tokenizer,
        objective=method,
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    # TRL logs what it measured at the steps that sampled: one number a rollout.
    return [line["reward"] for line in trainer.state.log_history if "reward" in line]


def main() -> None:
    """Trains, prints the mean reward of every rollout, and writes it where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", default="hmpo")
    parser.add_argument("--rollouts", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="a CSV file for the rewards")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rewards = train(asked.method, asked.rollouts, asked.seed, folder)
    if int(os.environ.get("RANK", 0)) != 0:
        return
    for rollout, reward in enumerate(rewards):
        print(f"rollout {rollout:3d}  reward {reward:.4f}")
    if asked.out is not None:
        with asked.out.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["method", "seed", "rollout", "reward_mean"])
            writer.writerows([asked.method, asked.seed, *row] for row in enumerate(rewards))


if __name__ == "__main__":
    main()
