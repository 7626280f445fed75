"""Log-probabilities and entropies, against one plain forward pass of transformers' own models, and their memory."""

import itertools

import pytest
import torch
import transformers as t

from hmpo_lib.lm import Rollout, load_base_model, token_logprobs, token_statistics
from hmpo_lib.lm import logprobs as logprobs_module
from hmpo_lib.optim import MaxLogitMonitor

from .tiny_models import softmax_maxima

SIZES = {"vocab_size": 13, "hidden_size": 16, "num_attention_heads": 4, "num_hidden_layers": 2}
SIZES |= {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
GATED = SIZES | {"intermediate_size": 24, "num_key_value_heads": 2}
MODELS = {
    "llama": lambda: t.LlamaForCausalLM(t.LlamaConfig(**GATED)),
    "qwen2": lambda: t.Qwen2ForCausalLM(t.Qwen2Config(**GATED)),
    "qwen3": lambda: t.Qwen3ForCausalLM(t.Qwen3Config(**GATED, head_dim=8)),
    "gpt2": lambda: t.GPT2LMHeadModel(t.GPT2Config(**SIZES)),
    # One layer in six sees everything, the others their last 4 tokens.
    "gemma3": lambda: t.Gemma3ForCausalLM(
        t.Gemma3TextConfig(**(GATED | {"num_hidden_layers": 6}), head_dim=8, sliding_window=4)
    ),
    "phi": lambda: t.PhiForCausalLM(t.PhiConfig(**SIZES, intermediate_size=24)),  # its head has a bias
    # It names no body: its base model is the whole.
    "llama4": lambda: t.Llama4ForCausalLM(
        t.Llama4TextConfig(**GATED, head_dim=8, attention_chunk_size=32, num_local_experts=2, intermediate_size_mlp=24)
    ),
    # These do something with the head's logits: a cap, a factor, a divisor.
    "gemma2": lambda: t.Gemma2ForCausalLM(
        t.Gemma2Config(**GATED, head_dim=8, sliding_window=4, final_logit_softcapping=3.0)
    ),
    "cohere": lambda: t.CohereForCausalLM(t.CohereConfig(**GATED)),
    "granite": lambda: t.GraniteForCausalLM(t.GraniteConfig(**GATED, logits_scaling=4.0)),
}
TAKEN_WHOLE = {"llama4", "gemma2", "cohere", "granite"}


def make_model(family, seed=0):
    model = MODELS[family]().eval()
    if family != "gemma2":  # in float64 its masked rows overflow to nan in transformers, padding being on the left
        model.double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(0.4 * torch.randn(weight.shape, generator=generator, dtype=weight.dtype))
    return model


def make_rollout(seed=0):
    """Three prompts of different lengths, four completions each, of 1 to 9 tokens, in mixed order."""
    generator = torch.Generator().manual_seed(seed)
    prompt_mask = torch.arange(6) >= torch.tensor([[1], [2], [4]])
    prompt_ids = torch.randint(3, 13, (3, 6), generator=generator).masked_fill(~prompt_mask, 0)
    lengths = torch.tensor([9, 1, 3, 5, 2, 2, 8, 9, 1, 4, 7, 9])
    completion_mask = torch.arange(9) < lengths.unsqueeze(1)
    completion_ids = torch.randint(3, 13, (12, 9), generator=generator).masked_fill(~completion_mask, 0)
    rollout = Rollout(
        prompt_ids=prompt_ids.repeat_interleave(4, dim=0),
        prompt_mask=prompt_mask.repeat_interleave(4, dim=0),
        completion_ids=completion_ids,
        completion_mask=completion_mask,
        logprobs=torch.zeros(12, 9),
        truncated=torch.zeros(12, dtype=torch.bool),
        texts=[""] * 12,
    )
    return rollout.select(torch.randperm(12, generator=generator))


def plain_statistics(model, rollout, temperature):
    """One forward pass over everything, and a full log-softmax."""
    mask = torch.cat([rollout.prompt_mask, rollout.completion_mask], dim=1).long()
    logits = model(
        input_ids=torch.cat([rollout.prompt_ids, rollout.completion_ids], dim=1),
        attention_mask=mask,
        position_ids=(mask.cumsum(dim=1) - 1).clamp(min=0),
        use_cache=False,
    ).logits[:, rollout.prompt_ids.shape[1] - 1 : -1]
    distribution = torch.distributions.Categorical(logits=logits / temperature)
    tokens = distribution.log_prob(rollout.completion_ids), distribution.entropy()
    return [torch.where(rollout.completion_mask, x, torch.zeros_like(x)) for x in tokens]


def gradient(model, logprobs, entropy, seed=0):
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn(2, *logprobs.shape, generator=generator, dtype=logprobs.dtype)
    parameters = list(model.parameters())
    loss = (weights[0] * logprobs).sum() + (weights[1] * entropy).sum()
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, parameters, materialize_grads=True)])


@pytest.fixture(params=["whole", "blocks"])
def block_elements(request, monkeypatch):
    """With all logits at a time, and with a few columns of the vocabulary."""
    if request.param == "blocks":
        monkeypatch.setitem(logprobs_module._BLOCK_ELEMENTS, "cpu", 200)


@pytest.mark.usefixtures("block_elements")
@pytest.mark.parametrize("family", MODELS)
def test_values_and_gradients_are_those_of_one_plain_forward_pass(family):
    model, rollout = make_model(family), make_rollout()
    ours, plain = token_statistics(model, rollout, temperature=0.7), plain_statistics(model, rollout, 0.7)
    # transformers rotates and normalizes in float32 whatever the weights are, hence no closer.
    atol = 1e-6 if model.dtype == torch.float64 else 1e-5
    torch.testing.assert_close(list(ours), plain, rtol=0, atol=atol)
    assert (ours.logprobs - plain_statistics(model, rollout, 0.8)[0]).abs().max() > 1e-2
    torch.testing.assert_close(token_logprobs(model, rollout, temperature=0.7), plain[0], rtol=0, atol=atol)
    expected = gradient(model, *plain)
    torch.testing.assert_close(gradient(model, *ours), expected, rtol=0, atol=atol * float(expected.abs().max()))


@pytest.mark.parametrize("family", MODELS)
def test_a_model_that_changes_its_heads_logits_or_names_no_body_is_taken_whole(family):
    _, found = logprobs_module._body_and_head(make_model(family), torch.tensor([[3, 4]]))
    assert isinstance(found, torch.nn.Identity) == (family in TAKEN_WHOLE)


@pytest.mark.parametrize("pass_cost", [0.0, 8.0, 64.0, 1e9])
def test_no_other_split_into_passes_costs_less(pass_cost):
    widths, counts = [39, 30, 29, 12, 3, 2], [1, 4, 7, 2, 30, 5]
    least = {}
    for cuts in itertools.product([False, True], repeat=len(widths) - 1):
        sizes, cost = [], 0.0
        for index, (width, count) in enumerate(zip(widths, counts, strict=True)):
            if index == 0 or cuts[index - 1]:
                sizes.append(0)
                widest = width
                cost += pass_cost
            sizes[-1] += count
            cost += count * widest
        least[tuple(sizes)] = cost
    found = tuple(logprobs_module._cheapest_split(widths, counts, pass_cost))
    assert least[found] == min(least.values())
    if pass_cost in (0.0, 1e9):
        assert len(found) == (len(widths) if pass_cost == 0 else 1)


def test_a_models_head_is_asked_for_once_and_again_where_it_is_another(monkeypatch):
    model, rollout = make_model("qwen3"), make_rollout()
    calls = []
    model.register_forward_hook(lambda *_: calls.append(None))  # the whole model; the body alone is another module
    for _ in range(3):
        token_logprobs(model, rollout)
    assert len(calls) == 1
    model.set_output_embeddings(torch.nn.Linear(16, 13).double().eval())
    torch.testing.assert_close(token_logprobs(model, rollout), plain_statistics(model, rollout, 1.0)[0])
    assert len(calls) == 3  # the second by plain_statistics


@pytest.mark.usefixtures("block_elements")
@pytest.mark.parametrize("bias", [True, False])
def test_the_heads_gradients_are_those_of_finite_differences(bias):
    torch.manual_seed(0)
    linear = torch.nn.Linear(5, 301, bias=bias).double()
    features, targets = torch.randn(4, 5).double(), torch.tensor([0, 300, 49, 50])

    def function(features, *_):
        return logprobs_module.head_statistics(features, linear, targets, temperature=0.7, with_entropy=True)

    assert torch.autograd.gradcheck(function, (features.requires_grad_(), *linear.parameters()))


def test_by_blocks_never_more_logits_exist_than_a_block(monkeypatch):
    made = []
    linear = torch.nn.functional.linear
    monkeypatch.setitem(logprobs_module._BLOCK_ELEMENTS, "cpu", 200)
    monkeypatch.setattr(logprobs_module.F, "linear", lambda *inputs: made.append(linear(*inputs)) or made[-1])
    features, targets = torch.randn(10, 4, requires_grad=True), torch.arange(10)
    layer = torch.nn.Linear(4, 1000)
    (logprobs,) = logprobs_module.head_statistics(features, layer, targets, temperature=1.0, with_entropy=False)
    logprobs.sum().backward()
    assert sum(x.numel() for x in made) == 2 * 10 * 1000  # once forward, once backward
    assert max(x.numel() for x in made) == 200


def test_a_head_that_is_frozen_costs_no_gradient_of_it(monkeypatch):
    monkeypatch.setitem(logprobs_module._BLOCK_ELEMENTS, "cpu", 200)
    layer = torch.nn.Linear(4, 1000).requires_grad_(False)
    features = torch.randn(10, 4, requires_grad=True)
    (ours,) = logprobs_module.head_statistics(features, layer, torch.arange(10), temperature=1.0, with_entropy=False)
    plain = layer(features).log_softmax(-1).diagonal()
    torch.testing.assert_close(*(torch.autograd.grad(x.sum(), features)[0] for x in (ours, plain)))


def test_under_autocast_the_head_computes_in_the_same_precision_by_blocks(monkeypatch):
    layer, features = torch.nn.Linear(32, 1000), torch.randn(10, 32)

    def logprobs():
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return logprobs_module.head_statistics(
                features, layer, torch.arange(10), temperature=1.0, with_entropy=False
            )[0]

    whole = logprobs()
    monkeypatch.setitem(logprobs_module._BLOCK_ELEMENTS, "cpu", 200)
    torch.testing.assert_close(logprobs(), whole, rtol=0, atol=1e-5)
    assert (layer(features).log_softmax(-1).diagonal() - whole).abs().max() > 1e-4  # float32 would be seen


@pytest.mark.parametrize("family", ["llama", "gpt2", "phi"])
def test_a_monitor_sees_the_pairs_of_every_completion_but_its_last_token_and_none_of_padding(family):
    model, rollout = make_model(family), make_rollout()

    def largest(stop):
        rows = []
        for row in range(12):
            ids = [x[row][m[row]] for x, m in zip(rollout[:4:2], rollout[1:4:2], strict=True)]
            rows.append(softmax_maxima(model, {"input_ids": torch.cat(ids)[:stop].unsqueeze(0)}))
        return torch.stack(rows).amax(dim=0)

    monitor = MaxLogitMonitor(model)
    token_logprobs(model, rollout)
    seen = torch.stack(list(monitor.max_logits().values()))
    torch.testing.assert_close(seen, largest(-1), rtol=0, atol=1e-5)
    assert (seen - largest(3)).abs().max() > 1e-2  # fewer would be seen


def test_completions_of_no_token_and_of_one_have_their_places():
    model, rollout = make_model("llama"), make_rollout()
    mask = rollout.completion_mask & (torch.arange(9) < torch.tensor([0, 1] * 6).unsqueeze(1))
    rollout = rollout._replace(completion_mask=mask)
    torch.testing.assert_close(
        token_logprobs(model, rollout), plain_statistics(model, rollout, 1.0)[0], rtol=0, atol=1e-6
    )


def test_entropy_is_between_0_and_that_of_a_uniform_choice_and_rises_with_the_temperature():
    model, _ = load_base_model()
    rollout = make_rollout()
    entropy = token_statistics(model, rollout).entropy
    assert (entropy[rollout.completion_mask] >= 0).all()
    assert (entropy <= torch.tensor(float(model.config.vocab_size)).log()).all()
    assert (token_statistics(model, rollout, temperature=100.0).entropy >= entropy - 1e-5).all()


def test_a_model_in_training_mode_is_refused():
    with pytest.raises(ValueError, match=r"call model.eval\(\)"):
        token_logprobs(make_model("llama").train(), make_rollout())
