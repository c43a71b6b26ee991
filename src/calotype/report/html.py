"""A report that a person would rather look at than read: one HTML file, pictures first.

    report = Report("People and smileys", "A latent diffusion model after ten minutes on two cores")
    report.lead.pictures(samples, captions)
    report.tile("FD-lite0", "31.4", "real against real: 10.2, N = 885")
    report.section("First stage").compare({"original": x, "reconstruction": x_hat}).figures(loss_curves(records))
    report.save("report.html")

The file needs nothing else: pictures and curves are inside, there is no script, and a content policy forbids the
browser to fetch anything. It follows the reader's light or dark setting. Every text is escaped.
"""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from importlib import resources
from pathlib import Path
from typing import TypeAlias

from PIL import Image as PILImage
from torch import Tensor

from calotype import __version__
from calotype.generation.images import to_pil, write_bytes
from calotype.report.plots import Plot

Picture: TypeAlias = PILImage.Image | Tensor
"""A Pillow image, or a tensor (3, H, W) in [-1, 1]."""


@dataclass
class Section:
    """A part of the page; every method adds one element and returns the section.

    Args:
        title: its heading; none for the part that leads the page.
    """

    title: str = ""
    _parts: list[str] = field(default_factory=list)

    def text(self, paragraph: str) -> Section:
        """A paragraph."""
        return self._add(f"<p>{escape(paragraph)}</p>")

    def note(self, text: str, title: str = "Read with care") -> Section:
        """A remark that must not be overlooked: what a number does not say."""
        return self._add(f"<aside><strong>{escape(title)}</strong><p>{escape(text)}</p></aside>")

    def pictures(
        self, pictures: Iterable[Picture], captions: Sequence[str] | None = None, *, columns: int = 8, caption: str = ""
    ) -> Section:
        """A grid of pictures.

        Args:
            pictures: any number, also a tensor (N, 3, H, W).
            captions: one text below each.
            columns: pictures per row on a wide screen; a narrow one shows fewer.
            caption: a line below all.

        Raises:
            ValueError: as many captions as pictures were expected.
        """
        pictures = list(pictures)
        texts = _as_many(captions, len(pictures))
        cells = (_cell(_image(p, t), t) for p, t in zip(pictures, texts, strict=True))
        return self._gallery(cells, "", columns, caption)

    def compare(
        self,
        pictures: Mapping[str, Iterable[Picture]],
        captions: Sequence[str] | None = None,
        *,
        columns: int = 4,
        caption: str = "",
    ) -> Section:
        """Pictures that belong together, side by side: {"original": x, "reconstruction": x_hat}.

        Args:
            pictures: what they are -> as many pictures for each name.
            captions: one text below each group.
            columns: groups per row on a wide screen.
            caption: a line below all.

        Raises:
            ValueError: the numbers of pictures or captions differ.
        """
        lists = {name: list(values) for name, values in pictures.items()}
        counts = {name: len(values) for name, values in lists.items()}
        if len(set(counts.values())) != 1:
            raise ValueError(f"as many pictures under each name were expected, got {counts}")
        texts = _as_many(captions, next(iter(counts.values())))
        cells = []
        for group, text in zip(zip(*lists.values(), strict=True), texts, strict=True):
            images = "".join(
                f"<span>{_image(p, f'{name}: {text}' if text else name)}<small>{escape(name)}</small></span>"
                for name, p in zip(lists, group, strict=True)
            )
            cells.append(_cell(f'<div class="group">{images}</div>', text))
        return self._gallery(cells, " groups", columns, caption)

    def figures(self, plots: Iterable[Plot], caption: str = "") -> Section:
        """Curves or histograms, beside each other as the screen allows."""
        drawings = "".join(f'<div class="plot">{plot.svg()}</div>' for plot in plots)
        return self._add(f'<figure class="block"><div class="plots">{drawings}</div>{_figcaption(caption)}</figure>')

    def table(self, head: Sequence[str], rows: Iterable[Sequence[str | float]], caption: str = "") -> Section:
        """A table; columns with numbers are aligned to the right.

        Raises:
            ValueError: a row as long as the head was expected.
        """
        rows = [list(row) for row in rows]
        for row in rows:
            if len(row) != len(head):
                raise ValueError(f"a row of {len(head)} cells was expected, got {len(row)}")
        numeric = [any(not isinstance(row[k], str) for row in rows) for k in range(len(head))]
        kinds = [' class="number"' if n else "" for n in numeric]
        top = "".join(f"<th{k}>{escape(name)}</th>" for k, name in zip(kinds, head, strict=True))
        body = "".join(
            f"<tr>{''.join(f'<td{k}>{escape(_number(v))}</td>' for k, v in zip(kinds, row, strict=True))}</tr>"
            for row in rows
        )
        return self._add(
            f'<figure class="block"><div class="scroll"><table><thead><tr>{top}</tr></thead>'
            f"<tbody>{body}</tbody></table></div>{_figcaption(caption)}</figure>"
        )

    def details(self, summary: str, content: str | Mapping[str, object]) -> Section:
        """Something to unfold: a text kept as it is, or a mapping shown as JSON."""
        text = content if isinstance(content, str) else json.dumps(content, indent=2, ensure_ascii=False)
        return self._add(f"<details><summary>{escape(summary)}</summary><pre>{escape(text)}</pre></details>")

    def _gallery(self, cells: Iterable[str], kind: str, columns: int, caption: str) -> Section:
        return self._add(
            f'<figure class="block"><div class="gallery{kind}" style="--columns:{int(columns)}">{"".join(cells)}</div>'
            f"{_figcaption(caption)}</figure>"
        )

    def _add(self, part: str) -> Section:
        self._parts.append(part)
        return self

    def html(self) -> str:
        """The section as HTML."""
        heading = f"<h2>{escape(self.title)}</h2>" if self.title else ""
        return f'<section id="{_anchor(self.title)}">{heading}{"".join(self._parts)}</section>'


@dataclass
class Report:
    """A page: title and facts, the leading pictures, tiles with the headline figures, sections.

    Args:
        title: what this is about.
        subtitle: one sentence below.
        facts: short name -> short value, shown in a row ("data": "1,640 pictures").
        lead: the part above the tiles; put the best pictures there.
    """

    title: str
    subtitle: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)
    lead: Section = field(default_factory=Section)
    _tiles: list[str] = field(default_factory=list)
    _sections: list[Section] = field(default_factory=list)

    def tile(self, label: str, value: str, note: str = "", *, unit: str = "") -> Report:
        """A headline figure with the remark that makes it readable (N, floor, spread)."""
        unit = f" <span>{escape(unit)}</span>" if unit else ""
        small = f"<small>{escape(note)}</small>" if note else ""
        self._tiles.append(f'<div class="tile"><dt>{escape(label)}</dt><dd>{escape(value)}{unit}{small}</dd></div>')
        return self

    def section(self, title: str, text: str = "") -> Section:
        """A new section at the end of the page."""
        section = Section(title)
        self._sections.append(section)
        return section.text(text) if text else section

    def html(self) -> str:
        """The whole page."""
        css = (resources.files("calotype.report") / "report.css").read_text("utf-8")
        facts = "".join(f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in self.facts.items())
        links = "".join(f'<a href="#{_anchor(s.title)}">{escape(s.title)}</a>' for s in self._sections)
        return "\n".join(
            part
            for part in (
                '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">',
                '<meta name="viewport" content="width=device-width, initial-scale=1">',
                '<meta name="color-scheme" content="light dark">',
                '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
                "style-src 'unsafe-inline'\">",
                f"<title>{escape(self.title)}</title><style>{css}</style></head><body><main>",
                f'<header><p class="kicker">Calotype</p><h1>{escape(self.title)}</h1>',
                f'<p class="subtitle">{escape(self.subtitle)}</p>' if self.subtitle else "",
                f'<dl class="facts">{facts}</dl>' if facts else "",
                "</header>",
                self.lead.html() if self.lead._parts else "",
                f'<dl class="tiles">{"".join(self._tiles)}</dl>' if self._tiles else "",
                f"<nav>{links}</nav>" if len(self._sections) > 2 else "",
                *(s.html() for s in self._sections),
                f"<footer>Calotype {__version__}. Pictures on this page may have been made by a model.</footer>",
                "</main></body></html>\n",
            )
            if part
        )

    def save(self, path: Path | str) -> None:
        """Write the page; the file appears whole or not at all. Raises `DiskFull`."""
        write_bytes(path, self.html().encode())


def _image(picture: Picture, alt: str) -> str:
    pil = to_pil(picture) if isinstance(picture, Tensor) else picture
    data = io.BytesIO()
    pil.save(data, "PNG", optimize=True)
    source = base64.b64encode(data.getvalue()).decode("ascii")
    return (
        f'<img width="{pil.width}" height="{pil.height}" alt="{escape(alt or "picture")}" '
        f'src="data:image/png;base64,{source}">'
    )


def _cell(content: str, caption: str) -> str:
    return f"<figure>{content}{_figcaption(caption)}</figure>"


def _figcaption(caption: str) -> str:
    return f"<figcaption>{escape(caption)}</figcaption>" if caption else ""


def _number(value: str | float) -> str:
    if isinstance(value, str):
        return value
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def _as_many(captions: Sequence[str] | None, n: int) -> Sequence[str]:
    captions = [""] * n if captions is None else captions
    if len(captions) != n:
        raise ValueError(f"{n} pictures need {n} captions, got {len(captions)}")
    return captions


def _anchor(title: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") or "lead"
