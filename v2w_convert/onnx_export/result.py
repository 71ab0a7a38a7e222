"""What `export` returns."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Comparison:
    """Frames by onnxruntime beside those of torch, each after the same history.

    Attributes:
        ok: They agree.
        frames: Latent frames that were compared.
        largest_difference: Largest absolute difference of their latents; None if it is not finite.
        largest_value: Largest absolute value of torch's latents; None if it is not finite.
    """

    ok: bool
    frames: int
    largest_difference: float | None
    largest_value: float | None


@dataclass(frozen=True)
class ExportResult:
    """An exported step.

    Attributes:
        ok: onnxruntime agrees with torch, or they were not compared.
        output: The file.
        written: The file was written: `ok`, or the settings keep a file that differs.
        frames: Latent frames that were compared; 0 if the settings ask for no comparison.
        largest_difference: Largest absolute difference of their latents; None if it is not finite, or if
            there was no comparison.
        allowed: What it may be.
        largest_value: Largest absolute value of torch's latents; None as above.
        window: Latent frames that attention sees, the present block included.
        bytes: Size of the file and, over 2 GB, of the .data file beside it.
        inputs: Names of the graph's inputs, in order; `condition.NAME` are conditions that are each rollout's own.
        state_bytes: Size of the stream state.
        settings: All settings, with the sizes that come from the model.
    """

    ok: bool
    output: str
    written: bool
    frames: int
    largest_difference: float | None
    allowed: float
    largest_value: float | None
    window: int
    bytes: int
    inputs: list[str]
    state_bytes: int
    settings: dict[str, Any]
