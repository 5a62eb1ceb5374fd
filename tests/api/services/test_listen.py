"""How listeners are asked for: `--listen` on the command line, `PROMETHEUS_PORT` in the environment."""

from __future__ import annotations

from pathlib import Path

import pytest

from vedette.api.services.dialects import DIALECTS
from vedette.cli.serve import _doors
from vedette.errors import BadInput
from vedette.settings import Settings, resolve


def resolved(file: Path | None = None, flags: dict[tuple[str, str], object] | None = None, **environment: str) -> Settings:
    return resolve(path=file, flags=flags, environment=environment, dotenv=None)


def test_listeners_of_the_command_line() -> None:
    assert _doors([]) == {}
    assert _doors(["gamiroo=8101", "botserver"]) == {"gamiroo": 8101, "botserver": 8080}
    assert _doors(["all"]) == DIALECTS
    assert _doors(["xscore=1234", "all"]) == {**DIALECTS, "xscore": 1234}


@pytest.mark.parametrize("text", ["nobody=1", "gamiroo=", "gamiroo=99999", "", "=8001", "All"])
def test_bad_listeners_are_refused(text: str) -> None:
    with pytest.raises(BadInput):
        _doors([text])


def test_prometheus_port_opens_xscores_listener() -> None:
    settings = resolved(PROMETHEUS_PORT="9191")
    assert settings.vedette.server.listen == {"xscore": 9191}
    origin = next(o for o in settings.origins if o.setting == "server.listen")
    assert origin.source == "PROMETHEUS_PORT"
    assert resolved().vedette.server.listen == {}
    assert resolved(PROMETHEUS_PORT="").vedette.server.listen == {}
    assert resolved(PROMETHEUS_PORT="9191", VEDETTE_PROMETHEUS_PORT="9292").vedette.server.listen == {"xscore": 9292}


def test_prometheus_port_stands_beside_other_listeners(tmp_path: Path) -> None:
    file = tmp_path / "vedette.yml"
    file.write_text("vedette: {server: {listen: {botserver: 8080}}}\n", encoding="utf-8")
    assert resolved(file, PROMETHEUS_PORT="9191").vedette.server.listen == {"botserver": 8080, "xscore": 9191}
    flags: dict[tuple[str, str], object] = {("server", "listen"): {"xscore": 1234}}
    assert resolved(file, flags, PROMETHEUS_PORT="9191").vedette.server.listen == {"xscore": 1234}


def test_a_bad_prometheus_port_is_named() -> None:
    with pytest.raises(BadInput, match="PROMETHEUS_PORT: not a port: 'ninety'"):
        resolved(PROMETHEUS_PORT="ninety")


def test_the_documents_variables() -> None:
    room = resolved(ACCESS_AGGREGATION_WINDOW_SECONDS="600", ACCESS_ENV="production", ACCESS_MAX_POINTS_PER_SERIES="50").vedette
    assert (room.services.aggregation_window, room.services.environment, room.track.max_points) == (600_000, "production", 50)
    assert resolved().vedette.services.aggregation_window == 300_000
    with pytest.raises(BadInput, match="ACCESS_AGGREGATION_WINDOW_SECONDS"):
        resolved(ACCESS_AGGREGATION_WINDOW_SECONDS="often")
