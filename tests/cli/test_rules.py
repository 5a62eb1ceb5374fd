"""What `vedette rules backtest` says of what would have gone out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from vedette.cli import rules

RULE = {"name": "Long", "firings": [], "pendings": [], "evaluations": 61, "fired": 0, "pending_only": 0, "errors": [], "failures": 0}
QUIET: dict[str, Any] = {
    "start": "2026-01-01T00:00:00Z",
    "end": "2026-01-01T00:10:00Z",
    "rules": [RULE],
    "configured": True,
    "notifications": [],
    "notification_count": 0,
    "muted": [],
}
TOLD = {
    "at": "2026-01-01T00:01:00Z",
    "receiver": "hook",
    "channel": "webhook[0]",
    "status": "firing",
    "why": "new",
    "alerts": [{"labels": {"alertname": "Long"}}],
}
MUTED = {"at": "2026-01-01T00:02:00Z", "receiver": "hook", "labels": {"alertname": "Long"}, "reason": "silenced by Alice"}


@pytest.fixture
def said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """What is printed where the server answers QUIET, changed."""
    monkeypatch.setenv("COLUMNS", "80")
    file = tmp_path / "rule.yml"
    file.write_text("{alert: Long, expr: up}\n", encoding="utf-8")

    def asked(**changes: Any) -> str:
        monkeypatch.setattr(rules, "_ask", lambda *_, **__: QUIET | changes)
        rules.backtest(file, since="10m", end=None, url="http://127.0.0.1:1", api_key=None, as_json=False)
        return capsys.readouterr().out

    return asked


def test_of_nothing_there_is_no_table(said: Any) -> None:
    lines = said().splitlines()
    assert "No rule would have fired." in lines
    assert lines[-1] == "No notification would have gone out."
    assert "Nobody is configured" in said(configured=False)


def test_what_would_have_gone_out_and_what_was_kept_quiet(said: Any) -> None:
    out = said(notifications=[TOLD], notification_count=1, muted=[MUTED])
    assert "Notifications (1 would have gone out)" in out
    assert "hook webhook[0]" in out
    assert "1: Long" in out
    assert "silenced by Alice" in out
    assert "silenced by Alice" in said(muted=[MUTED]), "told also where everything was kept quiet"
