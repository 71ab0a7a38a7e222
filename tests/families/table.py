"""Write docs/families.md and docs/families.json: `python -m tests.families.table`, some minutes. Tests check both.

With `--text` the figures in families.json are kept and only families.md is written, in seconds.
"""

import json
import sys
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from tests.families.published import PUBLISHED, TRAINED
from v2w_convert.checkpoint.open import open_source
from v2w_convert.families import COMPUTED_ARGUMENTS, MODELS, REFUSED, model_class
from v2w_convert.families.build import build_model, complete_config
from v2w_convert.finetuning.batches import generators, sample_batch
from v2w_convert.finetuning.levels import plain
from v2w_convert.finetuning.objective import loss
from v2w_convert.plan.grammar import Plan
from v2w_convert.plan.probe import randomize_zero_init
from v2w_convert.plan.read import read_plan, shipped_plans
from v2w_convert.plan.resolve import ResolvedPlan, resolve
from v2w_convert.surgery.change import added_tensors, install_operations
from v2w_convert.surgery.convert import convert
from v2w_convert.surgery.load import load
from v2w_convert.verification.engine.inputs import latent_size
from v2w_convert.verification.result import VerifyReport
from v2w_convert.verification.run import verify
from v2w_convert.world.model import World
from v2w_convert.world.rollout import Sampling

DOCS = Path(__file__).parents[2] / "docs"
FILE, MEASURED = DOCS / "families.md", DOCS / "families.json"
ACTIONS = 3
SIDE = 32  # of the latents whose state is counted
LONG = 300  # frames of the rollout tried
# What cannot be run without data, without torchvision, or at that size: here is what is counted instead.
ONE_LAYER = {"mochi": {"num_layers": 1}, "hunyuan-video-15": {"num_layers": 1}}
WITHOUT = {
    "cosmos": {"concat_padding_mask": False},
    "cogvideox-i2v": {"sample_height": SIDE, "sample_width": SIDE},  # the only size of latents that it takes
}
HEAD = f"""# Families of models

Written by `python -m tests.families.table`; `make test` checks that it is current. `docs/families.json` has the figures.

Each plan is tried on a tiny, randomly initialised model of its class, zero-initialised layers filled with random values. It
converts, and every claim of `v2w verify` holds before and after a step of finetuning, at two sizes of clips and frames. The
numbers of sites and of added parameters (for {ACTIONS} actions) are those of a published size, on which the plan is
resolved as well. So is the stream state, for one rollout of latents {SIDE} × {SIDE} in bfloat16.

- *leak*: the largest change of any frame when a later frame changes; float64 and float32. It is exactly 0.
- *identity*: the largest difference between the bidirectional form and the untouched base, over the largest value; float64.
- *streamed*: the largest difference between a stream (block by block and in chunks, past the window several times) and one
  pass over the clip, over the largest value; float64.
- *invariants*: properties of the base that the operations keep at their sites, as held of those measured.
- *rollout*: frames of a rollout in which all values stay finite and the state keeps its size.
- *besides the YAML*: Python that exists for one family alone, a file or a mode of an operation. Where it is empty, the
  family is one YAML file.

| plan | class | sites | parameters added | window | stream state, MB per frame of context (+ fixed) | leak | identity | streamed | invariants | one step of finetuning | rollout | beyond the trained length | besides the YAML |
|---|---|---|---|---|---|---|---|---|---|---|---|---|---|
"""
FAMILIES = [name for name in shipped_plans() if name not in TRAINED]
TAIL = """
Blocks of several frames (`--frames-per-block`), another window (`--window`) and sinks (`--sinks`) are options of every family
whose base allows them. Latte takes single frames or clips of one length, so it has no blocks. Linear attention has no window.
Where positions repeat (SVD, AnimateDiff, CogVideoX 2b, Cosmos, Latte), sinks are refused, because a later frame would have the
same position. A rollout that ends within a block is generated to the end of the block and cut. Clips for training and the
history are whole blocks.

Vid2World's released checkpoints (`Vid2WorldUNet`) are causal and trained with actions already. `plans/vid2world.yaml` imports
them as they are, and `v2w verify` names the norms through which their frames see later ones. With `v2w convert --repair`,
`plans/vid2world-repaired.yaml` repairs those.

Not supported, with the reason that `v2w inspect` gives:

| class | why |
|---|---|
"""

CONFIGS = """
Of these classes, only checkpoints with these entries in config.json are supported:

| class | entry | supported | why not others |
|---|---|---|---|
"""


def row(name: str) -> str:
    """One family's line of the table; what was measured is read, all else is worked out."""
    plan = read_plan(shipped_plans()[name])
    with torch.device("meta"):
        model = model_class(plan.base)(**PUBLISHED[name][0])
    resolved = resolve(plan, complete_config(model))
    counts = Counter(operation.name for operation in resolved.sites.values())
    sites = ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()))
    new = sum(torch.Size(shape).numel() for shape in added_tensors(resolved, model, ACTIONS).values())
    window = "all frames so far" if resolved.window is None else f"{resolved.window} frames"
    figures = measured()[name]
    state = f"{figures['state per frame'] / 1e6:.1f}" if figures["state per frame"] else "0"
    if figures["state besides"]:
        state += f" + {figures['state besides'] / 1e6:.1f}"
    besides = ", ".join([*written(plan), *(f"`{form}`" for form in sorted(own_forms(name)))])
    cells = [
        f"`{name}`",
        f"`{plan.base}`",
        sites,
        f"{new / 1e6:.1f} M",
        window,
        state,
        f"{figures['leak']:g}",
        f"{figures['identity']:.0e}",
        f"{figures['streamed']:.0e}",
        f"{figures['invariants kept']} of {figures['invariants']}",
        "holds" if figures["finetuned"] else "FAILS",
        f"{figures['rollout']} frames",
        beyond(resolved),
        besides,
    ]
    return f"| {' | '.join(cells)} |"


def measured() -> dict[str, Any]:
    return json.loads(MEASURED.read_text("utf-8"))["families"]


def figures_of(report: VerifyReport) -> dict[str, Any]:
    """What the table says of a report on a converted model."""

    def worst(*ids: str) -> float:
        found = [c.measured for c in report.claims if c.id in ids and c.measured is not None]
        assert found, ids
        return max(found)

    invariants = [c for c in report.claims if c.id == "invariants"]
    return {
        "leak": worst("causal", "causal-stored", "causal-modes"),
        "identity": worst("identity"),
        "streamed": worst("stream-by-block", "stream-in-chunks"),
        "invariants": len(invariants),
        "invariants kept": sum(c.ok for c in invariants),
    }


def measure(name: str) -> dict[str, Any]:
    """Everything that takes running the tiny model, and the state of the published one."""
    plan = read_plan(shipped_plans()[name])
    torch.manual_seed(0)
    model = build_model(plan.base, plan.tiny).eval()
    randomize_zero_init(model)
    with tempfile.TemporaryDirectory() as folder:
        base, out = Path(folder) / "base", Path(folder) / "out"
        model.save_pretrained(base)
        source = open_source(base)
        convert(source, resolve(plan, source.config), out, action_dim=ACTIONS)
        report = verify(out, base)
        assert report.ok, name
        figures = figures_of(report)
        world = load(out)
    before = {key: value.clone() for key, value in world.base.state_dict().items()}
    figures["finetuned"] = trained_a_step(world) and any(
        not torch.equal(value, before[key]) for key, value in world.base.state_dict().items()
    )
    figures["rollout"] = rolled_out(world)
    ring, fixed = state_bytes(name)
    return figures | {"state per frame": ring, "state besides": fixed}


def trained_a_step(world: World) -> bool:
    """One optimizer step of diffusion forcing on random clips; whether its loss is a number."""
    world.train().requires_grad_(True)
    frames = -(-5 // world.frames_per_block) * world.frames_per_block
    generator = torch.Generator().manual_seed(0)
    shape = (2, frames, world.channels, *latent_size(world))
    latents = torch.randn(shape, generator=generator)
    actions = torch.randn(2, frames, ACTIONS, generator=generator)
    optimizer = torch.optim.AdamW(world.base.parameters(), lr=1e-3)
    value = loss(
        world,
        latents,
        actions,
        sample_batch(
            shape[1:],
            world.noise,
            replace(plain(world.noise), action_dropout=0.2),
            world.resolved.period,
            generators(2, "table"),
            world.frames_per_block,
        ),
    )
    value.backward()
    optimizer.step()
    world.eval().requires_grad_(False)
    return bool(torch.isfinite(value))


def rolled_out(world: World) -> int:
    """Frames of a rollout, two denoising steps to each."""
    h, w = latent_size(world)
    stream = world.stream(1, h, w, window=None if world.resolved.window else 16, sampling=Sampling(steps=2))
    shapes = [{key: x.shape for key, x in kept.items()} for kept in stream.state.sites.values()]
    actions = torch.zeros(1, world.frames_per_block, ACTIONS)
    for _ in range(LONG // world.frames_per_block):
        block = stream.step_block(actions)
        assert bool(torch.isfinite(block).all())
    assert shapes == [{key: x.shape for key, x in kept.items()} for kept in stream.state.sites.values()]
    return LONG // world.frames_per_block * world.frames_per_block


@torch.no_grad()
def state_bytes(name: str) -> tuple[int, int]:
    """Bytes in bfloat16 of one stream's state, of the published size: for each frame in view, and besides."""
    plan = read_plan(shipped_plans()[name])
    published = PUBLISHED[name][0] | WITHOUT.get(name, {})
    device = torch.device("cpu" if name in ONE_LAYER else "meta")
    with torch.device(device):
        model = model_class(plan.base)(**published | ONE_LAYER.get(name, {}))
    resolved = resolve(plan, complete_config(model))
    install_operations(resolved, model, ACTIONS)
    world = World(model, resolved, ACTIONS, resolved.call.null_conditions()).to(device)
    with torch.device(device):
        side = SIDE // 4 if name in ONE_LAYER else SIDE
        state = world.empty_state(1, side, side, window=None if resolved.window else 16)
    each, besides = 0, 0
    for site, kept in state.sites.items():
        for key, x in kept.items():
            if key in resolved.sites[site].ring_states:
                each += 2 * x.numel() // x.shape[3] // world.frames_per_block
            else:
                besides += 2 * x.numel()
    if name in ONE_LAYER:
        with torch.device("meta"):
            whole = resolve(plan, complete_config(model_class(plan.base)(**published)))
        times = len(whole.sites) - 1, len(resolved.sites) - 1  # all but the action's
        each = each * times[0] // times[1] * (SIDE // side) ** 2
    return each, besides


def written(plan: Plan) -> list[str]:
    """The files of Python that the plan names: its model, where diffusers has none, and what works out arguments."""
    named = [MODELS.get(plan.base), COMPUTED_ARGUMENTS.get(plan.call.computed_arguments or "")]
    modules = [thing.__module__ for thing in named if thing is not None]
    files = [f"`{module.removeprefix('v2w_convert.').replace('.', '/')}.py`" for module in modules]
    pictures = plan.call.image_conditions
    return [*files, *([] if pictures is None else [f"`image_conditions {pictures}`"])]


def forms(name: str) -> set[str]:
    """What the plan asks of operations."""
    found = set()
    for operation in read_plan(shipped_plans()[name]).operations:
        found.add(operation.name)
        if (mode := getattr(operation, "mode", None)) is not None:
            found.add(f"{operation.name} mode {mode}")
        if getattr(operation, "per_sample_calls", False):
            found.add(f"{operation.name} per_sample_calls")
        rotary = getattr(operation, "rotary", None)
        if rotary is not None:
            given = rotary.model_dump(exclude_defaults=True, include={"pairing", "heads", "learned"})
            found |= {f"rotary {key} {value}" for key, value in given.items()}
    return found


def own_forms(name: str) -> set[str]:
    """Those that no other plan asks for: Python that was written for this family."""
    return forms(name) - set().union(*(forms(other) for other in FAMILIES if other != name))


def beyond(resolved: ResolvedPlan) -> str:
    """What is done where a rollout is longer than the clips that the base was trained on."""
    kinds = {operation.name for operation in resolved.sites.values()}
    if resolved.period is not None:
        return f"positions repeat after {resolved.period}"
    if resolved.window is None:
        return "positions continue, sums keep every frame"
    rotary = any(getattr(operation, "rotary", None) for operation in resolved.sites.values())
    if rotary:
        return "positions count within the window"
    return "no positions" + (", convolutions see the frames before" if "causal_conv" in kinds else "")


def main() -> None:
    if "--text" not in sys.argv:
        families = {}
        for name in FAMILIES:
            print(name, flush=True)
            families[name] = measure(name)
        MEASURED.write_text(json.dumps({"families": families}, indent=1) + "\n", "utf-8")
    refused = "\n".join(f"| `{name}` | {reason} |" for name, reason in sorted(REFUSED.items()))
    text = HEAD + "\n".join(map(row, FAMILIES)) + "\n" + TAIL + refused + "\n" + CONFIGS + configs() + "\n"
    FILE.write_text(text, "utf-8")


def configs() -> str:
    """A line for each entry of a base's config that a plan requires for a reason."""
    plans = [read_plan(shipped_plans()[name]) for name in FAMILIES]
    return "\n".join(
        f"| `{plan.base}` | `{key}` | {', '.join(f'`{json.dumps(value)}`' for value in plan.requires[key])} | {reason} |"
        for plan in plans
        for key, reason in plan.reasons.items()
    )


if __name__ == "__main__":
    main()
