"""mkdocs hook: pages that are generated from the code, and pages that lie outside of docs/."""

import os
import re
import sys
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT)]

from docs._generate.claims import claims_page  # noqa: E402
from docs._generate.commands import commands_page  # noqa: E402
from docs._generate.plan_grammar import plan_page  # noqa: E402
from docs._generate.schemas import schemas_page  # noqa: E402

GENERATED = {
    "reference/claims.md": claims_page,
    "reference/commands.md": commands_page,
    "reference/plan.md": plan_page,
    "reference/schemas.md": schemas_page,
}
# Files of the repository that are pages of the site, too.
OUTSIDE = {
    "project/changelog.md": "CHANGELOG.md",
    "project/contributing.md": "CONTRIBUTING.md",
    "project/security.md": "SECURITY.md",
    "reference/benchmarks.md": "benchmarks/README.md",
    "reference/doom.md": "examples/doom/README.md",
    "reference/pusht.md": "examples/pusht/README.md",
}
# Pictures that these pages show.
PICTURES = {"reference/world/loss.png": "examples/doom/world/loss.png"}
PLAY = "<!-- play -->"  # where the home page offers the world
OFFER = '<a class="md-button md-button--primary" href="play/">Play it in this browser</a>'


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages and the pages from outside of docs/."""
    for uri, page in GENERATED.items():
        files.append(File.generated(config, uri, content=page()))
    for uri, name in OUTSIDE.items():
        text = (ROOT / name).read_text("utf-8")
        files.append(File.generated(config, uri, content=links_from(text, uri, Path(name).parent)))
    for uri, name in PICTURES.items():
        files.append(File.generated(config, uri, abs_src_path=str(ROOT / name)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Offer the world in the visitor's browser, where `make docs RUNTIME=…` puts it beside the site."""
    return markdown.replace(PLAY, OFFER if "V2W_PLAY" in os.environ else "")


def links_from(text: str, uri: str, folder: Path) -> str:
    """`text`, whose links are relative to `folder` of the repository, with links relative to the page `uri`.

    A link to a page of the site becomes a link to that page; a link to any other file of the repository becomes its path in
    code, because the site does not contain the file.
    """
    sources = {name: page for page, name in OUTSIDE.items()}
    up = "../" * uri.count("/")

    def moved(match: re.Match[str]) -> str:
        label, target = match.group(1), match.group(2)
        if re.match(r"[a-z]+:|#", target):
            return match.group(0)
        path, _, anchor = target.partition("#")
        anchor = f"#{anchor}" if anchor else ""
        inside = Path(*_normal((folder / path).parts)).as_posix()
        if inside in sources:
            return f"[{label}]({up}{sources[inside]}{anchor})"
        if inside.startswith("docs/"):
            return f"[{label}]({up}{inside.removeprefix('docs/')}{anchor})"
        if any(name == inside for name in PICTURES.values()):
            return f"[{label}]({up}{next(page for page, name in PICTURES.items() if name == inside)})"
        return f"`{inside}`" if label.strip("`") == path else f"{label} (`{inside}`)"

    return re.sub(r"\[([^\]]*)\]\(([^)\s]+)\)", moved, text)


def _normal(parts: tuple[str, ...]) -> list[str]:
    """Path components with `..` resolved."""
    kept: list[str] = []
    for part in parts:
        if part == ".." and kept:
            kept.pop()
        elif part != ".":
            kept.append(part)
    return kept
