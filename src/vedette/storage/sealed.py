"""Small files of JSON that are replaced whole: a line with the CRC-32 of what follows it, then the JSON.

Not here: what the JSON says.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import orjson

from vedette.errors import Corrupt


def render(content: Any) -> bytes:
    """The file's bytes."""
    body = orjson.dumps(content)
    return b"%08x\n" % zlib.crc32(body) + body


def read(path: Path, what: str, *, bare: bool = False) -> Any:
    """The content of a file; `what` names it in errors. `bare` ones, JSON alone, are of earlier versions. Raises `Corrupt`, `OSError`."""
    raw = path.read_bytes()
    head, _, body = raw.partition(b"\n")
    if bare and raw.startswith(b"{"):
        head, body = b"", raw
    elif head != b"%08x" % zlib.crc32(body):
        raise Corrupt(f"{what} does not match its checksum", path=path, offset=0)
    try:
        return orjson.loads(body)
    except ValueError as error:
        raise Corrupt(f"{what} cannot be read: {error}", path=path, offset=len(head) + 1 if head else 0) from error
