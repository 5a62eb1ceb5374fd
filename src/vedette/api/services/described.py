"""What OpenAPI says of the service APIs' operations: a paragraph, an example of the request and of the answer, the refusals.

The examples are the documents' own, with our additions; an answer's schema is derived from its example unless its room wrote a
more exact one. Not here: the operations themselves.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

from vedette.api.endpoint import Endpoint
from vedette.api.services.examples import BY_TAG, OPERATIONS, Free, Maybe, Names, Operation
from vedette.api.services.shared import ERROR_SCHEMA

_TIME = re.compile(r"\d{4}-\d\d-\d\dT")
_REFUSALS = {
    400: "The request cannot be read.",
    401: "No token or key, or one that is no good.",
    403: "The role does not allow it.",
    404: "There is no such thing.",
    422: "What is wrong, and where: `loc` leads to it.",
    429: "Too many: `Retry-After` says when to come again.",
    500: "Storage cannot be read, or a fault of ours.",
}


def plain(example: Any) -> Any:
    """An example as it goes over the wire."""
    match example:
        case Maybe(value) | Names(value) | Free(value):
            return plain(value)
        case dict():
            return {key: plain(value) for key, value in example.items()}
        case list():
            return [plain(value) for value in example]
        case _:
            return example


def schema_of(example: Any) -> dict[str, Any]:
    """The JSON Schema of everything that has an example's shape; lists take the shape of their first item, and may be empty."""
    match example:
        case Maybe(value):
            found = schema_of(value)
            return {**found, "type": [found["type"], "null"]}
        case Names(value):
            return {"type": "object", "additionalProperties": schema_of(next(iter(value.values())))}
        case Free():
            return {"type": "object"}
        case dict():
            required = [key for key, value in example.items() if not isinstance(value, Maybe)]
            return {"type": "object", "required": required, "properties": {key: schema_of(value) for key, value in example.items()}}
        case list():
            return {"type": "array", "items": schema_of(example[0])}
        case bool():
            return {"type": "boolean"}
        case int() | float():
            return {"type": "number"}
        case str():
            return {"type": "string", "format": "date-time"} if _TIME.match(example) else {"type": "string"}
        case _:
            raise AssertionError(f"no schema for {example!r}")


def described(endpoints: Sequence[Endpoint]) -> list[Endpoint]:
    """The endpoints, those of `OPERATIONS` with what OpenAPI says of them."""
    return [_described(endpoint) for endpoint in endpoints]


def _described(endpoint: Endpoint) -> Endpoint:
    if len(endpoint.methods) != 1:
        return endpoint
    (method,) = endpoint.methods
    told = BY_TAG.get((endpoint.tag, method, endpoint.path)) or OPERATIONS.get((method, endpoint.path))
    if told is None:
        return endpoint
    return dataclasses.replace(endpoint, answer=_answer(endpoint, told), body=_body(endpoint, told), extra=_extra(told))


def _answer(endpoint: Endpoint, told: Operation) -> Mapping[str, Any] | None:
    if told.answer is None:
        return endpoint.answer
    exact = endpoint.answer if endpoint.answer is not None else schema_of(told.answer)
    return exact if "oneOf" in exact or "examples" in exact else {**exact, "examples": [plain(told.answer)]}


def _body(endpoint: Endpoint, told: Operation) -> Mapping[str, Any] | None:
    if told.body is None or endpoint.body is None:
        return endpoint.body
    content = endpoint.body["content"]["application/json"]
    return {**endpoint.body, "content": {"application/json": {**content, "example": plain(told.body)}}}


def _extra(told: Operation) -> dict[str, Any]:
    refusals = {
        str(code): {"description": _REFUSALS[code], "content": {"application/json": {"schema": ERROR_SCHEMA}}} for code in told.refusals
    }
    return {"description": told.about, "responses": refusals, **({"status": told.status} if told.status != 200 else {})}
