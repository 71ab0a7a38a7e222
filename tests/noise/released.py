"""Schedulers of released checkpoints, and what their pipelines give them."""

from dataclasses import dataclass, field
from typing import Any

from tests.pipelines.releases import RELEASES


@dataclass(frozen=True)
class Release:
    """A checkpoint's scheduler, and what its family's pipeline gives it.

    Attributes:
        plan: The plan of the family.
        config: Of the scheduler.
        given: Arguments of `set_timesteps`, as the pipeline gives them for `STEPS` steps; by default their number.
        first: How large the pipeline makes the first frames; None: the scheduler's `init_noise_sigma`.
    """

    plan: str
    config: dict[str, Any]
    given: dict[str, Any] = field(default_factory=dict)
    first: float | None = None


STEPS, TOKENS = 10, 2560
EVEN = [1 - i / STEPS for i in range(STEPS)]
# Mochi's linear_quadratic_schedule(10, 0.025) of diffusers 0.42
MOCHI = [1.0, 0.995, 0.99, 0.985, 0.98, 0.975, 0.932, 0.813, 0.618, 0.347]


def of(release: str, given: dict[str, Any] | None = None, first: float | None = None) -> Release:
    """The scheduler of one of the releases that `tests.pipelines` knows."""
    known = RELEASES[release]
    return Release(known.plan, known.scheduler, given or {}, first)


RELEASED = {
    "svd": of("Stable Video Diffusion"),
    "cosmos 1.0": of("Cosmos 1.0 7B Text2World", first=80.0),
    "modelscope": of("ModelScope text-to-video 1.7b"),
    "i2vgen-xl": of("I2VGen-XL"),
    "animatediff": of("AnimateDiff v1.5.2"),
    "latte": of("Latte-1"),
    "cogvideox-2b": of("CogVideoX 2b"),
    "cogvideox-5b": of("CogVideoX 5b"),
    "hunyuan-video": of("HunyuanVideo", {"sigmas": EVEN}),
    "hunyuan-video 1.5": of("HunyuanVideo 1.5 480p T2V", {"sigmas": EVEN}),
    "kandinsky 5": of("Kandinsky 5 Lite T2V 5s"),
    "mochi": of("Mochi 1 preview", {"sigmas": MOCHI}),
    "ltx-video 0.9.0": of("LTX-Video 0.9.0", {"sigmas": EVEN, "mu": 1.5}),  # 2560 tokens: half way
    "easyanimate 5.1": of("EasyAnimate V5.1 12b", {"mu": 1}),
    "wan 2.1": of("Wan 2.1 T2V 14B"),
    "wan 2.2": of("Wan 2.2 TI2V 5B"),
    "skyreels v2": of("SkyReels V2 T2V 14B"),
    "sana-video": of("SANA-Video 2B 480p"),
}
# Sampled without the noise that it adds.
ALLEGRO = RELEASES["Allegro"].scheduler
