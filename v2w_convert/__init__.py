"""Turn a pretrained video diffusion model into a world model.

checkpoint   files as named tensors
data         episodes: what was seen, what was done
noise        how frames are noised, by kind
stream       what is carried from frame to frame
operations   the kinds of change, one file each
plan         what to change, as data; the probe that finds what a plan forgot
world        the world model: one forward, streaming, rollout
surgery      the change, performed on files and on live models
verify       claims, measured
finetune     diffusion forcing on action data
evaluate     figures by horizon
export       the streamed step as an ONNX graph
"""

from typing import Any

__all__ = ["V2WError", "load"]


def __getattr__(name: str) -> Any:  # `import v2w_convert` stays light: torch comes with the first use
    if name == "load":
        from v2w_convert.surgery.load import load

        return load
    if name == "V2WError":
        from v2w_convert.errors import V2WError

        return V2WError
    raise AttributeError(f"module 'v2w_convert' has no attribute {name!r}")
