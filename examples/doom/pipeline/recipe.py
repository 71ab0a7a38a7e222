"""What `make world` makes: scenarios, sizes and lengths of training, read from a JSON file."""

from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, ValidationError, model_validator

from v2w_convert.errors import V2WError
from v2w_convert.settings import Count, Name, Scale, Seed, Settings
from v2w_convert.strict_json import read_object

Scenario = Annotated[Name, Field(pattern=r"^[a-z_]+$")]  # it becomes the name of a folder
Frames = dict[Scenario, Count]  # how many frames are recorded, by scenario


class Target(Settings):
    """The scenario that the world model is for.

    Attributes:
        scenario: One that ViZDoom ships.
        train, validation, test: Frames to record.
    """

    scenario: Scenario
    train: Count
    validation: Count
    test: Count


class Recordings(Settings):
    """What is recorded.

    Attributes:
        pretraining: Frames by scenario that the base is trained on; the autoencoder as well, and on the target's.
        validation: Frames by scenario that they are measured on.
        target: What the world model is for. The base never sees it.
    """

    pretraining: Frames
    validation: Frames
    target: Target

    @model_validator(mode="after")
    def _unseen(self) -> Self:
        if self.target.scenario in self.pretraining:
            raise ValueError(f"the target {self.target.scenario} is among the scenarios of pretraining")
        return self


class Course(Settings):
    """How long and how fast a model is trained: AdamW, warm-up, cosine decay, averaged weights.

    Attributes:
        steps: Optimizer steps.
        lr: The highest learning rate.
        batch: Pictures, or clips, a step.
        validate_every: Steps between measurements on the validation recordings.
        seed: Of the initial weights and of every random number drawn.
        checkpoint_seconds: Time between checkpoints; they change nothing.
    """

    steps: Count
    lr: Annotated[Scale, Field(gt=0)]
    batch: Count
    validate_every: Count
    seed: Seed = 0
    checkpoint_seconds: Scale = 120


class Autoencoder(Settings):
    """The autoencoder: arguments of diffusers' `AutoencoderKL`, and how it is trained."""

    model: dict[str, Any]
    course: Course


class Base(Settings):
    """The base: arguments of diffusers' `UNetSpatioTemporalConditionModel` and `DDIMScheduler`, and how it is trained."""

    model: dict[str, Any]
    noise: dict[str, Any]
    course: Course


class Command(Settings):
    """A `v2w` command: its flags and their values, beside those that say where things are."""

    flags: dict[Annotated[Name, Field(pattern=r"^[a-z][a-z-]*$")], bool | int | float | Name | list[int]] = {}

    def words(self) -> list[str]:
        """As they are typed."""
        words: list[str] = []
        for name, value in self.flags.items():
            if isinstance(value, bool):
                words.append(f"--{name}" if value else f"--no-{name}")
                continue
            for each in value if isinstance(value, list) else [value]:
                words += [f"--{name}", str(each)]
        return words


class Decoder(Settings):
    """How the decoder is fitted to the target."""

    course: Course


class Ship(Settings):
    """What is put together in the end.

    Attributes:
        train: Frames of the training recordings that go along: the first ones.
        megabytes: The most that all files may take.
    """

    train: Count
    megabytes: Count


class Recipe(Settings):
    """All stages; a stage's settings are the field of its name."""

    record: Recordings
    autoencoder: Autoencoder
    base: Base
    convert: Command
    finetune: Command
    train_on: Command
    decoder: Decoder
    evaluate: Command
    ship: Ship

    @model_validator(mode="after")
    def _fits(self) -> Self:
        latent = self.autoencoder.model.get("latent_channels")
        found = (self.base.model.get("in_channels"), self.base.model.get("out_channels"))
        if not isinstance(latent, int) or found != (2 * latent, latent):
            raise ValueError(
                f"of {latent} latent channels the base takes twice as many and gives as many, not {found}"
            )
        return self


def read_recipe(file: Path) -> Recipe:
    """Read a recipe.

    Raises:
        V2WError: It cannot be read, or is none; all faults are named.
    """
    try:
        return Recipe.model_validate(read_object(file))
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, e['loc'])) or 'it'}: {e['msg']}" for e in error.errors()]
        raise V2WError(
            f"read the recipe {file}", faults, "examples/doom/pipeline/recipes/world.json"
        ) from None
