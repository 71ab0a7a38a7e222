"""A data set on the Hugging Face Hub: what lerobot or the Hub library keeps of it here, or else a download."""

import glob
import os
from pathlib import Path

from v2w_convert.data.settings import DataSettings
from v2w_convert.errors import V2WError
from v2w_convert.hub import REPOSITORY, hub_error

INFO = "meta/info.json"


def resolve_data(path: Path, settings: DataSettings) -> Path:
    """`path` itself if it is there or cannot be a repository's id; else the folder of that data set.

    What the lerobot package recorded or loaded lies in its own folder, which is looked at first; then in the cache of
    the Hub library, which downloads what is missing there, unless HF_HUB_OFFLINE says not to. Of a LeRobot data
    set with several cameras, only the videos of those that `settings` name are downloaded.

    Raises:
        V2WError: It is not found, gated, or cannot be reached and is not in the cache.
    """
    repository = str(path)
    if path.exists() or not REPOSITORY.fullmatch(repository):
        return path
    own = _home() / repository
    if (own / INFO).is_file():
        return own
    from huggingface_hub import snapshot_download

    def download(patterns: list[str] | None) -> Path:
        return Path(snapshot_download(repository, repo_type="dataset", allow_patterns=patterns))

    try:
        if not (download([INFO]) / INFO).is_file():
            return download(None)
        if settings.camera is None:
            return download(["meta/*", "data/*", "videos/*"])
        names = [settings.camera, *settings.camera.split(",")]
        videos = [f"videos/*{glob.escape(name)}/*" for name in dict.fromkeys(names)]
        return download(["meta/*", "data/*", *videos])
    except V2WError:
        raise
    except Exception as error:  # the library's own, those of its transport, and the network's
        raise hub_error(f"read the data set {repository}", error) from None


def _home() -> Path:
    """Where the lerobot package keeps data sets (lerobot/utils/constants.py)."""
    from huggingface_hub import constants

    return Path(os.environ.get("HF_LEROBOT_HOME") or Path(constants.HF_HOME) / "lerobot").expanduser()
