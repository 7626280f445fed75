"""MuonClip: Muon for the matrices, AdamW for the rest, QK-Clip over both, and the monitor of the attention logits."""

from hmpo_lib.optim.clip_record import ClipRecord
from hmpo_lib.optim.layouts import Layout, Part
from hmpo_lib.optim.max_logits import MaxLogitMonitor
from hmpo_lib.optim.muon import MuonAdamW
from hmpo_lib.optim.qk_clip import MuonClip, QKClip

__all__ = ["ClipRecord", "Layout", "MaxLogitMonitor", "MuonAdamW", "MuonClip", "Part", "QKClip"]
