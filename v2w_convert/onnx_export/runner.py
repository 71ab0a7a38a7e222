"""How to use an exported step: rollouts with numpy and onnxruntime, without the world model.

    session = onnxruntime.InferenceSession("step.onnx")
    stream = OnnxStream(session, Sampling(steps=10), seed=0)
    stream.observe(latents, actions)
    frame = stream.step(action)

Where the model was finetuned with an episode's own picture or prompt, each rollout has its own, too:

    OnnxStream(session, conditions={"text": text, "image_latents": latents_of_the_picture})

The same algorithm as `v2w_convert.world.rollout.Stream`, with the same noise for the same seed.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel
from torch import Tensor

from v2w_convert.errors import V2WError, one_line
from v2w_convert.noise import NoiseSpec
from v2w_convert.onnx_export.conditions import Array, ConditionInput, fit_conditions
from v2w_convert.strict_json import parse_object
from v2w_convert.world.rollout import Sampling

METADATA = "v2w"  # key of the file's metadata whose value describes the graph, as JSON
DTYPES = {"tensor(float)": np.float32, "tensor(int64)": np.int64}


class Facts(BaseModel):
    """What the file's metadata says of the graph. It says more.

    Attributes:
        noise: The model's noise.
        tokens: Latent tokens of a clip.
        feedback: For each input of the state, the output to feed into it.
        condition_inputs: Conditions that are inputs; version 0.2's files have none.
    """

    noise: NoiseSpec
    tokens: int
    feedback: dict[str, str]
    condition_inputs: dict[str, ConditionInput] = {}


def read_facts(session: Any) -> Facts:
    """What a session's file says of its graph.

    Raises:
        V2WError: It is no file that `v2w export` wrote.
    """
    try:
        said = session.get_modelmeta().custom_metadata_map.get(METADATA, "")
        facts = Facts.model_validate(parse_object(said.encode(), infinity=True))
        if unknown := facts.feedback.keys() - {value.name for value in session.get_inputs()}:
            raise ValueError(f"the graph has no input {min(unknown)}")
    except ValueError as error:
        raise V2WError("roll out an ONNX graph", one_line(error), "a file that `v2w export` wrote") from None
    return facts


class OnnxStream:
    """b rollouts side by side; b and the latents' size are fixed in the file. Arrays are float32."""

    def __init__(
        self,
        session: Any,
        sampling: Sampling | None = None,
        seed: int = 0,
        conditions: Mapping[str, Array] | None = None,
    ):
        """Begin at the empty state.

        Args:
            session: An onnxruntime.InferenceSession on a file that `v2w export` wrote, with any provider.
            sampling: How frames are sampled; None for the defaults.
            seed: The seed of the noise.
            conditions: What the graph's inputs `condition.NAME` receive, by NAME, as `ConditionInput.fitted` takes it
                (b …): all of them, and no others.

        Raises:
            V2WError: The file is none of `v2w export`; or a condition is missing, unknown, or of another shape; or
                `sampling` asks for history guidance, which takes a second state.
        """
        self.session = session
        self.sampling = sampling or Sampling()
        if self.sampling.history_guidance != 1:
            found = "history guidance takes a second state, of the noised history"
            raise V2WError("roll out an ONNX graph", found, "v2w rollout --engine onnx")
        facts = read_facts(session)
        self.noise = facts.noise.build()
        self.tokens, self.feedback, own = facts.tokens, facts.feedback, facts.condition_inputs
        fitted = fit_conditions(own, conditions or {})
        self.conditions = {f"condition.{name}": value for name, value in fitted.items()}
        self.generator = torch.Generator().manual_seed(seed)
        inputs = {value.name: value for value in session.get_inputs()}
        self.frame_shape = tuple(inputs["latents"].shape)  # b n c h w
        self.actions_shape = tuple(inputs["actions"].shape)  # b n a
        self.state = {name: np.zeros(inputs[name].shape, DTYPES[inputs[name].type]) for name in self.feedback}

    def observe(self, latents: Array, actions: Array | None = None) -> None:
        """Commit observed frames, in whole blocks.

        Args:
            latents: Clean latents (b t c h w).
            actions: Actions (b t a) that led to each frame; None if they are not known.
        """
        clean = torch.from_numpy(latents)
        given = self.sampling.context_noise
        level = torch.full(clean.shape[:2], self.noise.history_level if given is None else given)
        noisy = self.noise.add_noise(clean, torch.randn(clean.shape, generator=self.generator), level)
        n = self.frame_shape[1]
        for t in range(0, clean.shape[1], n):
            now = slice(t, t + n)
            result = self._run(noisy[:, now], level[:, now], None if actions is None else actions[:, now])
            self.state = {name: result[output] for name, output in self.feedback.items()}

    def step(self, action: Array | None = None) -> Array:
        """Generate the next block and commit it.

        Args:
            action: The action (b a) that leads to the next frame; (b n a) where a block has n > 1 frames. None
                if no action is known.

        Returns:
            The next frame's latents (b c h w), or the next block's (b n c h w).
        """
        actions = action[:, None] if action is not None and self.frame_shape[1] == 1 else action
        frames = self.predict(actions)
        self.observe(frames, actions)
        return frames[:, 0] if self.frame_shape[1] == 1 else frames

    def predict(self, actions: Array | None = None) -> Array:
        """Generate the next block (b n c h w) after `actions` (b n a), and do not commit it: observe what came, or this."""
        b, n = self.frame_shape[:2]
        sampler = self.noise.sampler(self.sampling.steps, self.tokens)
        frame = sampler.start(torch.randn(self.frame_shape, generator=self.generator))
        for i, level in enumerate(sampler.levels[:-1].tolist()):
            frame = sampler.step(self._guided(frame, torch.full((b, n), level), actions), frame, i)
        return frame.numpy()

    def _guided(self, frame: Tensor, level: Tensor, actions: Array | None) -> Tensor:
        """The base's output, with action guidance."""
        output = torch.from_numpy(self._run(frame, level, actions)["output"])
        if self.sampling.guidance == 1 or actions is None:
            return output
        without = torch.from_numpy(self._run(frame, level, None)["output"])
        return without + self.sampling.guidance * (output - without)

    def _run(self, frame: Tensor, level: Tensor, actions: Array | None) -> dict[str, Array]:
        """All outputs for one block (b n c h w) after the present state, which is not changed. Without actions they are dropped."""
        given = {
            "latents": frame.numpy(),
            "noise_level": level.numpy(),
            "actions": np.zeros(self.actions_shape, np.float32) if actions is None else actions,
            "dropped": np.full(self.actions_shape[:2], actions is None),
        }
        names = [output.name for output in self.session.get_outputs()]
        outputs = self.session.run(names, given | self.state | self.conditions)
        return dict(zip(names, outputs, strict=True))
