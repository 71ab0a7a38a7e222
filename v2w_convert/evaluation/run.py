"""How good a world model is: pictures by horizon, whether actions are followed, whether it lasts."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from v2w_convert.errors import V2WError
from v2w_convert.evaluation.clips import EvaluationClips, cut_clips, per_episode, read_episodes
from v2w_convert.evaluation.inverse_dynamics import accuracy, majority, train_classifier
from v2w_convert.evaluation.metrics import bootstrap, picture_statistics, psnr, share_within, ssim
from v2w_convert.surgery.load import load
from v2w_convert.world.model import World
from v2w_convert.world.rollout import Sampling, start_stream
from v2w_convert.world.temporal_compression import TemporalCompression
from v2w_convert.world.vae import VAE, open_vae, require_frame_size

HISTORY = 8
HORIZONS = (1, 4, 8, 16)
GAP_HORIZONS = (1, 4)


@dataclass(frozen=True)
class Protocol:
    """What is fixed before anything is measured.

    history         video frames that the model is shown (None: 8, or the next number that fits it)
    samples         rollouts per clip whose mean is measured beside a single one
    episodes        episodes of the data set (None: all)
    long_frames     length of the long rollouts in video frames, as all horizons are; 0: none
    long_rollouts   how many of them
    """

    history: int | None = None
    samples: int = 4
    episodes: int | None = None
    long_frames: int = 200
    long_rollouts: int = 8
    seed: int = 0
    sampling: Sampling = field(default_factory=Sampling)


@torch.no_grad()
def rollout_frames(
    world: World,
    pixels: VAE,
    latents: Tensor,
    actions: Tensor,
    history: int,
    sampling: Sampling,
    seed: int,
) -> Tensor:
    """Predicted frames (n t-history 3 height width): the first `history` video frames shown, then `actions` followed.

    latents  (n j c h w), of the history's frames at least
    actions  (n t a), of video frames

    Where several video frames make a latent frame, or latent frames are made in blocks, the last is made whole, its
    last action repeated, and cut. The history's latents are decoded, too: they are what the predicted ones follow.
    """
    n, t = actions.shape[:2]
    packing = pixels.packing
    seen = packing.latents(history)
    latents = latents[:, :seen]
    missing = packing.whole_blocks(t, world.frames_per_block) - t
    packed = packing.actions(torch.cat([actions, actions[:, -1:].expand(-1, missing, -1)], 1))
    rollout = start_stream(world, n, *latents.shape[-2:], sampling=sampling, seed=seed)
    rollout.observe(latents, packed[:, :seen])
    steps = range(seen, packed.shape[1], world.frames_per_block)
    predicted = [rollout.step_block(packed[:, j : j + world.frames_per_block]) for j in steps]
    whole = torch.cat([latents, *predicted], 1)[:, : packing.latents(packing.whole_blocks(t))]
    return pixels.decode(whole, seen)[:, : t - history].cpu()


def history_length(world: World, packing: TemporalCompression, history: int | None) -> int:
    """How many video frames are shown: `history`, or without one, 8 or the next number that fits.

    What fits is whole latent frames, in whole blocks where the model takes blocks of them. Raises V2WError if
    `history` does not.
    """
    more = packing.whole_blocks(history or HISTORY, world.frames_per_block)
    if history not in (None, more):
        found = [f"the model takes blocks of {world.frames_per_block}"] if world.frames_per_block > 1 else []
        found += [f"the autoencoder packs {packing}"] if packing.k > 1 else []
        raise V2WError(f"show {history} frames", " and ".join(found), f"a history of {more} frames")
    return more


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
    pixels = open_vae(folder, device)
    packing = pixels.packing
    history = history_length(world, packing, protocol.history)
    episodes = read_episodes(data, world.action_dim, packing, protocol.episodes, camera)
    require_frame_size(pixels, episodes[0].frames, f"evaluate on {data}")
    clips = cut_clips(episodes, history, packing.whole_blocks(history + max(HORIZONS)) - history)
    # Checked before the long part begins.
    training = None
    if classifier_data is not None:
        others = read_episodes(classifier_data, world.action_dim, packing, None, camera)
        training = cut_clips(others, 0, packing.whole_blocks(max(HORIZONS)))
    progress("encoding")
    latents, decoded = _round_trip(pixels, clips)
    if not pixels.single:  # what comes after the history may have left a trace in its latents
        latents = pixels.encode(_uint8(clips.frames[:, :history]))
    truth = clips.frames[:, history:]
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
        return rollout_frames(world, pixels, latents, actions, history, protocol.sampling, seed)

    samples = []
    for number in range(protocol.samples):
        progress(f"rolling out, sample {number + 1} of {protocol.samples}")
        samples.append(rolled(clips.actions, protocol.seed + number))
    one, mean = samples[0], torch.stack(samples).mean(0)
    progress("rolling out with other episodes' actions")
    other = rolled(_of_another_episode(clips, history), protocol.seed)
    copied = clips.frames[:, history - 1 : history].expand_as(truth)
    results = {"one sample": measure(one), f"mean of {protocol.samples}": measure(mean)}
    baselines = {
        "last frame copied": measure(copied),
        "autoencoder alone": measure(decoded[:, history:]),
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
        long = _long(world, pixels, clips, latents, decoded, history, protocol)
    return {
        "settings": {
            "model": folder.name,
            "data": data.name,
            "clips": len(truth),
            "episodes": int(clips.episode.unique().numel()),
            **asdict(protocol),
            "history": history,
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


def _round_trip(pixels: VAE, clips: EvaluationClips) -> tuple[Tensor, Tensor]:
    """Latents (n j c h w) of the clips, and the frames that come back from them."""
    latents = pixels.encode(_uint8(clips.frames))
    return latents, pixels.decode(latents).cpu()


def _uint8(frames: Tensor) -> Tensor:
    """Frames (n t 3 height width) in [0, 1] -> (n t height width 3)."""
    return (frames.permute(0, 1, 3, 4, 2) * 255).round().to(torch.uint8)


def _of_another_episode(clips: EvaluationClips, history: int) -> Tensor:
    """Each clip's actions after the history replaced by those of a clip of the next episode."""
    episodes = clips.episode.unique()
    if len(episodes) < 2:
        raise V2WError("compare with other actions", "there is only one episode", "a data set with several")
    following = {int(e): int(episodes[(i + 1) % len(episodes)]) for i, e in enumerate(episodes)}
    chosen = [int((clips.episode == following[int(e)]).nonzero()[0]) for e in clips.episode]
    return torch.cat([clips.actions[:, :history], clips.actions[chosen, history:]], 1)


def _inverse_dynamics(
    pixels: VAE,
    training: EvaluationClips | None,
    clips: EvaluationClips,
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
    history = clips.frames.shape[1] - predicted.shape[1]
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
    world: World,
    pixels: VAE,
    clips: EvaluationClips,
    latents: Tensor,
    decoded: Tensor,
    history: int,
    protocol: Protocol,
) -> dict[str, Any]:
    """Whether frames of a long rollout still look like the data: design of the picture, not its truth."""
    chosen = torch.arange(min(protocol.long_rollouts, len(latents)))
    actions = _one_after_the_other(clips.actions, chosen, history + protocol.long_frames)
    frames = rollout_frames(
        world, pixels, latents[chosen], actions, history, protocol.sampling, protocol.seed + 1000
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


def _one_after_the_other(actions: Tensor, chosen: Tensor, frames: int) -> Tensor:
    """Actions (k frames a) of rollouts that begin with the chosen clips' own, (n t a), and go on with the next clips'.

    A clip's first action led to its first frame; what comes after another clip's last frame is that one's second.
    """
    each = actions.shape[1] - 1
    row = actions[:, 1:].flatten(0, 1)
    later = torch.arange(frames - 1)
    rest = [row[(int(clip) * each + later) % len(row)] for clip in chosen]
    return torch.cat([actions[chosen, :1], torch.stack(rest)], 1)
