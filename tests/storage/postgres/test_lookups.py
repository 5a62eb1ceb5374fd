"""Matchers as SQL: what needs no server to be looked at."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from vedette.errors import BadInput
from vedette.model import matchers
from vedette.model.matchers import Matcher
from vedette.storage.postgres.lookups import conditions


async def test_a_regular_expression_is_tried_on_the_values_that_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, list[str]]] = []

    async def values(name: str, found: Sequence[str], arguments: list[object]) -> list[str]:
        asked.append((name, list(found)))
        return [f"v{i}" for i in range(300)]

    arguments: list[object] = []
    made = await conditions([Matcher("pod", "=~", "v1."), Matcher("job", "=", "a")], arguments, values)
    assert made == ["labels @> $1::jsonb", "(labels ->> $2::text) = ANY($3::text[])"]
    assert arguments == ['{"job":"a"}', "pod", [f"v{i}" for i in range(10, 20)]]
    assert asked == [("pod", made[:1])]
    monkeypatch.setattr(matchers, "monotonic", iter([0.0, 9.0]).__next__)
    with pytest.raises(BadInput, match="has looked at 256 values for 9 s"):
        await conditions([Matcher("pod", "!~", "v.*1")], [], values)
