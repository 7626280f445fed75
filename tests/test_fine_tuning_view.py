"""What notebook 08 shows while a model learns."""

import asyncio
import math

import pytest
import torch

from hmpo_lib.lm import FineTuneConfig, load_base_model
from hmpo_lib.teach.figures.fine_tuning import (
    BINS,
    LARGEST_RATIO,
    completion_means,
    fine_tuning_live,
    last_of_each_rollout,
    ratio_shares,
    worked_share,
)


@pytest.fixture(scope="module")
def finished():
    config = FineTuneConfig(method="hmpo", rollouts=2, prompts=4, group_size=4, minibatches=2)
    live = fine_tuning_live(*load_base_model(), config)
    return live, asyncio.run(live.run())


def test_the_live_run_gives_one_record_per_optimizer_step_and_a_picture(finished):
    live, records = finished
    assert [(r.rollout, r.step) for r in records] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert "rollout 2, step 2" in live.picture.caption_text
    assert live.picture.alt_text.startswith("Four plots after 2 rollouts")
    assert "data:image/png" in live.picture.static_bundle()["text/html"]


def test_each_rollout_is_shown_by_its_stalest_step(finished):
    _, records = finished
    assert [(r.rollout, r.step) for r in last_of_each_rollout(records)] == [(0, 1), (1, 1)]
    assert [(r.rollout, r.step) for r in last_of_each_rollout(records[:3])] == [(0, 1), (1, 0)]


def test_the_worked_share_counts_answers_with_work(finished):
    record = finished[1][0]._replace(texts=["24", "(7+12=19,19+5=24)24", "25", "("])
    assert worked_share(record) == 1 / 4


def test_completion_means_hear_no_padding(finished):
    record = finished[1][1]
    ratios = record.log_ratios.exp()
    by_hand = [1 / (1 / r[m]).mean() for r, m in zip(ratios, record.completion_mask, strict=True)]
    torch.testing.assert_close(completion_means(record), torch.stack(by_hand))


def test_the_histogram_centres_1_and_puts_the_rest_at_its_ends():
    shares = ratio_shares(torch.tensor([1.0, 1.0, 1e-9, math.inf, LARGEST_RATIO * 0.999]))
    assert shares[BINS // 2] == pytest.approx(2 / 5)
    assert shares[0] == pytest.approx(1 / 5)
    assert shares[-1] == pytest.approx(2 / 5)


def test_a_schedule_of_p_reaches_the_record():
    config = FineTuneConfig(method="pessimistic", rollouts=1, prompts=4, group_size=4)
    record = asyncio.run(fine_tuning_live(*load_base_model(), config).run())[0]
    torch.testing.assert_close(record.p, -record.advantages.sign())


@pytest.mark.parametrize("method", ["grpo", "gspo", "pessimistic", "holder"])
def test_every_kind_of_method_has_its_picture(method):
    config = FineTuneConfig(method=method, rollouts=1, prompts=2, group_size=4, minibatches=2)
    live = fine_tuning_live(*load_base_model(), config)
    assert len(asyncio.run(live.run())) == 2
