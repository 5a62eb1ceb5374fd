"""What every verb that asks a server says where the server does not know who asks."""

from __future__ import annotations

import httpx

from vedette.errors import BadInput


def check_known(answer: httpx.Response) -> None:
    """Raise `BadInput`, which says where a key comes from, for an answer 401; others are the caller's."""
    if answer.status_code == 401:
        hint = "give one with --api-key or API_KEY; `vedette token create NAME` on the server makes it"
        raise BadInput(f"{answer.url.scheme}://{answer.url.netloc.decode()} wants a key that it knows", where="--api-key", hint=hint)
