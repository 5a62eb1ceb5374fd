"""What a query can be refused with; each belongs to one of the house's five families (`vedette.errors`).

`ParseError` and `ExecutionError` are `BadInput` (Prometheus' error types `bad_data` and `execution`); `QueryTimeout`,
`QueryCanceled` and `TooManySamples` are `LimitExceeded` (`timeout`, `canceled`, `execution`).
"""

from __future__ import annotations

from vedette.errors import BadInput, LimitExceeded


class ParseError(BadInput):
    """The text is not PromQL. `where` is `line:column` (1-based, columns in bytes), `problem` starts with `parse error: `."""


class ExecutionError(BadInput):
    """The query is well formed but has no answer on this data, such as a many-to-many match. `where` is empty."""


class TooManySamples(LimitExceeded):
    """The query would hold more samples in memory than `PromqlSettings.max_samples`."""


class TooMuchMemory(TooManySamples):
    """The query would hold more bytes in memory than `PromqlSettings.max_query_memory`."""


class QueryTimeout(LimitExceeded):
    """The query ran past its deadline."""


class QueryCanceled(LimitExceeded):
    """Somebody canceled the query while it ran."""


def line_column(text: str, offset: int) -> str:
    """`line:column` of the character at `offset`, both 1-based, the column counted in UTF-8 bytes."""
    line_start = text.rfind("\n", 0, offset) + 1
    line = text.count("\n", 0, offset) + 1
    return f"{line}:{len(text[line_start:offset].encode('utf-8', 'surrogatepass')) + 1}"


def parse_error(text: str, offset: int, message: str) -> ParseError:
    """A `ParseError` at the character `offset` of `text`."""
    return ParseError(f"parse error: {message}", where=line_column(text, offset))
