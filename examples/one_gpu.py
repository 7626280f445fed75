"""One GPU: a model of the hub learns from a file of questions through TRL, as LoRA adapters where asked, with HMPO.

    pip install "hmpo-lib[trl]" peft
    python examples/one_gpu.py --model Qwen/Qwen3-0.6B --questions train.jsonl --lora

The file has a question and its answer a line, as GSM8K: {"question": "...", "answer": "... #### 72"}. Not run here with
a model of that size; `tests/integrations/test_examples.py` runs it with a tiny one on a CPU.
"""

import argparse
import json
from pathlib import Path

import torch
from datasets import Dataset
from trl import GRPOConfig

from hmpo_lib.integrations.trl import PowerMeanGRPOTrainer
from hmpo_lib.lm import is_same_answer, stated_answer

ASK = "\nThink step by step, and end with: The answer is ..."


def load(path: Path) -> Dataset:
    """A chat's first message and the right answer, for each line of the file."""
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    prompts = [[{"role": "user", "content": line["question"] + ASK}] for line in lines]
    return Dataset.from_dict({"prompt": prompts, "answer": [stated_answer(line["answer"]) for line in lines]})


def reward(completions, answer, **_) -> list[float]:
    """1 for the right answer, else 0."""
    return [float(is_same_answer(text[-1]["content"], right)) for text, right in zip(completions, answer, strict=True)]


def main() -> None:
    """Trains and saves."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--questions", type=Path, required=True)
    parser.add_argument("--out", default="runs/one_gpu")
    parser.add_argument("--method", default="hmpo")
    parser.add_argument("--lora", action="store_true", help="train adapters of rank 16 in place of all weights")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--max-new-tokens", type=int, default=512)
    asked = parser.parse_args()

    peft_config = None
    if asked.lora:
        from peft import LoraConfig

        peft_config = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    on_gpu = torch.accelerator.is_available()
    trainer = PowerMeanGRPOTrainer(
        asked.model,
        reward,
        GRPOConfig(
            output_dir=asked.out,
            max_steps=asked.steps,
            per_device_train_batch_size=16,
            steps_per_generation=4,  # four steps learn from each batch of completions: three of them are stale
            num_generations=8,
            max_completion_length=asked.max_new_tokens,
            learning_rate=1e-5 if asked.lora else 1e-6,
            lr_scheduler_type="constant",
            warmup_steps=10,
            bf16=on_gpu,
            use_cpu=not on_gpu,
            # use_vllm=True, vllm_mode="colocate", vllm_importance_sampling_mode="sequence_truncate": much faster
            logging_steps=1,
            save_steps=50,
            report_to="none",
        ),
        train_dataset=load(asked.questions),
        peft_config=peft_config,
        objective=asked.method,
    )
    trainer.train()
    trainer.save_model(asked.out)


if __name__ == "__main__":
    main()
