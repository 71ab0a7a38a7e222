"""What `v2w verify -o` and `--card` write, through the command line."""

import copy
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.mutations import faults
from v2w_convert.cli import run
from v2w_convert.verification.claims import SPECS
from v2w_convert.verification.engine import phases
from v2w_convert.verification.engine.models import open_world
from v2w_convert.verification.report.page import page
from v2w_convert.verification.report.publish import publish
from v2w_convert.verification.report.summary import summary
from v2w_convert.verification.report.wording import number, readable, reason, verdict
from v2w_convert.verification.result import VerifyReport
from v2w_convert.verification.settings import VerifySettings

SCHEMA = Path(__file__).parents[3] / "docs" / "schemas" / "verify.schema.json"
SITE = "mid_block.attentions.0.temporal_transformer_blocks.0.attn1"
HOSTILE = "</code><script src=//x.test>alert('1')</script>&\x1b[31m\u202e`|\n# <img onerror=x>"


class Page(HTMLParser):
    """Every tag with its attributes, the text, and whether all that was opened is closed in turn."""

    VOID = ("meta", "br", "rect", "path", "polyline")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, self.getpos()

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


@pytest.fixture(scope="module")
def reported(tiny_converted: Path, tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    assert run(["verify", str(tiny_converted), "--base", str(tiny_base), "-o", str(folder)]) == 0
    return folder


@pytest.fixture
def result(reported: Path) -> dict[str, Any]:
    return json.loads((reported / "report.json").read_text())


def valid(result: Any) -> bool:
    schema = json.loads(SCHEMA.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema).is_valid(result)


def test_the_schema_describes_a_real_report_and_nothing_less(result: dict[str, Any]) -> None:
    assert valid(result)
    parts: list[Callable[[Any], Any]] = [
        lambda r: r,
        lambda r: r["claims"][0],
        lambda r: r["figures"],
        lambda r: r["figures"]["influence"],
        lambda r: r["figures"]["leak"],
        lambda r: r["model"],
        lambda r: r["model"]["source"],
        lambda r: r["run"],
    ]
    for part in parts:
        for key in part(result).keys() - {"budget", "autoencoder"}:
            less = copy.deepcopy(result)
            del part(less)[key]
            assert not valid(less), key
    for part, value in ((parts[0], 2), (parts[5], "yes")):
        wrong = copy.deepcopy(result)
        part(wrong)["v2w_report"] = value
        assert not valid(wrong)


@pytest.mark.slow
def test_other_reports_are_described_too(
    tiny_converted: Path, finetuned: Path, tiny_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without the base, finetuned, and one that ends with the files; on standard output as in the folder."""
    broken = tmp_path / "broken"
    shutil.copytree(tiny_converted, broken)
    (broken / "unet" / "v2w_added.safetensors").unlink()
    index = broken / "unet" / "diffusion_pytorch_model.safetensors.index.json"
    record = json.loads(index.read_text())
    record["weight_map"] = {k: v for k, v in record["weight_map"].items() if "v2w_action" not in k}
    index.write_text(json.dumps(record))
    for code, arguments in (
        (0, [tiny_converted]),
        (0, [finetuned, "--base", tiny_base]),
        (1, [broken, "--base", tiny_base]),
    ):
        capsys.readouterr()
        folder = tmp_path / "report"
        assert run(["verify", *map(str, arguments), "-o", str(folder), "--json"]) == code
        printed = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert valid(printed)
        assert printed.pop("settings").keys() == VerifySettings.model_fields.keys()
        assert printed == json.loads((folder / "report.json").read_text())
        assert valid(printed)
        text = Page((folder / "report.html").read_text()).text
        assert ("could not be run" in text) == (code == 1)
        skipped = [c["sentence"] for c in printed["claims"] if c["ok"] and c["measured"] is None]
        assert all(sentence in text for sentence in skipped)
        assert "trained on actions (1 step)" in text or arguments[0] != finetuned


def test_the_page_loads_nothing_and_says_everything(reported: Path, result: dict[str, Any]) -> None:
    text = (reported / "report.html").read_text()
    assert len(text) < 500_000
    assert "http" not in text.replace("http-equiv", "")
    assert "url(" not in text
    assert "@import" not in text
    found = Page(text)
    tags = {tag for tag, _ in found.tags}
    assert not tags & {"script", "link", "img", "iframe", "object", "embed", "form", "base"}
    assert not [
        a for _, attributes in found.tags for a in attributes if a.startswith("on") or a in ("src", "srcset")
    ]
    assert all(str(attributes["href"]).startswith("#") for tag, attributes in found.tags if tag == "a")
    shown = found.text
    assert shown.count(verdict(result["claims"])) == 2  # title and heading
    for claim in result["claims"]:
        assert (claim["sentence"].partition(": ")[2] or claim["sentence"]) in shown
        assert readable(reason(claim)) in shown
    for sentence in (
        "a later frame has an influence in none of 21 pairs: exactly 0",
        "a later frame has an influence in 21 of 21 pairs",
    ):
        assert sentence in shown
    assert result["run"]["command"] in shown
    assert (
        result["model"]["source"]["files"]["diffusion_pytorch_model.safetensors"].rpartition(":")[2][:12]
        in shown
    )
    assert {"influence.png", "report.html", "report.json", "summary.md"} <= {
        p.name for p in reported.iterdir()
    }


def test_the_page_is_for_everybody(reported: Path) -> None:
    """Headings in order, drawings with words, tables with heads, links that lead somewhere."""
    found = Page((reported / "report.html").read_text())
    levels = [int(tag[1]) for tag, _ in found.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in zip(levels, levels[1:], strict=False))
    for tag, attributes in found.tags:
        if tag == "svg":
            assert attributes.get("aria-label") or attributes.get("aria-hidden") == "true"
    ids = [str(attributes["id"]) for _, attributes in found.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {str(a["href"])[1:] for tag, a in found.tags if tag == "a"} <= set(ids)
    assert ("html", {"lang": "en"}) in found.tags
    assert [tag for tag, _ in found.tags].count("table") == [tag for tag, _ in found.tags].count("thead")


def test_a_leak_by_module_is_zero_for_the_world_and_not_for_the_base(result: dict[str, Any]) -> None:
    leak = result["figures"]["leak"]
    assert set(leak["world"].values()) == {0.0}
    assert SITE in leak["world"]
    assert min(leak["base"].values()) > 0
    influence = result["figures"]["influence"]
    for o in range(7):
        for i in range(7):
            assert influence["base"][o][i] > 0
            assert (influence["world"][o][i] == 0) == (i > o)


@pytest.mark.slow
def test_a_failing_model_is_described_from_the_top(
    tiny_converted: Path, tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def opened(*arguments: Any, **options: Any) -> Any:
        world = open_world(*arguments, **options)
        faults.sees_future(world.base.get_submodule(SITE))
        return world

    monkeypatch.setattr(phases, "open_world", opened)
    folder = tmp_path / "report"
    assert run(["verify", str(tiny_converted), "--base", str(tiny_base), "-o", str(folder)]) == 1
    result = json.loads((folder / "report.json").read_text())
    assert valid(result)
    assert result["figures"]["leak"]["world"][SITE] > 0.01
    failing = [claim for claim in result["claims"] if not claim["ok"]]
    shown = Page((folder / "report.html").read_text()).text
    top, _, rest = shown.partition("What this is A video model")
    assert "Frames depend on later frames." in top
    measured = [claim for claim in result["claims"] if claim["allowed"] is not None]
    assert f"{len(failing)} of {len(measured)} claims fail" in top
    assert SITE in top
    assert all(f"{claim['sentence']}: {number(claim['measured'])}" in top for claim in failing)
    assert "1 of 37 modules does" in rest
    assert "a later frame has an influence in 21 of 21 pairs" in rest.partition("After: the world model")[2]
    text = (folder / "summary.md").read_text()
    assert f"- **Fails** at `{SITE}`: Frame t sees nothing of the frames after it, in float64: " in text
    assert "To fix it: `check its rule in the plan: - causal_attention" in text
    assert "What to do check its rule in the plan: - causal_attention" in top


def hostile(result: dict[str, Any]) -> dict[str, Any]:
    claims = VerifyReport(
        [
            replace(SPECS["causal"].result(0.5, where=HOSTILE, how=f"how {HOSTILE}"), fix=HOSTILE),
            SPECS["tensors-kept"].count([HOSTILE, *(f"{HOSTILE}{n}" for n in "abcdefghi")], "how"),
            SPECS["identity"].not_measured(HOSTILE),
        ]
    ).as_json()["claims"]
    spoilt = copy.deepcopy(result) | {"claims": claims, "ok": False}
    spoilt["model"] |= {"plan": HOSTILE, "class": HOSTILE, "sites": {HOSTILE: 1}}
    spoilt["model"]["source"] = {"name": HOSTILE, "files": {HOSTILE: HOSTILE}}
    spoilt["model"]["result"] = {HOSTILE: HOSTILE}
    spoilt["run"]["command"] = HOSTILE
    spoilt["figures"]["leak"] = {"base": {HOSTILE: 1.0}, "world": {HOSTILE: 1.0, HOSTILE + "2": 0.5}}
    spoilt["figures"]["distance"] = {
        "clips": HOSTILE,
        "noise_levels": [0.5],
        "frames": [[0.1, None]],
        "sites": {HOSTILE: 0.1},
    }
    return spoilt


def test_hostile_names_are_only_text(result: dict[str, Any]) -> None:
    text = page(hostile(result))
    found = Page(text)
    assert not {tag for tag, _ in found.tags} & {"script", "img"}
    assert "<script src=//x.test>" in found.text
    for control in ("\x1b", "\u202e"):
        assert control not in text
    shown_summary = summary(hostile(result))
    assert "\x1b" not in shown_summary
    assert "\n# <img" not in shown_summary
    in_code = re.sub("`[^`\n]*`|</?code>", "", shown_summary)
    assert "`" not in in_code
    assert "<" not in in_code.replace("&#60;", "")


@pytest.mark.slow
def test_a_model_whose_causality_was_not_measured_is_not_called_causal(result: dict[str, Any]) -> None:
    for claim in result["claims"]:
        if claim["id"] == "causal":
            claim |= SPECS["causal"].not_measured("no time").as_json()
    shown = Page(page(result)).text
    assert "Whether a frame depends on a later one was not measured." in shown
    assert "In this model no frame depends on a later one." not in shown


def test_odd_figures_are_drawn(result: dict[str, Any], tmp_path: Path) -> None:
    """No figure at all; none of the base; numbers that are not finite; blocks; a distance."""
    none = copy.deepcopy(result)
    none["figures"] = dict.fromkeys(("influence", "leak", "distance"))
    odd = copy.deepcopy(result)
    odd["figures"]["influence"] = {"base": None, "world": [[None, 0.0], [0.0, 1e-9]]}
    odd["figures"]["leak"] = {"base": None, "world": {"a": None, "b.0": 0.0, "b.1": 0.25}}
    odd["figures"]["distance"] = {
        "clips": "2 clips of a set",
        "noise_levels": [0.1, 0.9],
        "frames": [[0.0, 0.5], [None, 0.7]],
        "sites": {"a": 0.3},
    }
    blocks = copy.deepcopy(result)
    blocks["model"]["frames_per_block"] = 6
    blocks["figures"]["influence"] = {
        "base": [[1.0] * 24] * 24,
        "world": [[float(i // 6 <= o // 6) for i in range(24)] for o in range(24)],
    }
    for given in (odd, none, blocks):
        publish(given, tmp_path)
        for name in ("influence", "distance"):
            assert (tmp_path / f"{name}.png").exists() == (given["figures"][name] is not None)
        json.loads((tmp_path / "report.json").read_text())
    assert "This was not measured in this run." in Page(page(none)).text
    assert "Which frame depends on which" not in page(none)
    shown = Page(page(odd)).text
    assert "a later frame has an influence in none of 1 pairs" in shown
    assert "not finite ✗ leaks" in shown
    assert "noise level 0.9" in shown
    shown = Page(page(blocks)).text
    assert "a later block has an influence in none of 6 pairs" in shown
    assert valid(none)
    assert valid(odd)


def test_the_page_of_a_large_model_is_not_large(result: dict[str, Any]) -> None:
    result["figures"]["influence"] = dict.fromkeys(("base", "world"), [[0.123456789] * 48] * 48)
    paths = [f"transformer_blocks.{n}.attentions.temporal_{kind}" for n in range(200) for kind in "abcdefgh"]
    result["figures"]["leak"] = dict.fromkeys(("base", "world"), dict.fromkeys(paths, 0.5))
    for claim in result["claims"]:
        claim["where"] = ", ".join(paths[::25])
    assert len(page(result)) < 500_000


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (3.0, "3"),
        (0.1234, "0.123"),
        (1e-9, "10⁻⁹"),
        (6.01e-16, "6.0 × 10⁻¹⁶"),
        (2.5e7, "2.5 × 10⁷"),
    ],
)
def test_numbers(value: float, text: str) -> None:
    assert number(value) == text


def test_numbers_in_sentences() -> None:
    assert readable("1.6e-01 … 0.0e+00, abc1e-5d") == "0.16 … 0, abc1e-5d"
