"""The settings of a run: what is refused, and how they are written."""

import dataclasses
import json
import math

import pytest
import torch

from hmpo_lib import METHODS, LearnableExponent, Method, Objective
from hmpo_lib.lm import FineTuneConfig
from hmpo_lib.schedules import PMPOSchedule


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "ppo"}, "unknown method 'ppo': expected one of grpo, "),
        ({"rollouts": 0}, "rollouts is 0: expected a whole number from 1"),
        ({"prompts": 2.5}, "prompts is 2.5: expected a whole number"),
        ({"epochs": True}, "epochs is True: expected a whole number"),
        ({"warmup_steps": -1}, "warmup_steps is -1: expected a whole number from 0"),
        ({"policy_lag": -1}, "policy_lag is -1: expected a whole number from 0"),
        ({"max_tokens_per_pass": 0}, "max_tokens_per_pass is 0: expected a whole number from 1, or None"),
        ({"group_size": 1}, "group_size is 1: expected at least 2"),
        ({"minibatches": 33}, "minibatches is 33 with prompts 32"),
        ({"learning_rate": math.nan}, "learning_rate is nan: expected a number above 0"),
        ({"learning_rate": math.inf}, "learning_rate is inf"),
        ({"temperature": -1.0}, "temperature is -1.0"),
        ({"max_gradient_norm": 0.0}, "max_gradient_norm is 0.0"),
        ({"qk_clip_threshold": 0.0}, "qk_clip_threshold is 0.0"),
        ({"kl_coefficient": math.nan}, "kl_coefficient is nan: expected 0 or more"),
        ({"kl_estimator": "k4"}, "kl_estimator is 'k4': expected one of k1, k2, k3"),
        ({"optimizer": "sgd"}, "optimizer is 'sgd': expected one of adamw, muon, muonclip"),
        ({"dtype": "float16"}, "dtype is 'float16': expected one of float32, bfloat16"),
        ({"device": "gpu"}, "device is 'gpu': expected a name of torch's"),
        ({"device": "meta"}, "device is 'meta', and torch finds no such device here"),
    ],
)
def test_a_setting_that_means_nothing_is_refused_by_name_with_what_was_expected(changes, message):
    with pytest.raises(ValueError, match=message):
        FineTuneConfig(**changes)


def test_a_gradient_norm_without_a_limit_and_the_cpu_are_settings():
    config = FineTuneConfig(max_gradient_norm=math.inf, device="cpu")
    assert (config.max_gradient_norm, config.device) == (math.inf, "cpu")


def test_the_steps_are_those_of_all_passes_over_all_rollouts():
    config = FineTuneConfig(rollouts=5, epochs=2, minibatches=3)
    assert (config.steps_per_rollout, config.steps) == (6, 30)


@pytest.mark.parametrize("method", METHODS)
def test_settings_written_as_json_make_the_same_config(method):
    config = FineTuneConfig(method=method, optimizer="muonclip", learning_rate=3e-4, warmup_steps=7)
    assert FineTuneConfig(**json.loads(json.dumps(config.settings()))) == config
    assert config.settings().keys() == {field.name for field in dataclasses.fields(config)}


def test_a_method_of_ones_own_is_described_so_that_another_one_differs():
    def described(p, schedule):
        return FineTuneConfig(method=Method(Objective(p), "test", p_schedule=schedule)).settings()["method"]

    assert described(0.5, None) == described(0.5, None)
    assert described(0.5, None) != described(0.25, None)
    assert described(0.5, None) != described(None, LearnableExponent(start=0.5))
    assert described(None, PMPOSchedule((0.8, 1.2))) != described(None, PMPOSchedule((0.8, 1.3)))
    json.dumps(described(None, LearnableExponent(start=0.5)))


@pytest.mark.parametrize(("dtype", "expected"), [("float32", torch.float32), ("bfloat16", torch.bfloat16)])
def test_the_dtype_is_that_of_matrix_products_in_the_forward_pass(dtype, expected):
    with FineTuneConfig(dtype=dtype).autocast(torch.device("cpu")):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == expected
