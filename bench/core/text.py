"""Text from outside on its way to a reader: addresses without secrets, Markdown, the terminal.

Each function is called where text is rendered, not where it is stored: records keep what was given.
"""

import re

HIDDEN = "***"

_PASSWORD = re.compile(
    r"(?P<head>\b[a-z][a-z0-9+.-]*://[^\s'\"<>@:/]*):(?!\d{1,5}(?:[/?#\s]|$))[^\s'\"<>]*@",
    re.IGNORECASE,
)
"""`user:password@` in an address, up to the last `@`: a password may hold `/` or `@`. A port is not
a password."""
_TOKEN_AS_USER = re.compile(r"(?P<head>\bhttps?://)[^\s'\"<>@:/?#]+@", re.IGNORECASE)
_IN_QUERY = re.compile(
    r"(?P<head>[?&;][\w.-]*(?:token|passw|pwd|secret|api_?key|access_?key|signature|credential|"
    r"(?<![a-z])(?:sig|auth))[\w.-]*=)[^&;#\s'\"<>]+",
    re.IGNORECASE,
)


def without_secrets(text: str) -> str:
    """The text with `***` for each password and token of the addresses in it.

    Hidden are the password of `scheme://user:password@host`, a token in the place of the user
    (http and https), and values of a query whose key names a secret (`token`, `password`,
    `api_key`, ...). Everything else is unchanged.
    """
    text = _PASSWORD.sub(rf"\g<head>:{HIDDEN}@", text)
    text = _TOKEN_AS_USER.sub(rf"\g<head>{HIDDEN}@", text)
    return _IN_QUERY.sub(rf"\g<head>{HIDDEN}", text)
