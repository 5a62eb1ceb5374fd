"""`docs/bad-input.md` tells what the program answers, for every endpoint; its generator sees what it must."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from vedette.api.services.dialects import DIALECTS

DOCS = Path(__file__).resolve().parent.parent.parent / "docs"
PAGE = DOCS / "bad-input.md"


@pytest.mark.timeout(400)  # the first start on a machine compiles what it counts
def test_the_page_tells_what_is_answered() -> None:
    done = subprocess.run([sys.executable, str(DOCS / "bad_input.py"), "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"python docs/bad_input.py writes it anew:\n{done.stderr[-6000:]}"


def test_every_endpoint_has_a_table_and_every_listener_a_part() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert len(re.findall(r"^### ", page, flags=re.MULTILINE)) > 100
    assert [name for name in DIALECTS if f"## The listener of `{name}`" not in page] == []
    assert not re.search(r"\| 500 \|", page), "no bad input is a fault of the server's"


def test_what_is_asked_of_a_parameter_and_a_body(bad_input: Any) -> None:
    description = {
        "paths": {
            "/x/{id}": {
                "post": {
                    "tags": ["query"],
                    "parameters": [
                        {"in": "path", "name": "id", "schema": {"type": "string"}},
                        {"in": "query", "name": "limit", "required": True, "schema": {"type": "integer"}},
                    ],
                    "requestBody": {"content": {"application/json": {}}},
                }
            }
        }
    }
    (operation,) = bad_input.operations(description)
    assert (operation.method, operation.path, operation.segments) == ("POST", "/x/{id}", ["id"])
    asked = {ask.what: ask for ask in bad_input.asks(operation, {"/x/{id}": "/x/7"})}
    assert {"no credential", "a token: expired", "the role `viewer`", "no `limit`", "`limit=many`", "an unknown `id`"} <= set(asked)
    assert asked["what is another tenant's"].path == "/x/7"
    assert {"no body", "`{`", "a body that is no UTF-8", "a body of a TiB", "a `Content-Type` of `image/png`"} <= set(asked)
    assert asked["another method"].method == "TRACE"
    assert asked["no `limit`"].query == {}
    assert asked["`limit=many`"].query == {"limit": "many"}


@pytest.mark.parametrize(
    ("status", "body", "told"),
    [
        (400, {"status": "error", "errorType": "bad_data", "error": "no"}, ("bad_data", "no")),
        (422, {"detail": [{"loc": ["query", "start"], "msg": "no"}]}, ("query.start", "no")),
        (404, {"detail": "gone"}, ("", "gone")),
        (400, {"error": {"type": "t", "reason": "no"}}, ("t", "no")),
        (400, "no", ("", "no")),
        (200, {"success": False, "errors": [{"index": 1}]}, ("", '[{"index": 1}]')),
        (200, {"data": [1]}, ("", "")),
    ],
)
def test_what_an_answer_tells(bad_input: Any, status: int, body: Any, told: tuple[str, str]) -> None:
    assert bad_input.told(bad_input.Answer(status, "application/json", json.dumps(body).encode())) == told


def test_what_a_protobuf_status_tells(bad_input: Any) -> None:
    assert bad_input.told(bad_input.Answer(400, "application/x-protobuf", b"\x08\x03\x12\x02no")) == ("", "no")


def test_a_table_holds_pipes_and_backticks(bad_input: Any) -> None:
    assert bad_input.table([("`a|b`", 400, "", "Expected `str | null`")])[-1] == "| `a\\|b` | 400 |  | `` Expected `str \\| null` `` |"
