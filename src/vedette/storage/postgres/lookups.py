"""Matchers as SQL over `vedette_series`.

Equality goes through the index on `labels`. Regular expressions are google-re2's and not PostgreSQL's, which mean other
things and backtrack: they are tried on the distinct values of their label, and the values that pass go into the query.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import orjson

from vedette.model.matchers import Matcher, Patience, verdicts

Values = Callable[[str, Sequence[str], list[object]], Awaitable[list[str]]]
"""(label name, conditions, their arguments) to the distinct values of that label where the conditions hold."""


async def conditions(matchers: Sequence[Matcher], arguments: list[object], values: Values) -> list[str]:
    """SQL conditions that hold where all of `matchers` pass; what they refer to (`$3`) is added to `arguments`."""

    def argument(value: object) -> str:
        arguments.append(value)
        return f"${len(arguments)}"

    found: list[str] = []
    patience = Patience()
    # Equality first: what it leaves bounds the values that regular expressions are tried on.
    for matcher in sorted(matchers, key=lambda m: (m.op in ("=~", "!~"), m.op != "=" or m.value == "")):
        if "\0" in matcher.name:
            # PostgreSQL's text has no such character, so no series has such a label.
            if not matcher.matches_empty:
                found.append("false")
            continue
        if matcher.op in ("=", "!=") and "\0" in matcher.value:
            found.append("false" if matcher.op == "=" else "true")
            continue
        if matcher.op == "=" and matcher.value:
            found.append(f"labels @> {argument(orjson.dumps({matcher.name: matcher.value}).decode())}::jsonb")
            continue
        regex = matcher.op in ("=~", "!~")
        tried = await values(matcher.name, found, arguments[:]) if regex else []
        passing = [value for value, good in zip(tried, verdicts(matcher, tried, patience), strict=True) if good]
        name = argument(matcher.name)
        present, value = f"jsonb_exists(labels, {name}::text)", f"(labels ->> {name}::text)"
        if matcher.op == "=":
            found.append(f"NOT {present}")
        elif matcher.op == "!=" and matcher.value == "":
            found.append(present)
        elif matcher.op == "!=":
            found.append(f"{value} IS DISTINCT FROM {argument(matcher.value)}::text")
        else:
            one_of = f"{value} = ANY({argument(passing)}::text[])"
            found.append(f"(NOT {present} OR {one_of})" if matcher.matches_empty else one_of)
    return found
