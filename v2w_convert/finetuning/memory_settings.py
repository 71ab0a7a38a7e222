"""Settings that decide how much memory finetuning takes: what is trained, and what is kept for it, where."""

from typing import Literal, Self

from pydantic import Field, model_validator

from v2w_convert.settings import MAX_SCALE, Count, Settings

Trained = Literal["all", "temporal", "action", "lora"]
LoraTargets = Literal["all", "temporal"]
OptimizerName = Literal["adamw", "adamw-8bit", "adafactor"]

GOES_WITH = {  # setting -> what it belongs to
    "lora_rank": ("train", "lora"),
    "lora_alpha": ("train", "lora"),
    "lora_targets": ("train", "lora"),
    "lora_merge": ("train", "lora"),
}


class MemorySettings(Settings):
    """What is trained, and in what form weights, optimizer state and averages are held."""

    train: Trained = Field(
        default="all",
        description="what to train: all weights; temporal, the modules that the plan changes and the action layers; action, "
        "the action layers only; lora, low-rank updates of linear layers (needs peft) and the action layers. The rest "
        "stays as it is, bit for bit",
    )
    lora_rank: Count = Field(default=16, description="rank of the updates that --train lora learns")
    lora_alpha: float | None = Field(
        default=None,
        gt=0,
        le=MAX_SCALE,
        description="an update counts alpha / rank times; without it alpha is the rank",
    )
    lora_targets: LoraTargets = Field(
        default="all",
        description="linear layers that get an update: all, or temporal, those in modules that the plan changes",
    )
    lora_merge: bool = Field(
        default=False,
        description="add the updates to the weights that are written, in place of an adapter beside them",
    )
    weights: Literal["float32", "bfloat16"] = Field(
        default="float32",
        description="number format of the weights on the device; in bfloat16, those that are trained have a float32 copy "
        "that the optimizer steps, and vectors (biases, norms) stay float32. Goes with mixed precision bf16",
    )
    optimizer: OptimizerName = Field(
        default="adamw",
        description="adamw keeps 8 bytes a trained number; adamw-8bit 2 (needs bitsandbytes); adafactor next to none of a matrix, and "
        "its learning rate counts relative to the size of the weights",
    )
    offload_optimizer: bool = Field(
        default=False,
        description="keep the optimizer's state and float32 copies of what is trained in the computer's memory, and step "
        "there: slower",
    )
    ema: Literal["off", "cpu", "device"] = Field(
        default="device",
        description="where averaged weights are kept: on the device, in the computer's memory, or nowhere; then the last "
        "weights are saved",
    )

    shard: bool = Field(
        default=False,
        description="of several processes, each holds a part of weights, gradients, optimizer state and average, instead of "
        "all",
    )

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        # Names in backticks become flags on the command line.
        precision = getattr(self, "mixed_precision", "no")
        if self.weights == "bfloat16" and precision not in ("auto", "bf16"):
            raise ValueError(f"`weights` bfloat16 goes with `mixed_precision` bf16, not {precision}")
        if self.offload_optimizer and precision == "fp16":
            raise ValueError("`offload_optimizer` goes with `mixed_precision` bf16 or no, not fp16")
        if self.shard and (self.weights, self.optimizer, self.offload_optimizer) != (
            "float32",
            "adamw",
            False,
        ):
            raise ValueError(
                "`shard` goes with `weights` float32, `optimizer` adamw and no `offload_optimizer`"
            )
        if self.shard and getattr(self, "rollout_every", None):
            raise ValueError("`rollout_every` goes without `shard`")
        if self.shard and precision == "fp16":
            raise ValueError("`shard` goes with `mixed_precision` bf16 or no, not fp16")
        for name, (other, value) in GOES_WITH.items():
            given = getattr(self, name)
            if given != type(self).model_fields[name].default and getattr(self, other) != value:
                raise ValueError(f"`{name}` goes with `{other}` {value}, not {getattr(self, other)}")
        decay = type(self).model_fields.get("ema_decay")
        if decay is not None and self.ema == "off" and getattr(self, "ema_decay", None) != decay.default:
            raise ValueError("`ema_decay` goes with `ema` device or cpu, not off")
        return self
