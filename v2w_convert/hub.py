"""Names on the Hugging Face Hub, and what its library raises."""

import re
from typing import Any

from v2w_convert.errors import V2WError

# OWNER/NAME as the Hub allows it. A path may look the same: an existing path wins.
REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)


def hub_error(asked: str, error: Any) -> V2WError:
    """What the Hub library raised, in one line that says what to do."""
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        return V2WError(asked, "it is gated", "accept its terms on huggingface.co, then: hf auth login")
    if isinstance(error, errors.RepositoryNotFoundError):
        found = "no such folder or file here, and no such repository on the Hub, or it is private"
        return V2WError(asked, found, "check the name; for a private one: hf auth login")
    if isinstance(error, errors.LocalEntryNotFoundError | errors.OfflineModeIsEnabled | ConnectionError):
        found = "no such folder or file here, the Hub cannot be reached, and it is not in its cache"
        return V2WError(asked, found, "a folder, or the same with a connection")
    first = next(iter(str(error).strip().splitlines()), type(error).__name__)
    return V2WError(asked, f"the Hub answered: {first}")
