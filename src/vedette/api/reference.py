"""`/docs`: the operations of a listener as a page to be read, made from its OpenAPI description.

One page without scripts, and nothing from elsewhere: what a browser shows is what `/openapi.json` says. Not here: the description.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
from collections.abc import Callable, Mapping
from html import escape
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

PATH = "/docs"

_STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h2 { margin-top: 2.5rem; border-bottom: 1px solid #8886; }
details { border: 1px solid #8886; border-radius: 6px; margin: .5rem 0; padding: .4rem .8rem; }
summary { cursor: pointer; }
code, pre { font: 13px/1.45 ui-monospace, monospace; overflow-wrap: anywhere; }
pre { background: #8881; border-radius: 6px; overflow: auto; padding: .6rem; }
td, th { border-bottom: 1px solid #8884; padding: .2rem .8rem .2rem 0; text-align: left; vertical-align: top; }
td:last-child { overflow-wrap: anywhere; }
.method { display: inline-block; font-weight: 600; min-width: 4.5rem; }
""".strip()
_POLICY = "default-src 'none'; style-src 'sha256-{}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
_HEADERS = {
    "Content-Security-Policy": _POLICY.format(base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()),
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}


def page(document: Mapping[str, Any]) -> str:
    """The HTML of an OpenAPI description: operations by tag, in the order of their paths."""
    tags: dict[str, list[str]] = {}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            tags.setdefault(operation["tags"][0], []).append(_operation(method.upper(), path, operation))
    parts = [f'<h2 id="{escape(tag)}">{escape(tag)}</h2>\n' + "\n".join(shown) for tag, shown in sorted(tags.items())]
    links = " · ".join(f'<a href="#{escape(tag)}">{escape(tag)}</a>' for tag in sorted(tags))
    title = f"{document['info']['title']} {document['info']['version']}"
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n"
        f"<body>\n<h1>{escape(title)}</h1>\n<p>The operations of this listener; "
        '<a href="openapi.json">openapi.json</a> says the same to programs. Where authentication is on, send '
        f"<code>Authorization: Bearer TOKEN</code>.</p>\n<p>{links}</p>\n" + "\n".join(parts) + "\n</body>\n</html>\n"
    )


def _operation(method: str, path: str, operation: Mapping[str, Any]) -> str:
    about = f"<p>{escape(operation['description'])}</p>" if "description" in operation else ""
    head = f'<span class="method">{method}</span> <code>{escape(path)}</code> {escape(operation["summary"])}'
    body = operation.get("requestBody", {}).get("content", {})
    return (
        f'<details id="{escape(operation["operationId"])}"><summary>{head}</summary>\n{about}{_parameters(operation["parameters"])}'
        f"{''.join(_content('Request', media, content) for media, content in body.items())}{_responses(operation['responses'])}</details>"
    )


def _parameters(parameters: list[Mapping[str, Any]]) -> str:
    rows = "".join(
        f"<tr><td><code>{escape(p['name'])}</code></td><td>{p['in']}{', required' if p['required'] else ''}</td>"
        f"<td>{escape(p.get('description', ''))}</td></tr>"
        for p in parameters
    )
    return f"<table><tr><th>parameter</th><th>in</th><th></th></tr>{rows}</table>\n" if rows else ""


def _responses(responses: Mapping[str, Any]) -> str:
    shown = ""
    for status, response in responses.items():
        if status.startswith("2"):
            shown += "".join(_content(f"Answer {status}", media, content) for media, content in response.get("content", {}).items())
    rows = "".join(
        f"<tr><td>{escape(s)}</td><td>{escape(r['description'])}</td></tr>" for s, r in responses.items() if not s.startswith("2")
    )
    return f"{shown}<table><tr><th>status</th><th></th></tr>{rows}</table>\n"


def _content(title: str, media: str, content: Mapping[str, Any]) -> str:
    """A body: its example, or else its schema where it says anything."""
    schema = content.get("schema", {})
    parts = (schema, *schema.get("oneOf", ()))
    examples = [content["example"]] if "example" in content else [e for part in parts for e in part.get("examples", ())]
    examples += [part["example"] for part in parts if "example" in part]
    told = examples or ([schema] if schema else [])
    shown = "".join(f"<pre>{escape(json.dumps(each, indent=2, ensure_ascii=False))}</pre>\n" for each in told)
    return f"<p>{title}: <code>{escape(media)}</code>{'' if examples or not schema else ', by its schema'}</p>\n{shown}"


def route(describe: Callable[[], Mapping[str, Any]]) -> Route:
    """The route of the page; it is no operation of the API itself, so the description does not name it. Made when first asked for."""
    made = functools.cache(lambda: page(describe()))

    async def shown(request: Request) -> Response:
        return HTMLResponse(made(), headers=_HEADERS)

    return Route(PATH, shown, name="reference", include_in_schema=False)
