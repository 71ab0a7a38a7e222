"""onnxruntime-web's own files, out of its npm package: those of one version, known by their digests."""

import base64
import hashlib
import tarfile
from pathlib import Path

from v2w_convert.errors import V2WError

VERSION = "1.30.0"
PACKAGE = (  # size and SHA-512 of the package, as npm states it (`npm view onnxruntime-web@VERSION dist.integrity`)
    33_106_585,
    "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ==",
)
WASM = {  # by name in the package's dist folder
    "ort.wasm.bundle.min.mjs": (
        73_054,
        "1KcF8CWAZeqtTcvLgKPtOMXIbkWeh++LDCQpDhQ5ARVxHAL1VNL5rr0OI+MxTbmNIANldE/A/q+O4gSKgSMjWQ==",
    ),
    "ort-wasm-simd-threaded.wasm": (
        14_239_897,
        "Gt7e1iIDIZ/PXEhM/OVleqWHVom0kEI/hs8cod0crXcV9jDGM39B23HuQnlOOgDOC3x4k5pxIgtdgzaL9up3MA==",
    ),
}
WEBGPU = {
    "ort.webgpu.bundle.min.mjs": (
        117_732,
        "AHDOhRsQzsjYfhcIO470HF2ppdCxIRjcoGUQ3C41xh4G/r7XtI+PAL4ePF8EVb+LhPkVjkSaXsRgIMCYvRvhbQ==",
    ),
    "ort-wasm-simd-threaded.asyncify.wasm": (
        26_781_914,
        "dzz9I0cmbBIVybKtbu6szu7jbMSzVPJ3E6Oc8PSyoIQx/4F7xVJ2iGz3ko44sLxAiyAAycPEQVtVKHKjCcRddw==",
    ),
}
ASKED = "export a page"
ADVICE = f"npm pack onnxruntime-web@{VERSION}, then --runtime onnxruntime-web-{VERSION}.tgz"


def read_runtime(package: Path | None, webgpu: bool) -> dict[str, bytes]:
    """The files that a page needs, by name.

    Args:
        package: The npm package as `npm pack` saves it, or the folder that npm unpacks it to.
        webgpu: Whether the build for WebGPU is needed, too.

    Returns:
        Their bytes; each is what its digest says.

    Raises:
        V2WError: It is not given, not there, or another version's.
    """
    if package is None:
        raise V2WError(ASKED, f"the files of onnxruntime-web {VERSION} are not given", ADVICE)
    wanted = WASM | (WEBGPU if webgpu else {})
    try:
        if package.is_dir():
            files = [package / "dist" / name for name in wanted]
            return {file.name: _checked(file, *wanted[file.name]) for file in files}
        _checked(package, *PACKAGE)  # so that what is unpacked is known
        found = {}
        with tarfile.open(package, "r:gz") as members:
            for name in wanted:
                member = members.extractfile(f"package/dist/{name}")
                assert member is not None
                found[name] = member.read()
        return found
    except OSError as error:
        raise V2WError(ASKED, f"{package}: {error.strerror or error}", ADVICE) from None


def _checked(file: Path, size: int, digest: str) -> bytes:
    """The bytes of a regular file of this size and SHA-512, in base64."""
    if not file.is_file():
        raise V2WError(ASKED, f"there is no file {file}", ADVICE)
    if file.stat().st_size == size:
        content = file.read_bytes()
        if base64.b64encode(hashlib.sha512(content).digest()).decode() == digest:
            return content
    raise V2WError(ASKED, f"{file} is not that of onnxruntime-web {VERSION}, by its SHA-512", ADVICE)
