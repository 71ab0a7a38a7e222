"""Settings of `rollout` and `evaluate`. Nothing heavy is imported here: the command line reads its flags from them."""

from typing import Literal, Self

from pydantic import Field, model_validator

from v2w_convert.data.settings import DataSettings
from v2w_convert.settings import MAX_COUNT, MAX_SCALE, Count, Name, Prompt, Scale, Seed, SettingPath


class SamplingSettings(DataSettings):
    """How frames are generated, whatever is done with them afterwards."""

    steps: Count | None = Field(
        default=None,
        description="denoising steps per block; default: 10, or 2 where the model was finetuned with `consistency`",
    )
    guidance: float = Field(
        default=1.0, ge=-MAX_SCALE, le=MAX_SCALE, description="action guidance scale; 1 turns guidance off"
    )
    context_noise: Scale | None = Field(
        default=None,
        description="noise level that observed and generated history is given, in the unit of the model's "
        "noise; 0 is clean; without it, the cleanest level that training visits",
    )
    history_guidance: float = Field(
        default=1.0,
        ge=-MAX_SCALE,
        le=MAX_SCALE,
        description="history guidance scale: leads away from what the model predicts from a noised history; 1 turns it "
        "off, another value adds a pass to each denoising step",
    )
    history_guidance_noise: Scale | None = Field(
        default=None,
        description="noise level of the history that history guidance leads away from, in the unit of the model's "
        "noise; without it the largest, at which nothing of it is left to see",
    )
    history: Count | None = Field(
        default=None,
        description="observed video frames before the generated ones; without it 8, or the next number that "
        "the model can take",
    )
    seed: Seed = Field(default=0, description="seed of all random numbers")
    engine: Literal["torch", "compile", "onnx"] = Field(
        default="torch",
        description="what computes the denoiser: torch as it is; torch.compile; or onnxruntime, on the CPU, which is "
        "the fastest there for one rollout or a few",
    )
    cache: SettingPath | None = Field(
        default=None,
        description="folder in which graphs of `--engine onnx` are kept, so that it begins at once the next time; default: "
        "v2w/graphs in the user's cache folder",
    )
    device: Name = Field(default="auto", description="where to compute: auto, cpu, cuda, cuda:1, mps")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        default="auto",
        description="number format of the denoiser; auto: bfloat16 on a CUDA card that has it, else float32; the "
        "autoencoder runs in float32",
    )

    @model_validator(mode="after")
    def _level_is_used(self) -> Self:
        if self.history_guidance_noise is not None and self.history_guidance == 1:
            raise ValueError("`history_guidance_noise` needs a `history_guidance` other than 1")
        return self

    @model_validator(mode="after")
    def _cache_is_used(self) -> Self:
        if self.cache is not None and self.engine != "onnx":
            raise ValueError("`cache` keeps graphs of `engine: onnx`, and another engine makes none")
        return self


class RolloutSettings(SamplingSettings):
    """What `rollout` generates and shows."""

    episode: int = Field(
        default=0, ge=0, le=MAX_COUNT, description="episode of the data set to start from, counted from 0"
    )
    frames: Count = Field(default=32, description="video frames to generate")
    prompt: Prompt | None = Field(
        default=None, description="prompt, by the base's own encoders; default: as the model was finetuned"
    )


class EvaluateSettings(SamplingSettings):
    """What `evaluate` measures. All lengths are in video frames."""

    horizons: tuple[Count, ...] = Field(
        default=(1, 4, 8, 16),
        min_length=1,
        max_length=100,
        description="frames ahead at which frames are compared with the true ones",
    )
    samples: Count = Field(
        default=4, description="rollouts per clip, whose mean is measured beside a single one"
    )
    episodes: int | None = Field(
        default=None, ge=2, le=MAX_COUNT, description="use only the first episodes of the data set, this many"
    )
    batch: Count = Field(
        default=16, description="rollouts that are generated together; the figures do not depend on it"
    )
    classifier_data: SettingPath | None = Field(
        default=None, description="other episodes, to train the network on that reads actions from frames"
    )
    long_frames: int = Field(
        default=200,
        ge=0,
        le=MAX_COUNT,
        description="length of the rollouts for long-horizon stability; 0 skips them",
    )
    long_rollouts: Count = Field(default=8, description="number of rollouts for long-horizon stability")
    lpips: SettingPath | None = Field(default=None, description="a TorchScript file of LPIPS, to measure it")
    dreamsim: SettingPath | None = Field(
        default=None, description="a TorchScript file of DreamSim, to measure it"
    )
    fid: SettingPath | None = Field(
        default=None, description="inception-2015-12-05.pt, the TorchScript file of Inception, to measure FID"
    )
    fvd: SettingPath | None = Field(
        default=None, description="i3d_torchscript.pt, the TorchScript file of I3D, to measure FVD"
    )
    frechet: SettingPath | None = Field(
        default=None,
        description="a TorchScript file of any network from frames to features, to measure their Fréchet distance",
    )
    videos: int = Field(
        default=4, ge=0, le=100, description="clips that the page shows, if a folder is written"
    )
    save_frames: bool = Field(
        default=False, description="write all frames as PNG, for other metrics; needs a folder to write into"
    )
