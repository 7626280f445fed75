"""Attention as others write it: seen and clipped exactly, or refused by name. The models are theirs in small."""

import copy
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from hmpo_lib.optim import Layout, MaxLogitMonitor, MuonAdamW, Part, QKClip

ROOT = Path(__file__).resolve().parent.parent


class MetaAttention(nn.Module):
    """wq and wk with grouped queries, as Meta's Llama has them: keys repeated, softmax in a function."""

    def __init__(self, bias=False):
        super().__init__()
        self.n_heads, self.n_kv_heads, self.head_dim = 4, 2, 4
        self.wq = nn.Linear(12, 16, bias=bias)
        self.wk, self.wv = nn.Linear(12, 8, bias=bias), nn.Linear(12, 8, bias=bias)
        self.wo = nn.Linear(16, 12, bias=bias)

    def forward(self, x):
        q = self.wq(x).unflatten(-1, (4, 4)).transpose(1, 2)
        k, v = (w(x).unflatten(-1, (2, 4)).repeat_interleave(2, dim=2).transpose(1, 2) for w in (self.wk, self.wv))
        scores = torch.matmul(q, k.transpose(2, 3)) / math.sqrt(self.head_dim)
        scores = scores + torch.full((x.shape[1], x.shape[1]), -math.inf, dtype=x.dtype).triu(1)
        return self.wo((F.softmax(scores, dim=-1) @ v).transpose(1, 2).flatten(2))


class DiffusionAttention(nn.Module):
    """to_q and to_k, as in models of images: a context of its own, a scale, softmax as a module."""

    def __init__(self):
        super().__init__()
        self.heads, self.scale = 3, 5**-0.5
        self.to_q, self.to_k, self.to_v = (nn.Linear(width, 15, bias=False) for width in (12, 7, 7))
        self.attend = nn.Softmax(dim=-1)
        self.to_out = nn.Linear(15, 12)
        self.norm_q = nn.Identity()  # where others have a norm

    def forward(self, x):
        context = x[..., 2:9].flip(1)
        q, k, v = (
            to(y).unflatten(-1, (3, 5)).transpose(1, 2)
            for to, y in ((self.to_q, x), (self.to_k, context), (self.to_v, context))
        )
        return self.to_out((self.attend(q @ k.mT * self.scale) @ v).transpose(1, 2).flatten(2))


class CausalSelfAttention(nn.Module):
    """c_attn as nn.Linear, as in nanoGPT, with either of its ways to the softmax."""

    def __init__(self, flash, bias=True):
        super().__init__()
        self.n_head, self.n_embd, self.flash = 3, 12, flash
        self.c_attn, self.c_proj = nn.Linear(12, 36, bias=bias), nn.Linear(12, 12, bias=bias)

    def forward(self, x):
        q, k, v = (y.unflatten(-1, (3, 4)).transpose(1, 2) for y in self.c_attn(x).split(self.n_embd, dim=2))
        if self.flash:
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=None, dropout_p=0.0, is_causal=True)
        else:
            logits = (q @ k.transpose(-2, -1)) * (1.0 / math.sqrt(k.size(-1)))
            hidden = torch.ones(x.shape[1], x.shape[1]).tril() == 0
            y = F.softmax(logits.masked_fill(hidden, float("-inf")), dim=-1) @ v
        return self.c_proj(y.transpose(1, 2).flatten(2))


class TorchAttention(nn.Module):
    """torch's own, called in the ways it can be."""

    def __init__(self, *, batch_first=True, bias=True, need_weights=False, mask="none", padding="none"):
        super().__init__()
        self.inner = nn.MultiheadAttention(12, 3, bias=bias, batch_first=batch_first)
        self.need_weights, self.mask, self.padding = need_weights, mask, padding

    def forward(self, x):
        batch, time, _ = x.shape
        hidden = torch.ones(time, time).triu(1).bool()
        apart = torch.rand(batch * 3, time, time, generator=torch.Generator().manual_seed(1)) < 0.3
        apart[:, :, 0] = False
        numbers = torch.randn(time, time, generator=torch.Generator().manual_seed(2)).double()
        masks = {"none": None, "causal": hidden, "numbers": numbers, "each head": apart}
        end = torch.arange(time) >= torch.tensor([[time], [time - 2], [time - 1]])
        y = x if self.inner.batch_first else x.transpose(0, 1)
        return self.inner(
            y,
            y.flip(2),
            y,
            attn_mask=masks[self.mask],
            key_padding_mask={"none": None, "end": end}[self.padding],
            need_weights=self.need_weights,
        )[0]


MODELS = {
    "wq and wk, shared keys": lambda: nn.Sequential(MetaAttention()),
    "wq and wk, biases": lambda: nn.Sequential(MetaAttention(bias=True)),
    "to_q and to_k": lambda: nn.Sequential(DiffusionAttention()),
    "c_attn, flash": lambda: nn.Sequential(CausalSelfAttention(flash=True)),
    "c_attn, by hand": lambda: nn.Sequential(CausalSelfAttention(flash=False, bias=False)),
    "torch's, plain": lambda: TorchAttention(),
    "torch's, weights wanted": lambda: TorchAttention(need_weights=True, mask="causal", padding="end"),
    "torch's, time first": lambda: TorchAttention(batch_first=False, bias=False, mask="numbers"),
    "torch's, padding": lambda: TorchAttention(padding="end"),
    "torch's, a mask for each head": lambda: TorchAttention(mask="each head", padding="end"),
    "torch's encoder layer": lambda: nn.TransformerEncoderLayer(12, 3, 16, dropout=0.0, batch_first=True),
}


def made(name):
    """A model with random weights in float64, and what goes in."""
    torch.manual_seed(0)
    model = MODELS[name]().double()
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(0.0, 0.5)
    return model, torch.randn(3, 6, 12, dtype=torch.float64)


def recorded_maxima(model, x):
    """Of each call, ``[calls, heads]``, the largest logit that torch's own softmax or attention gets."""
    model, seen = copy.deepcopy(model), []
    softmax, attention = F.softmax, F.scaled_dot_product_attention

    def see(logits):
        seen.append(logits.detach().unflatten(0, (-1, 3)) if logits.dim() == 3 else logits.detach())

    def seeing_softmax(logits, *args, **options):
        see(logits)
        return softmax(logits, *args, **options)

    def seeing_attention(q, k, v, attn_mask=None, dropout_p=0.0, is_causal=False):
        logits = q @ k.mT / math.sqrt(q.shape[-1])
        if is_causal:
            logits = logits.masked_fill(torch.ones(logits.shape[-2:]).triu(1).bool(), -math.inf)
        see(logits if attn_mask is None else logits + attn_mask)
        return attention(q, k, v, attn_mask=attn_mask, dropout_p=dropout_p, is_causal=is_causal)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(F, "softmax", seeing_softmax)
        patch.setattr(F, "scaled_dot_product_attention", seeing_attention)
        model(x)
    return torch.stack([logits.amax(dim=(0, 2, 3)) for logits in seen])


@pytest.mark.parametrize("name", MODELS)
def test_monitor_sees_what_the_softmax_gets(name):
    model, x = made(name)
    before = model(x)
    monitor = MaxLogitMonitor(model)
    assert torch.equal(model(x), before)
    (logits,), (bounds,) = monitor.max_logits().values(), monitor.norm_bounds().values()
    torch.testing.assert_close(logits, recorded_maxima(model, x)[0], rtol=1e-13, atol=0)
    if "numbers" not in MODELS[name].__code__.co_consts:  # which a bound by norms knows nothing of
        assert (bounds >= logits * (1 - 1e-12)).all()
    monitor.remove()
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize("name", [name for name in MODELS if name != "torch's, time first"])
def test_clipped_heads_meet_the_threshold_and_the_others_keep_their_bits(name):
    model, x = made(name)
    before = recorded_maxima(model, x)[0]
    threshold = float(before.sort().values[-2:].mean())
    assert threshold > 0
    optimizer = QKClip(torch.optim.SGD(model.parameters(), lr=0.0), model, threshold)
    model(x).logsumexp(dim=-1).sum().backward()
    optimizer.step()
    after = recorded_maxima(model, x)[0]
    loud = before > threshold
    assert loud.sum() == optimizer.history[-1].heads_clipped == 1
    torch.testing.assert_close(after[loud], torch.full_like(after[loud], threshold), rtol=0, atol=1e-9)
    assert torch.equal(after[~loud], before[~loud])


def test_numbers_that_a_mask_adds_are_part_of_the_logit_but_do_not_scale():
    model, x = made("torch's, time first")
    optimizer = QKClip(torch.optim.SGD(model.parameters(), lr=0.0), model, 0.1)
    model(x).logsumexp(dim=-1).sum().backward()
    optimizer.step()
    torch.testing.assert_close(optimizer.history[-1].measured, recorded_maxima(made("torch's, time first")[0], x)[0])


@pytest.mark.parametrize("unbatched", [False, True])
def test_every_layer_of_torchs_encoder_and_decoder_is_seen_under_its_name(unbatched):
    torch.manual_seed(0)
    model = nn.Transformer(12, 4, 2, 2, 16, dropout=0.0, batch_first=True).double()
    monitor = MaxLogitMonitor(model)
    x = torch.randn(*(() if unbatched else (2,)), 5, 12, dtype=torch.float64)
    mask = nn.Transformer.generate_square_subsequent_mask(5, dtype=torch.float64)
    model(x, x.flip(-1), tgt_mask=mask, tgt_is_causal=True)
    seen = monitor.max_logits()
    assert list(seen) == [
        *(f"encoder.layers.{i}.self_attn" for i in range(2)),
        *(f"decoder.layers.{i}.{name}" for i in range(2) for name in ("self_attn", "multihead_attn")),
    ]
    q, k = (F.linear(x, model.encoder.layers[0].self_attn.in_proj_weight[part]) for part in (slice(12), slice(12, 24)))
    logits = torch.einsum("...ihd,...jhd->...hij", q.unflatten(-1, (4, 3)), k.unflatten(-1, (4, 3))) / 3**0.5
    expected = logits.amax(dim=(-1, -2)).reshape(-1, 4).amax(dim=0)
    torch.testing.assert_close(seen["encoder.layers.0.self_attn"], expected, rtol=1e-12, atol=0)


# --- layouts of one's own --------------------------------------------------------------------------------------------


class Mixer(nn.Module):
    """Names that no table has; k and v in one, v first; no word of how many heads."""

    def __init__(self):
        super().__init__()
        self.asks, self.answers = nn.Linear(12, 8), nn.Linear(12, 20)

    def forward(self, x):
        q, (v, k) = self.asks(x), self.answers(x).split((12, 8), dim=-1)
        q, k, v = (y.unflatten(-1, (2, -1)).transpose(1, 2) for y in (q, k, v))
        return ((q @ k.mT).softmax(dim=-1) @ v).transpose(1, 2).flatten(2)


def mixers_layout(module):
    pair = Part("asks", heads=2, size=4, stride=4), Part("answers", heads=2, size=4, stride=4, offset=12)
    return Layout(heads=2, scaling=1.0, pairs=(pair,), values=(Part("answers", heads=2, size=6, stride=6),))


def test_a_layout_that_is_given_is_clipped_as_exactly():
    torch.manual_seed(0)
    model = nn.Sequential(Mixer()).double()
    x = torch.randn(3, 6, 12, dtype=torch.float64)
    before = recorded_maxima_of_mixer(model, x)
    values = model[0].answers.weight[:12].detach().clone()
    threshold = float(before.mean())
    optimizer = QKClip(torch.optim.SGD(model.parameters(), lr=0.0), model, threshold, layouts={Mixer: mixers_layout})
    model(x).sum().backward()
    optimizer.step()
    torch.testing.assert_close(optimizer.history[-1].max_logits["0"], before, rtol=1e-13, atol=0)
    torch.testing.assert_close(recorded_maxima_of_mixer(model, x), before.clamp(max=threshold), rtol=0, atol=1e-9)
    assert torch.equal(model[0].answers.weight[:12], values)


def recorded_maxima_of_mixer(model, x):
    q, k = model[0].asks(x).unflatten(-1, (2, 4)), model[0].answers(x)[..., 12:].unflatten(-1, (2, 4))
    return torch.einsum("bihd,bjhd->bhij", q, k).amax(dim=(0, 2, 3)).detach()


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        (Layout.separate("ask", "answers", heads=2, size=4), "Mixer has no linear map 'ask'"),
        (Layout.separate("asks", "answers", heads=2, size=5), "Mixer.asks has 8 output features: expected 10, 2 heads"),
        (Layout.separate("asks", "answers", heads=3, size=2, key_heads=2), "expected 3 query heads, a divisor"),
    ],
)
def test_a_layout_that_does_not_fit_is_refused(layout, message):
    with pytest.raises(ValueError, match=message):
        MaxLogitMonitor(nn.Sequential(Mixer()), layouts={Mixer: lambda module: layout})


def test_without_it_the_module_is_not_known():
    with pytest.raises(ValueError, match=r"Sequential has no attention module: .*or a layout of the class in layouts"):
        MaxLogitMonitor(nn.Sequential(Mixer()))


class NormedAttention(DiffusionAttention):
    def __init__(self):
        super().__init__()
        self.norm_q = nn.LayerNorm(5)


class ForeignKeysAttention(DiffusionAttention):
    def __init__(self):
        super().__init__()
        self.add_k_proj = nn.Linear(12, 15)


class FusedAttention(nn.Module):
    """One projection under a name that says nothing of its order."""

    def __init__(self):
        super().__init__()
        self.num_heads, self.qkv = 2, nn.Linear(8, 24)


class Adapted(nn.Module):
    """A projection as PEFT leaves it."""

    def __init__(self, base_layer):
        super().__init__()
        self.base_layer, self.lora_A = base_layer, nn.Linear(12, 2)


class AdaptedAttention(DiffusionAttention):
    def __init__(self):
        super().__init__()
        self.to_q = Adapted(self.to_q)


def shared_keys_in_nanogpt():
    module = CausalSelfAttention(flash=True)
    module.c_attn = nn.Linear(12, 20)
    return module


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (NormedAttention, r"0 \(NormedAttention\) normalizes queries and keys \(norm_q\)"),
        (ForeignKeysAttention, r"0 \(ForeignKeysAttention\) projects other keys beside its own \(add_k_proj\)"),
        (AdaptedAttention, r"0 \(AdaptedAttention\) has adapters on to_q \(PEFT\)"),
        (FusedAttention, r"0 \(FusedAttention\) makes its queries and keys in a way that is not known .*qkv"),
        (shared_keys_in_nanogpt, "CausalSelfAttention.c_attn has 20 output features: expected 36"),
    ],
)
def test_what_only_looks_like_a_known_one_is_refused_by_name(make, message):
    with pytest.raises(ValueError, match=message):
        MaxLogitMonitor(nn.Sequential(make()))


# --- without transformers --------------------------------------------------------------------------------------------


def test_plain_modules_are_clipped_and_muoned_where_transformers_is_not_installed():
    program = """
import sys
sys.modules["transformers"] = None  # importing it is an error
import torch
from torch import nn
from hmpo_lib.optim import MuonClip, QKClip
model = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2, enable_nested_tensor=False)
for made in ("QKClip(torch.optim.AdamW(model.parameters()), model, 1e-3)", "MuonClip(model, threshold=1e-3)"):
    optimizer = eval(made)
    model(torch.randn(2, 3, 8)).square().sum().backward()
    optimizer.step()
    assert optimizer.history[-1].heads_clipped > 0
"""
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)


def test_torchs_own_projection_of_q_k_and_v_is_three_matrices_of_muon():
    model = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0), 1, enable_nested_tensor=False)
    weight = model.layers[0].self_attn.in_proj_weight
    apart = [nn.Parameter(part.detach().clone()) for part in weight.chunk(3)]
    weight.grad = torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
    for part, gradient in zip(apart, weight.grad.chunk(3), strict=True):
        part.grad = gradient.clone()
    MuonAdamW(model, 0.02).step()
    torch.optim.Muon(apart, lr=0.02, adjust_lr_fn="match_rms_adamw").step()
    assert torch.equal(weight, torch.cat(apart))
