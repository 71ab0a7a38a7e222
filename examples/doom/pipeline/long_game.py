"""How far long walks of the game itself stray from recordings of short ones: what drift of a world model is to be set beside.

    python -m examples.doom.pipeline.long_game --data examples/doom/data/test --frames 16000

Recorded episodes begin where the agent appears and end after 50 frames. In the game, the same wandering agent goes on until it
dies. Printed are, by frames since it appeared, how many frames have statistics within the recordings' 1st to 99th percentiles, and
their gradient energy beside the recordings': as `v2w evaluate` says it of long rollouts, without an autoencoder.
"""

import argparse
import contextlib
import json
import tempfile
from pathlib import Path

import torch

from examples.doom.pipeline.pictures import read_frames
from examples.doom.pipeline.record import play
from v2w_convert.errors import V2WError
from v2w_convert.evaluation.metrics import picture_statistics, share_within

STRETCHES = (0, 50, 100, 150, 200, 300, 500)  # frames since the agent appeared
ENERGY = 2  # which of the picture statistics is the gradient energy


def measure(scenario: str, seed: int, frames: int, data: Path) -> list[dict[str, float]]:
    """A row for each stretch that has frames.

    Raises:
        V2WError: There is no ViZDoom, no such scenario, or `data` cannot be read.
    """
    reference = picture_statistics(torch.cat(read_frames([data])))
    with tempfile.TemporaryDirectory() as scratch, contextlib.chdir(scratch):  # the game writes its settings
        walks = [
            picture_statistics(torch.from_numpy(episode.frames).permute(0, 3, 1, 2))
            for episode in play(scenario, seed, frames, STRETCHES[-1])
        ]
    rows = []
    for first, end in zip(STRETCHES, STRETCHES[1:], strict=False):
        found = torch.cat([walk[first:end] for walk in walks])
        if len(found):
            rows.append(
                {
                    "first": first + 1,
                    "last": end,
                    "frames": len(found),
                    "within": round(share_within(found, reference), 3),
                    "detail": round(float(found[:, ENERGY].mean() / reference[:, ENERGY].mean()), 3),
                }
            )
    return rows


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="recordings of short walks")
    parser.add_argument("--scenario", default="deathmatch")
    parser.add_argument("--seed", type=int, default=11001)
    parser.add_argument("--frames", type=int, default=16000, help="of the game, in all")
    options = parser.parse_args(words)
    try:
        rows = measure(options.scenario, options.seed, options.frames, options.data.resolve())
    except V2WError as error:
        raise SystemExit(str(error)) from None
    print(json.dumps(rows, indent=1, allow_nan=False))


if __name__ == "__main__":
    main()
