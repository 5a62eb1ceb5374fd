"""Plots in mails: the PNG decodes to what was drawn, whatever the values; and what goes wrong costs the picture, not the mail."""

from __future__ import annotations

import asyncio
import math
import shutil
import ssl
import struct
import subprocess
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default as policy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from vedette.errors import LimitExceeded
from vedette.model.alerts import Alert
from vedette.model.labels import Labels
from vedette.notify import plotted
from vedette.notify.channels.table import channels_of
from vedette.notify.config import parse
from vedette.notify.notice import Notice
from vedette.notify.picture import COLOURS, HEIGHT, WIDTH, Line, png, shortened
from vedette.notify.plotted import Plotter, chosen, expression_of, split
from vedette.notify.template import Templates

NOW = 1_700_000_000_000
HOUR = 3_600_000
URL = "http://vedette:8009"


def pixels(picture: bytes) -> NDArray[np.uint8]:
    """The pixels of one of our PNGs, each chunk's checksum tried."""
    assert picture.startswith(b"\x89PNG\r\n\x1a\n")
    at, data = 8, b""
    while at < len(picture):
        (size,) = struct.unpack_from(">I", picture, at)
        kind, body = picture[at + 4 : at + 8], picture[at + 8 : at + 8 + size]
        assert struct.unpack_from(">I", picture, at + 8 + size) == (zlib.crc32(kind + body),)
        data += body if kind == b"IDAT" else b""
        at += 12 + size
    rows = np.frombuffer(zlib.decompress(data), dtype=np.uint8).reshape(HEIGHT, 1 + WIDTH * 3)
    assert not rows[:, 0].any()
    return rows[:, 1:].reshape(HEIGHT, WIDTH, 3)


def line(*values: float) -> Line:
    return Line(np.linspace(0, HOUR, len(values)).astype(np.int64), np.array(values))


def places(image: NDArray[np.uint8], colour: tuple[int, int, int]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    return np.nonzero((image == np.array(colour, dtype=np.uint8)).all(axis=2))


def test_a_rising_line_goes_from_the_lower_left_to_the_upper_right() -> None:
    found = png([line(*range(50))], start=0, end=HOUR)
    assert found is not None
    assert len(found) < 20_000
    ys, xs = places(pixels(found), COLOURS[0])
    left, right = ys[xs < 150], ys[xs > WIDTH - 100]
    assert left.min() > HEIGHT / 2 > right.max()
    assert xs.max() - xs.min() > WIDTH * 0.8


def test_gaps_stay_empty_and_the_threshold_is_dashed_at_its_height() -> None:
    values = [1.0] * 20 + [math.nan] * 20 + [1.0] * 20
    found = png([line(*values)], start=0, end=HOUR, threshold=3.0)
    assert found is not None
    image = pixels(found)
    _, xs = places(image, COLOURS[0])
    assert not ((xs > 270) & (xs < 370)).any()
    ys, xs = places(image, (179, 38, 30))
    assert ys.max() < places(image, COLOURS[0])[0].min(), "3 lies above 1"
    assert 0.4 < len(set(xs.tolist())) / (xs.max() - xs.min()) < 0.8


@pytest.mark.parametrize("lines", [[], [line(math.nan, math.nan)], [line(math.inf, -math.inf)]])
def test_nothing_finite_is_no_picture(lines: list[Line]) -> None:
    assert png(lines, start=0, end=HOUR) is None
    assert png([line(1.0, 2.0)], start=HOUR, end=HOUR) is None


VALUES = st.lists(st.floats(min_value=-1e18, max_value=1e18) | st.sampled_from([math.nan, math.inf, 0.0, 5e-324, 1e18]), max_size=20)


@settings(max_examples=40, deadline=None)
@given(VALUES, st.none() | st.floats(min_value=-1e18, max_value=1e18))
def test_whatever_the_values_it_is_a_picture_or_none(values: list[float], threshold: float | None) -> None:
    found = png([line(*values)] if values else [], start=0, end=HOUR, threshold=threshold)
    assert (found is None) == (not any(map(math.isfinite, values)))
    if found is not None:
        assert pixels(found).shape == (HEIGHT, WIDTH, 3)


@pytest.mark.parametrize(
    ("value", "step", "text"),
    [(0.0, 1.0, "0"), (1500.0, 500.0, "1.5k"), (3000.0, 1000.0, "3k"), (0.25, 0.25, "250m"), (2.5e9, 5e8, "2.5G"), (-40.0, 20.0, "-40")],
)
def test_values_of_an_axis(value: float, step: float, text: str) -> None:
    assert shortened(value, step) == text


# Which series are drawn.


def alert(url: str = f"{URL}/graph?g0.expr=cpu+%3E+0.9&g0.tab=1", **labels: str) -> Alert:
    return Alert(Labels.of(alertname="Hot", **labels), NOW - 60_000, NOW + 60_000, generator_url=url)


def notice(*alerts: Alert) -> Notice:
    return Notice("team", "k", Labels(), alerts or (alert(),), NOW, URL, "attempt1")


def test_the_expression_is_in_the_link_of_our_own_alerts_only() -> None:
    assert expression_of(alert(), URL + "/") == "cpu > 0.9"
    assert expression_of(alert("http://elsewhere/graph?g0.expr=up"), URL) == ""
    assert expression_of(alert(""), URL) == ""


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("cpu > 0.9", ("cpu", 0.9)),
        ("(rate(a[5m]) <= 3)", ("rate(a[5m])", 3.0)),
        ("absent(up)", ("absent(up)", None)),
        ("a > b", ("a > b", None)),
    ],
)
def test_a_comparison_is_drawn_as_a_line_and_a_threshold(expression: str, expected: tuple[str, float | None]) -> None:
    assert split(expression) == expected


def test_the_series_of_the_alert_are_drawn_or_the_first_few() -> None:
    times = np.array([0], dtype=np.int64)
    rows = [(Labels.of(__name__="cpu", host=str(i)), times, np.array([float(i)])) for i in range(9)]
    assert [one.values[0] for one in chosen(rows, Labels.of(alertname="Hot", host="3"))] == [3.0]
    assert [one.values[0] for one in chosen(rows, Labels.of(alertname="Hot"))] == [0.0, 1.0, 2.0, 3.0, 4.0]


async def test_the_last_hour_is_asked_for_and_drawn() -> None:
    asked: list[tuple[str, int, int, int]] = []

    async def ask(*question: Any) -> Any:
        asked.append(question)
        return [(Labels.of(__name__="cpu"), np.arange(NOW - HOUR, NOW, 15_000, dtype=np.int64), np.full(240, 0.95))]

    found = await Plotter(ask, URL)(notice(alert("http://elsewhere/"), alert()))
    assert asked == [("cpu", NOW - HOUR, NOW, 15_000)]
    assert found is not None
    assert len(places(pixels(found), COLOURS[0])[0]) > 300


async def test_what_goes_wrong_costs_the_picture_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plotted, "DEADLINE_S", 0.01)

    async def too_much(*_question: Any) -> Any:
        raise LimitExceeded("too many samples")

    async def too_long(*_question: Any) -> Any:
        await asyncio.Event().wait()

    for ask in (too_much, too_long):
        assert await Plotter(ask, URL)(notice()) is None
    assert await Plotter(too_much, URL)(notice(alert(f"{URL}/graph?g0.expr=)"))) is None
    assert await Plotter(too_much, URL)(notice(alert(""))) is None


# In a mail, through a real mail server.


class Box:
    """Keeps what arrives."""

    def __init__(self) -> None:
        self.mails: list[tuple[EmailMessage, bool, bool]] = []

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd names it
        message = message_from_bytes(envelope.content, policy=policy)
        assert isinstance(message, EmailMessage)
        self.mails.append((message, session.ssl is not None, session.authenticated))
        return "250 kept"


def known(_server: Any, _session: Any, _envelope: Any, _mechanism: str, given: LoginPassword) -> AuthResult:
    return AuthResult(success=(given.login, given.password) == (b"vedette", b"pass word"))


@pytest.fixture
def mail_server(tmp_path: Path, free_port: Callable[[], int]) -> Iterator[tuple[Box, int, Path]]:
    """aiosmtpd with STARTTLS and a password: what arrived, its port, the certificate."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl (Debian package openssl)")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=test -addext subjectAltName=IP:127.0.0.1"
    subprocess.run([*command.split(), "-keyout", str(key), "-out", str(cert)], check=True, capture_output=True)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(cert, key)
    box = Box()
    server = Controller(
        box, hostname="127.0.0.1", port=free_port(), tls_context=context, require_starttls=True, authenticator=known, auth_required=True
    )
    server.start()
    yield box, server.port, cert
    server.stop()


async def test_a_mail_shows_the_plot_inline_over_starttls_and_with_a_password(mail_server: tuple[Box, int, Path]) -> None:
    box, port, cert = mail_server
    account = {"auth_username": "vedette", "auth_password": "pass word", "tls_config": {"ca_file": str(cert)}}
    email = {"to": "team@example.org", "from": "v@example.org", "smarthost": f"127.0.0.1:{port}", **account}
    config = parse(str({"route": {"receiver": "team"}, "receivers": [{"name": "team", "email_configs": [email]}]}))
    drawn = png([line(1.0, 2.0)], start=0, end=HOUR)

    async def picture(_notice: Notice) -> bytes | None:
        return drawn

    async def leaving() -> None:
        return None

    def no_http(_config: Any) -> Any:
        pytest.fail("mail needs no HTTP")

    for give in (picture, None):
        (made,) = channels_of(config.receivers[0], config.global_, no_http, Templates.load(), give)
        await made.deliver(notice(replace(alert(), annotations=Labels.of(summary="hot"))), seconds=10, leaving=leaving)
        await made.close()
    (with_plot, secured, authenticated), (without, _, _) = box.mails
    assert secured
    assert authenticated
    text, related = with_plot.iter_parts()
    assert (text.get_content_type(), related.get_content_type()) == ("text/plain", "multipart/related")
    html, image = related.iter_parts()
    assert image.get_content_type() == "image/png"
    assert image.get_content_disposition() == "inline"
    assert image.get_content() == drawn
    assert f'src="cid:{image["Content-ID"].strip("<>")}"' in html.get_content()
    assert html.get_content().rstrip().endswith("</html>")
    assert [p.get_content_type() for p in without.iter_parts()] == ["text/plain", "text/html"]
