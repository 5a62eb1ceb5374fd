"""Escaping in HTML templates: what a value may become between tags and inside attributes.

Simpler than Go's `html/template`, and never laxer: every value is escaped for text and quoted attributes alike; at the start of a
URL attribute only harmless schemes pass; inside a script, a style, a comment or an unquoted attribute nothing does.
"""

from __future__ import annotations

import html
import re

from vedette.gotemplate.values import SafeText

UNSAFE = "#ZgotmplZ"
"""What stands where a value was not let in: Go's own mark."""

_ATTRIBUTE = re.compile(r"""([^\s"'<>/=]+)\s*=\s*\Z""")
_URLS = frozenset(("href", "src", "action", "formaction", "background", "cite", "poster", "srcset", "data"))
_CLOSED = re.compile(r"<(script|style)\b((?!</\1).)*\Z|<!--((?!-->).)*\Z", re.IGNORECASE | re.DOTALL)
_SCHEME = re.compile(r"\s*([a-zA-Z][a-zA-Z0-9+.-]*):")
_HARMLESS = frozenset(("http", "https", "mailto", "tel"))


def _open_tag(before: str) -> tuple[str, str] | None:
    """(attribute, its value so far) where `before` ends inside a tag, ("", "") for no quoted attribute; None between tags."""
    start = before.rfind("<")
    while start >= 0 and not before[start + 1 : start + 2].isalpha() and before[start + 1 : start + 2] != "/":
        start = before.rfind("<", 0, start)
    if start < 0:
        return None
    quote, opened = "", 0
    for i in range(start, len(before)):
        char = before[i]
        if quote:
            quote = "" if char == quote else quote
        elif char in "\"'":
            quote, opened = char, i
        elif char == ">":
            return None
    if not quote:
        return "", ""
    name = _ATTRIBUTE.search(before, start, opened)
    return (name[1].lower() if name else ""), before[opened + 1 :]


def escaped(text: str, before: str) -> str:
    """`text` as it may stand after `before`. What `safeHtml` marked stays as it is between tags."""
    if _CLOSED.search(before):
        return UNSAFE
    tag = _open_tag(before)
    if tag is None and isinstance(text, SafeText):
        return str(text)
    if tag is not None:
        name, value = tag
        if not name or name.startswith("on") or name == "style":
            return UNSAFE
        scheme = _SCHEME.match(html.unescape(value) + text)
        if name in _URLS and scheme is not None and scheme[1].lower() not in _HARMLESS:
            return UNSAFE
    return html.escape(text).replace("&#x27;", "&#39;").replace("&quot;", "&#34;")
