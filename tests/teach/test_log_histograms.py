"""Bins of log-ratios: the outermost take what lies beyond."""

import torch

from hmpo_lib.teach.shared.log_histograms import bin_shares


def test_outermost_bins_take_what_lies_beyond():
    shares = bin_shares(torch.tensor([-9.0, 0.0, 0.0, 9.0]), limit=0.7, bins=61)
    assert (shares[0], shares[30], shares[-1]) == (0.25, 0.5, 0.25)
