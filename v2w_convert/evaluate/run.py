"""How good a world model is: pictures by horizon, whether actions are followed, whether it lasts."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from v2w_convert.errors import V2WError
from v2w_convert.evaluate.clips import Clips, cut, per_episode, read_episodes
from v2w_convert.evaluate.inverse_dynamics import accuracy, majority, train_classifier
from v2w_convert.evaluate.metrics import bootstrap, picture_statistics, psnr, share_within, ssim
from v2w_convert.surgery.load import load
from v2w_convert.world.model import World
from v2w_convert.world.pixels import Pixels, open_pixels
from v2w_convert.world.rollout import Sampling, stream

HORIZONS = (1, 4, 8, 16)
GAP_HORIZONS = (1, 4)


@dataclass(frozen=True)
class Protocol:
    """What is fixed before anything is measured.

    history         frames that the model is shown
    samples         rollouts per clip whose mean is measured beside a single one
    episodes        episodes of the data set (None: all)
    long_frames     length of the long rollouts; 0: none
    long_rollouts   how many of them
    """

    history: int = 8
    samples: int = 4
    episodes: int | None = None
    long_frames: int = 200
    long_rollouts: int = 8
    seed: int = 0
    sampling: Sampling = field(default_factory=Sampling)


@torch.no_grad()
def roll(
    world: World,
    pixels: Pixels,
    latents: Tensor,
    actions: Tensor,
    history: int,
    sampling: Sampling,
    seed: int,
) -> Tensor:
    """Predicted frames (n t 3 height width): `history` latents of (n t c h w) shown, the rest of `actions` followed.

    Where a model makes blocks of frames, the last one is made whole, its last action repeated, and cut.
    """
    n, t = actions.shape[:2]
    rollout = stream(world, n, *latents.shape[-2:], sampling=sampling, seed=seed)
    rollout.observe(latents[:, :history], actions[:, :history])
    padded = torch.cat([actions, actions[:, -1:].expand(-1, world.n - 1, -1)], 1)
    predicted = [rollout.step_block(padded[:, f : f + world.n]) for f in range(history, t, world.n)]
    frames = torch.cat(predicted, 1)[:, : t - history]
    return pixels.decode(frames.flatten(0, 1)).unflatten(0, (n, t - history)).cpu()


def require_blocks(world: World, history: int) -> None:
    """Raises V2WError if so many frames cannot be shown to a model that takes whole blocks of them."""
    if history % world.n:
        more = -(-history // world.n) * world.n
        raise V2WError(
            f"show {history} frames", f"the model takes blocks of {world.n}", f"a history of {more} frames"
        )


def evaluate(
    folder: Path,
    data: Path,
    protocol: Protocol,
    *,
    classifier_data: Path | None = None,
    camera: str | None = None,
    device: str = "cpu",
    progress: Callable[[str], None] = lambda what: None,
) -> dict[str, Any]:
    """Measure the world model in `folder` on the episodes in `data`.

    classifier_data  other episodes, to train the inverse-dynamics classifier on; without them (or where
                     actions are not one-hot) action following is judged by the paired gap alone

    Returns {"settings", "horizons", "baselines", "actions", "long"}; every figure is
    {"mean", "low", "high"}: a bootstrap interval over episodes.
    """
    world = load(folder, device=device, dtype=torch.float32)
    require_blocks(world, protocol.history)
    pixels = open_pixels(folder, device)
    clips = cut(
        read_episodes(data, world.action_dim, protocol.episodes, camera), protocol.history, max(HORIZONS)
    )
    # Checked before the long part begins.
    training = None
    if classifier_data is not None:
        training = cut(read_episodes(classifier_data, world.action_dim, None, camera), 0, max(HORIZONS))
    progress("encoding")
    latents, decoded = _round_trip(pixels, clips)
    truth = clips.frames[:, protocol.history :]
    h = [x - 1 for x in HORIZONS]

    def figures(values: Tensor) -> dict[str, dict[str, float]]:
        """(n horizons) -> by horizon."""
        means = per_episode(values, clips)
        return {str(x): bootstrap(means[:, i], protocol.seed) for i, x in enumerate(HORIZONS)}

    def measure(predicted: Tensor) -> dict[str, dict[str, dict[str, float]]]:
        both = {"psnr": psnr, "ssim": ssim}
        flat = (predicted[:, h].flatten(0, 1), truth[:, h].flatten(0, 1))
        return {name: figures(f(*flat).view(len(truth), -1)) for name, f in both.items()}

    def rolled(actions: Tensor, seed: int) -> Tensor:
        return roll(world, pixels, latents, actions, protocol.history, protocol.sampling, seed)

    samples = []
    for number in range(protocol.samples):
        progress(f"rolling out, sample {number + 1} of {protocol.samples}")
        samples.append(rolled(clips.actions, protocol.seed + number))
    one, mean = samples[0], torch.stack(samples).mean(0)
    progress("rolling out with other episodes' actions")
    other = rolled(_of_another_episode(clips), protocol.seed)
    copied = clips.frames[:, protocol.history - 1 : protocol.history].expand_as(truth)
    results = {"one sample": measure(one), f"mean of {protocol.samples}": measure(mean)}
    baselines = {
        "last frame copied": measure(copied),
        "autoencoder alone": measure(decoded[:, protocol.history :]),
        "other actions": measure(other),
    }

    def gap(x: int) -> dict[str, float]:
        i = x - 1
        difference = psnr(one[:, i], truth[:, i]) - psnr(other[:, i], truth[:, i])
        return bootstrap(per_episode(difference, clips), protocol.seed)

    actions: dict[str, Any] = {"psnr gap, true minus other actions": {str(x): gap(x) for x in GAP_HORIZONS}}
    progress("training the inverse-dynamics classifier")
    actions["inverse dynamics"] = _inverse_dynamics(pixels, training, clips, decoded, one, protocol)
    long = None
    if protocol.long_frames:
        progress(f"rolling out {protocol.long_frames} frames")
        long = _long(world, pixels, clips, latents, decoded, protocol)
    return {
        "settings": {
            "model": folder.name,
            "data": data.name,
            "clips": len(truth),
            "episodes": int(clips.episode.unique().numel()),
            **asdict(protocol),
        },
        "horizons": {
            str(x): {
                metric + ("" if kind == "one sample" else f" of {kind}"): values[str(x)]
                for kind, metrics in results.items()
                for metric, values in metrics.items()
            }
            for x in HORIZONS
        },
        "baselines": baselines,
        "actions": actions,
        "long": long,
    }


def _round_trip(pixels: Pixels, clips: Clips) -> tuple[Tensor, Tensor]:
    """Latents (n t c h w) of the clips, and the frames that come back from them."""
    n, t = clips.frames.shape[:2]
    frames = (clips.frames.flatten(0, 1).permute(0, 2, 3, 1) * 255).round().to(torch.uint8)
    latents = pixels.encode(frames)
    return latents.unflatten(0, (n, t)), pixels.decode(latents).unflatten(0, (n, t)).cpu()


def _of_another_episode(clips: Clips) -> Tensor:
    """Each clip's actions replaced by those of a clip of the next episode, history's kept."""
    episodes = clips.episode.unique()
    if len(episodes) < 2:
        raise V2WError("compare with other actions", "there is only one episode", "a data set with several")
    following = {int(e): int(episodes[(i + 1) % len(episodes)]) for i, e in enumerate(episodes)}
    chosen = [int((clips.episode == following[int(e)]).nonzero()[0]) for e in clips.episode]
    return clips.actions[chosen]


def _inverse_dynamics(
    pixels: Pixels,
    training: Clips | None,
    clips: Clips,
    decoded: Tensor,
    predicted: Tensor,
    protocol: Protocol,
) -> dict[str, Any] | str:
    """Accuracy of a classifier trained on round-tripped pairs, on real, round-tripped and generated ones."""
    if training is None:
        return "not measured: give other episodes to train the classifier on (--classifier-data)"
    if not all(
        bool(((a == 0) | (a == 1)).all()) and bool((a[:, 1:].sum(-1) == 1).all())
        for a in (training.actions, clips.actions)
    ):
        return "not measured: actions are not one-hot"
    history = protocol.history
    _, seen = _round_trip(pixels, training)
    classes = training.actions.shape[-1]
    model = train_classifier(
        _pairs(seen), training.actions[:, 1:].argmax(-1).flatten(), classes=classes, seed=protocol.seed
    )
    labels = clips.actions[:, history:].argmax(-1)

    def judged(frames: Tensor) -> dict[str, float]:
        right = accuracy(model, _pairs(frames[:, history - 1 :]), labels.flatten()).view(labels.shape)
        return bootstrap(per_episode(right.mean(1), clips), protocol.seed)

    generated = torch.cat([decoded[:, :history], predicted], 1)
    return {
        "real": judged(clips.frames),
        "round-tripped": judged(decoded),
        "generated": judged(generated),
        "majority class": majority(labels.flatten()),
    }


def _pairs(frames: Tensor) -> Tensor:
    """(n t 3 h w) -> neighbours (n·(t-1) 2 3 h w)."""
    return torch.stack([frames[:, :-1], frames[:, 1:]], 2).flatten(0, 1)


def _long(
    world: World, pixels: Pixels, clips: Clips, latents: Tensor, decoded: Tensor, protocol: Protocol
) -> dict[str, Any]:
    """Whether frames of a long rollout still look like the data: design of the picture, not its truth."""
    chosen = torch.arange(min(protocol.long_rollouts, len(latents)))
    # Actions of clip after clip, one after the other, beginning at each rollout's own.
    row = clips.actions[:, 1:].flatten(0, 1)
    starts = chosen * clips.actions.shape[1]
    total = protocol.history + protocol.long_frames
    actions = torch.stack([row.roll(-int(s), 0)[torch.arange(total) % len(row)] for s in starts])
    frames = roll(
        world, pixels, latents[chosen], actions, protocol.history, protocol.sampling, protocol.seed + 1000
    )
    found = [picture_statistics(f) for f in frames]

    def judged(real: Tensor) -> dict[str, Any]:
        """The share of frames whose mean, deviation and gradient energy all lie within the real frames' range."""
        reference = picture_statistics(real.flatten(0, 1))
        shares = torch.tensor([share_within(f, reference) for f in found], dtype=torch.float64)
        return {
            **bootstrap(shares, protocol.seed),
            "real frames themselves": share_within(reference, reference),
        }

    return {
        "frames": protocol.long_frames,
        "rollouts": len(chosen),
        "range": "1st to 99th percentile",
        "share within real frames": judged(clips.frames),
        "share within round-tripped frames": judged(decoded),
    }
