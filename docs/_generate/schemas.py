"""The page of JSON schemas, from the schema files."""

import json
from pathlib import Path
from typing import Any

from docs._generate.markdown import code, table

DOCS = Path(__file__).parents[1]
HEAD = """# JSON schemas

What commands print with `--json`, and the files that they write. All keys are `snake_case`. Numbers that are not finite are `null`.
An error prints `{"ok": false, "error": {"asked", "found", "try"}}`.
"""


def schemas_page() -> str:
    """The whole page."""
    sections = [HEAD]
    for file in sorted([*DOCS.glob("*.schema.json"), *DOCS.glob("schemas/*.json")]):
        schema = json.loads(file.read_text("utf-8"))
        title = schema.get("title", file.stem)
        sections.append(
            f"## {title}\n\n{schema.get('description', '')}\n\n[{file.name}](../{file.relative_to(DOCS)})\n"
        )
        required = set(schema.get("required", ()))
        rows = [
            (code(name), _type(entry), "yes" if name in required else "", entry.get("description", ""))
            for name, entry in schema.get("properties", {}).items()
        ]
        if rows:
            sections.append(table(["key", "type", "always there", "meaning"], rows))
    return "\n".join(sections)


def _type(entry: dict[str, Any]) -> str:
    if "const" in entry:
        return code(json.dumps(entry["const"]))
    if "$ref" in entry:
        return str(entry["$ref"]).rsplit("/", 1)[-1]
    for key in ("anyOf", "oneOf"):
        if key in entry:
            return " or ".join(dict.fromkeys(_type(e) for e in entry[key]))
    kind = entry.get("type", "any")
    if isinstance(kind, list):
        return " or ".join(kind)
    if kind == "array" and "items" in entry:
        return f"array of {_type(entry['items'])}"
    return str(kind)
