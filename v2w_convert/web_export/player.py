"""An exported folder in Python: the same files, the same loop as page/stream.js, with native onnxruntime and numpy."""

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2w_convert.strict_json import read_object

Array = NDArray[Any]
Draw = Callable[[int], Array]
"""How many -> as many normally distributed numbers, float32 (n,)."""


class Player:
    """One rollout of a folder that `export_web` wrote.

    Attributes:
        world: What world.json says.
    """

    def __init__(self, folder: Path, draw: Draw, start: int = 0):
        """Observe the frames of a start.

        Args:
            folder: The folder.
            draw: The noise, asked for in the order of `v2w_convert.world.rollout.Stream`: all of history, then of each
                frame the first noise and that of its commit.
            start: Which of the starts.
        """
        self.world = read_object(folder / "world.json")
        self.draw = draw
        self.step_graph, self.decode_graph = (
            _session(folder / f"{name}.onnx.gz") for name in ("step", "decode")
        )
        given = self._tensors(folder, self.world["starts"][start])
        latents, actions = given.pop("latents"), given.pop("actions")
        self.conditions = given
        self.state = {
            name: np.zeros(said["shape"], said["dtype"]) for name, said in self.world["state"].items()
        }
        noise = draw(latents.size).reshape(latents.shape)
        for frame, action, random in zip(latents, actions, noise, strict=True):
            self._commit(frame, action, random)

    def step(self, action: Array, steps: int) -> Array:
        """The next frame's latents (c h w) after `action` (a), committed."""
        shape = self.world["latent"]
        table = self.world["steps"][str(steps)]
        frame = self._draw(shape) * np.float32(table["first"])
        for level, of_noisy, of_output in table["steps"]:
            output = self._guided(frame, level, action)
            frame = (of_noisy * frame + of_output * output).astype(np.float32)
        self._commit(frame, action, self._draw(shape))
        return frame

    def picture(self, frame: Array) -> Array:
        """Latents (c h w) -> pixels (3 height width) in [0, 1]."""
        [found] = self.decode_graph.run(["picture"], {"latents": frame[None]})
        picture: Array = found[0]
        return picture

    def _commit(self, frame: Array, action: Array, random: Array) -> None:
        history = self.world["history"]
        noisy = (history["clean"] * frame + history["noise"] * random).astype(np.float32)
        feedback = self.world["feedback"]
        outputs = self._run(list(feedback.values()), noisy, history["level"], action, False)
        self.state = dict(zip(feedback, outputs, strict=True))

    def _guided(self, frame: Array, level: float, action: Array) -> Array:
        guidance = self.world["guidance"]
        [output] = self._run(["output"], frame, level, action, False)
        if guidance != 1:
            [without] = self._run(["output"], frame, level, action, True)
            output = without + np.float32(guidance) * (output - without)
        found: Array = output[0, 0]
        return found

    def _run(self, names: list[str], frame: Array, level: float, action: Array, dropped: bool) -> list[Array]:
        given = {
            "latents": frame[None, None],
            "noise_level": np.full((1, 1), level, np.float32),
            "actions": np.asarray(action, np.float32)[None, None],
            "dropped": np.full((1, 1), dropped),
        }
        outputs: list[Array] = self.step_graph.run(names, given | self.state | self.conditions)
        return outputs

    def _draw(self, shape: list[int]) -> Array:
        return self.draw(int(np.prod(shape))).reshape(shape)

    @staticmethod
    def _tensors(folder: Path, start: dict[str, Any]) -> dict[str, Array]:
        data = (folder / "starts.bin").read_bytes()
        return {
            name: np.frombuffer(data, said["dtype"], int(np.prod(said["shape"])), said["offset"]).reshape(
                said["shape"]
            )
            for name, said in start["tensors"].items()
        }


def _session(file: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(
        gzip.decompress(file.read_bytes()), options, providers=["CPUExecutionProvider"]
    )
