import copy

import torch
from torch import nn

from v2w_convert.operations import FrameNorm
from v2w_convert.sites import ForwardContext


def pair() -> tuple[nn.GroupNorm, nn.GroupNorm]:
    torch.manual_seed(0)
    base = nn.GroupNorm(2, 6).double()
    nn.init.normal_(base.weight)
    nn.init.normal_(base.bias)
    site = copy.deepcopy(base)
    FrameNorm(at="x").install(site, "site", 0)
    return base, site


def test_the_invariant_holds_and_breaks() -> None:
    base, site = pair()
    with torch.no_grad():
        assert all(
            k.ok
            for k in FrameNorm(at="x").check_invariants(base, site, torch.Generator().manual_seed(0), 1e-7)
        )
        site.weight[0] += 1e-6
        assert not any(
            k.ok
            for k in FrameNorm(at="x").check_invariants(base, site, torch.Generator().manual_seed(0), 1e-7)
        )


def test_statistics_are_a_frames_own_and_the_two_sided_form_is_the_base() -> None:
    base, site = pair()
    x = torch.randn(2, 6, 5, 4, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    folded = x.movedim(2, 1).flatten(0, 1).unsqueeze(2)
    for bidirectional in (False, True):
        site.context = ForwardContext(b=2, t=5, cursor=torch.tensor(0), bidirectional=bidirectional)
        found = site(folded).squeeze(2).unflatten(0, (2, 5)).movedim(1, 2)
        frame_by_frame = torch.cat([base(x[:, :, [t]]) for t in range(5)], 2)
        expected, other = (base(x), frame_by_frame) if bidirectional else (frame_by_frame, base(x))
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-14)
        assert not torch.allclose(found, other)
