"""A run's report: one self-contained HTML page, pictures first, readable on a phone."""

from __future__ import annotations

import base64
import html
import io
import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

import perceptual_jax as pj
from perceptual_jax._files import write_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["LOOK", "Report"]

LOOK = files("experiments.common").joinpath("look.css").read_text(encoding="utf-8")
"""The style that all pages share: colours of light and dark, type, focus."""

_STYLE = LOOK + files("experiments.common").joinpath("report.css").read_text(encoding="utf-8")

_MANY_SECTIONS = 4
"""A page of so many begins with links to them."""


class Report:
    """Collects the parts of a page, in order, and writes it. All text is escaped."""

    def __init__(self, title: str, introduction: str):
        """Begins a page: its title, and a paragraph that says what one is looking at."""
        self._title = title
        self._head = f"<h1>{_text(title)}</h1><p>{_text(introduction)}</p>"
        self._headings: list[str] = []
        self._parts: list[str] = []

    def heading(self, text: str) -> None:
        """Begins a section."""
        self._headings.append(text)
        self._parts.append(f'<h2 id="part-{len(self._headings)}">{_text(text)}</h2>')

    def text(self, text: str) -> None:
        """Adds a paragraph."""
        self._parts.append(f"<p>{_text(text)}</p>")

    def pictures(
        self,
        rows: Mapping[str, Sequence[tuple[np.ndarray, str]]],
    ) -> None:
        """Adds a grid: `{row label: [(image [h, w, 3], caption), ...]}`; nothing for no rows."""
        if not rows:
            return
        columns = max(len(row) for row in rows.values())
        cells = []
        for label, row in rows.items():
            cells.append(f'<div class="label">{_text(label)}</div>')
            cells += [
                f'<figure><img src="{_data_url(image)}" alt="{_text(f"{label}: {caption}")}">'
                f"<figcaption>{_text(caption)}</figcaption></figure>"
                for image, caption in row
            ]
            cells += ["<div></div>"] * (columns - len(row))
        tracks = f"fit-content(12rem) repeat({columns}, minmax(6.5rem, 14rem))"
        self._parts.append(
            _scrolling("pictures")
            + f'<div class="pictures" style="grid-template-columns: {tracks}">'
            + f"{''.join(cells)}</div></div>"
        )

    def table(self, headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Adds a table; the first column names the row."""
        head = "".join(f'<th scope="col">{_text(cell)}</th>' for cell in headers)
        body = "".join(
            "<tr>" + "".join(f"<td>{_text(cell)}</td>" for cell in row) + "</tr>" for row in rows
        )
        self._parts.append(
            f"{_scrolling('table')}<table><thead><tr>{head}</tr></thead>"
            f"<tbody>{body}</tbody></table></div>"
        )

    def figure(self, figure: Figure, description: str) -> None:
        """Adds a matplotlib figure; the description is for those who cannot see it."""
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=110)
        url = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
        self._parts.append(
            f'{_scrolling("plot")}<img class="wide" src="{url}" alt="{_text(description)}"></div>'
        )

    def code(self, text: str) -> None:
        """Adds preformatted text."""
        self._parts.append(f"<pre>{_text(text)}</pre>")

    def how_it_was_made(self, config: Any, text: str = "") -> None:
        """Adds the last section: a paragraph, and a run's options, the fields of a dataclass."""
        self.heading("How it was made")
        if text:
            self.text(text)
        self.code("\n".join(f"{key} = {value}" for key, value in asdict(config).items()))

    def link(self, target: str, text: str) -> None:
        """Adds a link to a file beside the page."""
        # A name of a file, whatever it looks like: not a script, nor another machine.
        beside = urllib.parse.quote(f"./{target}", errors="surrogateescape")
        self._parts.append(f'<p><a href="{_text(beside)}">{_text(text)}</a></p>')

    def write(self, path: Path) -> None:
        """Writes the page, whole or not at all."""
        page = (
            '<!doctype html><html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>{_text(self._title)}</title><style>{_STYLE}</style></head>"
            f"<body><main>{self._head}{self._contents()}{''.join(self._parts)}</main></body></html>\n"
        )
        write_whole(path, page.encode(errors="backslashreplace"))

    def _contents(self) -> str:
        """Links to the sections of a page that has many."""
        if len(self._headings) < _MANY_SECTIONS:
            return ""
        links = (
            f'<a href="#part-{place}">{_text(text)}</a>'
            for place, text in enumerate(self._headings, start=1)
        )
        return f'<nav aria-label="sections">{" ".join(links)}</nav>'


def _scrolling(name: str) -> str:
    """Opens what is wider than a phone: a stop of the Tab key, so that arrow keys move it."""
    return f'<div class="scroll" role="group" aria-label="{name}" tabindex="0">'


def _text(text: str) -> str:
    return html.escape(text, quote=True)


def _data_url(image: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(pj.images.to_uint8(image)).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
