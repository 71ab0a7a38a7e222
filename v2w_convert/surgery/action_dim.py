"""How many numbers an action of a model has, read from the data that it will be trained on."""

from pathlib import Path

from v2w_convert.checkpoint.source import Source
from v2w_convert.data.open import open_dataset
from v2w_convert.errors import V2WError
from v2w_convert.surgery.pipeline import autoencoder_of
from v2w_convert.surgery.settings import MAX_ACTION_DIM, ConvertSettings
from v2w_convert.world.vae_kinds import KINDS, packing

GIVE = "--action-dim, in place of --data"


def with_action_dim(
    source: Source, settings: ConvertSettings, path: Path
) -> tuple[ConvertSettings, list[str]]:
    """The settings with `action_dim` in place of `data`, which is read from `path`; and how it came about.

    Raises:
        V2WError: The data cannot be read, or the base has no autoencoder that would say how many video frames make a latent
            frame.
    """
    asked = f"read the length of actions from {path}"
    data = open_dataset(path, settings)
    found = autoencoder_of(source)
    if found is None:
        reason = "the base has no autoencoder, which would say how many video frames make a latent frame"
        raise V2WError(asked, reason, GIVE)
    try:
        together = packing(found.model, KINDS[type(found.model).__name__])
    except ValueError as error:
        raise V2WError(asked, f"its vae/config.json: {error}", GIVE) from None
    numbers = together.k * data.action_dim
    if numbers > MAX_ACTION_DIM:
        raise V2WError(asked, f"{numbers} numbers, more than {MAX_ACTION_DIM}", "a smaller --stride")
    note = f"{data.name}: actions of {data.action_dim} numbers ({', '.join(data.action_names[:8])}"
    note += ", …)" if data.action_dim > 8 else ")"
    if together.k > 1:
        note += f"; {together}: {numbers} together"
    return settings.model_copy(update={"action_dim": numbers, "data": None}), [note]
