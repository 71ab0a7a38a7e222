"""A model folder onto the Hugging Face Hub."""

from pathlib import Path
from typing import Any

from v2w_convert.errors import V2WError, one_line
from v2w_convert.hub import REPOSITORY

# Of a run folder: what training needs and a model does not.
NOT_PUSHED = (
    "checkpoints/**",
    "latents/**",
    "config.yaml",
    ".*",
    "**/.*",
)  # config.yaml has local paths


def require_pushable(repository: str) -> None:
    """Check, before any work, that the Hub can be reached and knows who asks.

    Args:
        repository: OWNER/NAME.

    Raises:
        V2WError: It is no such name, the Hub cannot be reached, or nobody is logged in.
    """
    if not REPOSITORY.fullmatch(repository):
        raise V2WError(_asked(repository), "not the id of a repository", "OWNER/NAME")
    try:
        from huggingface_hub import HfApi

        HfApi().whoami()
    except Exception as error:  # the library's own, those of its transport, and the network's
        raise _hub_error(repository, error) from None


def push(folder: Path, repository: str) -> str:
    """Upload a model folder as one commit. A repository that is not there yet is made, private.

    Args:
        folder: What `convert` or `finetune` wrote.
        repository: OWNER/NAME.

    Returns:
        The address of the repository.

    Raises:
        V2WError: The Hub refuses it or cannot be reached. The folder stays as it is.
    """
    try:
        from huggingface_hub import HfApi

        hub = HfApi()
        made: Any = hub.create_repo(repository, private=True, exist_ok=True)
        hub.upload_folder(
            repo_id=made.repo_id,
            folder_path=folder,
            ignore_patterns=list(NOT_PUSHED),
            commit_message="A world model by v2w",
        )
        return str(made)
    except Exception as error:  # as above
        raise _hub_error(repository, error) from None


def _asked(repository: str) -> str:
    return f"push to {repository}"


def _hub_error(repository: str, error: Exception) -> V2WError:
    from huggingface_hub import errors

    again = "the same command again: what is done is not done again"
    if isinstance(error, errors.LocalTokenNotFoundError):
        return V2WError(_asked(repository), "nobody is logged in to the Hub", "hf auth login")
    if isinstance(error, errors.OfflineModeIsEnabled):
        return V2WError(_asked(repository), "the Hub is switched off (HF_HUB_OFFLINE)", again)
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status == 401:
        return V2WError(_asked(repository), "the Hub does not take the token", "hf auth login")
    if status == 403:
        return V2WError(_asked(repository), "this account may not write there", "a repository of your own")
    return V2WError(_asked(repository), one_line(error), again)
