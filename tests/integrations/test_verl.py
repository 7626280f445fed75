"""verl's registry has a policy loss for every method, and each is `policy_loss` of the whole batch."""

import dataclasses
import itertools
import math
import subprocess
import sys

import pytest
import torch

from hmpo_lib import METHODS, Objective, policy_loss

from ..oracles.parity import random_batch, with_empty_completion

pytest.importorskip("verl", reason="needs verl: run `make oracles`", exc_type=ImportError)

MODES = {
    "token-mean": ("proportional", None),
    "token-sum": ("proportional", None),
    "seq-mean-token-mean": ("equal", None),
    "seq-mean-token-sum": ("constant", 1),
    "seq-mean-token-sum-norm": ("constant", 50),
}
EVERY_MODE = pytest.mark.parametrize("mode", MODES)
REFUSED = "holder"
# verl's default mode is not what most methods mean, and is what half of these tests ask for.
pytestmark = pytest.mark.filterwarnings("ignore:loss_agg_mode is:UserWarning")


def config(info=None, **settings):
    from verl.workers.config import ActorConfig

    return ActorConfig(
        strategy="fsdp",
        rollout_n=1,
        ppo_micro_batch_size_per_gpu=1,
        global_batch_info={} if info is None else info,
        **settings,
    )


def of_verl(name):
    from verl.trainer.ppo.core_algos import get_policy_loss_fn

    return get_policy_loss_fn(name)


def call(name, batch, mode, settings, **more):
    new, old, advantages, mask = batch
    spread = advantages.unsqueeze(1).expand_as(new)
    return of_verl(name)(
        old_log_prob=old,
        log_prob=new,
        advantages=spread,
        response_mask=mask,
        loss_agg_mode=mode,
        config=settings,
        **more,
    )


def whole(method, batch, mode, cap=3.0):
    """`policy_loss` of everything at once, with what verl divides by."""
    new, old, advantages, mask = batch
    weight, length = MODES[mode]
    cell = dataclasses.replace(method.objective, length_weight=weight, max_length=length, ratio_cap=cap)
    cell = dataclasses.replace(method, objective=cell).step_objective(0.0, (new - old) * mask, mask, advantages)
    normalizer = {"token-sum": 1.0, "token-mean": mask.sum()}.get(mode, len(advantages))
    return policy_loss(*batch, cell, normalizer=normalizer).loss


def stale_batch():
    """Seven completions, one of them empty, on both sides of every clip."""
    return with_empty_completion(random_batch(0, 0.3, completions=6, longest=40), advantage=2.0)


def leaf(batch):
    return batch._replace(logprobs=batch.logprobs.clone().requires_grad_())


def split_and_whole(name, mode):
    """(loss, gradient) of micro-batches on two ranks, and of `policy_loss` for everything at once."""
    batch, reference = leaf(stale_batch()), leaf(stale_batch())
    info = {
        "dp_size": 2,
        "batch_num_tokens": batch.completion_mask.sum(),
        "global_batch_size": len(batch.advantages),
        "loss_scale_factor": 50,
    }
    # The last micro-batch has the empty completion alone.
    ranks = [[slice(0, 3), slice(3, 4)], [slice(4, 6), slice(6, 7)]]
    loss = torch.zeros((), dtype=torch.float64)
    for rows in itertools.chain(*ranks):
        part = type(batch)(*(tensor[rows] for tensor in batch))
        loss = loss + call(f"power_mean_{name}", part, mode, config(info))[0] / len(ranks)
    expected = whole(METHODS[name], reference, mode)
    loss.backward()
    expected.backward()
    return (loss.detach(), batch.logprobs.grad), (expected.detach(), reference.logprobs.grad)


@EVERY_MODE
@pytest.mark.parametrize("name", [name for name in METHODS if name != REFUSED])
def test_micro_batches_on_two_ranks_add_up_to_the_whole_batch(name, mode):
    split, expected = split_and_whole(name, mode)
    torch.testing.assert_close(split[0], expected[0], rtol=1e-12, atol=1e-15)
    torch.testing.assert_close(split[1], expected[1], rtol=1e-12, atol=1e-18)
    assert bool((split[1][:6] != 0).any())


OWN_LOSSES = [
    ("vanilla", Objective(1.0, "token", (0.8, 1.2), ratio_cap=3.0)),
    ("gspo", Objective(0.0, "sequence", (0.8, 1.2), ratio_cap=math.exp(10))),
]


def ours_and_verls(own, objective, mode, seed=1):
    """(loss, gradient) of an objective as a loss of ours in verl's registry, and of verl's own."""
    from verl.trainer.ppo.core_algos import POLICY_LOSS_REGISTRY

    from hmpo_lib.integrations.verl import register

    register("test_only", objective)
    found = []
    try:
        for name in ("power_mean_test_only", own):
            batch = leaf(random_batch(seed, 0.5))
            loss, _ = call(name, batch, mode, config({"loss_scale_factor": 50}))
            loss.backward()
            found.append((loss.detach(), batch.logprobs.grad))
    finally:
        del POLICY_LOSS_REGISTRY["power_mean_test_only"]
    return found


@EVERY_MODE
@pytest.mark.parametrize(("own", "objective"), OWN_LOSSES)
def test_arithmetic_and_geometric_means_are_verls_own_losses(own, objective, mode):
    ours, theirs = ours_and_verls(own, objective, mode)
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=0)


def test_another_length_weight_or_exponent_is_told_from_verls_own():
    batch = random_batch(1, 0.5)
    theirs, _ = call("vanilla", batch, "seq-mean-token-mean", config())
    assert torch.isclose(call("power_mean_grpo", batch, "seq-mean-token-mean", config())[0], theirs, rtol=1e-9)
    for name, mode in (("grpo", "token-mean"), ("hmpo_token", "seq-mean-token-mean")):
        assert not torch.isclose(call(f"power_mean_{name}", batch, mode, config())[0], theirs, rtol=1e-3)


@pytest.mark.parametrize("name", ["hmpo", "grpo"])
def test_verls_own_ppo_loss_takes_ours_by_its_name(name):
    from tensordict import TensorDict
    from verl.utils import tensordict_utils as tu
    from verl.workers.utils.losses import ppo_loss

    batch = random_batch(2, 0.3, completions=5, longest=9)
    lengths = torch.tensor([9, 1, 4, 9, 2])
    mask = (torch.arange(9) < lengths.unsqueeze(1)).long()
    batch = batch._replace(completion_mask=mask)
    data = TensorDict(
        {
            "prompts": torch.ones(5, 1, dtype=torch.long),
            "responses": torch.ones(5, 9, dtype=torch.long),
            "attention_mask": torch.cat([torch.ones(5, 1, dtype=torch.long), mask], dim=1),
            "response_mask": mask,
            "old_log_probs": batch.old_logprobs,
            "advantages": batch.advantages.unsqueeze(1).expand(5, 9).contiguous(),
        },
        batch_size=5,
    )
    tu.assign_non_tensor(data, dp_size=1, batch_num_tokens=int(mask.sum()), global_batch_size=5)
    # verl's model output has one number a token of prompt and completion: a completion's begin one place earlier.
    flat = torch.cat([torch.cat([row[:n], row[:1] * 0]) for row, n in zip(batch.logprobs, lengths, strict=True)])
    flat.requires_grad_()
    settings = config(policy_loss={"loss_mode": f"power_mean_{name}"}, loss_agg_mode="seq-mean-token-mean")
    loss, metrics = ppo_loss(settings, {"log_probs": flat}, data)
    torch.testing.assert_close(loss, whole(METHODS[name], batch, "seq-mean-token-mean"), rtol=1e-13, atol=0)
    loss.backward()
    assert bool(flat.grad.any())
    assert metrics["actor/hmpo/blocked_fraction"].aggregate() == metrics["actor/pg_clipfrac"].aggregate()
    assert metrics["actor/pg_loss"].aggregate() == pytest.approx(float(loss.detach()))


def test_a_micro_batch_without_tokens_has_a_graph_and_the_same_metrics():
    full, empty = leaf(stale_batch()), leaf(stale_batch())
    empty = empty._replace(completion_mask=torch.zeros_like(empty.completion_mask))
    info = {"dp_size": 2, "batch_num_tokens": 80, "global_batch_size": 14}
    for mode in MODES:
        loss, metrics = call("power_mean_hmpo", empty, mode, config(info))
        assert loss == 0
        loss.backward()
        # verl refuses to average lists of unlike length, and a nan would spoil the others' mean.
        assert metrics.keys() == call("power_mean_hmpo", full, mode, config(info))[1].keys()
        assert all(math.isfinite(number) for number in metrics.values())
    assert not bool(empty.logprobs.grad.any())


def test_a_weight_of_the_rollout_multiplies_the_completion():
    batch = random_batch(3, 0.3)
    weights = torch.rand(len(batch.advantages), dtype=torch.float64)
    spread = weights.unsqueeze(1).expand_as(batch.logprobs)
    weighted, _ = call("power_mean_hmpo", batch, "seq-mean-token-mean", config(), rollout_is_weights=spread)
    by_hand = batch._replace(advantages=batch.advantages * weights)
    torch.testing.assert_close(weighted, call("power_mean_hmpo", by_hand, "seq-mean-token-mean", config())[0])


@pytest.mark.parametrize("which", ["advantages", "rollout_is_weights"])
def test_numbers_that_differ_within_a_completion_are_refused(which):
    new, old, advantages, mask = random_batch(3, 0.3)
    spread = advantages.unsqueeze(1).expand_as(new).clone()
    given = {"advantages": spread, "rollout_is_weights": torch.ones_like(spread)}
    given[which] = given[which].clone()
    given[which][1, -1] += 1.0  # the longest completion's last token
    loss = of_verl("power_mean_hmpo")
    with pytest.raises(ValueError, match=f"{which} differ within a completion"):
        loss(old, new, response_mask=mask, config=config(), **given)
    given[which][~mask.bool()] = torch.nan  # padding is nobody's
    given[which][1, -1] -= 1.0
    assert loss(old, new, response_mask=mask, config=config(), **given)[0].isfinite()


def test_a_default_mode_that_is_not_the_methods_own_is_said():
    batch = random_batch(3, 0.3)
    with pytest.warns(UserWarning, match="as published weighs completions as seq-mean-token-mean does"):
        call("power_mean_gspo", batch, "token-mean", config())


@pytest.mark.parametrize("setting", ["clip_ratio", "clip_ratio_low", "clip_ratio_high"])
def test_a_clip_range_of_verls_is_refused(setting):
    with pytest.raises(ValueError, match=f"{setting} is 0.28, and power_mean_hmpo has a clip range of its own"):
        call("power_mean_hmpo", random_batch(3, 0.3), "token-mean", config(**{setting: 0.28}))


def test_the_dual_clip_is_the_ratio_cap():
    batch = random_batch(3, 1.0)
    batch = batch._replace(logprobs=batch.logprobs + 3, advantages=-batch.advantages.abs())
    for cap in (3.0, 20.0):
        loss, _ = call("power_mean_grpo", batch, "seq-mean-token-mean", config(clip_ratio_c=cap))
        torch.testing.assert_close(loss, whole(METHODS["grpo"], batch, "seq-mean-token-mean", cap))
    assert not torch.isclose(loss, whole(METHODS["grpo"], batch, "seq-mean-token-mean", 3.0), rtol=0.1)


def test_a_schedule_that_needs_the_progress_is_refused():
    with pytest.raises(ValueError, match=f"power_mean_{REFUSED} moves p over training"):
        call(f"power_mean_{REFUSED}", random_batch(3, 0.3), "token-mean", config())


def test_a_schedule_of_ones_own_that_asks_for_the_progress_is_refused():
    from hmpo_lib import Method
    from hmpo_lib.integrations.verl import policy_loss_of

    new, old, advantages, mask = random_batch(3, 0.3)
    annealed = Method(Objective(None), p_schedule=lambda progress, *_: 1 - progress)
    with pytest.raises(ValueError, match="p is nan"):
        policy_loss_of("annealed", annealed)(old, new, advantages.unsqueeze(1).expand_as(new), mask)


def test_two_ranks_without_the_whole_batchs_numbers_are_refused():
    with pytest.raises(ValueError, match="no batch_num_tokens with dp_size 2"):
        call("power_mean_hmpo", random_batch(3, 0.3), "token-mean", config({"dp_size": 2}))


def test_the_command_says_that_a_plain_import_of_verl_registers_every_method():
    run = subprocess.run([sys.executable, "-m", "hmpo_lib.integrations.verl"], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert all(f"power_mean_{name}" in run.stdout for name in METHODS)


def test_the_command_says_why_the_plug_in_is_not_there(monkeypatch):
    monkeypatch.setenv("VERL_USE_EXTERNAL_PLUGINS", "none")
    run = subprocess.run([sys.executable, "-m", "hmpo_lib.integrations.verl"], capture_output=True, text=True)
    assert run.returncode == 1
    assert "VERL_USE_EXTERNAL_PLUGINS" in run.stderr


def test_a_module_that_verl_is_told_to_import_registers_an_objective_of_ones_own(tmp_path, monkeypatch):
    own = "from hmpo_lib import Objective\nfrom hmpo_lib.integrations.verl import register\n"
    own += 'register("mine", Objective(-0.5, "sequence", (0.9, 1.1)))\n'
    (tmp_path / "my_losses.py").write_text(own, encoding="utf-8")
    monkeypatch.setenv("VERL_USE_EXTERNAL_MODULES", "my_losses")
    monkeypatch.setenv("VERL_USE_EXTERNAL_PLUGINS", "none")
    program = "from verl.trainer.ppo.core_algos import POLICY_LOSS_REGISTRY; print(*POLICY_LOSS_REGISTRY)"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path)
    assert {"power_mean_mine", "power_mean_hmpo"} <= set(run.stdout.split()), run.stderr


def test_a_name_that_is_taken_is_refused():
    from hmpo_lib.integrations.verl import register

    with pytest.raises(ValueError, match="power_mean_hmpo is registered already"):
        register("hmpo", Objective(-1.0))
