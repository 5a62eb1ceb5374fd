"""AWS SNS: `Publish`, signed with Signature Version 4."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from urllib.parse import quote, urlencode, urlsplit

from vedette.clock import Clock, SystemClock, now_ms
from vedette.notify.channels.posting import Http, HttpChannel, Letter, cut, filled
from vedette.notify.global_config import GlobalConfig
from vedette.notify.notice import Notice
from vedette.notify.receivers import SnsConfig
from vedette.notify.template import Templates, Words

MAX_SUBJECT, MAX_MESSAGE, MAX_SMS = 100, 250_000, 1600


class Sns(HttpChannel):
    """One topic, endpoint or telephone of one receiver."""

    kind = "sns"

    def __init__(self, config: SnsConfig, _fallback: GlobalConfig, http: Http, templates: Templates, clock: Clock | None = None) -> None:
        super().__init__(http, templates, send_resolved=config.send_resolved)
        self._config = config
        # The signature's time is checked by AWS against the true time, whatever the alerts' clock shows.
        self._clock = clock or SystemClock()

    def letter(self, notice: Notice, words: Words) -> Letter:
        """The signed request."""
        config, text = self._config, words.text
        topic, target, phone = text(config.topic_arn), text(config.target_arn), text(config.phone_number)
        form = {"Action": "Publish", "Version": "2010-03-31"}
        form |= filled(TopicArn=topic, TargetArn=target, PhoneNumber=phone)
        form["Message"] = cut(text(config.message) or "(no details)", MAX_SMS if phone else MAX_MESSAGE)
        subject = " ".join(text(config.subject).encode("ascii", "ignore").decode().split())
        if subject and not phone:
            form["Subject"] = subject[:MAX_SUBJECT]
        for i, (name, value) in enumerate(sorted(words.all(config.attributes).items()), 1):
            place = f"MessageAttributes.entry.{i}"
            form |= {f"{place}.Name": name, f"{place}.Value.DataType": "String", f"{place}.Value.StringValue": value}
        if topic.endswith(".fifo"):
            form |= {"MessageGroupId": notice.group_key[:128], "MessageDeduplicationId": notice.attempt}
        assert config.sigv4 is not None, "checked when the file was read"
        region = config.sigv4.region or (topic or target).split(":")[3]
        url = config.api_url or f"https://sns.{region}.amazonaws.com/"
        keys = (config.sigv4.access_key, config.sigv4.secret_key)
        return Letter(url, form, signed(url, form, region=region, keys=keys, now=now_ms(self._clock)), form=True)


def signed(url: str, form: Mapping[str, str], *, region: str, keys: tuple[str, str], now: int, service: str = "sns") -> dict[str, str]:
    """The headers that sign a POST of a form at `now` (Unix ms), as AWS describes Signature Version 4."""
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=now)
    stamp, day = f"{moment:%Y%m%dT%H%M%SZ}", f"{moment:%Y%m%d}"
    parts = urlsplit(url)
    given = {"content-type": "application/x-www-form-urlencoded", "host": parts.netloc, "x-amz-date": stamp}
    names = ";".join(sorted(given))
    listed = "".join(f"{name}:{given[name]}\n" for name in sorted(given))
    body = hashlib.sha256(urlencode(form).encode()).hexdigest()
    canonical = "\n".join(("POST", quote(parts.path or "/"), parts.query, listed, names, body))
    scope = f"{day}/{region}/{service}/aws4_request"
    text = "\n".join(("AWS4-HMAC-SHA256", stamp, scope, hashlib.sha256(canonical.encode()).hexdigest()))
    key = f"AWS4{keys[1]}".encode()
    for part in (day, region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, text.encode(), "sha256").hex()
    credential = f"Credential={keys[0]}/{scope}, SignedHeaders={names}, Signature={signature}"
    return {"X-Amz-Date": stamp, "Authorization": f"AWS4-HMAC-SHA256 {credential}"}
