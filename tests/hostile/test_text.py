"""Text from outside in every medium that it reaches: it is shown, and does nothing."""

import html.parser
import io
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from PIL import Image

from tests.hostile.conftest import TRIED, Refused
from tests.hostile.counts import documented
from v2w_convert import console
from v2w_convert.cli import run
from v2w_convert.draft.plan_text import _open_lines
from v2w_convert.errors import V2WError, one_line
from v2w_convert.escape import html as escape_html
from v2w_convert.escape import markdown, markdown_code, printable
from v2w_convert.progress import ProgressEvent
from v2w_convert.verification.report.distance_png import draw_distance

TEXTS = {
    "colours": "\x1b[31mred\x1b[0m",
    "title of the window": "\x1b]0;title\x07",
    "clear the screen": "\x1b[2J\x1b[H",
    "C1 controls": "a\x9b31mb\x85c",
    "back to the line's beginning": "v2w: all is well\rx\x08\x08",
    "more lines": "a\nv2w: done\n\n# heading\u2028b",
    "another direction": "a\u202egnp.exe\u2066b",
    "no width": "a\u200bb\u2060c\ufeffd\u00ade",
    "nothing to see": "a\u3164\u2800\ufe0f\u034fb",
    "piled accents": "a" + "\u0301" * 60,
    "bytes that are no text": os.fsdecode(b"a\xff\xfe\x80b"),
    "a surrogate": "a\ud800b",
    "private and unassigned": "\ue000\U000f0000\U0001ffff",
    "rich's markup": "[/b][bold red]x[/][link=https://x.test]y[/link]",
    "rich's emoji": ":skull: [@click=app.bell]x[/]",
    "a script": "<script>alert(1)</script>",
    "an attribute": "\" onmouseover='alert(1)' x=\"",
    "a picture": "<img src=x onerror=alert(1)>",
    "an entity": "&lt;b&gt;&#60;script&#62;",
    "a comment": "<!-- end of v2w verify --> -->",
    "a link": "[x](javascript:alert(1)) ![y](https://x.test/y.png)",
    "links by themselves": "https://x.test www.x.test <https://x.test> a@x.test",
    "emphasis": "*a* **b** _c_ ~~d~~ `e` ``f``",
    "a cell": "a | b || c",
    "a fence": "```\n~~~\n",
    "lists": "- a\n+ b\n1. c\n2) d",
    "a rule": "---\n===",
    "a template": "{{ 7*7 }}{% x %}${x}%s%n{0.__class__}",
    "mathematics": "$x$ \\(y\\) \\[z\\]",
    "a back slash": "a\\|b\\`c\\",
    "very long": "x" * 100_000,
}
MAY_BE_LONG = 4100


# ------------------------------------------------------------------------------------------- each medium by itself


class Html(html.parser.HTMLParser):
    """The text of HTML, and its tags with their attributes."""

    def __init__(self, source: str):
        super().__init__(convert_charrefs=True)
        self.text, self.tags = "", []
        self.feed(source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_comment(self, data: str) -> None:
        self.tags.append(("comment", {}))

    def handle_data(self, data: str) -> None:
        self.text += data


RENDER = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])


def in_terminal(show: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> str:
    """What a terminal would receive, without the styles of v2w's own."""
    shown = io.StringIO()
    monkeypatch.setattr(console.console, "_file", shown)  # the property would be undone to a fixed stream
    show()
    return shown.getvalue()


def is_shown(text: str, found: str) -> bool:
    """Whether `found` is `text` and nothing but visible characters."""
    return (
        found.isprintable() and len(found) <= MAY_BE_LONG and found.startswith(printable(text)[:50].strip())
    )


def line(text: str, monkeypatch: pytest.MonkeyPatch) -> bool:
    return is_shown(
        text, in_terminal(lambda: console.print_line(text), monkeypatch).removesuffix("\n").strip()
    )


def title(text: str, monkeypatch: pytest.MonkeyPatch) -> bool:
    shown = in_terminal(lambda: console.print_table(text, [text], [[text]]), monkeypatch)
    return (
        all(part.isprintable() for part in shown.split("\n"))
        and shown.count(printable(text)[:9].strip()) >= 2
    )


def progress(text: str, monkeypatch: pytest.MonkeyPatch) -> bool:
    shown = io.StringIO()
    monkeypatch.setattr(console.console, "_file", shown)  # the property would be undone to a fixed stream
    monkeypatch.setattr(console.console, "_force_terminal", True)
    monkeypatch.setattr(console.console, "no_color", True)
    monkeypatch.setattr(console.console, "_color_system", None)
    with console.show_progress("x") as report:
        report(ProgressEvent("work", 1, 2, text))
        report(ProgressEvent("note", detail=text))
    own = r"\x1b\[(\?25[lh]|2K|1A|[0-9;]*m)|\r"
    return all(part.isprintable() for part in re.sub(own, "", shown.getvalue()).split("\n"))


def error(text: str, monkeypatch: pytest.MonkeyPatch) -> bool:
    found = V2WError(f"read {text}", [text, text], text)
    return str(found).isprintable() and one_line_is_short(text)


def one_line_is_short(text: str) -> bool:
    found = V2WError("x", one_line(ValueError(text)))
    return found.found.isprintable() and len(found.found) < 4100


def as_json(text: str, monkeypatch: pytest.MonkeyPatch) -> bool:
    shown = io.StringIO()
    monkeypatch.setattr("sys.stdout", shown)
    console.print_json({text: [text]})
    return shown.getvalue().isascii() and json.loads(shown.getvalue()) == {text: [text]}


def prose(text: str, monkeypatch: pytest.MonkeyPatch) -> bool:
    found = Html(RENDER.render(f"{markdown(text)}\n"))
    return found.tags == [("p", {})] and found.text.strip() == printable(text).strip()


def heading(text: str, monkeypatch: pytest.MonkeyPatch) -> bool:
    found = Html(RENDER.render(f"# Of {markdown(text)}\n"))
    return found.tags == [("h1", {})] and found.text.strip() == f"Of {printable(text).strip()}"


def code(text: str, monkeypatch: pytest.MonkeyPatch) -> bool:
    found = Html(RENDER.render(f"It is {markdown_code(text)}.\n"))
    said = re.sub(" +", " ", printable(text).strip())
    return (
        found.tags == [("p", {}), ("code", {})] and re.sub(" +", " ", found.text.strip()) == f"It is {said}."
    )


def cells(text: str, monkeypatch: pytest.MonkeyPatch) -> bool:
    source = f"| a | b |\n|---|---|\n| {markdown(text)} | {markdown_code(text)} |\n"
    found = Html(RENDER.render(source))
    tags = [tag for tag, _ in found.tags]
    return (
        tags == ["table", "thead", "tr", "th", "th", "tbody", "tr", "td", "td", "code"]
        and found.text.count(printable(text)[:20].strip()) >= 2
    )


def page_text(text: str, monkeypatch: pytest.MonkeyPatch) -> bool:
    found = Html(f"<p>{escape_html(text)}</p>")
    return found.tags == [("p", {})] and found.text == printable(text)


def attribute(text: str, monkeypatch: pytest.MonkeyPatch) -> bool:
    found = Html(f"<svg aria-label=\"{escape_html(text)}\"><title id='{escape_html(text)}'></title></svg>")
    said = printable(text)
    return found.tags == [("svg", {"aria-label": said}), ("title", {"id": said})]


def comment_in_a_plan(text: str, monkeypatch: pytest.MonkeyPatch) -> bool:
    written = "\n".join([*_open_lines({"a": text}, "a", "  "), "b: 1"])
    return yaml.safe_load(written.encode().decode()) == {"b": 1}


def caption(text: str, monkeypatch: pytest.MonkeyPatch) -> bool:
    picture = draw_distance({"noise_levels": [0.5], "frames": [[0.1]], "sites": {text: 0.5}})
    return Image.fromarray(picture).size[0] < 3000


MEDIA = {
    function.__name__: function
    for function in (
        line, title, progress, error, as_json, prose, heading, code, cells, page_text, attribute, comment_in_a_plan, caption,
    )
}  # fmt: skip


@pytest.mark.parametrize("medium", MEDIA)
def test_a_medium_shows_any_text(medium: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in TEXTS.items():
        assert MEDIA[medium](text, monkeypatch), name


@settings(max_examples=300, deadline=None)
@given(st.text(st.characters(), max_size=60).filter(str.strip))
def test_generated_text(text: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        for medium in (prose, heading, code, cells, page_text, attribute, error):
            assert medium(text, patch), (medium.__name__, text)


# ------------------------------------------------------------------------------------------- through the commands


def as_name(text: str) -> str:
    """The text as the name of a file."""
    kept = text.replace("/", "∕").replace("\0", "")
    while (
        len(
            os.fsencode(
                kept.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
                if not _fits(kept)
                else kept
            )
        )
        > 200
    ):
        kept = kept[: len(kept) // 2]
    return kept


def _fits(name: str) -> bool:
    try:
        os.fsencode(name)
    except UnicodeEncodeError:
        return False
    return True


NAMES = {name: as_name(text) for name, text in TEXTS.items() if _fits(text)}
QUICK = ("colours", "rich's markup", "bytes that are no text")
READ = (*QUICK, "a surrogate", "more lines", "another direction", "very long")


def places(name: str, base: Path, converted: Path, data: Path, home: Path) -> Iterator[list[object]]:
    """Commands that are refused, with `name` somewhere in them."""
    missing = home / name
    yield from ([command, missing, *more] for command, more in (
        ("inspect", []),
        ("plan", ["-o", home / "plan.yaml"]),
        ("verify", []),
        ("convert", ["-o", home / "out", "--action-dim", 3]),
        ("finetune", ["--data", data, "-o", home / "out"]),
        ("rollout", ["--data", data, "-o", home / "out.mp4"]),
        ("evaluate", ["--data", data]),
        ("export", ["-o", home / "out.onnx"]),
    ))  # fmt: skip
    yield ["inspect", base, "--plan", missing]
    yield ["inspect", base, f"--variant={name}"]
    yield ["inspect", base, "--config", missing]
    yield [f"--{name}"]
    yield [f"x{name}"]
    yield ["inspect", base, f"--{name}"]
    yield ["convert", base, "-o", home / "out", f"--action-dim=x{name}"]
    yield ["convert", base, "-o", home / "out", "--action-dim=3", f"--transfer=x{name}"]
    yield ["convert", base, "-o", home / "out", "--action-dim=3", f"--device=x{name}"]
    yield ["convert", base, "-o", base / name, "--action-dim=3"]
    yield ["rollout", converted, "--data", data, "-o", missing]
    yield ["rollout", converted, "--data", missing, "-o", home / "out.mp4"]
    yield ["rollout", converted, "--data", data, "-o", home / "out.mp4", f"--camera=x{name}"]
    yield ["verify", converted, "--base", missing]
    yield ["export", converted, "-o", missing]
    yield ["evaluate", converted, "--data", data, f"--classifier-data={missing}"]


PLACES = 24


Shows = Callable[..., str]


@pytest.fixture
def shows(capfd: pytest.CaptureFixture[str]) -> Shows:
    """Runs `v2w …`, which may do or refuse it; what it prints are visible characters, and JSON; returns both."""

    def try_(*arguments: object) -> str:
        capfd.readouterr()
        code = run([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        assert code in (0, 2), err
        assert all(part.isprintable() for part in err.split("\n")), err
        assert out.isascii()
        for part in out.splitlines():
            json.loads(part)
        TRIED["shown by a command"] += 1
        return err + out

    return try_


def in_files(text: str, base: Path, home: Path) -> Iterator[list[object]]:
    """Commands that read `text` from a file."""
    spoilt = home / "base"
    if not spoilt.exists():
        shutil.copytree(base, spoilt)
    config = spoilt / "unet" / "config.json"
    plain = json.loads(config.read_text())
    for change in (
        {"_class_name": text},
        {"in_channels": text},
        {text: 1, "in_channels": text},
        {"addition_time_embed_dim": [text]},
    ):
        config.write_text(json.dumps({**plain, **change}))
        yield ["inspect", spoilt]
    config.write_text(json.dumps(plain))
    index = spoilt / "scheduler" / "scheduler_config.json"
    before = json.loads(index.read_text())
    for change in ({"_class_name": text}, {"beta_schedule": text}, {"prediction_type": text}):
        index.write_text(json.dumps({**before, **change}))
        yield ["inspect", spoilt]
    index.write_text(json.dumps(before))
    plan = home / "plan.yaml"
    for content in ({"name": text}, {text: 1}, {"v2w": text, "operations": [{text: text}]}):
        plan.write_text(json.dumps(content), encoding="utf-8")
        yield ["inspect", spoilt, "--plan", plan]
        yield ["inspect", spoilt, "--config", plan]


IN_FILES = 13


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[] if n in QUICK else pytest.mark.slow) for n in NAMES]
)
def test_names_in_what_is_refused(
    name: str, tiny_base: Path, tiny_converted: Path, tiny_data: Path, home: Path, refused: Refused
) -> None:
    tried = list(places(NAMES[name], tiny_base, tiny_converted, tiny_data, home))
    assert len(tried) == PLACES
    for arguments in tried:
        refused(*arguments)


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[] if n == "colours" else pytest.mark.slow) for n in READ]
)
def test_text_in_files(name: str, tiny_base: Path, home: Path, shows: Shows) -> None:
    count = 0
    for arguments in in_files(TEXTS[name], tiny_base, home):
        shows(*arguments)
        count += 1
    assert count == IN_FILES


EVIL = "a\x1b[31m[red]<img src=x onerror=alert(1)>`|*\u202e\n# b" + os.fsdecode(b"\xff\xfe")
MARKDOWN_TAGS = {
    *("h1", "h2", "p", "pre", "code", "a", "ul", "li", "strong", "em", "comment"),
    *("table", "thead", "tbody", "tr", "th", "td"),
}


@pytest.mark.slow
def test_the_whole_path_with_such_names(tiny_base: Path, tiny_data: Path, home: Path, shows: Shows) -> None:
    """Every file and folder has a name of control sequences, markup and bytes that are no text; all commands work."""
    here = home / "x[" / f"b]{EVIL}"  # [/b] in a path
    base, data = here / f"base{EVIL}", here / f"data{EVIL}"
    shutil.copytree(tiny_base, base)
    shutil.copytree(tiny_data, data)
    (base / f"file{EVIL}.txt").write_text("x")
    plan, out, report, trained = (
        here / f"{word}{EVIL}{end}"
        for word, end in (("plan", ".yaml"), ("out", ""), ("report", ""), ("run", ""))
    )
    sampling = ["--steps", 1, "--seed", 3]
    lengths = ["--horizons", 1, "--samples", 1, "--long-frames", 0]
    commands: list[list[object]] = [
        ["inspect", base],
        ["plan", base, "-o", plan],
        ["convert", base, "-o", here / "dry", "--action-dim", 3, "--dry-run"],
        ["convert", base, "-o", out, "--action-dim", 3, "--plan", plan],
        ["verify", out, "--base", base, "--clips", data, "-o", report, "--card"],
        ["finetune", out, "--data", data, "-o", trained, "--steps", 2, "--frames", 4, "--batch", 2],
        ["rollout", trained, "--data", data, "-o", here / f"x{EVIL}.mp4", "--frames", 2, *sampling],
        ["rollout", trained, "--data", data, "-o", here / f"x{EVIL}.gif", "--frames", 2, *sampling],
        ["rollout", trained, "--data", data, "-o", here / f"x{EVIL}.png", "--frames", 2, *sampling],
        ["evaluate", trained, "--data", data, "-o", here / f"x{EVIL}.json", *lengths, *sampling],
        ["export", trained, "-o", here / f"x{EVIL}.onnx", "--frames", 2, "--steps", 1],
    ]
    for arguments in commands:
        shown = shows(*arguments, "--json")
        assert json.loads(shown.splitlines()[-1])["ok"], arguments
    for folder in (out, trained):
        yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
        json.loads((folder / "v2w.json").read_text(encoding="ascii"))
    for card in (out / "README.md", trained / "README.md", report / "summary.md"):
        text = card.read_text(encoding="utf-8")
        assert all(part.isprintable() for part in text.split("\n"))
        found = Html(RENDER.render(text.partition("---\n\n")[2] or text))
        assert {tag for tag, _ in found.tags} <= MARKDOWN_TAGS
        assert {said["href"] for tag, said in found.tags if tag == "a"} <= {
            "https://arxiv.org/abs/2505.14357"
        }
        assert printable(base.name) in found.text
    text = (report / "report.html").read_text(encoding="utf-8")
    assert all(part.isprintable() for part in text.split("\n"))
    found = Html(text)
    assert not {tag for tag, _ in found.tags} & {"script", "img", "iframe", "object", "link"}
    assert not [name for _, said in found.tags for name in said if name.startswith("on")]
    assert printable(base.name) in found.text


def test_the_page_counts_the_cases() -> None:
    assert documented("text in a medium") == (len(TEXTS) * len(MEDIA), 0)
    assert documented("names in what is refused") == (len(NAMES) * PLACES, 0)
    assert documented("text in files that are read") == (len(READ) * IN_FILES, 0)
