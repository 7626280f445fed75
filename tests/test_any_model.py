"""Other models than the shipped one: five families with a byte-level BPE tokenizer, from a folder to fine-tuning."""

import builtins
import contextlib
import copy
import json
from functools import partial

import pytest
import torch
import transformers as t
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from hmpo_lib.lm import (
    FineTuneConfig,
    fine_tune,
    load_base_model,
    load_model,
    sample_completions,
    token_logprobs,
)
from hmpo_lib.lm.datasets import gym_task, question_file
from hmpo_lib.lm.model import make_tokenizer
from hmpo_lib.lm.rollouts import Rollout, encode_prompts

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 64}
GROUPED = {"intermediate_size": 48, "num_key_value_heads": 2, "head_dim": 8}
FAMILIES = {
    "llama": lambda **o: t.LlamaConfig(**SIZES, **GROUPED, **o),
    "qwen2": lambda **o: t.Qwen2Config(**SIZES, intermediate_size=48, num_key_value_heads=2, **o),
    "qwen3": lambda **o: t.Qwen3Config(**SIZES, **GROUPED, **o),
    "gpt2": lambda **o: t.GPT2Config(n_embd=32, n_layer=2, n_head=4, n_positions=64, **o),
    "gemma3": lambda **o: t.Gemma3TextConfig(**SIZES, **GROUPED, sliding_window=4, query_pre_attn_scalar=8, **o),
}
QUESTIONS = [
    {"question": f"Tom has {a} apples and buys {b} more. How many?", "answer": f"{a} + {b} = {a + b}\n#### {a + b}"}
    for a in range(2, 6)
    for b in range(3, 6)
]


@pytest.fixture(scope="module")
def tokenizer():
    """Byte-level BPE, trained here; text of any kind comes back as it was. Pad and eos are apart."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=["<pad>", "<eos>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator([text for entry in QUESTIONS for text in entry.values()], trainer)
    return t.PreTrainedTokenizerFast(
        tokenizer_object=bpe, pad_token="<pad>", eos_token="<eos>", clean_up_tokenization_spaces=False
    )


OPENINGS = {
    "llama 3": ["<bos>"],
    "glm": ["[gMASK]", "<sop>"],  # two tokens, and no bos
    "opt": ["<eos>"],  # bos and eos are the same
    "gpt 2": [],
}


def opened(tokenizer, opening, *, closing=()):
    """The tokenizer with tokens that it puts before every text, and a chat template that writes them out."""
    opened = copy.deepcopy(tokenizer)
    opened.add_special_tokens({"additional_special_tokens": [*opening, "<user>", "<assistant>", *closing]})
    tokens = [*opening, *closing]
    opened.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=" ".join([*opening, "$A", *closing]),
        special_tokens=[(token, opened.convert_tokens_to_ids(token)) for token in tokens],
    )
    opened.chat_template = "".join(opening) + "<user>{{ messages[0]['content'] }}<assistant>"
    return opened


def chat(tokenizer, question, **options):
    return tokenizer.apply_chat_template([{"role": "user", "content": question}], **options)


@pytest.mark.parametrize("family", OPENINGS)
def test_the_text_of_a_chat_template_begins_once_and_so_does_a_bare_question(tokenizer, tmp_path, family):
    tokenizer = opened(tokenizer, OPENINGS[family])
    path = tmp_path / "questions.jsonl"
    path.write_text("".join(json.dumps(entry) + "\n" for entry in QUESTIONS), encoding="utf-8")
    as_text = partial(chat, tokenizer, tokenize=False)
    gym = gym_task("chain_sum", size=3, to_prompt=as_text)
    tasks = [question_file(path, to_prompt=as_text), gym, question_file(path)]
    prompts = [prompt for task in tasks for prompt in task.sample_prompts(2, torch.Generator().manual_seed(0))]
    config = t.LlamaConfig(**(SIZES | {"max_position_embeddings": 512}), **GROUPED, vocab_size=len(tokenizer))
    model = t.LlamaForCausalLM(config).eval()
    rollout = sample_completions(model, tokenizer, prompts, group_size=1, max_new_tokens=1)
    got = [ids[mask].tolist() for ids, mask in zip(rollout.prompt_ids, rollout.prompt_mask, strict=True)]
    opening = tokenizer.convert_tokens_to_ids(OPENINGS[family])
    bare = [tokenizer(prompt, add_special_tokens=False).input_ids for prompt in prompts]
    assert got == bare[:4] + [opening + ids for ids in bare[4:]]  # templates, questions
    asked = QUESTIONS[0]["question"]
    ids, _ = encode_prompts(tokenizer, [as_text(asked)])
    assert ids.tolist() == [chat(tokenizer, asked, tokenize=True, return_dict=False)]


def test_a_tokenizer_that_closes_every_text_too_opens_it_once(tokenizer):
    closes = opened(tokenizer, ["<bos>"], closing=["<eos>"])
    bos = closes.convert_tokens_to_ids("<bos>")
    ids, mask = encode_prompts(closes, ["<bos>three words here", "one"])
    assert [row[keep].tolist().count(bos) for row, keep in zip(ids, mask, strict=True)] == [1, 1]


@pytest.fixture(scope="module", params=FAMILIES)
def folder(request, tokenizer, tmp_path_factory):
    """A model of the family with random weights, saved with the tokenizer."""
    path = tmp_path_factory.mktemp(request.param)
    config = FAMILIES[request.param](
        vocab_size=len(tokenizer),
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.eos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    torch.manual_seed(0)
    t.AutoModelForCausalLM.from_config(config).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


@pytest.fixture
def questions(tmp_path):
    path = tmp_path / "questions.jsonl"
    path.write_text("".join(json.dumps(entry) + "\n" for entry in QUESTIONS), encoding="utf-8")
    return question_file(path)


def draw(model, tokenizer, prompts, **options):
    generator = torch.Generator().manual_seed(1)
    sizes = {"group_size": 2, "max_new_tokens": 9} | options
    return sample_completions(model, tokenizer, prompts, generator=generator, **sizes)


def test_the_tokenizer_brings_any_text_back(tokenizer):
    for text in ("Tom has 3 apples.", "  two\nlines\t", "naïve ½ 数 🦊", "<eos"):
        ids = tokenizer(text).input_ids
        assert tokenizer.decode(ids) == text
        assert not {tokenizer.pad_token_id, tokenizer.eos_token_id} & set(ids)
    assert len(tokenizer("Tom has 3 apples.").input_ids) < 10  # pieces longer than a byte


@pytest.mark.parametrize("prompts", [[""], ["", "Why?"]])
def test_a_prompt_without_a_token_is_refused(folder, prompts):
    with pytest.raises(ValueError, match="a prompt has no token"):
        draw(*load_model(folder), prompts)


def test_texts_are_the_sampled_tokens_decoded(folder):
    model, tokenizer = load_model(folder)
    rollout = draw(model, tokenizer, [QUESTIONS[0]["question"], "Why?"])
    assert len(rollout.texts) == 4
    for ids, mask, text in zip(rollout.completion_ids, rollout.completion_mask, rollout.texts, strict=True):
        tokens = [i for i in ids[mask].tolist() if i != tokenizer.eos_token_id]
        assert text == tokenizer.decode(tokens, skip_special_tokens=True)


def test_padding_beside_a_longer_prompt_changes_no_log_probability(folder):
    model, tokenizer = load_model(folder)
    rollout = draw(model, tokenizer, ["Tom", QUESTIONS[0]["question"] + " And why is that so?", "Tom has 3"])
    together = token_logprobs(model, rollout)
    torch.testing.assert_close(together, rollout.logprobs, rtol=0, atol=1e-4)
    assert (rollout.prompt_mask.sum(dim=1).unique().numel()) == 3  # three lengths of prompt
    for row in range(6):
        real = rollout.prompt_mask[row]
        single = rollout.select(torch.tensor([row]))
        alone = single._replace(prompt_ids=single.prompt_ids[:, real], prompt_mask=single.prompt_mask[:, real])
        torch.testing.assert_close(token_logprobs(model, alone)[0], together[row], rtol=0, atol=1e-4)
        by_hand = plain_logprobs(model, alone)
        torch.testing.assert_close(by_hand, together[row][rollout.completion_mask[row]], rtol=0, atol=1e-4)


def plain_logprobs(model, alone: Rollout) -> torch.Tensor:
    """The log-probabilities of one unpadded completion by the plainest call of transformers."""
    completion = alone.completion_ids[alone.completion_mask]
    ids = torch.cat([alone.prompt_ids[0], completion])[None]
    with torch.no_grad():
        logprobs = model(input_ids=ids).logits[0, :-1].log_softmax(dim=-1)
    return logprobs[-len(completion) :].gather(1, completion[:, None]).squeeze(1)


def test_it_is_fine_tuned_on_a_file_of_questions(folder, questions):
    model, tokenizer = load_model(folder)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}

    def reward_fn(prompt, completion):
        # A model of random weights is never right: a small pay for its length, so that there is something to learn.
        return questions.reward_fn(prompt, completion) + 0.01 * len(completion)

    config = FineTuneConfig(
        rollouts=2, prompts=4, group_size=4, minibatches=2, max_new_tokens=8, learning_rate=1e-2, temperature=0.7
    )
    # A completion without eos earns nothing, and random weights seldom give one: let half of the vocabulary end it.
    model.generation_config.eos_token_id = list(range(tokenizer.eos_token_id, len(tokenizer), 2))
    task = questions._replace(reward_fn=reward_fn)
    records = list(fine_tune(model, tokenizer, config, **task._asdict()))
    assert [(record.rollout, record.step) for record in records] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    for record in records:
        largest = record.log_ratios.abs().max()
        assert largest < 1e-4 if record.step == 0 else largest > 1e-3
        assert record.metrics["gradient_norm"] > 0
        assert all(prompt in {entry["question"] for entry in QUESTIONS} for prompt in record.prompts)
    moved = [name for name, weight in model.state_dict().items() if not torch.equal(weight, before[name])]
    assert set(moved) >= {name for name, _ in model.named_parameters() if name.endswith("weight") and "wpe" not in name}


def test_a_pad_that_is_the_eos_is_refused_before_the_model_is_read(folder, tokenizer, tmp_path):
    same = t.PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer, pad_token="<eos>", eos_token="<eos>")
    same.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    with pytest.raises(ValueError, match="pad token is '<eos>' and its eos '<eos>': expected a pad of its own"):
        load_model(tmp_path)


def test_a_chat_template_is_not_applied_behind_the_callers_back(folder, tmp_path):
    model, tokenizer = load_model(folder)
    tokenizer.chat_template = "{% for m in messages %}<user>{{ m.content }}</user>{% endfor %}"
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    model, tokenizer = load_model(tmp_path)
    assert tokenizer.chat_template
    rollout = draw(model, tokenizer, ["Tom has 3 apples."], group_size=1)
    assert tokenizer.decode(rollout.prompt_ids[0]) == "Tom has 3 apples."


def test_it_loads_in_eval_mode_and_float32_whatever_it_was_saved_in(folder, tokenizer, tmp_path):
    t.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    model, _ = load_model(tmp_path)
    assert not model.training
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}


@pytest.fixture
def folder_with_code(folder, tmp_path):
    """A model of a type that transformers does not have, with code that would leave a trace if it were run."""
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    trace = tmp_path / "ran"
    (tmp_path / "code.py").write_text(f"open({str(trace)!r}, 'w')\nclass Config: pass\nclass Model: pass\n")
    config = json.loads((tmp_path / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "code.Config", "AutoModelForCausalLM": "code.Model"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    return tmp_path


def test_code_that_comes_with_a_model_is_never_run_nor_asked_about(folder_with_code, monkeypatch):
    def no_questions(*words):
        raise AssertionError(f"asked on stdin: {words}")

    monkeypatch.setattr(builtins, "input", no_questions)
    with pytest.raises(ValueError, match="is of type 'own': expected one that transformers has"):
        load_model(folder_with_code)
    assert not (folder_with_code / "ran").exists()


def test_code_that_comes_with_a_tokenizer_is_never_run(folder, tmp_path, monkeypatch):
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Own: pass\n")
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    settings |= {"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": [None, "code.Own"]}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    monkeypatch.setattr(builtins, "input", lambda *words: pytest.fail("asked on stdin"))
    with contextlib.suppress(ValueError):  # refused, or opened by a class of transformers that fits the type of model
        load_model(tmp_path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "config",
    [
        t.MambaConfig(vocab_size=40, hidden_size=32, num_hidden_layers=2, pad_token_id=0, eos_token_id=1),
        t.RwkvConfig(vocab_size=40, hidden_size=32, num_hidden_layers=2, attention_hidden_size=32, eos_token_id=1),
        t.OpenAIGPTConfig(vocab_size=40, n_embd=32, n_layer=2, n_head=4, n_positions=64),
        t.JambaConfig(  # its attention layers keep all tokens, its others a state
            vocab_size=40,
            **{name: size for name, size in SIZES.items() if name != "max_position_embeddings"},
            intermediate_size=48,
            num_key_value_heads=2,
            num_experts=2,
            attn_layer_period=2,
            attn_layer_offset=1,
            use_mamba_kernels=False,
            mamba_d_state=8,
            pad_token_id=0,
            eos_token_id=2,
        ),
    ],
    ids=lambda config: config.model_type,
)
def test_a_model_that_keeps_no_attention_cache_is_refused(config):
    torch.manual_seed(0)
    model = t.AutoModelForCausalLM.from_config(config).eval()
    with pytest.raises(ValueError, match="keeps no attention cache of all tokens"):
        sample_completions(model, make_tokenizer(), ["1+2="], group_size=2, max_new_tokens=4)


def test_an_attention_cache_with_a_recurrent_state_beside_it_is_refused():
    sizes = {**SIZES, **GROUPED, "vocab_size": 20, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    mamba = {"mamba_d_ssm": 64, "mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 8, "mamba_chunk_size": 8}
    model = t.FalconH1ForCausalLM(t.FalconH1Config(**sizes, **mamba)).eval()
    with pytest.raises(ValueError, match="FalconH1ForCausalLM keeps no attention cache of all tokens"):
        sample_completions(model, make_tokenizer(), ["1+2="], group_size=2, max_new_tokens=4)


OLDER = {"vocab_size": 20, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
ENCODER = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
DECODER = {"d_model": 32, "decoder_layers": 2, "decoder_attention_heads": 4, "decoder_ffn_dim": 48}


@pytest.mark.parametrize(
    ("config", "reads"),
    [
        (t.RobertaConfig(**OLDER, **ENCODER, is_decoder=True), "a padded prompt otherwise than the prompt alone"),
        (t.BartConfig(**OLDER, **DECODER), "a padded prompt otherwise than the prompt alone"),
        (t.BertConfig(**OLDER, **ENCODER), "the beginning of a prompt otherwise than without what follows"),
    ],
)
def test_a_model_that_reads_ahead_or_has_its_own_positions_is_refused_at_the_call(config, reads):
    torch.manual_seed(0)
    model = t.AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(5)  # the initial weights are so small that hardly anything depends on them
    with pytest.raises(ValueError, match=f"reads {reads}"):
        fine_tune(model, make_tokenizer(), FineTuneConfig())


def test_a_module_in_training_mode_is_refused_at_the_call_by_its_name():
    model, tokenizer = load_base_model()
    model.lm_head = torch.nn.Sequential(torch.nn.Dropout(0.3), model.lm_head)  # what is new starts in training mode
    with pytest.raises(ValueError, match="lm_head is in training mode"):
        fine_tune(model, tokenizer, FineTuneConfig())


def test_a_run_that_was_never_begun_leaves_its_model_as_it_was():
    model, tokenizer = load_base_model()
    records = fine_tune(model, tokenizer, FineTuneConfig(monitor_logits=True))
    assert model.config._attn_implementation != "sdpa"
    records.close()
    assert model.config._attn_implementation == "sdpa"


def test_a_pad_that_the_model_does_not_know_is_refused():
    model, tokenizer = load_base_model()
    tokenizer.add_special_tokens({"pad_token": "<new>"})
    with pytest.raises(ValueError, match="the pad token '<new>' has the id 20, and the model knows 20 tokens"):
        sample_completions(model, tokenizer, ["1+2="], group_size=2, max_new_tokens=4)


def test_a_model_with_adapters_is_refused_by_name_in_words_that_help():
    model, tokenizer = load_base_model()
    model.peft_config = {}  # what get_peft_model and add_adapter of PEFT leave on a model
    with pytest.raises(ValueError, match=r"has PEFT adapters, which are not supported .* model\.merge_and_unload\(\)"):
        fine_tune(model, tokenizer, FineTuneConfig(rollouts=1))
