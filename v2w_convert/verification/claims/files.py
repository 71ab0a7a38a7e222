"""The files are those that surgery, or training, wrote, and the base is the one that was converted."""

from v2w_convert.checkpoint.digests import is_recorded
from v2w_convert.checkpoint.source import Source
from v2w_convert.surgery.manifest import CONDITIONS, Manifest
from v2w_convert.verification.claim import Claim, ClaimSpec
from v2w_convert.verification.engine.check import Check
from v2w_convert.verification.engine.context import VerifyContext
from v2w_convert.verification.engine.phases import HASHES, Cost
from v2w_convert.verification.report.fixes import CONVERT_AGAIN, fix_text

MARKER = "v2w"  # the entry of config.json that tells other programs what this model is

FILES = ClaimSpec(
    "files-match-manifest",
    "equivalence",
    "The files are those that the manifest describes",
    fix=fix_text(f"{CONVERT_AGAIN}; a finetuned model: copy its files again"),
    core=True,
)
BASE_FILES = ClaimSpec(
    "base-files-match-manifest",
    "equivalence",
    "The base is the one that was converted",
    needs_base=True,
    fix=fix_text("--base: the base that was converted, unchanged; v2w.json has its name and hashes"),
)
CONFIG = ClaimSpec(
    "config-equals-base",
    "equivalence",
    "The model's config equals the base's",
    needs_base=True,
    fix=fix_text(CONVERT_AGAIN),
)


def measure_files(converted: Source, manifest: Manifest) -> Claim:
    """Hash every file that the manifest has a hash of; there may be no other weight file."""
    files = {
        converted.folder / CONDITIONS,
        *(file for expert in converted.experts.values() for file in expert.files),
        *(converted.folder / name for name in manifest.result),
    }
    found = {str(file.relative_to(converted.folder)): file for file in files if file.is_file()}
    broken = [
        name
        for name in manifest.result.keys() | found.keys()
        if name not in found
        or name not in manifest.result
        or not is_recorded(found[name], manifest.result[name])
    ]
    return FILES.count(
        sorted(broken),
        f"digests of {len(found)} files; the number of those that differ, are missing or are not in the manifest",
    )


def measure_base_files(base: Source, manifest: Manifest) -> Claim:
    """Hash the base's weight files."""
    expected = manifest.source["files"]
    found = {file.name: file for file in base.files}
    broken = [
        name
        for name in expected.keys() | found.keys()
        if name not in found or name not in expected or not is_recorded(found[name], expected[name])
    ]
    return BASE_FILES.count(
        sorted(broken),
        f"digests of {len(found)} weight files; the number of those that differ, are missing or are not in the manifest",
    )


def measure_config(base: Source, converted: Source) -> Claim:
    """Compare the entries of config.json, which decide what the weights mean (the number of heads, for one)."""
    before, after = base.config, {key: value for key, value in converted.config.items() if key != MARKER}
    broken = [key for key in before.keys() | after.keys() if before.get(key) != after.get(key)]
    return CONFIG.count(sorted(broken), f"{len(before)} entries of config.json, without {MARKER!r}")


def _measure_base(context: VerifyContext) -> list[Claim]:
    assert context.origin is not None
    return [
        measure_base_files(context.origin, context.manifest),
        measure_config(context.origin, context.source),
    ]


CHECKS = (
    Check(
        "files", (FILES,), HASHES, lambda c: [measure_files(c.source, c.manifest)], Cost(reads=1), whole=True
    ),
    Check("files of the base", (BASE_FILES, CONFIG), HASHES, _measure_base, Cost(reads=1)),
)
