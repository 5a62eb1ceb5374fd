"""What a server answers: read up to a limit, unpacked on the way, its refusals as errors."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Self

from vedette.errors import Undeliverable


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server answered; `body` is decoded (gzip) and whole, of a refusal (not 2xx) only its beginning."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    url: str

    def check(self) -> Self:
        """Itself if the status is 2xx; raises `Undeliverable` (reason `status`) otherwise."""
        if 200 <= self.status < 300:
            return self
        phrase = HTTPStatus(self.status).phrase if self.status in HTTPStatus._value2member_map_ else ""
        raise Undeliverable(
            f"server returned HTTP status {self.status} {phrase}".rstrip(),
            reason="status",
            retryable=self.status >= 500 or self.status in (408, 429),
            retry_after=_retry_after(self.headers.get("retry-after", "")),
        )


def _retry_after(text: str) -> float | None:
    """Seconds that a Retry-After header asks for; None where it is absent or unreadable."""
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        when = parsedate_to_datetime(text)
    except ValueError:
        return None
    # The one place that asks for the time of day: the header is relative to it, and a server's clock is not ours to mock.
    now = datetime.now(UTC) if when.tzinfo else datetime.now(UTC).replace(tzinfo=None)
    return max(0.0, (when - now).total_seconds())


# What one call unpacks at most, within some 2 ms: a bomb grows a thousandfold, and the loop has not the time.
_PIECE_BYTES = 1 << 20


class Body:
    """Chunks collected up to a limit, unpacked on the way; never more than a chunk beyond the limit in memory."""

    def __init__(self, encoding: str, limit: int) -> None:
        if encoding not in ("", "identity", "gzip", "x-gzip"):
            raise Undeliverable(f"answer in the encoding {encoding!r}, which was not asked for", reason="protocol", retryable=False)
        self._gzip = zlib.decompressobj(wbits=31) if "gzip" in encoding else None
        self._parts: list[bytes] = []
        self._left = limit
        self._packed = b""
        self.over = False
        self.pending = False
        """Whether there is more to unpack of what came: let others run, and feed nothing."""

    def feed(self, chunk: bytes = b"") -> bool:
        """Take a chunk, unpacking no more than a piece of it (see `pending`); False once the limit is passed."""
        if self._gzip is None:
            return self._take(chunk)
        packed = self._packed + chunk if self._packed else chunk
        try:
            part = self._gzip.decompress(packed, _PIECE_BYTES)
        except zlib.error as error:
            raise Undeliverable(f"answer is not valid gzip: {error}", reason="protocol", retryable=True) from None
        if self._gzip.eof and self._gzip.unused_data:
            self._packed, self._gzip = self._gzip.unused_data, zlib.decompressobj(wbits=31)
        else:
            self._packed = self._gzip.unconsumed_tail
        # A full piece may leave output behind even where all input was taken.
        self.pending = bool(self._packed) or len(part) == _PIECE_BYTES
        return self._take(part)

    def _take(self, part: bytes) -> bool:
        self.over = len(part) > self._left
        if self.over:
            part = part[: self._left]
        self._left -= len(part)
        self._parts.append(part)
        return not self.over

    def whole(self, *, partial: bool) -> bytes:
        """All that came; raises `Undeliverable` for a gzip stream cut short unless a part will do."""
        if self._gzip is not None and not self._gzip.eof and not partial:
            raise Undeliverable("answer's gzip stream is cut short", reason="protocol", retryable=True)
        return self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
