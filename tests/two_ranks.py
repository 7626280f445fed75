"""What one of two ranks does in `test_qk_clip_ranks.py`; its arguments are RANK FOLDER."""

import sys
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist
import transformers as t
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.distributed.tensor.parallel import ColwiseParallel, parallelize_module

from hmpo_lib.optim import MuonClip, QKClip

from .tiny_models import MLP, SPECIAL, backward, tiny_batch, tiny_model, with_random_weights

FAMILIES = ("llama", "llama_gqa", "qwen2", "opt", "gpt2")  # heads of their own, shared keys, biases, a fused Conv1D
STEPS = 4
THRESHOLD = 0.5

# Three heads of 4: between two ranks the rows of each projection are cut inside a head.
CUT = {"vocab_size": 13, "hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 3}
SHARDED: dict[str, Callable[[], t.PreTrainedModel]] = {
    "llama": lambda: t.LlamaForCausalLM(t.LlamaConfig(**CUT, **MLP, **SPECIAL)),
    "qwen2": lambda: t.Qwen2ForCausalLM(t.Qwen2Config(**CUT, **MLP, **SPECIAL, num_key_value_heads=1)),
    "gpt2": lambda: t.GPT2LMHeadModel(t.GPT2Config(**CUT, **SPECIAL, attn_pdrop=0.0, resid_pdrop=0.0, embd_pdrop=0.0)),
    "gpt_neox": lambda: t.GPTNeoXForCausalLM(t.GPTNeoXConfig(**CUT, **MLP, **SPECIAL)),
}


def make_optimizer(model: nn.Module) -> torch.optim.Optimizer:
    """One whose steps follow the gradient, so that a difference in it is not blown up."""
    return torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)


def make_clip(model: nn.Module) -> QKClip:
    """The clip on it."""
    return QKClip(make_optimizer(model), model, THRESHOLD)


def make_muon_clip(model: nn.Module) -> QKClip:
    """Muon head by head, whose matrices no shard holds."""
    return MuonClip(model, 1e-3, threshold=THRESHOLD, adamw_lr=0.0, per_head=True)


def batch_of(step: int, rank: int) -> dict[str, torch.Tensor]:
    """Other data on each rank."""
    return tiny_batch(seed=10 * step + rank)


def outcome(model: nn.Module, optimizer: QKClip) -> dict:
    """The weights, whole, and how many heads were clipped."""
    weights = {
        name.removeprefix("module."): (x.full_tensor() if isinstance(x, DTensor) else x).detach().clone()
        for name, x in model.named_parameters()
    }
    return {"weights": weights, "clipped": [record.heads_clipped for record in optimizer.history]}


@torch.no_grad()
def heat(optimizer: QKClip) -> None:
    """Makes all attention weights larger, so that the next step clips again."""
    for module, _ in optimizer.monitor.attention.values():
        for weight in module.parameters():
            weight.mul_(1.25)


def trained(model: nn.Module, optimizer: QKClip, rank: int) -> dict:
    """After a few steps that clip."""
    for step in range(STEPS):
        backward(model, batch_of(step, rank))
        optimizer.step()
        optimizer.zero_grad()
        heat(optimizer)
    return outcome(model, optimizer)


def replicated(family: str, rank: int) -> dict:
    """DistributedDataParallel."""
    model = nn.parallel.DistributedDataParallel(tiny_model(family))
    return trained(model, make_clip(model), rank)


def each_for_itself(rank: int) -> dict:
    """As it would be if each rank clipped by its own maxima."""
    groups = [dist.new_group([other]) for other in range(2)]
    model = nn.parallel.DistributedDataParallel(tiny_model("llama"))
    return trained(model, QKClip(make_optimizer(model), model, THRESHOLD, process_group=groups[rank]), rank)


def sharded(family: str, rank: int, make: Callable[[nn.Module], QKClip]) -> dict:
    """FSDP2, over layers and the whole, the clip put on after it."""
    model = with_random_weights(SHARDED[family]())
    mesh = init_device_mesh("cpu", (2,))
    layers = next(module for module in model.modules() if isinstance(module, nn.ModuleList))
    for module in (*layers, model):
        fully_shard(module, mesh=mesh)
    return trained(model, make(model), rank)


def sharded_later(rank: int) -> dict:
    """FSDP2 as accelerate does it: after the optimizer and the clip, with new parameters in the optimizer's groups."""
    model = with_random_weights(SHARDED["llama"]())
    optimizer = make_clip(model)
    fully_shard(model, mesh=init_device_mesh("cpu", (2,)))
    optimizer.param_groups[0]["params"] = list(model.parameters())
    return trained(model, optimizer, rank)


def seen_by_one(rank: int) -> dict:
    """Rank 1 has no forward pass."""
    model = tiny_model("llama")
    optimizer = QKClip(torch.optim.SGD(model.parameters(), lr=0.0), model, THRESHOLD)
    if rank == 0:
        backward(model, tiny_batch())
    optimizer.step()
    return outcome(model, optimizer)


def failures(rank: int) -> dict[str, str]:
    """What each rank says where something is wrong, on it or on the other."""

    def message(make: Callable[[], object]) -> str:
        try:
            make()
        except (ValueError, FloatingPointError) as error:
            return f"{type(error).__name__}: {error}"
        return "none"

    def step(threshold: float = THRESHOLD, *, spoiled: bool = False, passes: int = 1) -> None:
        model = tiny_model("llama")
        optimizer = QKClip(torch.optim.SGD(model.parameters(), lr=0.1), model, threshold)
        if spoiled:
            with torch.no_grad():
                model.model.layers[0].self_attn.q_proj.weight[0, 0] = torch.nan
        for _ in range(passes):
            backward(model, tiny_batch())
        optimizer.step()

    def split_by_heads() -> None:
        model = tiny_model("llama")
        mesh = init_device_mesh("cpu", (2,))
        parallelize_module(model.model.layers[0].self_attn, mesh, {"q_proj": ColwiseParallel()})
        QKClip(torch.optim.SGD(model.parameters(), lr=0.1), model)

    def flattened() -> None:
        model = tiny_model("llama")
        from torch.distributed.fsdp import FullyShardedDataParallel

        model = FullyShardedDataParallel(model, use_orig_params=True, device_id=torch.device("cpu"))
        QKClip(torch.optim.SGD(model.parameters(), lr=0.1), model)

    return {
        "nan on one": message(lambda: step(spoiled=rank == 1)),
        "nothing anywhere": message(lambda: step(passes=0)),
        "other thresholds": message(lambda: step(THRESHOLD + rank)),
        "tensor parallel": message(split_by_heads),
        "FSDP1": message(flattened),
    }


def main(rank: int, folder: Path) -> None:
    """Runs all cases and saves what came of them."""
    dist.init_process_group("gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=2)
    results: dict = {f"replicated {family}": replicated(family, rank) for family in FAMILIES}
    results |= {f"sharded {family}": sharded(family, rank, make_clip) for family in SHARDED}
    results |= {f"muon {family}": sharded(family, rank, make_muon_clip) for family in SHARDED}
    results["each for itself"] = each_for_itself(rank)
    results["sharded later"] = sharded_later(rank)
    results["seen by one"] = seen_by_one(rank)
    results["failures"] = failures(rank)
    torch.save(results, folder / f"rank{rank}")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
