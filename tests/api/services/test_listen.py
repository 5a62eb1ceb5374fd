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


def test_the_metrics_endpoint_opens_the_access_layers_listener() -> None:
    settings = resolved(ACCESS_METRICS_ENDPOINT="http://localhost:8112")
    assert settings.vedette.server.listen == {"access_layer": 8112}
    origin = next(o for o in settings.origins if o.setting == "server.listen")
    assert origin.source == "ACCESS_METRICS_ENDPOINT"
    assert resolved(ACCESS_METRICS_ENDPOINT="http://metrics-service").vedette.server.listen == {"access_layer": 8012}
    assert resolved(ACCESS_METRICS_ENDPOINT="http://localhost:8009/").vedette.server.listen == {}, "the main listener has it"
    flags: dict[tuple[str, str], object] = {("server", "listen"): {"access_layer": 1234}}
    assert resolved(None, flags, ACCESS_METRICS_ENDPOINT="http://localhost:8112").vedette.server.listen == {"access_layer": 1234}
    both = resolved(ACCESS_METRICS_ENDPOINT="http://localhost:8112", PROMETHEUS_PORT="9191")
    assert both.vedette.server.listen == {"access_layer": 8112, "xscore": 9191}
    assert next(o.source for o in both.origins if o.setting == "server.listen") == "PROMETHEUS_PORT, ACCESS_METRICS_ENDPOINT"


@pytest.mark.parametrize(
    "text", ["8012", "localhost:8012", "http://", "http://localhost:99999", "ftp://localhost:8012", "http://[::1:8012"]
)
def test_a_bad_metrics_endpoint_is_named(text: str) -> None:
    with pytest.raises(BadInput, match="ACCESS_METRICS_ENDPOINT: not a URL"):
        resolved(ACCESS_METRICS_ENDPOINT=text)


def test_tracing_is_off_until_it_is_asked_for() -> None:
    assert resolved().vedette.tracing.enabled is False
    room = resolved(ACCESS_ENABLE_TRACING="true", OTEL_EXPORTER_OTLP_TRACES_ENDPOINT="http://localhost:4318/v1/traces").vedette
    assert (room.tracing.enabled, room.tracing.endpoint) == (True, "http://localhost:4318/v1/traces")
    with pytest.raises(BadInput, match="ACCESS_ENABLE_TRACING"):
        resolved(ACCESS_ENABLE_TRACING="perhaps")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("services: {retention_hours: 0}", "retention_hours"),
        ("services: {trend_hours: 9999}", "trend_hours"),
        ("tracing: {enabled: true, sample: 2}", "sample"),
        ("tracing: {enabled: true, endpoint: localhost}", "endpoint"),
        ("tracing: {endpoint: 'http://localhost:4318/v1/traces'}", "endpoint"),
    ],
)
def test_bad_settings_of_the_file_are_pointed_at(text: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "vedette.yml"
    file.write_text(f"vedette: {{{text}}}\n", encoding="utf-8")
    with pytest.raises(BadInput, match=rf"vedette.yml:1:\d+: .*{said}"):
        resolved(file)
