"""Sampling and log-probabilities, against transformers' own loss and generate."""

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from hmpo_lib.lm import load_base_model, sample_completions, token_logprobs

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


def test_another_architecture_samples_and_scores_alike(base_model):
    _, tokenizer = base_model
    config = GPT2Config(vocab_size=len(tokenizer), n_embd=32, n_layer=2, n_head=2, n_positions=64)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = GPT2LMHeadModel(config).eval()
    rollout = sample((model, tokenizer), max_new_tokens=12)
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
