"""Open a checkpoint, whether it is a folder or a single file."""

from pathlib import Path

from v2w_convert.checkpoint.adapter import with_adapters
from v2w_convert.checkpoint.experts import with_low_noise
from v2w_convert.checkpoint.folder import open_folder
from v2w_convert.checkpoint.single_file import open_file
from v2w_convert.checkpoint.source import Choice, Source
from v2w_convert.errors import V2WError


def open_source(path: Path, choice: Choice = Choice()) -> Source:  # noqa: B008 (frozen)
    """The checkpoint in the folder or file `path`, from its file names and headers alone.

    Args:
        path: A diffusers pipeline or model folder, or a folder or file in its makers' layout.
        choice: Which of several weights to read.

    Raises:
        V2WError: If it is none of these, or if its weights are missing, adapters, quantised, ambiguous,
            malformed, not what their index says, or linked from elsewhere (Hugging Face's own cache
            excepted); and if a file is not what `open_file` reads.
    """
    try:
        if path.exists() and not path.is_dir():
            return open_file(path, choice)
        asked = f"open {path}"
        source = with_low_noise(open_folder(path, asked, choice), open_folder, asked)
        return with_adapters(source) if source.converted else source
    except OSError as error:
        raise V2WError(f"open {path}", str(error)) from None
