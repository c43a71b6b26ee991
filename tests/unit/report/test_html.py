"""The page: complete, self-contained, and safe whatever the captions say."""

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from calotype.generation.images import to_uint8
from calotype.report.html import Report, Section
from calotype.report.plots import loss_curves

EVIL = '<script>alert("1")</script>&\'"><img src=x onerror=alert(1)>'
VOID = {"meta", "img", "br", "link", "input", "path", "use"}


class Page(HTMLParser):
    """Checks nesting and collects tags and attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def everything(text: str) -> Report:
    report = Report(text, text, {text: text})
    report.lead.pictures(torch.zeros(2, 3, 8, 8), [text, ""], caption=text)
    report.tile(text, text, text, unit=text)
    for _ in range(3):
        section = report.section(text, text).note(text, text).details(text, text).details(text, {text: [text, 1]})
        section.table([text, "n"], [[text, 0.5], ["-", 1234]], text)
        section.compare({text: torch.zeros(2, 3, 8, 8), "b": torch.zeros(2, 3, 8, 8)}, [text, text], caption=text)
        section.figures(loss_curves([{"step": 1, text: 1.0}, {"step": 2, text: 2.0}]), text)
    return report


def test_every_text_is_escaped() -> None:
    page = Page(everything(EVIL).html())
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"script", "iframe", "object", "embed", "link", "form"}
    for tag, attributes in page.tags:
        assert not any(name.startswith("on") for name in attributes), tag
        assert tag != "img" or str(attributes["src"]).startswith("data:image/png;base64,")
    assert page.text.count(EVIL) >= 15


def test_page_is_self_contained_and_reproducible() -> None:
    html = everything("text").html()
    assert html == everything("text").html()
    page = Page(html)
    for tag, attributes in page.tags:
        for name in ("src", "href", "xlink:href"):
            target = attributes.get(name)
            assert target is None or target.startswith(("data:", "#")), (tag, target)
    assert "@import" not in html and not re.search(r"url\((?!#)", html)
    policy = next(str(a["content"]) for t, a in page.tags if t == "meta" and a.get("http-equiv"))
    assert policy.startswith("default-src 'none'")
    assert "prefers-color-scheme: dark" in html


def test_pictures_are_inside_pixel_for_pixel() -> None:
    x = torch.rand(3, 3, 8, 10, generator=torch.Generator().manual_seed(0)) * 2 - 1
    html = Section("S").pictures([x[0], Image.new("RGB", (4, 4), "red"), x[2]], ["one", "two", "three"]).html()
    sources = [str(a["src"]) for t, a in Page(html).tags if t == "img"]
    images = [Image.open(io.BytesIO(base64.b64decode(s.partition(",")[2]))) for s in sources]
    assert torch.equal(torch.from_numpy(np.array(images[2])).permute(2, 0, 1), to_uint8(x[2]))
    assert images[1].getpixel((0, 0)) == (255, 0, 0)
    assert [a["alt"] for t, a in Page(html).tags if t == "img"] == ["one", "two", "three"]


def test_the_order_is_title_pictures_tiles_sections() -> None:
    report = Report("Title")
    report.section("Later", "words")
    report.tile("Figure", "1.5")
    report.lead.pictures(torch.zeros(1, 3, 8, 8), ["caption"])
    html = report.html().partition("<body>")[2]
    places = [html.index(t) for t in ("<h1>Title", "<img", "caption", "Figure", "Later", "words")]
    assert places == sorted(places)


def test_an_empty_report_is_a_page() -> None:
    page = Page(Report("Nothing yet").html())
    assert "Nothing yet" in page.text


def test_links_lead_to_sections() -> None:
    report = Report("T")
    for title in ("One two", "Three", "Ä/ö?"):
        report.section(title)
    page = Page(report.html())
    targets = [str(a["href"])[1:] for t, a in page.tags if t == "a"]
    assert len(targets) == 3 and set(targets) <= {a.get("id") for t, a in page.tags if t == "section"}


def test_tables_align_numbers() -> None:
    html = Section().table(["name", "value"], [["a", 0.123456], ["b", 1234567], ["c", "-"]]).html()
    assert html.count('class="number"') == 4 and "0.1235" in html and "1,234,567" in html


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda s: s.pictures(torch.zeros(2, 3, 4, 4), ["a"]), "2 captions, got 1"),
        (lambda s: s.compare({"a": torch.zeros(2, 3, 4, 4), "b": torch.zeros(1, 3, 4, 4)}), "as many pictures"),
        (lambda s: s.table(["a", "b"], [["x"]]), "2 cells"),
    ],
)
def test_counts_must_agree(wrong, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=message):
        wrong(Section())


def test_saved_whole(tmp_path: Path) -> None:
    report = everything("text")
    report.save(tmp_path / "run" / "report.html")
    assert (tmp_path / "run" / "report.html").read_text("utf-8") == report.html()
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["report.html"]
