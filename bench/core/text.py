"""Text from outside on its way to a reader: addresses without secrets, Markdown, the terminal,
figures.

Each function is called where text is rendered, not where it is stored: records keep what was given.
"""

import html
import re

from bench.core.errors import BadInput

HIDDEN = "***"
ODD_BYTES = "surrogateescape"
"""How pages are decoded and encoded: bytes that are no UTF-8 stay as they are, and are noticed as
any other difference."""

_PASSWORD = re.compile(
    r"(?P<head>\b[a-z][a-z0-9+.-]*://[^\s@:/]*):(?!\d{1,5}(?:[/?#\s]|$))\S*@", re.IGNORECASE
)
"""`user:password@` in an address, up to the last `@`: a password may hold `/`, `@` or quotes. A
port is not a password; one that begins like a port is refused (`require_hidden`)."""
_TOKEN_AS_USER = re.compile(r"(?P<head>\b(?:https?|databricks)://)[^\s@:/?#]+@", re.IGNORECASE)
_IN_QUERY = re.compile(
    r"(?P<head>[?&;#](?:pass|key|[\w.-]*(?:token|passw|passphrase|pwd|secret|api_?key|access_?key|"
    r"signature|credential|(?<![a-z])(?:sig|auth))[\w.-]*)=)[^&;#\s'\"<>]+",
    re.IGNORECASE,
)
_OF_LIBPQ = re.compile(
    r"(?P<head>(?<![\w?&;#.-])(?:pg|ssl)?password\s*=\s*)(?:'(?:\\.|[^'\\])*'|[^\s'\"<>]+)",
    re.IGNORECASE,
)
"""`host=h password=secret`, which PostgreSQL takes as well."""
_UNCLEAR = re.compile(r"[\s'\"<>\x00-\x1f\x7f]|://[^/?#]*:\d{1,5}[/?#].*@")
"""Where a reader cannot tell the end of a password, or takes its begin for a port."""


def without_secrets(text: str) -> str:
    """The text with `***` for each password and token of the addresses in it.

    Hidden are the password of `scheme://user:password@host`, a token in the place of the user
    (http, https, databricks), values of a query or fragment whose key names a secret (`token`,
    `password`, `api_key`, ...), and `password=...` as libpq takes it. Everything else is unchanged.
    """
    text = _PASSWORD.sub(rf"\g<head>:{HIDDEN}@", text)
    text = _TOKEN_AS_USER.sub(rf"\g<head>{HIDDEN}@", text)
    text = _OF_LIBPQ.sub(rf"\g<head>{HIDDEN}", text)
    return _IN_QUERY.sub(rf"\g<head>{HIDDEN}", text)


def require_hidden(address: str, what: str) -> None:
    """Raise BadInput, without the address, if `without_secrets` could not hide its password."""
    if _UNCLEAR.search(address):
        raise BadInput(
            f"{what}: its address holds a blank, a quote, < or >, or an @ after a port; write "
            "special characters of a user, password or path as %XX (%20 for a blank, %2F for /, "
            "%40 for @)"
        )


_INVISIBLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff"
    "\ud800-\udfff]"
)
"""Control characters but tab and line feed, marks of writing direction, characters without width,
and halves of surrogate pairs."""
_MARKS = re.compile(r"[\\`*|\[\]]|(?<!\w)_|_(?!\w)|(?<!\w)~|~(?!\w)")
"""What Markdown takes as formatting within a line; an underscore inside a word is none."""


def for_terminal(text: str) -> str:
    r"""The text with `\x1b` and `\u202e` in the place of characters that would act on a terminal or
    reorder the line. Tabs and line feeds stay."""
    return _INVISIBLE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def for_markdown(text: str) -> str:
    """The text within one line of Markdown, to be read as it is: no table cell, link, emphasis or
    HTML of its own; white space is one space, and what `for_terminal` replaces is replaced."""
    line = for_terminal(" ".join(text.split()))
    return html.escape(_MARKS.sub(r"\\\g<0>", line), quote=False)


def as_code(text: str) -> str:
    """The text as inline code of Markdown: in more backticks than it holds, in one line."""
    line = for_terminal(text.replace("\n", " "))
    fence = "`" * (1 + max(map(len, _BACKTICKS.findall(line)), default=0))
    edge = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{fence}{edge}{line}{edge}{fence}"


_BACKTICKS = re.compile("`+")


def for_figure(text: str) -> str:
    """The text as matplotlib draws it as it is: no formula between `$`, one line, and no leading
    underscore, which hides a line from a legend; what `for_terminal` replaces is replaced."""
    line = for_terminal(" ".join(text.split())).replace("$", r"\$")
    return f" {line}" if line.startswith("_") else line
