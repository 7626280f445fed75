"""Sampling and log-probabilities, against transformers' own loss and generate."""

import pytest
import torch
from scipy import stats
from transformers import DynamicCache, Gemma3ForCausalLM, Gemma3TextConfig, GPT2Config, GPT2LMHeadModel

from hmpo_lib.lm import load_base_model, rollouts, sample_completions, token_logprobs

PROMPTS = ["7+12+5=", "1+2+3+4+5=", "19+0+19="]


@pytest.fixture(scope="module")
def base_model():
    return load_base_model()


def sample(base_model, prompts=PROMPTS, *, seed=0, **changes):
    arguments = {"group_size": 4, "max_new_tokens": 40, "generator": torch.Generator().manual_seed(seed)} | changes
    return sample_completions(*base_model, prompts, **arguments)


def test_shapes_and_masks_fit_and_groups_stand_together(base_model):
    _, tokenizer = base_model
    rollout = sample(base_model)
    batch, time = rollout.completion_ids.shape
    assert batch == 12
    assert rollout.logprobs.shape == rollout.completion_mask.shape == (batch, time)
    assert tokenizer.batch_decode(rollout.prompt_ids[::4], skip_special_tokens=True) == PROMPTS
    for ids, mask, truncated, text in zip(
        rollout.completion_ids, rollout.completion_mask, rollout.truncated, rollout.texts, strict=True
    ):
        kept = ids[mask]
        assert mask.tolist() == sorted(mask.tolist(), reverse=True)  # right-padded
        assert (kept == tokenizer.eos_token_id).sum() == (0 if truncated else 1)
        assert tokenizer.decode(kept, skip_special_tokens=True) == text
        assert (ids[~mask] == tokenizer.pad_token_id).all()
    assert (rollout.logprobs[~rollout.completion_mask] == 0).all()


@pytest.mark.parametrize("temperature", [0.7, 1.0, 1.5])
def test_recomputed_logprobs_are_those_of_sampling_so_every_first_ratio_is_1(base_model, temperature):
    rollout = sample(base_model, temperature=temperature)
    again = token_logprobs(base_model[0], rollout, temperature=temperature)
    torch.testing.assert_close(again, rollout.logprobs, rtol=0, atol=1e-4)
    other = token_logprobs(base_model[0], rollout, temperature=temperature + 0.2)
    assert (other - rollout.logprobs).abs().max() > 1e-2  # the wrong temperature would be seen


def test_logprobs_are_minus_the_loss_of_transformers_on_each_unpadded_sequence(base_model):
    model, _ = base_model
    rollout = sample(base_model)
    ours = token_logprobs(model, rollout)
    for row in range(len(rollout.texts)):
        prompt = rollout.prompt_ids[row][rollout.prompt_mask[row]]
        completion = rollout.completion_ids[row][rollout.completion_mask[row]]
        ids = torch.cat([prompt, completion]).unsqueeze(0)
        labels = torch.cat([torch.full_like(prompt, -100), completion]).unsqueeze(0)
        loss = model(input_ids=ids, labels=labels).loss
        mean = ours[row].sum() / len(completion)
        torch.testing.assert_close(-mean, loss, rtol=1e-4, atol=1e-5)


def test_near_temperature_0_sampling_is_the_greedy_generate_of_transformers(base_model):
    model, tokenizer = base_model
    rollout = sample(base_model, group_size=1, temperature=1e-4)
    encoded = tokenizer(PROMPTS, return_tensors="pt", padding=True, padding_side="left")
    generated = model.generate(
        input_ids=encoded.input_ids, attention_mask=encoded.attention_mask, do_sample=False, max_new_tokens=40
    )
    completions = generated[:, encoded.input_ids.shape[1] :]
    assert tokenizer.batch_decode(completions, skip_special_tokens=True) == rollout.texts


def test_sampled_first_tokens_have_the_frequencies_of_the_model(base_model):
    model, tokenizer = base_model
    rollout = sample(base_model, ["7+12+5="], group_size=4000, max_new_tokens=1)
    probabilities = model(torch.tensor([tokenizer("7+12+5=").input_ids])).logits[0, -1].softmax(-1)
    counts = torch.bincount(rollout.completion_ids[:, 0], minlength=len(probabilities)) / 4000
    standard_error = (probabilities * (1 - probabilities) / 4000).sqrt()
    assert ((counts - probabilities).abs() <= 4 * standard_error + 1e-3).all()
    assert rollout.truncated.float().mean() > 0.9  # one token is no answer with its end


def chi_square(base_model, *, temperature):
    """P(χ² so large) after the common beginnings, by plain forward passes at temperature 2; degrees of freedom."""
    model, _ = base_model
    rollout = sample(base_model, ["7+12+5="], group_size=6000, max_new_tokens=4, temperature=temperature)
    ids = torch.cat([rollout.prompt_ids, rollout.completion_ids], dim=1)
    statistic, freedom = 0.0, 0
    for time in range(4):
        there = rollout.completion_mask[:, time]
        beginnings, which = ids[there, : rollout.prompt_ids.shape[1] + time].unique(dim=0, return_inverse=True)
        for index, beginning in enumerate(beginnings):
            drawn = rollout.completion_ids[there, time][which == index]
            if len(drawn) < 100:
                continue
            expected = model(beginning.unsqueeze(0)).logits[0, -1].div(2).softmax(-1) * len(drawn)
            counts = torch.bincount(drawn, minlength=len(expected))
            often = expected >= 5
            pairs = [(counts[often], expected[often]), (counts[~often].sum(), expected[~often].sum())]
            terms = torch.cat([torch.atleast_1d((o - e).square() / e) for o, e in pairs if float(e.sum()) >= 5])
            if len(terms) > 1:
                statistic, freedom = statistic + float(terms.sum()), freedom + len(terms) - 1
    return stats.chi2.sf(statistic, freedom), freedom


def test_tokens_have_the_frequencies_of_a_plain_forward_pass_after_rows_were_dropped_too(base_model):
    with torch.no_grad():
        chance, freedom = chi_square(base_model, temperature=2.0)  # at 1 the model is too sure to tell much
        wrong, _ = chi_square(base_model, temperature=2.2)
    assert freedom > 60
    assert chance > 1e-3
    assert wrong < 1e-9


def test_a_token_of_probability_0_is_never_drawn_and_every_other_can_be():
    logits = torch.tensor([-torch.inf, 0.0, -torch.inf, 1.0, -torch.inf]).expand(5, 5)
    at = torch.tensor([0.0, 1e-12, 0.26894, 0.26895, 1 - 2**-24])
    token, logprob = rollouts.draw(logits, at, 1.0)
    assert token.tolist() == [1, 1, 1, 3, 3]
    torch.testing.assert_close(logprob, logits.log_softmax(-1).gather(1, token.unsqueeze(1)).squeeze(1))
    many = 0.1 * torch.randn(1000, 5000, generator=torch.Generator().manual_seed(0))  # totals on both sides of 1
    many[:, -100:] = -torch.inf
    assert (rollouts.draw(many, torch.full((1000,), 1 - 2**-24), 1.0)[0] < 4900).all()


def test_what_becomes_of_a_completion_does_not_depend_on_when_others_leave_the_batch(base_model, monkeypatch):
    late = sample(base_model)
    monkeypatch.setattr(rollouts, "_FINISHED_PART", 1.0)  # none ever leaves
    stay = sample(base_model)
    monkeypatch.setattr(rollouts, "_FINISHED_PART", 1e-9)  # each leaves at once
    assert stay.texts == late.texts == sample(base_model).texts
    assert len({len(text) for text in stay.texts}) > 2


def test_logprobs_after_rows_were_dropped_are_those_of_a_plain_forward_pass(base_model, monkeypatch):
    dropped = []
    reorder = DynamicCache.reorder_cache
    monkeypatch.setattr(
        DynamicCache, "reorder_cache", lambda cache, rows: dropped.append(len(rows)) or reorder(cache, rows)
    )
    rollout = sample(base_model, group_size=16)
    assert dropped[0] == 48
    assert dropped[-1] < 12
    for row in range(48):
        prompt, completion = rollout.prompt_ids[row][rollout.prompt_mask[row]], rollout.completion_ids[row]
        completion = completion[rollout.completion_mask[row]]
        logits = base_model[0](torch.cat([prompt, completion]).unsqueeze(0)).logits[0, len(prompt) - 1 : -1]
        expected = torch.distributions.Categorical(logits=logits).log_prob(completion)
        torch.testing.assert_close(rollout.logprobs[row][: len(completion)], expected, rtol=0, atol=1e-5)


def test_the_same_generator_seed_gives_the_same_rollout_and_the_global_one_is_not_used(base_model):
    before = torch.get_rng_state()
    first, second, third = sample(base_model), sample(base_model), sample(base_model, seed=1)
    assert first.texts == second.texts != third.texts
    assert torch.equal(before, torch.get_rng_state())


def test_selected_rows_have_the_logprobs_they_had(base_model):
    rollout = sample(base_model)
    rows = torch.tensor([5, 0, 7])
    part = rollout.select(rows)
    assert part.texts == [rollout.texts[i] for i in (5, 0, 7)]
    torch.testing.assert_close(token_logprobs(base_model[0], part), rollout.logprobs[rows], rtol=0, atol=1e-4)


ARCHITECTURES = {
    "gpt2": lambda size: GPT2LMHeadModel(GPT2Config(vocab_size=size, n_embd=32, n_layer=2, n_head=2, n_positions=64)),
    # Five layers see the last 6 tokens, fewer than a prompt has, and one sees all: the cache has two kinds of layers.
    "gemma3": lambda size: Gemma3ForCausalLM(
        Gemma3TextConfig(
            vocab_size=size,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=6,
            num_attention_heads=2,
            num_key_value_heads=1,
            head_dim=16,
            sliding_window=6,
        )
    ),
}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_another_architecture_samples_and_scores_alike(base_model, architecture):
    _, tokenizer = base_model
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = ARCHITECTURES[architecture](len(tokenizer)).eval()
    rollout = sample((model, tokenizer), max_new_tokens=24)
    assert len(rollout.completion_mask.sum(dim=1).unique()) > 3  # rows were dropped on the way
    torch.testing.assert_close(token_logprobs(model, rollout), rollout.logprobs, rtol=0, atol=1e-4)


def test_every_end_that_the_model_names_ends_an_answer(base_model):
    model, tokenizer = base_model
    bracket = tokenizer.convert_tokens_to_ids(")")
    before = model.generation_config.eos_token_id
    model.generation_config.eos_token_id = [tokenizer.eos_token_id, bracket]
    try:
        rollout = sample(base_model)
    finally:
        model.generation_config.eos_token_id = before
    assert any(text.endswith(")") for text in rollout.texts)
    assert not any(")" in text[:-1] for text in rollout.texts)


def test_more_tokens_than_the_model_has_positions_are_refused(base_model):
    with pytest.raises(ValueError, match="expected at most 128 together"):
        sample(base_model, max_new_tokens=128)


def test_bad_input_is_refused(base_model):
    model, _ = base_model
    for changes in ({"prompts": []}, {"max_new_tokens": 0}, {"temperature": 0.0}, {"temperature": float("nan")}):
        with pytest.raises(ValueError, match="expected at least one of each"):
            sample(base_model, **changes)
    model.train()
    try:
        with pytest.raises(ValueError, match=r"call model.eval\(\)"):
            sample(base_model)
    finally:
        model.eval()


@pytest.mark.parametrize("enabled", [True, False])
def test_attention_that_plans_for_each_shape_is_left_out_on_a_gpu_and_given_back(enabled):
    before = torch.backends.cuda.cudnn_sdp_enabled()
    try:
        torch.backends.cuda.enable_cudnn_sdp(enabled)
        with rollouts.attention_of_any_shape(torch.device("cpu")):
            assert torch.backends.cuda.cudnn_sdp_enabled() == enabled
        with rollouts.attention_of_any_shape(torch.device("cuda")):
            assert not torch.backends.cuda.cudnn_sdp_enabled()
        assert torch.backends.cuda.cudnn_sdp_enabled() == enabled
    finally:
        torch.backends.cuda.enable_cudnn_sdp(before)
