"""The rollouts of an environment: each begins, goes on and is taken back by itself, and they are generated together."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from v2w_convert.env.opened import OpenedWorld, same_model
from v2w_convert.errors import V2WError
from v2w_convert.world.rollout import SeededStream, join_streams
from v2w_convert.world.vae import as_uint8


@dataclass(frozen=True)
class Together:
    """Rollouts that have seen as many frames: one pass of the model serves all.

    Attributes:
        rows: Which of the environment's rollouts they are.
        stream: Their state.
        decoders: What decoding their last frames left, for each.
        latents: Their newest latent frame (b c h w).
        pictures: Its newest picture (b height width 3) uint8; None where latents are not decoded.
    """

    rows: tuple[int, ...]
    stream: SeededStream
    decoders: tuple[Any, ...]
    latents: Tensor
    pictures: NDArray[np.uint8] | None

    def select(self, places: Sequence[int], rows: Iterable[int]) -> "Together":
        """Some of them, by their place here, as the environment's rollouts `rows`."""
        index = torch.tensor(places, device=self.latents.device)
        return Together(
            tuple(rows),
            self.stream.select(places),
            tuple(self.decoders[place] for place in places),
            self.latents.index_select(0, index),
            None if self.pictures is None else self.pictures[list(places)],
        )


@dataclass(frozen=True)
class Branch:
    """A moment of one environment, to go on from any number of times. It holds a state of fixed size.

    Attributes:
        opened: The model that it is of.
        moment: The rollout.
        elapsed: Steps since its episode began.
    """

    opened: OpenedWorld
    moment: Together
    elapsed: int


class Streams:
    """n rollouts of one model.

    Those that have seen as many frames take one pass of the model together. So all do that begin together, and those
    that begin anew at different times are generated in as many passes as there are different times.
    """

    def __init__(self, opened: OpenedWorld, n: int):
        """Begin with no rollout; `begin` and `restore` add them."""
        self.opened, self.n = opened, n
        self.groups: list[Together] = []

    def begin(self, rows: Sequence[int], starts: Sequence[int], seeds: Sequence[int]) -> None:
        """Begin rollouts anew.

        Args:
            rows: Which of the n.
            starts: With which of the model's beginnings, for each.
            seeds: Of the noise of each.
        """
        if not rows:
            return
        opened = self.opened
        index = torch.tensor(starts)
        conditions = {name: value[index].to(opened.world.device) for name, value in opened.conditions.items()}
        one = SeededStream(
            opened.world, opened.empty, (1, *opened.size), opened.sampling, [0], {}, self._tokens()
        )
        stream = one.select([0] * len(rows))
        stream.conditions = conditions
        for generator, seed in zip(stream.generators, seeds, strict=True):
            generator.manual_seed(seed)
        latents = torch.stack([opened.latents(start) for start in starts]).to(opened.world.device)
        history = torch.stack([opened.history(start) for start in starts])
        stream.observe(latents, history)
        decoders, pictures = self._decode(latents, (None,) * len(rows), 0)
        self._replace(rows, [Together(tuple(rows), stream, decoders, latents[:, -1], pictures)])

    def step(self, actions: NDArray[np.float32], without: Sequence[int] = ()) -> None:
        """Generate the next frames after actions (n a), of all rollouts but those `without`, which end."""
        if without:
            self._replace(without, [])
        for number, group in enumerate(self.groups):
            held = self.opened.held(torch.from_numpy(actions[list(group.rows)]))
            stream = group.stream
            seen = stream.past.blocks * self.opened.world.frames_per_block
            latents = stream.step_block(held)
            decoders, pictures = self._decode(latents, group.decoders, seen)
            self.groups[number] = Together(group.rows, stream, decoders, latents[:, -1], pictures)

    def branch(self, row: int, elapsed: int) -> Branch:
        """This moment of a rollout."""
        for group in self.groups:
            if row in group.rows:
                return Branch(self.opened, group.select([group.rows.index(row)], [0]), elapsed)
        raise V2WError("branch", "no episode has begun", "reset() first")

    def restore(self, rows: Sequence[int], branches: Sequence[Branch], seeds: Sequence[int] | None) -> None:
        """Go on from moments.

        Args:
            rows: Which rollouts go on.
            branches: From where, for each.
            seeds: Of the noise to come, for each; None: the same noise as would have come.

        Raises:
            V2WError: One is a moment of another model.
        """
        for branch in branches:
            if branch.opened is not self.opened and not same_model(branch.opened, self.opened):
                raise V2WError(
                    "restore a branch", f"it is of {branch.opened.folder}, or sampled in another way"
                )
        groups: dict[int, tuple[Together, list[int]]] = {}
        for row, branch in zip(rows, branches, strict=True):  # copies of one moment are made at once
            groups.setdefault(id(branch.moment), (branch.moment, []))[1].append(row)
        restored = []
        for moment, own in groups.values():
            copy = moment.select([0] * len(own), own)
            copy.stream.world = self.opened.world
            if copy.pictures is None and self.opened.settings.observation == "pixels":
                raise V2WError("restore a branch", "it is of an environment whose frames are latents")
            for row, generator in zip(own, copy.stream.generators, strict=True):
                if seeds is not None:
                    generator.manual_seed(seeds[list(rows).index(row)])
            restored.append(copy)
        self._replace(rows, restored)

    def observations(self) -> NDArray[Any]:
        """Of all n rollouts: pictures (n height width 3) uint8, or latents (n c h w) float32."""
        first = self.groups[0]
        parts = [
            g.latents.float().cpu().numpy() if first.pictures is None else g.pictures for g in self.groups
        ]
        joined = np.concatenate([part for part in parts if part is not None])
        order = [row for group in self.groups for row in group.rows]
        found: NDArray[Any] = joined[np.argsort(order)]
        return found

    def rendered(self) -> NDArray[np.uint8]:
        """The newest pictures (n height width 3) of all."""
        opened = self.opened
        if opened.settings.observation == "pixels":
            return self.observations()
        if opened.vae.packing.k > 1 or not opened.vae.decodes_at_once:
            name = type(opened.vae.autoencoder).__name__
            raise V2WError(
                "render latents", f"its {name} decodes no latent frame alone", 'observation="pixels"'
            )
        latents = torch.from_numpy(self.observations())[:, None].to(opened.world.device)
        pictures, _ = opened.vae.decode_next(latents, [None] * self.n, 0)
        return np.stack([as_uint8(clip[-1:])[0] for clip in pictures])

    def _replace(self, rows: Sequence[int], new: list[Together]) -> None:
        """Put `new` groups of these rows in the place of what they were; groups that are as far become one."""
        gone = set(rows)
        left = []
        for group in self.groups:
            places = [place for place, row in enumerate(group.rows) if row not in gone]
            if len(places) == len(group.rows):
                left.append(group)
            elif places:
                left.append(group.select(places, [group.rows[place] for place in places]))
        by_age: dict[int, list[Together]] = {}
        for group in [*left, *new]:
            by_age.setdefault(group.stream.past.blocks, []).append(group)
        self.groups = [_join(groups) for groups in by_age.values()]

    def _decode(
        self, latents: Tensor, decoders: Sequence[Any], seen: int
    ) -> tuple[tuple[Any, ...], NDArray[np.uint8] | None]:
        """The newest picture of clips of latents (b j c h w), of which `seen` came before, and what decoding left."""
        if self.opened.settings.observation == "latents":
            return (None,) * len(latents), None
        vae, states = self.opened.vae, list(decoders)
        if vae.single:
            latents, seen = latents[:, -1:], seen + latents.shape[1] - 1
        for j in range(latents.shape[1]):
            pictures, states = vae.decode_next(latents[:, j : j + 1], states, seen + j)
        return tuple(states), as_uint8(pictures[:, -1])

    def _tokens(self) -> int:
        return self.opened.world.clip_tokens(*self.opened.size)


def _join(groups: list[Together]) -> Together:
    """Groups that are as far as one."""
    if len(groups) == 1:
        return groups[0]
    pictures = [group.pictures for group in groups if group.pictures is not None]
    return Together(
        tuple(row for group in groups for row in group.rows),
        join_streams([group.stream for group in groups]),
        tuple(decoder for group in groups for decoder in group.decoders),
        torch.cat([group.latents for group in groups]),
        np.concatenate(pictures) if pictures else None,
    )
