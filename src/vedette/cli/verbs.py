"""The verbs of the `vedette` command: one a module, imported only when it is called, so that each starts fast.

Not here: the command's start (`main.py`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from vedette.cli import access
from vedette.cli.dashboards import dashboards
from vedette.errors import BadInput

app = typer.Typer(
    name="vedette",
    help="Collects metrics, stores them, answers PromQL, alerts and draws: a monitoring server in one process.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
check = typer.Typer(help="Check a file without running anything; exit status 2 where it is bad.", no_args_is_help=True)
app.add_typer(check, name="check")
test = typer.Typer(help="Run tests without a server; exit status 1 where one fails.", no_args_is_help=True)
app.add_typer(test, name="test")
storage = typer.Typer(help="Look after a data directory, its samples, snapshots and figures.", no_args_is_help=True)
app.add_typer(storage, name="storage")
app.add_typer(access.user, name="user")
app.add_typer(access.token, name="token")
app.add_typer(access.tenant, name="tenant")
app.add_typer(dashboards, name="dashboards")

rules = typer.Typer(help="Try rules on what a server has stored.", no_args_is_help=True)
app.add_typer(rules, name="rules")

ConfigOption = Annotated[
    Path | None, typer.Option("--config", "-c", help="A Prometheus configuration file, with our own settings under the key [b]vedette[/b].")
]
AlertmanagerOption = Annotated[Path | None, typer.Option("--alertmanager-config", help="An alertmanager.yml: whom to tell, and how.")]


def _version(asked: bool) -> None:
    if asked:
        from vedette.cli.check import version

        version()
        raise typer.Exit


@app.callback()
def vedette(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="The same as the command [b]version[/b].")
    ] = False,
) -> None:
    """What stands before all verbs."""


def _url(text: str | None) -> str | None:
    """A server's URL; what names a host alone is taken for HTTP, as curl takes it."""
    return f"http://{text}" if text and "://" not in text else text


@app.command()
def serve(
    config: ConfigOption = None,
    alertmanager_config: AlertmanagerOption = None,
    data: Annotated[Path | None, typer.Option("--data", help="Where samples and state are kept. [dim]default: ./data[/dim]")] = None,
    host: Annotated[str | None, typer.Option("--host", help="Address to listen on. [dim]default: 127.0.0.1[/dim]")] = None,
    port: Annotated[str | None, typer.Option("--port", help="Port of the main listener. [dim]default: 8009[/dim]")] = None,
    listen: Annotated[
        list[str] | None,
        typer.Option("--listen", metavar="DIALECT=PORT", help="A further listener for a service API, or all; repeatable."),
    ] = None,
    graphite: Annotated[str | None, typer.Option("--graphite", metavar="PORT", help="Take Graphite's lines there, TCP and UDP.")] = None,
    statsd: Annotated[str | None, typer.Option("--statsd", metavar="PORT", help="Take StatsD there, TCP and UDP.")] = None,
    insecure: Annotated[bool, typer.Option("--insecure", help="Listen beyond loopback without authentication.")] = False,
    enable_feature: Annotated[
        list[str] | None,
        typer.Option("--enable-feature", metavar="NAMES", help="Turn experimental parts on, by Prometheus' names, comma-separated."),
    ] = None,
) -> None:
    """Run the server until it is told to stop (SIGTERM or Ctrl-C); SIGHUP reloads the configuration."""
    from vedette.cli.serve import run

    run(
        config,
        alertmanager_config,
        data=data,
        host=host,
        port=port,
        listen=listen or [],
        insecure=insecure,
        features=enable_feature or [],
        graphite=graphite,
        statsd=statsd,
    )


@app.command()
def query(
    expr: Annotated[str, typer.Argument(metavar="EXPR", help="A PromQL expression.")],
    range_: Annotated[str | None, typer.Option("--range", help="Ask for a range that ends now, such as 1h, and plot it.")] = None,
    step: Annotated[str | None, typer.Option("--step", help="Distance of the points of a range, such as 15s.")] = None,
    time: Annotated[str | None, typer.Option("--time", help="When to evaluate: Unix seconds or RFC 3339. [dim]default: now[/dim]")] = None,
    url: Annotated[str, typer.Option("--url", envvar="VEDETTE_URL", callback=_url, help="The server to ask.")] = "http://127.0.0.1:8009",
    api_key: Annotated[str | None, typer.Option("--api-key", envvar="API_KEY", help="Sent as a bearer token.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the server's answer as it came.")] = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="Show what the query cost instead: its operations with rows, bytes and milliseconds.")
    ] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write the answer to a .csv, .parquet or .json file instead.")
    ] = None,
) -> None:
    """Ask a running server: a table, and for ranges a plot."""
    from vedette.cli.query import run

    run(expr, range_=range_, step=step, time=time, url=url, api_key=api_key, as_json=as_json, explain=explain, output=output)


@app.command()
def queries(
    end: Annotated[str | None, typer.Option("--end", metavar="ID", help="End this one.")] = None,
    url: Annotated[str, typer.Option("--url", envvar="VEDETTE_URL", callback=_url, help="The server to ask.")] = "http://127.0.0.1:8009",
    api_key: Annotated[str | None, typer.Option("--api-key", envvar="API_KEY", help="Sent as a bearer token.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the server's answer as it came.")] = False,
) -> None:
    """List the queries that a server evaluates now, and those that wait; end one."""
    from vedette.cli.running import queries as listed

    listed(end=end, url=url, api_key=api_key, as_json=as_json)


@check.command("config")
def check_config(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...")],
    alertmanager: Annotated[bool, typer.Option("--alertmanager", help="FILE is an alertmanager.yml.")] = False,
) -> None:
    """Check configuration files and the rule files that they name."""
    from vedette.cli.check import config

    config(files, alertmanager=alertmanager)


@check.command("rules")
def check_rules(files: Annotated[list[Path], typer.Argument(metavar="FILE...")]) -> None:
    """Check rule files."""
    from vedette.cli.check import rules

    rules(files)


DataOption = Annotated[Path, typer.Option("--data", envvar="VEDETTE_STORAGE_DATA", help="The data directory.")]
ServerOption = Annotated[str | None, typer.Option("--url", callback=_url, help="Ask the server there instead, which holds the directory.")]
KeyOption = Annotated[str | None, typer.Option("--api-key", envvar="API_KEY", help="Sent as a bearer token.")]
_DATA = Path("data")


@storage.command("snapshot")
def storage_snapshot(data: DataOption = _DATA, url: ServerOption = None, api_key: KeyOption = None) -> None:
    """Take a snapshot under snapshots/ in the data directory: links, so it costs no room at first."""
    from vedette.cli.storage import snapshot

    snapshot(data, url=url, api_key=api_key)


@storage.command("restore")
def storage_restore(snapshot: Annotated[Path, typer.Argument(metavar="SNAPSHOT")], data: DataOption = _DATA) -> None:
    """Copy a snapshot to an empty data directory, and read all of it once."""
    from vedette.cli.storage import restore

    restore(snapshot, data)


@storage.command("verify")
def storage_verify(data: DataOption = _DATA) -> None:
    """Read every page and the log; exit status 1 where anything is damaged, each place on a line of its own."""
    from vedette.cli.storage import verify

    raise typer.Exit(verify(data))


@storage.command("stats")
def storage_stats(data: DataOption = _DATA) -> None:
    """A table of the blocks, and the size of the log."""
    from vedette.cli.storage import stats

    stats(data)


FormatOption = Literal["parquet", "csv", "openmetrics", "prometheus"]
TenantOption = Annotated[str, typer.Option("--tenant", help="Whose series.")]


@storage.command("export")
def storage_export(
    directory: Annotated[Path, typer.Argument(metavar="DIRECTORY", help="Where the files go; an interrupted export goes on there.")],
    form: Annotated[FormatOption, typer.Option("--format", help="What to write; parquet needs the extra [b]logs[/b].")] = "parquet",
    match: Annotated[list[str] | None, typer.Option("--match", help='A selector of the series. [dim]default: {__name__!=""}[/dim]')] = None,
    start: Annotated[str | None, typer.Option("--start", help="Unix seconds or RFC 3339. [dim]default: the oldest sample[/dim]")] = None,
    end: Annotated[str | None, typer.Option("--end", help="Inclusive. [dim]default: the newest sample[/dim]")] = None,
    tenant: TenantOption = "default",
    data: DataOption = _DATA,
    url: ServerOption = None,
    api_key: KeyOption = None,
) -> None:
    """Write samples to files, a file a day at most; run it again to go on after an interruption."""
    from vedette.cli.transfer import run_export

    if match and len(match) > 1:
        raise BadInput("more than one selector", where="--match", hint="a series must not stand in a file twice; use a regular expression")
    only = match[0] if match else '{__name__!=""}'
    run_export(directory, form=form, match=only, start=start, end=end, tenant=tenant, data=data, url=url, api_key=api_key)


@storage.command("import")
def storage_import(
    paths: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Files, or directories of files.")],
    form: Annotated[FormatOption | None, typer.Option("--format", help="Of all files. [dim]default: by their names[/dim]")] = None,
    tenant: TenantOption = "default",
    data: DataOption = _DATA,
    url: Annotated[str | None, typer.Option("--url", help="Send to the server there instead, by remote write.")] = None,
    api_key: KeyOption = None,
) -> None:
    """Store samples from files: exports, OpenMetrics, Prometheus text, what promtool dumps; run it again to go on."""
    from vedette.cli.transfer import run_import

    raise typer.Exit(run_import(paths, form=form, tenant=tenant, data=data, url=url, api_key=api_key))


@storage.command("top")
def storage_top(
    data: DataOption = _DATA,
    by: Annotated[Literal["metric", "label", "pair"], typer.Option("--by", help="What to count by.")] = "metric",
    limit: Annotated[int, typer.Option("--limit", min=1, max=10_000, help="How many rows.")] = 20,
    last: Annotated[str, typer.Option("--last", help="How far back from the newest block.")] = "1d",
    growth: Annotated[bool, typer.Option("--growth", help="Only what the series of the last hour brought.")] = False,
    url: ServerOption = None,
    api_key: KeyOption = None,
) -> None:
    """What has the most series."""
    from vedette.cli.storage import top

    top(data, by=by, limit=limit, last=last, growth=growth, url=url, api_key=api_key)


@rules.command("backtest")
def rules_backtest(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A rule file, a group, or one rule; YAML or JSON.")],
    since: Annotated[str, typer.Option("--since", help="How far back, such as 7d.")] = "1d",
    end: Annotated[str | None, typer.Option("--end", help="Until when: Unix seconds or RFC 3339. [dim]default: now[/dim]")] = None,
    url: Annotated[
        str, typer.Option("--url", envvar="VEDETTE_URL", callback=_url, help="The server whose history it is.")
    ] = "http://127.0.0.1:8009",
    api_key: KeyOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the server's answer.")] = False,
) -> None:
    """Run alerting rules over history: when each would have fired, and who would have been told; nothing is sent."""
    from vedette.cli.rules import backtest

    backtest(file, since=since, end=end, url=url, api_key=api_key, as_json=as_json)


@test.command("promql")
def test_promql(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Files, or folders in which all `.test` files are run.")],
    variants: Annotated[
        bool, typer.Option(help="Run each instant query also pinned by `@` at other times and within a range, as Prometheus does.")
    ] = True,
) -> None:
    """Run PromQL test scripts in the language of Prometheus' own."""
    from vedette.cli.test import promql

    promql(paths, variants=variants)


@test.command("rules")
def test_rules(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...")],
    run: Annotated[
        list[str] | None, typer.Option("--run", metavar="REGEX", help="Run only groups of tests whose name matches; repeatable.")
    ] = None,
    feature: Annotated[
        list[str] | None, typer.Option("--enable-feature", metavar="NAME", help="A feature flag of Prometheus for expressions; repeatable.")
    ] = None,
    ignore_unknown_fields: Annotated[bool, typer.Option("--ignore-unknown-fields", help="Pass over unknown keys in rule files.")] = False,
    diff: Annotated[bool, typer.Option("--diff", help="Of alerts that are not as expected, show what differs line by line.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show all that is stored in the end.")] = False,
    junit: Annotated[Path | None, typer.Option("--junit", help="Write the results there as JUnit's XML, too.")] = None,
) -> None:
    """Run unit tests of rules, in the files and with the verdicts of `promtool test rules`."""
    from vedette.cli.test import Asked, rules

    asked = Asked(run=run or [], features=feature or [], lenient=ignore_unknown_fields, diff=diff, debug=debug, junit=junit)
    rules(files, asked)


@app.command()
def logs(
    text: Annotated[str | None, typer.Argument(metavar="TEXT", help="Only lines whose message contains this, whatever the case.")] = None,
    level: Annotated[list[str] | None, typer.Option("--level", help="Only these levels, such as error,fatal; repeatable.")] = None,
    service: Annotated[list[str] | None, typer.Option("--service", help="Only these services; repeatable.")] = None,
    field: Annotated[
        list[str] | None, typer.Option("--field", help="Only where a field is so: NAME=VALUE, !=, =~, !~; repeatable.")
    ] = None,
    regex: Annotated[str | None, typer.Option("--regex", help="Only lines in whose message this RE2 expression matches.")] = None,
    last: Annotated[str, typer.Option("--last", help="How far back, such as 15m.")] = "1h",
    limit: Annotated[int, typer.Option("--limit", min=1, max=10_000, help="How many of the newest lines.")] = 100,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with lines as they come.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")] = False,
    url: Annotated[str, typer.Option("--url", envvar="VEDETTE_URL", callback=_url, help="The server to ask.")] = "http://127.0.0.1:8009",
    api_key: Annotated[str | None, typer.Option("--api-key", envvar="API_KEY", help="Sent as a bearer token.")] = None,
) -> None:
    """Search a running server's log lines, or follow them."""
    from vedette.cli.logs import run

    run(
        text,
        levels=level or [],
        services=service or [],
        fields=field or [],
        regex=regex,
        last=last,
        limit=limit,
        follow=follow,
        as_json=as_json,
        url=url,
        api_key=api_key,
    )


@app.command("config")
def show_config(config: ConfigOption = None, data: Annotated[Path | None, typer.Option("--data")] = None) -> None:
    """Print the settings in force and where each came from, secrets redacted."""
    from vedette.cli.check import show

    show(config, data=data)


@app.command("init-db")
def init_db(
    config: ConfigOption = None, data: Annotated[Path | None, typer.Option("--data", help="Where records without a URL are.")] = None
) -> None:
    """Make the tables of the database that DATABASE_URL names, or bring them up to date, and start nothing."""
    from vedette.cli.initdb import run

    run(config, data=data)


@app.command()
def warmup() -> None:
    """Compile every kernel now and keep the result on disk, for images and impatient first starts."""
    from vedette.cli.warmup import run

    run()


@app.command()
def version() -> None:
    """Print the version of Vedette, of Python and of the kernels' compiler."""
    from vedette.cli.check import version

    version()
