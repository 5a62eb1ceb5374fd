"""Check the documentation's links and render it to `site/`: plain pages, no scripts, nothing fetched.

`python docs/build.py [--check]`: every relative link must lead to a file, and to a heading of it where it has an anchor;
what is broken is listed with its page and line, and the exit status is 1. `--check` renders nothing.
"""

from __future__ import annotations

import html
import re
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

from markdown_it import MarkdownIt
from markdown_it.token import Token

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
SITE = ROOT / "site"
ORDER = (
    "index",
    "quickstart",
    "configuration",
    "http-api",
    "services",
    "pushes",
    "bad-input",
    "promql",
    "storage",
    "alerting",
    "sdk",
    "logs",
    "access",
    "health",
    "operations",
    "benchmarks",
)
"""The pages of the navigation, in order; other Markdown files below docs/ are rendered and checked, too."""

STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; --link: light-dark(#0b5cad, #7ab8ff) }
body { font: 16px/1.55 system-ui, sans-serif; margin: 0; display: flex; flex-wrap: wrap }
nav { flex: 1 0 11rem; max-width: 14rem; padding: 1.5rem 1rem; position: sticky; top: 0; align-self: flex-start }
nav a { display: block; padding: .2rem .6rem; text-decoration: none; border-radius: .3rem }
nav a[aria-current] { background: var(--soft); font-weight: 600 }
main { flex: 3 1 30rem; max-width: 52rem; min-width: 0; padding: .5rem 1.5rem 4rem }
a { color: var(--link) }
code { font: .88em ui-monospace, monospace; background: var(--soft); padding: .1em .3em; border-radius: .2rem }
pre { background: var(--soft); padding: .8rem 1rem; overflow-x: auto; border-radius: .4rem }
pre code { background: none; padding: 0 }
.table { overflow-x: auto }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
td, th { border-bottom: 1px solid var(--line); padding: .3rem .7rem .3rem 0; text-align: left; vertical-align: top }
h2 { margin-top: 2.2rem; border-bottom: 1px solid var(--line) }
img { max-width: 100% }
"""


@dataclass
class Page:
    """One Markdown file: its title, the anchors of its headings, its links as (line, address)."""

    path: Path
    tokens: list[Token]
    title: str = ""
    anchors: set[str] = field(default_factory=set)
    links: list[tuple[int, str]] = field(default_factory=list)


def parser() -> MarkdownIt:
    """CommonMark with tables; raw HTML is shown as text."""
    return MarkdownIt("commonmark", {"html": False}).enable("table")


def anchor(text: str) -> str:
    """A heading's anchor, as source forges make it."""
    kept = re.sub(r"[^\w\- ]", "", text.lower())
    return kept.replace(" ", "-")


def read(path: Path) -> Page:
    """Parse a page and note its headings and links."""
    page = Page(path, parser().parse(path.read_text(encoding="utf-8")))
    line = 0
    for number, token in enumerate(page.tokens):
        line = token.map[0] + 1 if token.map else line
        if token.type == "heading_open":
            text = _plain(page.tokens[number + 1])
            token.attrSet("id", anchor(text))
            page.anchors.add(anchor(text))
            page.title = page.title or text
        for child in token.children or ():
            address = child.attrGet("href") if child.type == "link_open" else child.attrGet("src") if child.type == "image" else None
            if address is not None:
                page.links.append((line, str(address)))
                if child.type == "link_open" and not re.match(r"[a-z]+:|\.\./", str(address)):
                    child.attrSet("href", re.sub(r"\.md(#|$)", r".html\1", str(address)))
    return page


def _plain(inline: Token) -> str:
    return "".join(child.content for child in inline.children or () if child.type in ("text", "code_inline"))


def broken(pages: dict[Path, Page]) -> list[str]:
    """Every relative link that leads nowhere, as `file:line: what`."""
    problems = []
    for page in pages.values():
        where = page.path.relative_to(ROOT)
        for line, address in page.links:
            if re.match(r"[a-z]+:", address):
                continue
            target, _, fragment = unquote(address).partition("#")
            file = (page.path.parent / target).resolve() if target else page.path
            if not file.exists():
                problems.append(f"{where}:{line}: {address} leads to no file")
            elif fragment and file in pages and fragment not in pages[file].anchors:
                problems.append(f"{where}:{line}: {address} leads to no heading of {file.name}")
    return problems


def render(page: Page, navigation: list[tuple[str, str]]) -> str:
    """The page as a whole HTML document."""
    body = parser().renderer.render(page.tokens, parser().options, {})
    body = body.replace("<table>", '<div class="table"><table>').replace("</table>", "</table></div>")
    up = "../" * (len(page.path.relative_to(DOCS).parts) - 1)
    links = "".join(
        f'<a href="{up}{name}.html"{" aria-current=page" if page.path.stem == name else ""}>{html.escape(title)}</a>'
        for name, title in navigation
    )
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{html.escape(page.title)} · Vedette</title>'
    return (
        f'<!doctype html><html lang="en"><head>{head}<style>{STYLE}</style></head><body><nav>{links}</nav><main>{body}</main></body></html>'
    )


def main() -> int:
    """Check, and render unless told not to; 1 where a link is broken."""
    pages = {path: read(path) for path in sorted(DOCS.rglob("*.md"))}
    for name in ORDER:
        assert DOCS / f"{name}.md" in pages, f"docs/{name}.md is missing"
    problems = broken(pages)
    for problem in problems:
        sys.stderr.write(f"{problem}\n")
    if problems:
        return 1
    if "--check" not in sys.argv[1:]:
        shutil.rmtree(SITE, ignore_errors=True)
        navigation = [(name, pages[DOCS / f"{name}.md"].title) for name in ORDER]
        for page in pages.values():
            file = SITE / page.path.relative_to(DOCS).with_suffix(".html")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(render(page, navigation), encoding="utf-8")
        images = DOCS / "images"
        if images.is_dir():
            shutil.copytree(images, SITE / "images")
        sys.stdout.write(f"{len(pages)} pages: {(SITE / 'index.html').relative_to(ROOT)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
