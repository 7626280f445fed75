"""A small GRPOTrainer, TRL's or ours, and one batch of its inputs. TRL is imported inside the functions."""

import tempfile
from typing import Any

import torch
from torch import Tensor

from hmpo_lib.lm.model import base_model_path, load_base_model

QUESTIONS = ["7+12+5=", "3+4+19=", "1+2+3=", "18+18+18="]


def arguments(folder: str, **settings: Any) -> Any:
    """A GRPOConfig that saves, shows and reports nothing."""
    from trl import GRPOConfig

    quiet = {
        "output_dir": folder,
        "use_cpu": True,
        "bf16": False,
        "report_to": "none",
        "save_strategy": "no",
        "logging_strategy": "no",
        "disable_tqdm": True,
        "gradient_checkpointing": False,
        "dataloader_pin_memory": False,
        "per_device_train_batch_size": 8,
        "num_generations": 4,
        "max_completion_length": 12,
        "max_steps": 2,
        "learning_rate": 1e-3,
        "lr_scheduler_type": "constant",
        "beta": 0.0,
    }
    return GRPOConfig(**quiet | settings)


def even(completions: list[str], **_: Any) -> list[float]:
    """A reward that differs within a group of a model of sums."""
    return [float(sum(map(ord, text)) % 2) for text in completions]


def trainer(own: dict[str, Any] | None = None, *, cls: type | None = None, callbacks: Any = None, **settings: Any):
    """Our trainer with the keyword arguments ``own``, or TRL's where there are none; the base model, whole."""
    from datasets import Dataset
    from transformers import PrinterCallback
    from trl import GRPOTrainer

    from hmpo_lib.integrations.trl import PowerMeanGRPOTrainer

    _, tokenizer = load_base_model()
    made = (cls or (GRPOTrainer if own is None else PowerMeanGRPOTrainer))(
        str(base_model_path()),
        even,
        arguments(settings.pop("folder", tempfile.gettempdir()), **settings),
        train_dataset=Dataset.from_dict({"prompt": QUESTIONS * 4}),
        processing_class=tokenizer,
        callbacks=callbacks,
        **(own or {}),
    )
    made.remove_callback(PrinterCallback)
    made.current_gradient_accumulation_steps = made.args.gradient_accumulation_steps
    made.model.train()
    return made


def inputs(trainer: Any, seed: int = 0, *, rows: int = 8, time: int = 12, spread: float = 0.3) -> dict[str, Tensor]:
    """Random completions of 1 to ``time`` tokens, stale by ``spread``, with advantages of both signs and one of 0."""
    generator = torch.Generator().manual_seed(seed)
    prompt = torch.randint(3, 13, (rows, 5), generator=generator)
    completion = torch.randint(3, 13, (rows, time), generator=generator)
    lengths = torch.randint(1, time + 1, (rows,), generator=generator)
    mask = (torch.arange(time) < lengths.unsqueeze(1)).long()
    batch = {
        "prompt_ids": prompt,
        "prompt_mask": torch.ones_like(prompt),
        "completion_ids": completion,
        "completion_mask": mask,
    }
    with torch.no_grad():
        logprobs = trainer._get_per_token_logps_and_entropies(
            trainer.model, torch.cat([prompt, completion], 1), torch.cat([batch["prompt_mask"], mask], 1), time
        )[0]
    advantages = torch.randn(rows, generator=generator)
    advantages[0] = 0.0
    noise = spread * torch.randn(rows, time, generator=generator)
    return batch | {
        "advantages": advantages,
        "old_per_token_logps": logprobs + noise,
        "ref_per_token_logps": logprobs - 0.5 * noise,
        "num_items_in_batch": mask.sum(),
    }


def loss_and_gradient(trainer: Any, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """What the trainer's model would be stepped with."""
    trainer.model.zero_grad()
    loss = trainer._compute_loss(trainer.model, dict(batch))
    loss.backward()
    return loss.detach(), torch.cat([weight.grad.flatten() for weight in trainer.model.parameters()])
