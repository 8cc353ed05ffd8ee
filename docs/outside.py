"""Brings what the pages link to outside of docs/ into the site, where it stands beside them.

Pages link files of the repository by relative path, so that its own web view can follow. For
MkDocs, whose pages are those in docs/, such a file joins the site at its path in the repository:
Markdown as a page, Python source as a page that shows it, anything else as it is. Links are
rewritten to match.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent
_LINK = re.compile(r"\]\(([^)#\s]+)(#[^)\s]*)?\)")
_CODE = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
_BEGIN = ("weights/README.md", "benchmarks/README.md", "examples/README.md")
"""What the menu names."""


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Adds what is linked, and what that links."""
    waiting = [*_BEGIN]
    for page in files.documentation_pages():
        waiting += _linked(f"docs/{page.src_uri}", page.content_string)
    added = set()
    while waiting:
        path = waiting.pop()
        if path in added or path.startswith("docs/") or not (ROOT / path).is_file():
            continue
        added.add(path)
        if path.endswith(".md"):
            text = (ROOT / path).read_text()
            waiting += _linked(path, text)
            files.append(File.generated(config, path, content=text))
        elif path.endswith(".py"):
            text = f"# {path}\n\n```python\n{(ROOT / path).read_text()}```\n"
            files.append(File.generated(config, f"{path}.md", content=text))
        else:
            files.append(File.generated(config, path, abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Leads links to where files stand in the site."""
    here = page.file.src_uri
    source = f"docs/{here}" if (ROOT / "docs" / here).is_file() else here

    def led(found: re.Match[str]) -> str:
        link, anchor = found[1], found[2] or ""
        path = _target(source, link)
        if path is None:
            return found[0]
        place = path.removeprefix("docs/")
        place += ".md" if place.endswith(".py") else ""
        return f"]({posixpath.relpath(place, posixpath.dirname(here) or '.')}{anchor})"

    return _outside_code(markdown, led)


def _linked(source: str, text: str) -> list[str]:
    """The files of the repository that a text links."""
    targets = (_target(source, found[1]) for found in _LINK.finditer(_CODE.sub("", text)))
    return [target for target in targets if target is not None]


def _target(source: str, link: str) -> str | None:
    """The path in the repository that a link of a file there leads to, if it is one."""
    if "://" in link or link.startswith(("mailto:", "/")):
        return None
    return posixpath.normpath(posixpath.join(posixpath.dirname(source), link))


def _outside_code(text: str, replaced: Callable[[re.Match[str]], str]) -> str:
    """Replaces links, but not in blocks of code."""
    parts, end = [], 0
    for block in _CODE.finditer(text):
        parts += [_LINK.sub(replaced, text[end : block.start()]), block[0]]
        end = block.end()
    return "".join([*parts, _LINK.sub(replaced, text[end:])])
