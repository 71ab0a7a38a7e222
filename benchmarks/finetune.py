"""What finetuning costs beside what it cannot do without: a step, the loop around it, and encoding, each in pairs.

    python benchmarks/finetune.py step [--model svd|wan] [--rounds 15]
    python benchmarks/finetune.py loop [--model svd|wan] [--rounds 15]
    python benchmarks/finetune.py encode [--model svd|wan] [--rounds 5]
    python benchmarks/finetune.py step --device cuda [--peak 989]

`step`: forward, backward and optimizer step of the converted model, beside its untouched base on the same clips.
`loop`: a step of `v2w finetune`, with all that it does between two steps, beside forward, backward and optimizer step
alone, with the same batches, loss and optimizer.
`encode`: a data set of mp4 files to latents on the disk, beside the same frames through the autoencoder alone.

What is compared takes turns in one process; printed are the medians of each, and of the ratio within a round: seconds that
passed, and on a CPU also those that this process computed, which other processes on the machine do not touch. Weights are
random. On a CPU the models are of reduced width and float32, on a card of full size and bfloat16 (with float32 weights and
gradient checkpointing): there `step` also prints frames a second, memory beside the budget's figure, and with --peak, the
card's dense bfloat16 TFLOP/s, the share of it that a step's products of matrices are.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from finetune_memory import ACTION_DIM, fill, random_world, unread
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from v2w_convert.data import Episode, open_dataset, write_dataset
from v2w_convert.families.build import build_model
from v2w_convert.finetuning import objective
from v2w_convert.finetuning.batches import BatchSamples, generators, sample_batch, sample_clips
from v2w_convert.finetuning.budget import count_budget
from v2w_convert.finetuning.conditions import Clips
from v2w_convert.finetuning.latents import LatentDataset, encode
from v2w_convert.finetuning.levels import decide
from v2w_convert.finetuning.loop import prepare, train
from v2w_convert.finetuning.processes import make_accelerator
from v2w_convert.finetuning.settings import FinetuneSettings
from v2w_convert.finetuning.shards import ShardWriter, episode_name
from v2w_convert.finetuning.watch import Watch
from v2w_convert.plan.call import call_base
from v2w_convert.progress import ProgressEvent, no_progress
from v2w_convert.world.model import World
from v2w_convert.world.vae import VAE

Measured = tuple[float, float]  # seconds that passed, and that this process computed


@dataclass(frozen=True)
class Case:
    """A model, and the clips that it is given.

    Attributes:
        kind: The denoiser's class.
        config: What differs from its defaults.
        size: Height and width of the latents.
        frames: Latent frames of a clip.
        clips: Clips of a batch.
    """

    kind: str
    config: dict[str, Any]
    size: tuple[int, int]
    frames: int
    clips: int = 1


SVD, WAN = "UNetSpatioTemporalConditionModel", "WanTransformer3DModel"
REDUCED = {
    "svd": Case(
        SVD,
        {
            "num_frames": 8,
            "block_out_channels": (64, 128, 128, 128),
            "num_attention_heads": (1, 2, 2, 2),
            "cross_attention_dim": 128,
            "layers_per_block": 1,
        },
        (16, 24),
        8,
    ),
    "wan": Case(
        WAN,
        {"num_attention_heads": 4, "attention_head_dim": 64, "ffn_dim": 1492, "num_layers": 2, "text_dim": 512},
        (40, 40),
        4,
    ),
}  # fmt: skip
FULL = {
    "svd": Case(SVD, {"num_frames": 14}, (40, 72), 14),
    "wan": Case(WAN, {"num_attention_heads": 12, "ffn_dim": 8960, "num_layers": 30}, (60, 104), 21),
}


def settings_of(case: Case, device: torch.device, **more: Any) -> FinetuneSettings:
    """A run's settings: the defaults, but for what a card needs at full size."""
    on_card = device.type == "cuda"
    precision = {"mixed_precision": "bf16", "gradient_checkpointing": True} if on_card else {}
    given = {"batch": case.clips, "frames": case.frames, "mixed_precision": "no", **precision, **more}
    return FinetuneSettings.model_validate({"device": str(device), **given})


def precision(settings: FinetuneSettings) -> AbstractContextManager[Any]:
    """Autocast, where the settings have it."""
    half = settings.mixed_precision == "bf16"
    return torch.autocast("cuda", torch.bfloat16) if half else nullcontext()


def timed(run: Callable[[], object], device: torch.device) -> Measured:
    """What `run` takes, to its last kernel."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter(), time.process_time()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start[0], time.process_time() - start[1]


def in_turns(rounds: int, device: torch.device, **runs: Callable[[], object]) -> dict[str, list[Measured]]:
    """Each of `runs` once a round, in an order that is turned round each time; a first round is not counted."""
    found: dict[str, list[Measured]] = {name: [] for name in runs}
    for number in range(rounds + 1):
        for name in list(runs) if number % 2 else list(runs)[::-1]:
            took = timed(runs[name], device)
            if number:
                found[name].append(took)
    return found


def report(
    title: str, found: dict[str, list[Measured]], device: torch.device, frames: int
) -> dict[str, float]:
    """Print the medians of the two that were compared, the second beside the first, and of their ratios."""
    figures = {}
    for axis, what in enumerate(("seconds", "CPU seconds") if device.type == "cpu" else ("seconds",)):
        series = {name: [pair[axis] for pair in pairs] for name, pairs in found.items()}
        one, other = series
        ratios = sorted(b / a for a, b in zip(series[one], series[other], strict=True))
        quarter = len(ratios) // 4
        medians = {name: statistics.median(values) for name, values in series.items()}
        figures |= {f"{what} of {name}": value for name, value in medians.items()}
        figures[f"ratio of {what}"] = statistics.median(ratios)
        told = ", ".join(
            f"{name} {value:.3f} ({frames / value:.1f} frames/s)" for name, value in medians.items()
        )
        print(
            f"{title}: {what}: {told}; ratio {statistics.median(ratios):.3f}, middle half {ratios[quarter]:.3f} to "
            f"{ratios[-1 - quarter]:.3f} of {len(ratios)} rounds",
            flush=True,
        )
    return figures


def converted_model(case: Case, settings: FinetuneSettings) -> World:
    """The case's model, converted, with random weights."""
    return random_world(unread(case.kind, case.config), settings).to(settings.device).train()


def untouched_base(world: World, settings: FinetuneSettings) -> nn.Module:
    """The base of which `world` was made, as diffusers has it."""
    base = build_model(world.resolved.plan.base, world.resolved.config, unfilled=True)
    fill(base, settings)
    if settings.gradient_checkpointing:
        base.enable_gradient_checkpointing()  # type: ignore[operator]
        world.base.enable_gradient_checkpointing()  # type: ignore[operator]
    return base.to(settings.device).train()


def optimizer_of(model: nn.Module) -> torch.optim.Optimizer:
    """As a run has it."""
    return torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)


def conditions_of(world: World, case: Case) -> dict[str, Tensor]:
    """One of each for a clip."""
    shapes = {name: x.shape(*case.size) for name, x in world.resolved.call.conditions.items()}
    return {name: torch.randn(case.clips, *shape, device=world.device) for name, shape in shapes.items()}


def measure_step(case: Case, device: torch.device, rounds: int, peak: float | None) -> dict[str, float]:
    """Steps of the converted model and of its base, in turns."""
    settings = settings_of(case, device)
    world = converted_model(case, settings)
    base = untouched_base(world, settings)
    call, noise = world.resolved.call, world.noise
    shape = (case.clips, case.frames, world.channels, *case.size)
    clean, noise_of = torch.randn(shape, device=device), torch.randn(shape, device=device)
    conditions = conditions_of(world, case)
    level = noise.level_at(torch.full(shape[:2], 0.5, device=device))
    noisy, target = noise.add_noise(clean, noise_of, level), noise.target(clean, noise_of, level)
    actions = torch.randn(*shape[:2], ACTION_DIM, device=device)
    optimizers = {"base": optimizer_of(base), "converted": optimizer_of(world)}

    def base_output() -> Tensor:
        given = noise.model_input(noisy, level)
        return call_base(base, call, given, noise.timestep(level[:, 0]), conditions)

    def world_output() -> Tensor:
        return world(noisy, level, actions, **conditions)

    def step(name: str, output: Callable[[], Tensor]) -> None:
        with precision(settings):
            loss = F.mse_loss(output().float(), target)
        loss.backward()
        optimizers[name].step()
        optimizers[name].zero_grad()

    runs = {"base": lambda: step("base", base_output), "converted": lambda: step("converted", world_output)}
    figures = report(
        f"a step of {_numbers(world)} numbers",
        in_turns(rounds, device, **runs),
        device,
        case.clips * case.frames,
    )
    if device.type == "cuda":
        seconds = figures["seconds of converted"]
        occupancy(runs["converted"], world_output, case, settings, seconds, peak)
    return figures


def occupancy(
    step: Callable[[], object],
    forward: Callable[[], Tensor],
    case: Case,
    settings: FinetuneSettings,
    seconds: float,
    peak: float | None,
) -> None:
    """Print how much of a card a step takes: memory beside the budget's figure, and arithmetic beside the card's peak."""
    device = torch.device(settings.device)
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    step()
    beside = torch.cuda.max_memory_allocated(device) - before
    told = count_budget({"": unread(case.kind, case.config)}, settings, case.size, device)
    print(
        f"memory of a step beside weights and optimizer: {beside / 1e9:.2f} GB, "
        f"the budget says {(told.gradients + (told.activations or 0)) / 1e9:.2f} GB"
    )
    with torch.no_grad(), precision(settings), FlopCounterMode(display=False) as count:
        forward()
    # The backward pass has twice the forward's products; what checkpointing computes again is no use to the model.
    rate = 3 * count.get_total_flops() / seconds / 1e12
    share = "" if peak is None else f", {rate / peak:.0%} of {peak:g}"
    print(f"model arithmetic: {rate:.1f} TFLOP/s{share}", flush=True)


def measure_loop(case: Case, device: torch.device, rounds: int) -> dict[str, float]:
    """Steps of a run, each followed by one of a bare loop with the same batch, on a copy of the model."""
    settings = settings_of(case, device, steps=rounds + 2, warmup=0)
    accelerator = make_accelerator(settings)
    world = converted_model(case, settings)
    with tempfile.TemporaryDirectory() as folder:
        clips = random_clips(Path(folder) / "latents", case, world)
        training = prepare(world, settings, accelerator)
        copy = deepcopy(world)
        optimizer = optimizer_of(copy)
        found: dict[str, list[Measured]] = {"bare": [], "run": []}
        start = time.perf_counter(), time.process_time()

        def bare(batch: tuple[Tensor, Tensor, BatchSamples]) -> None:
            with precision(settings):
                loss = objective.loss(copy, *batch)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()

        def after_step(event: ProgressEvent) -> None:
            nonlocal start
            took = time.perf_counter() - start[0], time.process_time() - start[1]
            step = (event.done or 0) - 1
            chances = generators(settings.batch, settings.seed, "step", step)
            latents, actions = clips.latents.clips(sample_clips(len(clips.latents), chances))
            how = decide(settings, world.noise, settings.action_dropout)
            shape = tuple(latents.shape[1:])
            samples = sample_batch(shape, world.noise, how, world.resolved.period, chances)
            batch = latents.to(device), actions.to(device), samples.select(slice(None), device)
            again = timed(lambda: bare(batch), device)
            if 0 < step < settings.steps - 1:  # the first is slower, the last writes a checkpoint
                found["run"].append(took)
                found["bare"].append(again)
            start = time.perf_counter(), time.process_time()

        train(
            world, training, clips, None, settings, accelerator, Path(folder), after_step,
            Watch(settings, Path(folder)),
        )  # fmt: skip
    return report(f"the loop, {_numbers(world)} numbers", found, device, case.clips * case.frames)


def random_clips(folder: Path, case: Case, world: World) -> Clips:
    """A few episodes of random latents, as a run has encoded them."""
    folder.mkdir()
    writer = ShardWriter(folder)
    for number in range(4):
        latents = torch.randn(2 * case.frames, world.channels, *case.size).half()
        name = episode_name(number)
        writer.add({f"{name}.latents": latents, f"{name}.actions": torch.randn(len(latents), ACTION_DIM)})
    writer.finish()
    return Clips(LatentDataset(folder, case.frames))


def measure_encoding(model: str, device: torch.device, rounds: int) -> dict[str, float]:
    """A data set of mp4 files through `encode`, and its frames through the autoencoder alone, in the same batches."""
    from diffusers import AutoencoderKLTemporalDecoder, AutoencoderKLWan

    on_card = device.type == "cuda"
    height, width, frames, episodes = (480, 640, 129, 4) if on_card else (64, 96, 33, 2)
    torch.manual_seed(0)
    if model == "wan":
        autoencoder = AutoencoderKLWan() if on_card else AutoencoderKLWan(base_dim=32)
    else:
        widths = (128, 256, 512, 512) if on_card else (64, 128, 256, 256)
        autoencoder = AutoencoderKLTemporalDecoder(
            block_out_channels=widths, down_block_types=("DownEncoderBlock2D",) * 4, layers_per_block=2
        )
    vae = VAE(autoencoder, {}).to(device)
    with tempfile.TemporaryDirectory() as folder:
        data, made = Path(folder) / "data", iter(range(10**6))
        recordings = (recording(frames, height, width, seed) for seed in range(episodes))
        write_dataset(recordings, data, fps=10, action_names=["x", "y"])
        opened = open_dataset(data)
        clips = [torch.from_numpy(episode.frames) for episode in opened.episodes_from(0)]
        pictures = [(clip.permute(0, 3, 1, 2).float() / 127.5 - 1).to(device) for clip in clips]

        shape = tuple(vae.encode(clips[0][: vae.packing.frames(1)]).shape[1:])

        def alone() -> None:
            with torch.no_grad():
                for clip in pictures:
                    vae.encode_unscaled(clip)

        def whole() -> None:
            stage = Path(folder) / f"latents-{next(made)}"
            stage.mkdir()
            encode(opened, stage, vae, shape, no_progress)

        found = in_turns(rounds, device, autoencoder=alone, encode=whole)
    title = f"encoding {episodes} episodes of {frames} frames of {height} x {width}, {_numbers(vae)} numbers"
    return report(title, found, device, frames * episodes)


def recording(t: int, height: int, width: int, seed: int) -> Episode:
    """Soft shapes that move: video that compresses as recorded video does."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
    picture = np.kron(small, np.ones((height // 8 + 1, width // 8 + 1, 1), np.uint8))[:height, :width]
    frames = np.stack([np.roll(picture, (i, 2 * i), (0, 1)) for i in range(t)])
    return Episode(frames, rng.normal(size=(t, 2)).astype(np.float32))


def _numbers(module: nn.Module) -> str:
    return f"{sum(p.numel() for p in module.parameters()) / 1e6:,.0f} M"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["step", "loop", "encode"])
    parser.add_argument("--model", choices=list(FULL), action="append", help="default: both")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--peak", type=float, help="the card's dense bfloat16 TFLOP/s, from its data sheet")
    parser.add_argument("--json", type=Path, help="a file for the figures")
    given = parser.parse_args()
    device = torch.device(given.device)
    cases = FULL if device.type == "cuda" else REDUCED
    figures = {}
    for name in given.model or list(cases):
        if given.what == "step":
            figures[name] = measure_step(cases[name], device, given.rounds, given.peak)
        elif given.what == "loop":
            figures[name] = measure_loop(cases[name], device, given.rounds)
        else:
            figures[name] = measure_encoding(name, device, given.rounds)
    if given.json is not None:
        given.json.write_text(json.dumps(figures, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
