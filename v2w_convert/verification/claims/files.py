"""The files are the ones that surgery, or training, wrote, and the base is the one that was converted."""

from v2w_convert.checkpoint.output import sha256
from v2w_convert.checkpoint.source import Source
from v2w_convert.surgery.manifest import CONDITIONS, Manifest
from v2w_convert.verification.claim import Claim, counted

MARKER = "v2w"  # the entry of config.json by which other programs are warned


def result_files(converted: Source, manifest: Manifest) -> Claim:
    """All that the manifest has hashes of, and no weight file besides."""
    files = {
        converted.folder / CONDITIONS,
        *converted.files,
        *(converted.folder / name for name in manifest.result),
    }
    found = {str(file.relative_to(converted.folder)): file for file in files if file.is_file()}
    broken = [
        name
        for name in manifest.result.keys() | found.keys()
        if name not in found or name not in manifest.result or sha256(found[name]) != manifest.result[name]
    ]
    return counted(
        "files",
        sorted(broken),
        f"SHA-256 of {len(found)} files; counted are those that differ, are missing or are not named",
    )


def source_files(base: Source, manifest: Manifest) -> Claim:
    """The base's weight files, by their hashes in the manifest."""
    expected = manifest.source["files"]
    found = {file.name: file for file in base.files}
    broken = [
        name
        for name in expected.keys() | found.keys()
        if name not in found or name not in expected or sha256(found[name]) != expected[name]
    ]
    return counted(
        "base-files",
        sorted(broken),
        f"SHA-256 of {len(found)} weight files; counted are those that differ, are missing or are not named",
    )


def same_config(base: Source, converted: Source) -> Claim:
    """Entries of config.json, which say what the weights mean (numbers of heads and the like)."""
    before, after = base.config, {key: value for key, value in converted.config.items() if key != MARKER}
    broken = [key for key in before.keys() | after.keys() if before.get(key) != after.get(key)]
    return counted("config", sorted(broken), f"{len(before)} entries of config.json; {MARKER} aside")
