"""The settings in force, and where each came from.

One file format: a Prometheus configuration with one more top-level key, `vedette`, under which each room has a
section. Over the file come `.env`, the environment and the command line, in rising order. This module only joins
what the rooms declare; it reads no environment by itself (`resolve` is given one) and starts nothing.
"""

from __future__ import annotations

import dataclasses
import difflib
import glob
import re
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

import yaml

from vedette import configfile
from vedette.access.settings import AccessSettings
from vedette.api.services.settings import ServicesSettings
from vedette.api.settings import TracingSettings
from vedette.collect.config import CollectConfig, GlobalConfig, HostSettings, ScrapeConfig
from vedette.configfile import option
from vedette.errors import BadInput
from vedette.forward.config import ForwardSettings, RemoteWriteConfig, of_file
from vedette.health.settings import HealthSettings
from vedette.ingest.intake import IntakeSettings
from vedette.ingest.settings import MOST_EXEMPLARS, OtlpConfig, TrackSettings
from vedette.ingest.socket_settings import GraphiteSettings, PushedSettings, StatsdSettings
from vedette.logs.settings import LogSettings
from vedette.model.durations import format_duration, format_seconds, parse_duration, parse_seconds
from vedette.model.labels import Labels
from vedette.notify.alerting import AlertingConfig
from vedette.notify.settings import NotifySettings
from vedette.promql.settings import PromqlSettings
from vedette.records.settings import RecordsSettings, is_postgres
from vedette.rules.settings import RulesSettings, Thresholds
from vedette.storage.limits import LimitsSettings
from vedette.storage.remote.settings import RemoteSettings
from vedette.storage.settings import FEATURES as STORED
from vedette.storage.settings import StorageSettings, format_size, format_sync, parse_size, parse_sync

DEFAULT_PORT = 8009
ENDPOINT_PORT = 8012
"""The port of the metrics service's document."""
DEFAULT_FILE = Path("vedette.yml")


def parse_port(text: str) -> int:
    """A TCP port; 0 lets the system choose one."""
    if not text.isdigit() or int(text) > 65535:
        raise BadInput(f"not a port: {text!r}", hint="expected a whole number from 0 to 65535")
    return int(text)


def parse_log_level(text: str) -> str:
    """A log level's name, in lower case."""
    level = {"warn": "warning"}.get(text.lower(), text.lower())
    if level not in ("debug", "info", "warning", "error"):
        raise BadInput(f"not a log level: {text!r}", hint="expected debug, info, warning or error")
    return level


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """The process itself: where it listens, how it logs."""

    host: str = "127.0.0.1"
    port: int = option(DEFAULT_PORT, convert=parse_port)
    listen: dict[str, int] = option(factory=dict, convert=parse_port)
    """Further listeners: dialect to port."""
    external_url: str = ""
    """How people reach this server, for links in alerts; empty: made from host and port."""
    log_level: str = option("info", convert=parse_log_level)
    insecure: bool = False
    """Listen beyond loopback although nobody is asked who they are."""
    tls_cert_file: str = ""
    """The certificate (and those it rests on) with which every listener speaks TLS; empty: plain HTTP. Read again at a reload."""
    tls_key_file: str = ""
    """The certificate's key."""
    tls_client_ca_file: str = ""
    """Whose certificates clients must show; empty: they need none."""

    def __post_init__(self) -> None:
        if bool(self.tls_cert_file) != bool(self.tls_key_file):
            raise BadInput("a certificate and its key go together", where="tls_cert_file", hint="set tls_key_file, too")
        if self.tls_client_ca_file and not self.tls_cert_file:
            raise BadInput("clients can show certificates only to a server that speaks TLS", where="tls_client_ca_file")


@dataclass(frozen=True, slots=True)
class VedetteSection:
    """The `vedette` key of the configuration file: one section a room."""

    server: ServerSettings = field(default_factory=ServerSettings)
    access: AccessSettings = field(default_factory=AccessSettings)
    storage: StorageSettings = field(default_factory=StorageSettings)
    records: RecordsSettings = field(default_factory=RecordsSettings)
    forward: ForwardSettings = field(default_factory=ForwardSettings)
    remote: RemoteSettings = field(default_factory=RemoteSettings)
    limits: LimitsSettings = field(default_factory=LimitsSettings)
    promql: PromqlSettings = field(default_factory=PromqlSettings)
    host: HostSettings = field(default_factory=HostSettings)
    rules: RulesSettings = field(default_factory=RulesSettings)
    alerts: Thresholds = field(default_factory=Thresholds)
    notify: NotifySettings = field(default_factory=NotifySettings)
    track: TrackSettings = field(default_factory=TrackSettings)
    services: ServicesSettings = field(default_factory=ServicesSettings)
    tracing: TracingSettings = field(default_factory=TracingSettings)
    health: HealthSettings = field(default_factory=HealthSettings)
    logs: LogSettings = field(default_factory=LogSettings)
    intake: IntakeSettings = field(default_factory=IntakeSettings)
    graphite: GraphiteSettings = field(default_factory=GraphiteSettings)
    statsd: StatsdSettings = field(default_factory=StatsdSettings)
    pushed: PushedSettings = field(default_factory=PushedSettings)

    @property
    def samples(self) -> StorageSettings:
        """Storage's settings; PostgreSQL that is not named there is the database of the records."""
        if self.storage.backend == "postgres" and not self.storage.url and is_postgres(self.records.url):
            return dataclasses.replace(self.storage, url=self.records.url)
        return self.storage


@dataclass(frozen=True, slots=True)
class TsdbSection:
    """`storage.tsdb` of a Prometheus configuration."""

    out_of_order_time_window: int | None = option(None, convert=parse_duration)


@dataclass(frozen=True, slots=True)
class ExemplarsSection:
    """`storage.exemplars` of a Prometheus configuration."""

    max_exemplars: int = MOST_EXEMPLARS
    """How many are kept, in memory; 0 or less keeps none."""


@dataclass(frozen=True, slots=True)
class StorageSection:
    """`storage` of a Prometheus configuration."""

    tsdb: TsdbSection = field(default_factory=TsdbSection)
    exemplars: ExemplarsSection = field(default_factory=ExemplarsSection)


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """A whole configuration file."""

    UNSUPPORTED: ClassVar[dict[str, str]] = {
        "remote_read": "Vedette reads only its own storage; remove the section",
        "tracing": "Vedette's own traces are set up in vedette.tracing; remove the section",
    }

    global_: GlobalConfig = option(factory=GlobalConfig, key="global")
    scrape_configs: list[ScrapeConfig] = option(factory=list)
    scrape_config_files: list[str] = option(factory=list)
    rule_files: list[str] = option(factory=list)
    remote_write: list[RemoteWriteConfig] = option(factory=list)
    alerting: AlertingConfig = option(factory=AlertingConfig)
    storage: StorageSection = option(factory=StorageSection)
    otlp: OtlpConfig = option(factory=OtlpConfig)
    runtime: dict[str, str] = option(factory=dict)
    """Accepted and without effect: it tunes Go's garbage collector."""
    vedette: VedetteSection = option(factory=VedetteSection)

    def __post_init__(self) -> None:
        strategy = self.otlp.translation_strategy
        if self.global_.metric_name_validation_scheme == "legacy" and not self.otlp.names.escaping:
            raise BadInput(f'OTLP translation strategy "{strategy}" is not allowed when UTF8 is disabled', where="otlp")


# The documents' own names of settings. Each also has a VEDETTE_ twin, which wins, and a secret a _FILE form.
ENVIRONMENT: dict[str, tuple[str, str]] = {
    "PORT": ("server", "port"),
    "LOG_LEVEL": ("server", "log_level"),
    "ACCESS_LOG_LEVEL": ("server", "log_level"),
    "EXTERNAL_URL": ("server", "external_url"),
    "API_KEY": ("access", "api_key"),
    "PROMETHEUS_URL": ("remote", "url"),
    "JWT_SECRET": ("access", "jwt_secret"),
    "SECRET_KEY": ("access", "secret_key"),
    "REDIS_URL": ("access", "redis_url"),
    "RETENTION_DAYS": ("storage", "retention"),
    "DATABASE_URL": ("records", "url"),
    "METRICS_COLLECTION_INTERVAL": ("host", "interval"),
    "ALERT_CPU_THRESHOLD": ("alerts", "cpu"),
    "ALERT_MEMORY_THRESHOLD": ("alerts", "memory"),
    "ALERT_DISK_THRESHOLD": ("alerts", "disk"),
    "ALERT_ERROR_RATE_THRESHOLD": ("alerts", "error_rate"),
    "ALERT_RESPONSE_TIME_THRESHOLD": ("alerts", "response_time"),
    "SLACK_WEBHOOK_URL": ("notify", "slack_webhook_url"),
    "EMAIL_SERVER": ("notify", "email_server"),
    "EMAIL_FROM": ("notify", "email_from"),
    "EMAIL_TO": ("notify", "email_to"),
    "ACCESS_MAX_METRIC_SERIES": ("track", "max_series"),
    "ACCESS_MAX_POINTS_PER_SERIES": ("track", "max_points"),
    "ACCESS_AGGREGATION_WINDOW_SECONDS": ("services", "aggregation_window"),
    "ACCESS_ENV": ("services", "environment"),
    "ACCESS_ENABLE_TRACING": ("tracing", "enabled"),
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": ("tracing", "endpoint"),
    "OTEL_SERVICE_NAME": ("tracing", "service"),
}
# What a bare number means in a variable whose document gives it a unit.
_BARE_UNIT = {"RETENTION_DAYS": "d", "METRICS_COLLECTION_INTERVAL": "s", "ACCESS_AGGREGATION_WINDOW_SECONDS": "s"}


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a setting's value came from, as a reader would look for it: `default`, `vedette.yml`, `PORT`, `--port`.

    `text` is the value as one would write it, `<secret>` for a secret that is set.
    """

    setting: str
    value: Any
    source: str
    text: str


_WRITERS: dict[Any, Callable[[Any], str]] = {
    parse_duration: format_duration,
    parse_seconds: format_seconds,
    parse_size: format_size,
    parse_sync: format_sync,
}


def _written(value: Any, item: dataclasses.Field[Any]) -> str:
    if item.metadata.get("secret"):
        return "<secret>" if value else ""
    write = _WRITERS.get(item.metadata.get("convert"))
    if write is not None and isinstance(value, dict):
        return ", ".join(f"{key}: {write(one)}" for key, one in value.items())
    if write is not None:
        return write(value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)) and all(isinstance(one, (str, int, float)) for one in value):
        return ", ".join(map(str, value))
    if isinstance(value, dict) and value and all(isinstance(one, (str, int, float)) for one in value.values()):
        return ", ".join(f"{key}: {one}" for key, one in value.items())
    return str(value) if value not in (None, {}, [], ()) else ""


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything a server is built of. `path` is the configuration file, None where there is none."""

    config: ConfigFile
    vedette: VedetteSection
    origins: tuple[Origin, ...]
    path: Path | None = None
    alertmanager_path: Path | None = None
    alertmanager_url: str = ""
    text: str = "{}\n"
    """The configuration file as YAML, secrets redacted: what `/api/v1/status/config` answers."""
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    strangers: tuple[tuple[str, str], ...] = ()
    """Variables that begin as those of a section do and are no setting's, each with the one that may be meant (or "")."""

    @property
    def external_url(self) -> str:
        """How people reach this server."""
        server = self.vedette.server
        scheme = "https" if server.tls_cert_file else "http"
        return server.external_url.rstrip("/") or f"{scheme}://{server.host}:{server.port}"

    @property
    def records_place(self) -> Path | str:
        """Where the records are: a SQLite file, or a database's URL."""
        return self.vedette.records.url or self.vedette.storage.data / "vedette.db"

    @property
    def external_labels(self) -> Labels:
        """`global.external_labels`, environment variables expanded."""
        given = self.config.global_.external_labels
        return Labels.of({name: _expand(value, self.environment) for name, value in given.items()})

    @property
    def alerting(self) -> AlertingConfig:
        """Where alerts are passed on to: `alerting` of the file, and `ALERTMANAGER_URL`."""
        given = self.config.alerting
        return given.with_url(self.alertmanager_url) if self.alertmanager_url else given

    @property
    def alertmanager_file(self) -> Path | None:
        """The `alertmanager.yml`: the one of the command line, or else of `notify.config_file`."""
        return self.alertmanager_path or self.vedette.notify.file(self.path.parent if self.path else Path())

    def forwards(self) -> tuple[RemoteWriteConfig, ...]:
        """Where everything stored is also sent. Raises `BadInput` naming the file and the entry."""
        try:
            return of_file(self.config.remote_write, self.path.parent if self.path else Path())
        except BadInput as error:
            raise BadInput(error.problem, where=f"{self.path}: {error.where}", hint=error.hint) from None

    def collect(self) -> CollectConfig:
        """What is to be scraped, globals filled in. Raises `BadInput` naming the file and the job."""
        base = self.path.parent if self.path else Path()
        try:
            started = self.vedette.storage.start_timestamps or self.vedette.storage.start_zeros
            return CollectConfig.of(
                self.config.global_, self.config.scrape_configs, files=self.config.scrape_config_files, base=base, starts=started
            )
        except BadInput as error:
            if not error.where.startswith("scrape_config"):  # a file of scrape_config_files, which names itself
                raise
            raise BadInput(error.problem, where=f"{self.path}: {error.where}", hint=error.hint) from None

    def rule_paths(self) -> list[Path]:
        """The rule files, globs expanded relative to the configuration file, each once, in order."""
        base = self.path.parent if self.path else Path()
        found: dict[Path, None] = {}
        for pattern in self.config.rule_files:
            matches = sorted(glob.glob(str(base / pattern)))  # noqa: PTH207 - a pattern may be absolute, which Path.glob refuses
            if not matches and not glob.has_magic(pattern):
                raise BadInput(f"rule file {pattern} does not exist", where=f"{self.path}: rule_files")
            found.update(dict.fromkeys(map(Path, matches)))
        return list(found)


def read_dotenv(path: Path) -> dict[str, str]:
    """`NAME=value` lines of a `.env` file; quotes around a value and `export` before a name are taken off."""
    if not path.is_file():
        return {}
    found: dict[str, str] = {}
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"cannot be read: {error}", where=str(path)) from None
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.strip().removeprefix("export ").strip()
        if not line or line.startswith("#"):
            continue
        name, equals, value = line.partition("=")
        if not equals or not name.strip().replace("_", "").isalnum():
            raise BadInput("not a NAME=value line", where=f"{path}:{number}")
        value = value.strip()
        if len(value) >= 2 and value[0] == value[-1] and value[0] in "'\"":
            value = value[1:-1]
        found[name.strip()] = value
    return found


def resolve(
    *,
    path: Path | None = None,
    flags: Mapping[tuple[str, str], Any] | None = None,
    environment: Mapping[str, str],
    dotenv: Path | None = Path(".env"),
    alertmanager_path: Path | None = None,
) -> Settings:
    """The settings from a file, `.env`, an environment and command-line flags (`(section, field)` to value).

    Raises `BadInput` naming the file and line, the variable or the flag, and what was expected.
    """
    if path is None and DEFAULT_FILE.is_file():
        path = DEFAULT_FILE
    config, text = _load(path) if path else (ConfigFile(), "{}\n")
    variables = {name: (value, name) for name, value in (read_dotenv(dotenv) if dotenv else {}).items()}
    variables = {name: (value, f"{dotenv}: {name}") for name, (value, _) in variables.items()}
    variables.update({name: (value, name) for name, value in environment.items()})
    asked = {name: found for name, found in variables.items() if not _is_link(name, found[0])}
    section, origins = _overlay(config, asked, flags or {}, str(path or ""))
    section, origins = _with_doors(section, origins, asked)
    window = config.storage.tsdb.out_of_order_time_window
    if window is not None:
        section = dataclasses.replace(section, storage=dataclasses.replace(section.storage, out_of_order_window=window))
    url = variables.get("VEDETTE_ALERTMANAGER_URL", variables.get("ALERTMANAGER_URL", ("", "")))[0]
    return Settings(
        config=config,
        vedette=section,
        origins=tuple(origins),
        path=path,
        alertmanager_path=alertmanager_path,
        alertmanager_url=url,
        text=text,
        environment={name: value for name, (value, _) in variables.items()},
        strangers=_strangers(asked),
    )


_LINK = re.compile(r"(?:tcp|udp|sctp)://[^/]*:\d+")
_LINK_NAME = re.compile(r"_(?:SERVICE_(?:HOST|PORT(?:_\w+)?)|PORT(?:_\d+_(?:TCP|UDP|SCTP)(?:_\w+)?)?)$")


def _is_link(name: str, value: str) -> bool:
    """Whether a variable is Kubernetes' word of another service: beside one called `prometheus`, `PROMETHEUS_PORT` is `tcp://10.0.0.1:9090`."""
    return name.endswith("_PORT") and _LINK.fullmatch(value) is not None


def _strangers(variables: Mapping[str, tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    known = {f"VEDETTE_{name}" for name in (*ENVIRONMENT, "PROMETHEUS_PORT", "ACCESS_METRICS_ENDPOINT")}
    known |= {f"VEDETTE_{name.replace('.', '_')}".upper() for name in flag_names()}
    sections = tuple(f"VEDETTE_{room.name}_".upper() for room in dataclasses.fields(VedetteSection))
    found = [
        name
        for name in variables
        if name.startswith(sections) and name.removesuffix("_FILE") not in known and name not in known and not _LINK_NAME.search(name)
    ]
    return tuple((name, next(iter(difflib.get_close_matches(name, sorted(known), 1, 0.8)), "")) for name in sorted(found))


def _with_doors(
    section: VedetteSection, origins: list[Origin], variables: Mapping[str, tuple[str, str]]
) -> tuple[VedetteSection, list[Origin]]:
    """`PROMETHEUS_PORT` and `ACCESS_METRICS_ENDPOINT` open one listener more each, beside those of `server.listen`, unless they name it."""
    listen = dict(section.server.listen)
    sources = [next(o.source for o in origins if o.setting == "server.listen")]
    for variable, dialect, port_of in (
        ("PROMETHEUS_PORT", "xscore", parse_port),
        ("ACCESS_METRICS_ENDPOINT", "access_layer", _port_of_url),
    ):
        text, source = next((variables[n] for n in (f"VEDETTE_{variable}", variable) if n in variables), ("", ""))
        if not text or dialect in listen:
            continue
        try:
            port = port_of(text)
        except BadInput as error:
            raise BadInput(error.problem, where=source, hint=error.hint) from None
        if dialect == "access_layer" and port == section.server.port:
            continue  # the main listener serves that document, too
        listen[dialect] = port
        sources.append(source)
    if listen == section.server.listen:
        return section, origins
    source = ", ".join(s for s in sources if s != "default")
    origins = [Origin(o.setting, listen, source, str(listen)) if o.setting == "server.listen" else o for o in origins]
    return dataclasses.replace(section, server=dataclasses.replace(section.server, listen=listen)), origins


def _port_of_url(text: str) -> int:
    """The port of `http://HOST:PORT`; without one, that of the metrics service's document."""
    try:
        parts = urlsplit(text)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError
        return ENDPOINT_PORT if parts.port is None else parts.port
    except ValueError:
        raise BadInput(f"not a URL: {text!r}", hint=f"expected http://HOST:PORT, such as http://localhost:{ENDPOINT_PORT}") from None


def _load(path: Path) -> tuple[ConfigFile, str]:
    data = configfile.read(path)
    config = configfile.parse(data, ConfigFile, name=str(path))
    content = configfile.shown(configfile.compose(data, name=str(path)), ConfigFile)
    return config, str(yaml.safe_dump(content or {}, sort_keys=False, allow_unicode=True))


_VARIABLE = re.compile(r"\$(?:\{([^}]*)\}|([A-Za-z_]\w*|[*#$@!?0-9-]))", re.ASCII)


def _expand(text: str, environment: Mapping[str, str]) -> str:
    """`$NAME` and `${NAME}` as Prometheus expands them: an unset one is empty, `$$` is a dollar."""

    def value(match: re.Match[str]) -> str:
        name = match[1] if match[1] is not None else match[2]
        return "$" if name == "$" else environment.get(name, "")

    return _VARIABLE.sub(value, text)


def _overlay(
    config: ConfigFile, variables: Mapping[str, tuple[str, str]], flags: Mapping[tuple[str, str], Any], file: str
) -> tuple[VedetteSection, list[Origin]]:
    sections: dict[str, Any] = {}
    origins: list[Origin] = []
    defaults = VedetteSection()
    for room in dataclasses.fields(VedetteSection):
        given, default = getattr(config.vedette, room.name), getattr(defaults, room.name)
        hints = typing.get_type_hints(type(given), include_extras=True)
        changes: dict[str, Any] = {}
        sources: dict[str, str] = {}
        for item in dataclasses.fields(given):
            value = getattr(given, item.name)
            source = "default" if value == getattr(default, item.name) else file
            if (found := _from_environment(room.name, item, hints[item.name], variables)) is not None:
                value, source = found
            if (room.name, item.name) in flags:
                feature = room.name == "promql" or (room.name == "storage" and item.name in STORED.values())
                flag = "enable-feature" if feature else item.name.replace("_", "-")
                # One port for both ways in.
                flag = room.name if room.name in ("graphite", "statsd") else flag
                value, source = flags[room.name, item.name], f"--{flag}"
            if value != getattr(given, item.name):
                changes[item.name], sources[item.name] = value, source
            key = item.metadata.get("key", item.name)
            origins.append(Origin(f"{room.name}.{key}", value, source, _written(value, item)))
        try:
            sections[room.name] = dataclasses.replace(given, **changes) if changes else given
        except BadInput as error:
            # A room knows its fields by their names; whoever set them knows the variable or the flag.
            source = sources.get(error.where.partition(".")[0]) or f"{', '.join(sources.values())}: {error.where}".removesuffix(": ")
            raise BadInput(error.problem, where=source, hint=error.hint) from None
    return VedetteSection(**sections), origins


def _from_environment(
    room: str, item: dataclasses.Field[Any], shape: Any, variables: Mapping[str, tuple[str, str]]
) -> tuple[Any, str] | None:
    own = [name for name, target in ENVIRONMENT.items() if target == (room, item.name)]
    twins = [f"VEDETTE_{name}" for name in own] + [f"VEDETTE_{room}_{item.metadata.get('key', item.name)}".upper()]
    for names in (twins, own):
        found = [read for name in names if (read := _read_variable(name, item, variables)) is not None]
        values = [(_convert(text, source, item, shape), source) for text, source in found]
        if not values:
            continue
        if any(v != values[0][0] for v, _ in values[1:]):
            raise BadInput(
                f"{values[0][1]} and {values[1][1]} contradict each other", where=f"{room}.{item.name}", hint="set only one of them"
            )
        return values[0]
    return None


def _read_variable(name: str, item: dataclasses.Field[Any], variables: Mapping[str, tuple[str, str]]) -> tuple[str, str] | None:
    if name in variables and item.metadata.get("secret") and f"{name}_FILE" in variables:
        raise BadInput(f"{name} and {name}_FILE contradict each other", where=name, hint="set only one of them")
    if name in variables:
        text, source = variables[name]
        unit = _BARE_UNIT.get(name.removeprefix("VEDETTE_"))
        return (f"{text}{unit}" if unit and text.isdigit() else text), source
    if item.metadata.get("secret") and f"{name}_FILE" in variables:
        path, source = variables[f"{name}_FILE"]
        try:
            secret = Path(path).read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise BadInput(f"{path} cannot be read: {error}", where=source) from None
        if not secret:  # taken as it is, an empty key would switch authentication off
            raise BadInput(f"{path} is empty", where=source, hint="expected a secret in it")
        return secret, source
    return None


def _convert(text: str, source: str, item: dataclasses.Field[Any], shape: Any) -> Any:
    return configfile.from_text(text, shape, convert=item.metadata.get("convert"), where=source)


def flag_names() -> Sequence[str]:
    """Every setting's dotted name, for the documentation test."""
    return [
        f"{room.name}.{item.metadata.get('key', item.name)}"
        for room in dataclasses.fields(VedetteSection)
        for item in dataclasses.fields(type(getattr(VedetteSection(), room.name)))
    ]
