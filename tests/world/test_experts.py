"""A world with two denoisers: which one is asked, what its stream keeps, and that it is a module like any other."""

import copy
import pickle  # noqa: TID251 (the product never unpickles; this test only what it has just written)
from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers import UniPCMultistepScheduler, WanPipeline
from torch import Tensor, nn

from tests.autoencoders import tiny_autoencoder
from tests.pairs import BOUNDARY, SCHEDULER
from tests.tiny import tiny_model, tiny_world
from v2w_convert import convert_module
from v2w_convert.errors import V2WError
from v2w_convert.plan.probe import randomize_zero_init
from v2w_convert.sites import State
from v2w_convert.verification.engine.inputs import latent_size, random_inputs, slice_of
from v2w_convert.world.experts import ExpertsWorld
from v2w_convert.world.model import World
from v2w_convert.world.rollout import Sampling

HIGH, LOW = 0.95, 0.3  # a level in each range


def tiny_experts(**view: int) -> ExpertsWorld:
    worlds = []
    for seed in (0, 1):
        world = tiny_world("wan", seed=seed, **{"window": 4, **view}).requires_grad_(False)
        randomize_zero_init(world.base)
        worlds.append(world)
    return ExpertsWorld(*worlds, BOUNDARY).eval()


def recorded(world: ExpertsWorld) -> list[tuple[str, bool, list[float]]]:
    """From now on, every call: the expert, whether it commits, and the levels."""
    calls: list[tuple[str, bool, list[float]]] = []
    for name, expert in world.experts.items():

        def streamed(
            state: State, latents: Tensor, level: Tensor, *args: Any, _name: str = name, **kwargs: Any
        ) -> Any:
            calls.append((_name, kwargs["commit"], level.flatten().tolist()))
            return World.forward_streamed(world.experts[_name], state, latents, level, *args, **kwargs)

        def whole(module: nn.Module, args: Any, kwargs: Any, _name: str = name) -> None:
            calls.append((_name, False, kwargs.get("noise_level", args[1:2] and args[1]).flatten().tolist()))

        expert.forward_streamed = streamed  # type: ignore[method-assign,assignment]
        expert.register_forward_pre_hook(whole, with_kwargs=True)
    return calls


@torch.no_grad()
def test_each_frame_is_predicted_by_the_expert_of_its_level() -> None:
    world = tiny_experts()
    inputs = random_inputs(world, 2, 6, seed=0)
    inputs["noise_level"] = torch.tensor([[HIGH, LOW, 0.0, BOUNDARY, 1.0, 0.874], [LOW] * 3 + [HIGH] * 3])
    high = torch.tensor([[True, False, False, True, True, False], [False] * 3 + [True] * 3])
    output = world(**inputs)
    assert torch.equal(output[high], world.high(**inputs)[high])
    assert torch.equal(output[~high], world.low(**inputs)[~high])


@torch.no_grad()
def test_an_expert_that_no_frame_needs_is_not_called() -> None:
    world = tiny_experts()
    inputs = random_inputs(world, 1, 4, seed=0)
    calls = recorded(world)
    for level in (HIGH, LOW):
        world(**inputs | {"noise_level": torch.full((1, 4), level)})
    assert [name for name, _, _ in calls] == ["high", "low"]


@torch.no_grad()
@pytest.mark.parametrize("n", [1, 2])
def test_a_stream_equals_one_pass(n: int) -> None:
    """Past the window, committed and not, levels of both ranges among the frames: the history is in both states."""
    world = tiny_experts(window=4, frames_per_block=n).double()
    t = 8
    inputs = random_inputs(world, 2, t, seed=0)
    level = torch.tensor([[HIGH, LOW, LOW, HIGH] * 2, [LOW, LOW, HIGH, HIGH] * 2])
    inputs["noise_level"] = level[:, : t // n].repeat_interleave(n, 1)
    expected = world(**inputs)
    state = world.empty_state(2, *latent_size(world))
    for start in range(0, t, n):
        part = slice_of(inputs, start, start + n, world.high)
        draft, same = world.forward_streamed(state, **part)
        output, state = world.forward_streamed(state, **part, commit=True)
        assert same is not state
        torch.testing.assert_close(output, expected[:, start : start + n], rtol=0, atol=1e-11)
        torch.testing.assert_close(draft, output, rtol=0, atol=1e-11)


@torch.no_grad()
def test_a_rollout_asks_each_expert_only_in_its_range() -> None:
    world = tiny_experts()
    calls = recorded(world)
    stream = world.stream(2, 4, 8, sampling=Sampling(steps=6, guidance=2.0))
    stream.observe(torch.randn(2, 3, 4, 4, 8), torch.randn(2, 3, 3))
    for _ in range(3):
        stream.step(torch.randn(2, 3))
    asked = [(name, level) for name, commit, levels in calls for level in levels if not commit]
    assert {name for name, _ in asked} == {"high", "low"}
    assert all((level >= BOUNDARY) == (name == "high") for name, level in asked)
    committed = [name for name, commit, _ in calls if commit]
    assert committed == ["high", "low"] * 3  # the history, and new frames before the next: both need it


@torch.no_grad()
def test_it_calls_the_expert_that_diffusers_pipeline_calls() -> None:
    """Every call of WanPipeline: the same expert for the same timestep, and in bidirectional form the same output."""
    models = [tiny_model("wan", seed=seed) for seed in (0, 1)]
    scheduler = UniPCMultistepScheduler(**SCHEDULER)
    world = ExpertsWorld(
        *(convert_module(tiny_model("wan", seed=seed), action_dim=3, scheduler=scheduler) for seed in (0, 1)),
        BOUNDARY,
    )
    calls: list[tuple[str, dict[str, Any], Tensor]] = []
    for name, model in zip(world.experts, models, strict=True):

        def keep(module: nn.Module, args: Any, kwargs: Any, output: Any, _name: str = name) -> None:
            calls.append((_name, kwargs, output[0]))

        model.register_forward_hook(keep, with_kwargs=True)
    pipeline = WanPipeline(
        tokenizer=None,
        text_encoder=None,
        vae=tiny_autoencoder("AutoencoderKLWan"),
        scheduler=scheduler,
        transformer=models[0],
        transformer_2=models[1],
        boundary_ratio=BOUNDARY,
    )
    pipeline.set_progress_bar_config(disable=True)
    prompt = torch.randn(1, 512, 16)
    pipeline(
        prompt_embeds=prompt,
        guidance_scale=1.0,
        num_inference_steps=10,
        latents=torch.randn(1, 4, 3, 4, 6),
        height=32,
        width=48,
        num_frames=9,
        output_type="latent",
    )
    assert [name for name, _, _ in calls] == ["high"] * 4 + ["low"] * 6  # timesteps 999 963 923 875 | 818 …
    asked = recorded(world)
    for (name, given, expected), level in zip(calls, world.noise.inference_levels(10)[:-1], strict=True):
        assert world.noise.timestep(level.view(1, 1)).item() == given["timestep"].item()
        level = level.expand(1, 3)
        latents = given["hidden_states"].transpose(1, 2)
        output = world(latents, level, text=given["encoder_hidden_states"], bidirectional=True)
        assert asked[-1][0] == name
        torch.testing.assert_close(output.transpose(1, 2), expected, rtol=1e-5, atol=1e-5)
    assert len(asked) == len(calls)


def outputs(world: ExpertsWorld) -> list[Tensor]:
    inputs = random_inputs(world, 2, 5, seed=0)
    inputs["noise_level"] = torch.tensor([HIGH, LOW, LOW, HIGH, LOW]).expand(2, 5)
    output, state = world.forward_streamed(
        world.empty_state(2, *latent_size(world)), **slice_of(inputs, 0, 2, world.high), commit=True
    )
    return [world(**inputs), output, *(x for kept in state.sites.values() for x in kept.values())]


COPIES: dict[str, Callable[[ExpertsWorld], ExpertsWorld]] = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda world: pickle.loads(pickle.dumps(world)),
}


@torch.no_grad()
@pytest.mark.parametrize("make", COPIES.values(), ids=COPIES)
def test_copies_give_the_same_bits_and_are_independent(make: Callable[[ExpertsWorld], ExpertsWorld]) -> None:
    world = tiny_experts()
    expected = outputs(world)
    copied = make(world)
    for tensor in world.parameters():
        tensor.add_(1)
    assert all(torch.equal(a, b) for a, b in zip(outputs(copied), expected, strict=True))


@torch.no_grad()
def test_it_is_cast_as_any_module() -> None:
    world = tiny_experts()
    expected = outputs(world)
    assert {x.dtype for x in outputs(copy.deepcopy(world).double())} == {torch.float64}
    assert all(torch.equal(a, b) for a, b in zip(outputs(world.double().float()), expected, strict=True))


@torch.no_grad()
@pytest.mark.slow
def test_compiled_it_gives_the_same_bits() -> None:
    eager, compiled = tiny_experts(), tiny_experts()
    compiled.compile(backend="eager", fullgraph=True)
    assert all(torch.equal(a, b) for a, b in zip(outputs(compiled), outputs(eager), strict=True))
    assert all(
        torch.equal(a, b) for a, b in zip(outputs(copy.deepcopy(compiled)), outputs(eager), strict=True)
    )
    torch._dynamo.reset()


def test_names_of_sites_and_parameters_say_the_expert() -> None:
    world = tiny_experts()
    assert world.sites.keys() == world.receptive_fields().keys()
    assert {name.split(".")[0] for name in world.sites} == {"high", "low"}
    assert all(world.base.get_submodule(name) is site for name, site in world.sites.items())
    names = [name for name, _ in world.base.named_parameters()]
    assert sorted(names) == sorted(
        f"{expert}.{name}" for expert in ("high", "low") for name, _ in world.high.base.named_parameters()
    )


def test_what_does_not_go_together_is_refused() -> None:
    with pytest.raises(V2WError, match="their plans or actions differ"):
        ExpertsWorld(tiny_world("wan"), tiny_world("wan", window=3), BOUNDARY)
    svd = [tiny_world("stable-video-diffusion", seed=seed) for seed in (0, 1)]
    with pytest.raises(V2WError, match="the edm noise tells them timesteps from"):
        ExpertsWorld(*svd, BOUNDARY)
