"""Text from outside, made safe where it leaves: one function for each medium.

Names of files, folders and tensors, values in configs, prompts, tasks and the messages of other libraries may hold
anything: control sequences of terminals, characters that change the direction of a line or do not show, markup, bytes
that are no text. What prints or writes such text calls the function of its medium:

    printable      terminals, log lines, captions of pictures, comments in YAML: one line of visible characters
    markdown       prose in Markdown
    markdown_code  a name in Markdown
    html           text and attributes in HTML

JSON needs none of them: `json.dumps` escapes what is not ASCII.
"""

import re
import unicodedata
from html import escape as _html

MAX_LENGTH = 4000  # characters of one text
MAX_MARKS = 4  # accents on one letter: with hundreds, it covers the lines above and below
# Characters that Python calls printable and that do not show: joiners, fillers, selectors of variants.
INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
# What has a meaning in Markdown, its tables or its usual extensions; at the beginning of a line, in lists and headings.
MARKDOWN = re.compile(r"[]<>&[|`*_#\\~@$^{}]|:(?=//)|\bw(?=ww\.)|^[-+=]|^\d(?=\d*[.)])", re.IGNORECASE)


def printable(text: str) -> str:
    """Return `text` on one line, of bounded length, with everything that does not show spelled out, as in `\\x1b`.

    A byte of a path that is not UTF-8 becomes `\\udc80` to `\\udcff`.
    """
    rest = len(text) - MAX_LENGTH
    shown = text if rest <= 0 else f"{text[:MAX_LENGTH]}… and {rest} more characters"
    if shown.isascii() and shown.isprintable():
        return shown
    found, marks = [], 0
    for char in shown:
        marks = marks + 1 if unicodedata.category(char) in ("Mn", "Me") else 0
        hidden = not char.isprintable() or marks > MAX_MARKS or INVISIBLE.match(char)
        found.append(ascii(char)[1:-1] if hidden else char)
    return "".join(found)


def markdown(text: str) -> str:
    """Return prose that may quote a file as Markdown of plain text, on one line: no markup, no HTML, no link."""
    return MARKDOWN.sub(lambda found: f"&#{ord(found[0])};", printable(text).strip())


def markdown_code(text: str) -> str:
    """Return a code span that holds `text`, in and outside of tables."""
    shown = printable(text).strip() or " "
    if set(shown) & set("`|<>&"):
        return f"<code>{markdown(shown)}</code>"
    return f"`{shown}`"


def html(text: str) -> str:
    """Return `text` for HTML, between tags or in a quoted attribute."""
    return _html(printable(text), quote=True)
