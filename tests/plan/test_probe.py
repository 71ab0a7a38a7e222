import copy
import re
from collections.abc import Callable
from typing import Any

import diffusers
import pytest
import torch
from diffusers.models.embeddings import get_3d_rotary_pos_embed
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

from v2w_convert.errors import V2WError
from v2w_convert.plan.probe import first_leak, mixing_sites, randomize_zero_init

T = 5  # unlike every other size below
TEXT = 7


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def names(model: nn.Module, latents: Tensor, frame_axis: int = 1) -> list[str]:
    return [site.name for site in mixing_sites(model, model, latents, frame_axis)]


# ------------------------------------------------------------------------------------------- diffusers, float64


def svd() -> tuple[Any, Tensor, dict]:
    model = diffusers.UNetSpatioTemporalConditionModel(
        block_out_channels=(32, 64),
        down_block_types=("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
        up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
        cross_attention_dim=16,
        num_attention_heads=2,
        layers_per_block=1,
        sample_size=8,
        projection_class_embeddings_input_dim=24,
        addition_time_embed_dim=8,
    )
    ids = torch.tensor([[6, 127, 0.02]], dtype=torch.float64).expand(2, -1)
    return model, random(2, T, 8, 8, 8), {"encoder_hidden_states": random(2, 1, 16), "added_time_ids": ids}


def unet3d() -> tuple[Any, Tensor, dict]:
    model = diffusers.UNet3DConditionModel(
        block_out_channels=(8, 16),
        norm_num_groups=4,
        down_block_types=("CrossAttnDownBlock3D", "DownBlock3D"),
        up_block_types=("UpBlock3D", "CrossAttnUpBlock3D"),
        cross_attention_dim=8,
        attention_head_dim=2,
        layers_per_block=1,
        sample_size=8,
    )
    return model, random(1, 4, T, 8, 8), {"encoder_hidden_states": random(1, TEXT, 8)}


def wan() -> tuple[Any, Tensor, dict]:
    model = diffusers.WanTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=4,
        out_channels=4,
        text_dim=16,
        freq_dim=32,
        ffn_dim=32,
        num_layers=2,
        rope_max_seq_len=32,
    )
    return model, random(2, 4, T, 8, 8), {"encoder_hidden_states": random(2, TEXT, 16)}


def cogvideox() -> tuple[Any, Tensor, dict]:
    model = diffusers.CogVideoXTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=16,
        in_channels=4,
        out_channels=4,
        time_embed_dim=4,
        text_embed_dim=8,
        num_layers=2,
        sample_width=8,
        sample_height=8,
        sample_frames=(T - 1) * 4 + 1,
        max_text_seq_length=TEXT,
        use_rotary_positional_embeddings=True,
    )
    rotary = get_3d_rotary_pos_embed(16, ((0, 0), (4, 4)), (4, 4), T)
    return (
        model,
        random(2, T, 4, 8, 8),
        {"encoder_hidden_states": random(2, TEXT, 8), "image_rotary_emb": rotary},
    )


def latte() -> tuple[Any, Tensor, dict]:
    model = diffusers.LatteTransformer3DModel(
        sample_size=8,
        num_layers=2,
        patch_size=2,
        attention_head_dim=8,
        num_attention_heads=2,
        caption_channels=8,
        in_channels=4,
        cross_attention_dim=16,
        out_channels=8,
        norm_type="ada_norm_single",
        norm_elementwise_affine=False,
        num_embeds_ada_norm=1000,
        video_length=T,
    )
    return model, random(1, 4, T, 8, 8), {"encoder_hidden_states": random(1, TEXT, 8)}


def sana() -> tuple[Any, Tensor, dict]:
    model = diffusers.SanaVideoTransformer3DModel(
        in_channels=4,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=12,
        num_layers=2,
        num_cross_attention_heads=2,
        cross_attention_head_dim=12,
        cross_attention_dim=24,
        caption_channels=16,
        sample_size=8,
        qk_norm="rms_norm_across_heads",
        rope_max_seq_len=32,
    )
    return model, random(1, 4, T, 8, 8), {"encoder_hidden_states": random(1, TEXT, 16)}


SITES = {
    svd: (36, r".*\.temporal_res_block\.(norm|conv)[12]|.*\.temporal_transformer_blocks\.\d+\.attn1"),
    unet3d: (
        79,
        r".*\.temp_convs\.\d+\.conv(1\.[02]|[234]\.[03])"  # each convolution and the norm before it
        r"|(transformer_in|.*\.temp_attentions\.\d+)\.(norm|transformer_blocks\.\d+\.attn[12])",
    ),
    wan: (2, r"blocks\.\d+\.attn1"),
    cogvideox: (2, r"transformer_blocks\.\d+\.attn1"),
    latte: (2, r"temporal_transformer_blocks\.\d+\.attn1"),
    sana: (4, r"transformer_blocks\.\d+\.(attn1|ff\.conv_temp)"),
}


@pytest.mark.parametrize("build", SITES, ids=lambda build: build.__name__)
def test_sites_of_diffusers_models(build: Callable) -> None:
    count, pattern = SITES[build]
    model, latents, rest = build()
    model.eval().double()
    randomize_zero_init(model)
    b = latents.shape[0]

    def call(x: Tensor) -> Tensor:
        return model(x, timestep=torch.full((b,), 500), **rest, return_dict=False)[0]

    sites = mixing_sites(model, call, latents, frame_axis=latents.shape.index(T))
    modules = dict(model.named_modules())
    assert sorted(site.name for site in sites) == sorted(
        name for name in modules if re.fullmatch(pattern, name)
    )
    assert len(sites) == count
    for site in sites:
        assert site.future
        assert site.past
        assert site.largest > 1e-3
        assert site.module == type(modules[site.name]).__name__


# ------------------------------------------------------------------------------------- hand-written, (b t c h w)

LATENTS = random(2, T, 4, 3, 6)


class Over(nn.Conv3d):
    """A convolution over time of (b t c h w), with `before` and `after` frames of padding."""

    def __init__(self, before: int, after: int, channels: int = 4):
        super().__init__(channels, channels, (1 + before + after, 1, 1), dtype=torch.float64)
        self.before, self.after = before, after

    def forward(self, x: Tensor) -> Tensor:
        padded = functional.pad(rearrange(x, "b t c h w -> b c t h w"), (0, 0, 0, 0, self.before, self.after))
        return rearrange(super().forward(padded), "b c t h w -> b t c h w")


class Gated(nn.Module):
    """x + gate * inner(x)"""

    def __init__(self, inner: nn.Module, gate: float) -> None:
        super().__init__()
        self.inner = inner
        self.gate = nn.Parameter(torch.full((4, 1, 1), gate, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.gate * self.inner(x)


class PerFrame(nn.Module):
    """Frame-local, through layouts that all differ: (b t) c h w; (b h w) t c; b (t h w) c."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(2, 4, dtype=torch.float64)
        self.conv = nn.Conv2d(4, 4, 3, padding=1, dtype=torch.float64)
        self.linear = nn.Linear(4, 4, dtype=torch.float64)
        self.gate = nn.GLU(dim=2)

    def forward(self, x: Tensor) -> Tensor:
        b, _, _, h, w = x.shape
        x = self.conv(self.norm(rearrange(x, "b t c h w -> (b t) c h w")))
        x = self.linear(rearrange(x, "(b t) c h w -> (b h w) t c", b=b))
        x = rearrange(x, "(b h w) t c -> b (t h w) c", b=b, h=h)
        x = self.gate(torch.cat([x, x.sin()], 2))
        return rearrange(x, "b (t h w) c -> b t c h w", h=h, w=w)


class Centre(nn.Module):
    """Mixes functionally, and only then calls its child."""

    def __init__(self) -> None:
        super().__init__()
        self.child = nn.Linear(6, 6, dtype=torch.float64)

    def forward(self, x: Tensor) -> Tensor:
        return self.child(x - x.mean(1, keepdim=True))


class MixAndSwap(nn.Module):
    """Mixes along the first axis after the batch while it swaps that axis with the next."""

    def forward(self, x: Tensor) -> Tensor:
        return (x + x.mean(1, keepdim=True)).transpose(1, 2)


def test_frame_local_model_has_no_sites() -> None:
    assert names(nn.Sequential(PerFrame(), PerFrame()), LATENTS) == []


def test_functional_mixing_is_the_module_s_own_and_later_ones_are_judged_by_themselves() -> None:
    model = nn.Sequential(PerFrame(), Centre(), PerFrame(), Over(1, 1), PerFrame())
    assert names(model, LATENTS) == ["1", "3"]


def test_functional_mixing_of_the_model_itself() -> None:
    model = Centre()
    (site,) = mixing_sites(model, model, LATENTS, frame_axis=1)
    assert (site.name, site.module, site.future, site.past) == ("", "Centre", True, True)


def test_direction_of_each_site_in_a_series() -> None:
    model = nn.Sequential(Over(1, 1), Over(2, 0), Over(0, 2), Over(0, 0))
    sites = mixing_sites(model, model, LATENTS, frame_axis=1)
    assert [(s.name, s.future, s.past) for s in sites] == [
        ("0", True, True),
        ("1", False, True),
        ("2", True, False),
    ]


def test_shift_by_one_frame_is_a_site() -> None:
    """No element of the output depends on two frames, yet each belongs to another frame than it came from."""
    model: Any = Gated(Over(1, 0), gate=1.0)
    with torch.no_grad():
        model.inner.weight[:, :, 1] = 0
    (site,) = mixing_sites(model, model, LATENTS, frame_axis=1)
    assert (site.name, site.future, site.past) == ("inner", False, True)


def test_largest_change() -> None:
    model: Any = nn.Sequential(Over(0, 1))
    with torch.no_grad():  # frame t becomes the sum of t and t + 1
        model[0].weight.copy_(torch.eye(4)[..., None, None, None].expand(4, 4, 2, 1, 1))
    last_frame_moved: list[Tensor] = []

    def call(x: Tensor) -> Tensor:
        last_frame_moved.append((x - LATENTS)[:, -1].abs().max())
        return model(x)

    (site,) = mixing_sites(model, call, LATENTS, frame_axis=1)
    assert (site.future, site.past) == (True, False)
    assert site.largest == pytest.approx(float(max(last_frame_moved)), rel=1e-12)


def test_order_is_that_of_the_data_not_of_registration() -> None:
    class Backwards(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.second, self.first = Over(1, 0), Over(1, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.second(x=self.first(x))

    model = Backwards()
    assert names(model, LATENTS) == ["first", "second"]


def test_module_called_several_times_is_reported_once() -> None:
    class Thrice(nn.Module):
        """Softmax over channels, over frames, over channels."""

        def __init__(self) -> None:
            super().__init__()
            self.softmax = nn.Softmax(1)

        def forward(self, x: Tensor) -> Tensor:
            x = rearrange(
                self.softmax(rearrange(x, "b t c h w -> (b t) c h w")), "(b t) c h w -> b t c h w", t=T
            )
            x = self.softmax(x)
            return rearrange(self.softmax(rearrange(x, "b t c h w -> b c t h w")), "b c t h w -> b t c h w")

    assert names(Thrice(), LATENTS) == ["softmax"]


class Conditioned(nn.Module):
    """On b c t h w. One fifth of the channels are latents, as one of five frames is changed."""

    def __init__(self, kernel: int, centred: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv3d(20, 20, (kernel, 1, 1), padding=(kernel // 2, 0, 0), dtype=torch.float64)
        self.centred = centred

    def forward(self, x: Tensor) -> Tensor:
        x = x - x.mean(2, keepdim=True) if self.centred else x
        return self.conv(torch.cat([x, torch.ones_like(x).repeat(1, 4, 1, 1, 1)], 1))


@pytest.mark.parametrize(
    ("model", "sites"),
    [
        (Conditioned(1), []),
        (Conditioned(3), ["conv"]),
        (Conditioned(1, True), [""]),
        (Conditioned(3, True), [""]),
    ],
)
def test_concatenated_channels_are_not_taken_for_frames(model: nn.Module, sites: list[str]) -> None:
    assert names(model, rearrange(LATENTS, "b t c h w -> b c t h w"), frame_axis=2) == sites


def test_channels_that_are_dead_in_some_frames_are_not_taken_for_frames() -> None:
    class Dead(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (
                x * (torch.arange(T)[:, None] != torch.arange(4))[:, :, None, None]
            )  # frame t lacks channel t

    assert names(nn.Sequential(Dead(), Over(0, 0)), LATENTS) == []


def test_expert_that_gets_a_number_of_tokens_of_its_own_is_left_to_its_parent() -> None:
    class Expert(nn.Module):
        def __init__(self, mix: Callable[[Tensor], Tensor]) -> None:
            super().__init__()
            self.linear, self.mix = nn.Linear(4, 4, dtype=torch.float64), mix

        def forward(self, x: Tensor) -> Tensor:
            y = rearrange(x, "b t c h w -> b t h w c").clone()
            chosen = y[..., 0] > 0
            y[chosen] = self.mix(self.linear(y[chosen]))
            return rearrange(y, "b t h w c -> b t c h w")

    assert names(nn.Sequential(Expert(torch.sin), Over(1, 1)), LATENTS) == ["1"]
    assert names(nn.Sequential(Expert(lambda tokens: tokens - tokens.mean(0)), Over(1, 1)), LATENTS) == [
        "0",
        "1",
    ]


def test_text_that_saw_the_video_belongs_to_no_frame() -> None:
    class Joint(nn.Module):
        def forward(self, video: Tensor, text: Tensor) -> dict[str, Tensor | None]:
            """Video is left as it is: only the text mixes."""
            return {"video": video.clone(), "none": None, "text": text + video.mean((1, 3, 4))[:, None]}

    class Reader(nn.Module):
        def forward(self, video: Tensor, text: Tensor) -> Tensor:
            return video * text.mean(1)[:, None, :, None, None]

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.joint, self.reader = Joint(), Reader()

        def forward(self, x: Tensor) -> Tensor:
            return self.reader(
                **{k: v for k, v in self.joint(x, random(2, TEXT, 4)).items() if v is not None}
            )

    assert names(Model(), LATENTS) == ["joint"]


def test_zero_initialised_site_shows_after_waking() -> None:
    model: Any = nn.Sequential(PerFrame(), Gated(Over(1, 1), gate=0.0))
    nn.init.zeros_(model[1].inner.weight)
    assert names(model, LATENTS) == []
    assert randomize_zero_init(model) == 2 + 1  # the gate, the weight, the norm's bias
    assert names(model, LATENTS) == ["1.inner"]


def test_convolution_that_starts_as_the_identity_shows_after_waking() -> None:
    model: Any = nn.Sequential(Over(1, 1))
    nn.init.dirac_(model[0].weight)
    assert names(model, LATENTS) == []
    randomize_zero_init(model)
    assert names(model, LATENTS) == ["0"]


def test_model_is_left_as_it_was_even_after_an_exception() -> None:
    model = nn.Sequential(Over(1, 1), Over(1, 0))
    weights = copy.deepcopy(model.state_dict())
    before = LATENTS.clone()
    runs = 0

    def fails_at(run: int) -> Callable[[Tensor], Tensor]:
        def call(x: Tensor) -> Tensor:
            nonlocal runs
            runs += 1
            assert not torch.is_grad_enabled()
            output = model(x)
            if runs == run:
                raise RuntimeError("on purpose")
            return output

        return call

    for run in (1, 2, 3, 4):
        runs = 0
        with pytest.raises(RuntimeError, match="on purpose"):
            mixing_sites(model, fails_at(run), LATENTS, frame_axis=1)
        assert runs == run
        assert not any(module._forward_hooks for module in model.modules())
    assert names(model, LATENTS) == ["0", "1"]
    assert not any(module._forward_hooks for module in model.modules())
    assert torch.equal(LATENTS, before)
    assert all(torch.equal(weights[name], value) for name, value in model.state_dict().items())


def test_refusals() -> None:
    with pytest.raises(V2WError, match="latents of 1 frame"):
        mixing_sites(PerFrame(), PerFrame(), LATENTS[:, :1], frame_axis=1)
    with pytest.raises(V2WError, match="returns 5 frames on axis 1"):
        mixing_sites(PerFrame(), lambda x: x.transpose(1, 2), LATENTS, frame_axis=1)
    blind: Any = nn.Sequential(PerFrame(), Over(0, 0))
    nn.init.zeros_(blind[1].weight)
    with pytest.raises(
        V2WError, match=r"changing frame 4 does not change its own output.*randomize_zero_init"
    ):
        names(blind, LATENTS)
    swallowed = nn.Sequential(PerFrame(), MixAndSwap(), MixAndSwap())
    with pytest.raises(V2WError, match=r"changing frame 4 does not change its own output.*'1'"):
        names(swallowed, LATENTS)


# ------------------------------------------------------------------------------------------------------- waking


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_randomize_zero_init_changes_what_could_hide_a_site_and_nothing_else(dtype: torch.dtype) -> None:
    def build() -> Any:
        torch.manual_seed(0)
        zero, live, flat = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)
        nn.init.zeros_(zero.weight)
        nn.init.constant_(flat.weight, 0.5)
        model = nn.ModuleDict({"norm": nn.GroupNorm(2, 4), "zero": zero, "live": live, "flat": flat})
        return model.to(dtype)

    before, model, again, other = build().state_dict(), build(), build(), build()
    with torch.no_grad():
        for m in (model, again, other):
            m["live"].weight[0, 0] = 0
    assert randomize_zero_init(model) == randomize_zero_init(again) == randomize_zero_init(other, seed=1) == 4
    after = model.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"norm.bias", "zero.weight", "live.weight", "flat.weight"}
    assert torch.equal(before["live.weight"].flatten()[1:], after["live.weight"].flatten()[1:])
    for name in changed:
        assert after[name].dtype == dtype
        assert (after[name] != 0).all()
        assert torch.equal(after[name], again.state_dict()[name])
        assert not torch.equal(after[name], other.state_dict()[name])
    assert randomize_zero_init(model) == 0


def test_randomize_zero_init_samples_the_same_in_every_dtype() -> None:
    double, half = nn.Linear(4, 4, dtype=torch.float64), nn.Linear(4, 4, dtype=torch.bfloat16)
    for layer in (double, half):
        nn.init.zeros_(layer.weight)
        randomize_zero_init(layer)
    assert torch.equal(double.weight.bfloat16(), half.weight)


# -------------------------------------------------------------------------------------------------- folded models


class Site(nn.Module):
    """Unfolds (b t) n d, lets frames see each other by `mix` (b t n d -> b t n d), folds."""

    def __init__(self, mix: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.mix = mix

    def forward(self, x: Tensor) -> Tensor:
        return rearrange(self.mix(rearrange(x, "(b t) n d -> b t n d", t=T)), "b t n d -> (b t) n d")


class Block(nn.Module):
    """Before the site, each token is a batch row of its own: a leading axis of b t n."""

    def __init__(self, mix: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.before, self.after = nn.Linear(6, 6, dtype=torch.float64), nn.Linear(6, 6, dtype=torch.float64)
        self.site = Site(mix)

    def forward(self, x: Tensor) -> Tensor:
        n = x.shape[1]
        x = rearrange(self.before(rearrange(x, "bt n d -> (bt n) d")), "(bt n) d -> bt n d", n=n)
        return self.after(self.site(x))


class Folded(nn.Module):
    def __init__(self, *mixes: Callable[[Tensor], Tensor], outside: bool = False) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*[Block(mix) for mix in mixes])
        self.outside = outside

    def forward(self, x: Tensor) -> Tensor:
        y = rearrange(self.blocks(rearrange(x, "b t c h w -> (b t) (c h) w")), "(b t) n d -> b t n d", t=T)
        return y - y.mean(1, keepdim=True) if self.outside else y


def causal(x: Tensor) -> Tensor:
    return x.cumsum(1)


def full(x: Tensor) -> Tensor:
    return x - x.mean(1, keepdim=True)


def ahead(x: Tensor) -> Tensor:
    """Only frame 1 sees the future: frame 2."""
    return torch.cat([x[:, :1], x[:, 1:2] + x[:, 2:3], x[:, 2:]], 1)


class Convolved(nn.Module):
    """Looks both ways in a child that works on the unfolded clip (b t n d); keeps of it what `keep` says."""

    def __init__(self, keep: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.conv, self.keep = nn.Conv2d(T, T, 1, dtype=torch.float64), keep

    def forward(self, x: Tensor) -> Tensor:
        return x + self.keep(self.conv(x))


def changed_after(t: int) -> Tensor:
    changed = LATENTS.clone()
    changed[:, t + 1 :] += 1 + random(*changed[:, t + 1 :].shape).abs()
    return changed


def leaks(model: nn.Module) -> list[str | None]:
    return [first_leak(model, model, LATENTS, changed_after(t), t) for t in range(T - 1)]


def test_causal_folded_model_leaks_nowhere() -> None:
    assert leaks(Folded(causal, causal)) == [None] * (T - 1)


def test_first_leak_is_the_first_leaf_most_module() -> None:
    assert leaks(Folded(causal, full, causal, full)) == ["blocks.1.site"] * (T - 1)


def test_first_leak_depends_on_the_frame() -> None:
    assert leaks(Folded(causal, ahead, full)) == [
        "blocks.2.site",
        "blocks.1.site",
        "blocks.2.site",
        "blocks.2.site",
    ]
    assert leaks(Folded(causal, ahead)) == [None, "blocks.1.site", None, None]


def test_leak_in_a_module_on_rows_of_a_frame() -> None:
    class Rows(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return rearrange(full(rearrange(x, "(b t h) w -> b t h w", t=T, h=12)), "b t h w -> (b t h) w")

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rows = Rows()

        def forward(self, x: Tensor) -> Tensor:
            return self.rows(rearrange(x, "b t c h w -> (b t c h) w")).reshape(x.shape)

    assert leaks(Model()) == ["rows"] * (T - 1)


def test_leak_outside_every_module() -> None:
    assert leaks(Folded(causal, outside=True)) == [""] * (T - 1)


def test_child_on_the_unfolded_clip_is_not_blamed() -> None:
    assert leaks(Folded(causal, Convolved(torch.zeros_like))) == [None] * (T - 1)
    assert leaks(Folded(causal, Convolved(torch.Tensor.clone))) == ["blocks.1.site"] * (T - 1)


def test_leak_of_a_module_called_twice() -> None:
    class Twice(nn.Module):
        """The first call sees frame t alone, the second all frames, through one and the same module."""

        def __init__(self) -> None:
            super().__init__()
            self.calls = 0
            self.site = Site(lambda x: full(x) if self.calls % 2 else causal(x))

        def forward(self, x: Tensor) -> Tensor:
            self.calls = 0
            x = self.site(rearrange(x, "b t c h w -> (b t) (c h) w"))
            self.calls = 1
            return rearrange(self.site(x), "(b t) n d -> b t n d", t=T)

    assert leaks(Twice()) == ["site"] * (T - 1)


def test_first_leak_removes_its_hooks() -> None:
    model = Folded(full)

    def call(x: Tensor) -> Tensor:
        model(x)
        raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError, match="on purpose"):
        first_leak(model, call, LATENTS, changed_after(0), 0)
    assert leaks(model) == ["blocks.0.site"] * (T - 1)
    assert not any(module._forward_hooks for module in model.modules())
