"""Which proxy a request goes by: that of the configuration or of the environment, but for the hosts that need none.

Hosts are excepted as Go's clients do it, with Prometheus and Alertmanager among them. Not here: speaking to a proxy (httpx does).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass

from vedette.configfile import option
from vedette.errors import BadInput


def parse_proxy(text: str) -> str:
    """The URL of a proxy. Raises `BadInput` for one of a kind that cannot be used."""
    if text and not text.startswith(("http://", "https://")):
        raise BadInput(f"not a proxy that can be used: {text.partition('://')[0]}", hint="expected http:// or https://")
    return text


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyConfig:
    """`proxy_url` with what belongs to it, as it stands beside other settings of a client.

    `no_proxy` is a comma-separated list of what is asked directly: domains (`a.example` with all below it, `.a.example` those alone),
    addresses, networks (`10.0.0.0/8`), each perhaps with a port, or `*`. Where it or the environment decides, this machine itself is
    never asked by a proxy.
    `proxy_connect_header` goes to the proxy with CONNECT, that is for https.
    """

    proxy_url: str = option("", convert=parse_proxy)
    no_proxy: str = ""
    proxy_from_environment: bool = False
    """`HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY`, or the same in small letters, as they are when a connection is made."""
    proxy_connect_header: Mapping[str, tuple[str, ...]] = option(factory=dict, secret=True)

    def __post_init__(self) -> None:
        if self.proxy_from_environment and self.proxy_url:
            raise BadInput("if proxy_from_environment is configured, proxy_url must not be configured", where="proxy_url")
        if self.proxy_from_environment and self.no_proxy:
            raise BadInput("if proxy_from_environment is configured, no_proxy must not be configured", where="no_proxy")
        if self.no_proxy and not self.proxy_url:
            raise BadInput("if no_proxy is configured, proxy_url must also be configured", where="no_proxy")
        if self.proxy_connect_header and not self.proxy_url and not self.proxy_from_environment:
            problem = "if proxy_connect_header is configured, proxy_url or proxy_from_environment must also be configured"
            raise BadInput(problem, where="proxy_connect_header")

    def proxy_for(self, scheme: str, host: str, port: int | None, environment: Mapping[str, str]) -> str:
        """The URL of the proxy for an origin, "" for none. Raises `BadInput` for one in the environment that cannot be used."""
        excepted = self.no_proxy
        if self.proxy_from_environment:
            url = _given(environment, f"{scheme}_proxy")
            # What a web server's client sends as the header Proxy arrives as this variable in CGI programs.
            if scheme == "http" and environment.get("REQUEST_METHOD"):
                url = environment.get("http_proxy", "")
            excepted = _given(environment, "no_proxy")
            if url and "://" not in url:
                url = f"http://{url}"
            parse_proxy(url)
        else:
            url = self.proxy_url
            if not excepted:
                return url
        default = 443 if scheme == "https" else 80
        return "" if not url or is_excepted(excepted, host, port or default) else url


def _given(environment: Mapping[str, str], name: str) -> str:
    return environment.get(name.upper(), "") or environment.get(name, "")


def is_excepted(rules: str, host: str, port: int) -> bool:
    """Whether a host is asked without a proxy by a list of exceptions, as `ProxyConfig.no_proxy` describes it."""
    host = host.lower().rstrip(".").strip("[]")
    address = _address(host)
    if host == "localhost" or (address is not None and address.is_loopback):
        return True
    return any(_matches(rule.strip().lower(), host, address, port) for rule in rules.split(","))


def _matches(rule: str, host: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address | None, port: int) -> bool:
    if rule == "*":
        return True
    if "/" in rule:
        try:
            return address is not None and address in ipaddress.ip_network(rule, strict=False)
        except ValueError:
            return False
    if _address(rule.strip("[]")) is None:
        name, colon, digits = rule.rpartition(":")
        if colon and digits.isdigit():
            if int(digits) != port:
                return False
            rule = name
    rule = rule.strip("[]").removeprefix("*")
    if not rule:
        return False
    if (wanted := _address(rule)) is not None:
        return address == wanted
    return address is None and (host == rule or host.endswith(rule if rule.startswith(".") else f".{rule}"))


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
