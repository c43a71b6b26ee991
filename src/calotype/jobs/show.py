"""What a source of pictures holds, said in a table and, if wanted, shown on a contact sheet."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from PIL import Image as PILImage
from PIL import ImageDraw, ImageFont

from calotype.console import console, counting
from calotype.data.colours import colour
from calotype.data.folder import open_source
from calotype.data.images import to_tensor
from calotype.data.summary import Summary, summarize
from calotype.errors import BadImage, UserError
from calotype.generation.images import grid, read_png, save_png

LISTED = 8
"""Sizes, classes, bad files and duplicates that are named; the rest is counted."""

EXPLAINED = 48
"""Colours that are explained below a contact sheet: those of the most frequent classes."""
INK = "#5d6470"
"""Of what is written there."""
NOTE = "contact sheet"
"""What says in a PNG file that it is one of ours, and may be written anew."""

CLASSES = "a subfolder for each, or 'label' in metadata.jsonl, would be read"
OBJECTS = "boxes in COCO's annotations.json, or 'objects' in metadata.jsonl, would be read"
AREAS = "label_maps/cat.png for images/cat.jpg, or 'label_map' in metadata.jsonl, would be read"
CONDITIONING_IMAGES = (
    "conditioning_images/cat.png for images/cat.jpg, or 'conditioning_image' in metadata.jsonl, would be read"
)
"""What gives a folder what it lacks."""


def show_data(text: str, out: Path | None) -> Summary:
    """Print what the source `text` (a folder, or "embedded:NAME") holds; write a contact sheet to `out`.

    Raises:
        UserError: no such source, no pictures in it, or none for the sheet that can be read; or `out` is a file that is
            no contact sheet, or lies among the pictures.
        DiskFull: no room for the sheet.
    """
    source = open_source(text)
    if out is not None:
        _check_free(out, Path(text))
    with counting(f"reading {len(source)} pictures", len(source)) as advance:
        summary, thumbnails = summarize(source, advance=advance)
    _print(summary)
    if out is not None and thumbnails:
        images = to_tensor(np.stack([pixels for pixels, _ in thumbnails]))
        wide = images.shape[-1] // images.shape[-2]
        sheet = grid(
            images,
            columns=None if wide == 1 else 4,
            captions=[caption for _, caption in thumbnails],
            title=f"{text}, {summary.pictures:,} pictures",
            cell=160 * wide,
        )
        out.parent.mkdir(parents=True, exist_ok=True)
        sheet = _explained(_explained(sheet, "boxes", summary.objects), "areas", summary.areas)
        # These are the pictures of the data, not of a model.
        save_png(sheet, out, record={NOTE: source.name}, mark=False)
        console().print(f"Contact sheet: {out}", markup=False)
    elif out is not None:
        raise UserError(f"there is no contact sheet, because none of the pictures of {source.name} can be read")
    return summary


def _check_free(out: Path, folder: Path) -> None:
    """Raise `UserError` if a sheet at `out` would replace something else, or be read as a picture of the folder."""
    # Where the name is, not where a link of that name leads: the link would be replaced.
    if Path(os.path.realpath(out.parent)).is_relative_to(os.path.realpath(folder)):
        raise UserError(f"{out} lies in {folder}, among the pictures; write the contact sheet elsewhere")
    if out.exists() and not _is_sheet(out):
        raise UserError(f"{out} is there and is no contact sheet; give another name, or remove it")


def _is_sheet(path: Path) -> bool:
    try:
        return NOTE in read_png(path).record
    except BadImage:
        return False


def _explained(sheet: PILImage.Image, what: str, weights: Mapping[str, float]) -> PILImage.Image:
    """With names and their colours below, if there are any.

    Args:
        weights: name of each class, in their order -> how much of it there is.
    """
    if not weights:
        return sheet
    names = list(weights)
    often = sorted(sorted(range(len(names)), key=lambda k: -weights[names[k]])[:EXPLAINED])
    more = [f"and {len(names) - len(often):,} more"] if len(names) > len(often) else []
    size = max(14, sheet.width // 60)
    font, line = ImageFont.load_default(size), round(1.6 * size)
    larger = PILImage.new("RGB", (sheet.width, sheet.height + (EXPLAINED + 3) * line), sheet.getpixel((0, 0)))
    larger.paste(sheet)
    pen, x, y = ImageDraw.Draw(larger), 2 * size, sheet.height
    for k, text in [(-1, f"{what}:"), *((k, _short(names[k], 40)) for k in often), *((-1, text) for text in more)]:
        square = line if k >= 0 else 0
        wide = square + round(font.getlength(text))
        if x > 2 * size and x + wide > sheet.width - 2 * size:
            x, y = 2 * size, y + line
        if k >= 0:
            pen.rectangle((x, y, x + size, y + size), fill=colour(k))
        pen.text((x + square, y + size // 2), text, INK, font, anchor="lm")
        x += wide + size
    return larger.crop((0, 0, sheet.width, y + line + size))


def _print(summary: Summary) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    readable = summary.pictures - len(summary.bad)
    sizes = [f"{w} x {h} ({n:,})" for (w, h), n in summary.sizes.items()]
    classes = [f"{name} ({n:,})" for name, n in sorted(summary.classes.items(), key=lambda item: -item[1])]
    rows = [
        ("pictures", f"{readable:,} readable of {summary.pictures:,}"),
        ("sizes", _listed(sizes) or "none"),
        ("smallest side", f"{summary.smallest_side} pixels; data.side should not be larger"),
        ("classes", f"{len(classes)}: {_listed(classes)}" if classes else f"none; {CLASSES}"),
        ("captions", _captions(summary)),
        ("objects", _objects(summary)),
        ("label maps", _areas(summary)),
        ("conditioning images", "for every picture" if summary.paired else f"none; {CONDITIONING_IMAGES}"),
        ("look the same", _listed(" = ".join(names) for names in summary.duplicates) or "none"),
        ("cannot be used", _listed((f"{name} ({why})" for name, why in summary.bad.items()), "\n") or "none"),
    ]
    for name, value in [*rows, *(("note", remark) for remark in summary.remarks)]:
        table.add_row(name, Text(value))
    console().print(table)


def _captions(summary: Summary) -> str:
    if not summary.captioned:
        return "none; a text file beside a picture (cat.png, cat.txt) or a metadata.jsonl would be read"
    share = f"{summary.captioned:,} of {summary.pictures:,} pictures, {summary.captions:,} different"
    return f"{share}; the longest: {_short(summary.longest)}"


def _objects(summary: Summary) -> str:
    if not summary.objects:
        return f"none; {OBJECTS}"
    counts = [f"{name} ({n:,})" for name, n in sorted(summary.objects.items(), key=lambda item: -item[1])]
    mean = sum(summary.objects.values()) / max(1, summary.pictures - len(summary.bad))
    return f"{len(counts)}: {_listed(counts)}; {mean:,.1f} boxes per picture, {summary.most_boxes:,} at most"


def _areas(summary: Summary) -> str:
    if not summary.areas:
        return f"none; {AREAS}"
    shares = [f"{name} ({share:.1%})" for name, share in sorted(summary.areas.items(), key=lambda item: -item[1])]
    unlabelled = 1 - sum(summary.areas.values())
    told = f"{len(shares)} areas: {_listed(shares)}"
    return f"{told}; {unlabelled:.1%} of the pixels without a label" if unlabelled > 5e-4 else told


def _listed(items: Iterable[str], separator: str = ", ") -> str:
    known = list(items)
    more = [f"and {len(known) - LISTED:,} more"] if len(known) > LISTED else []
    return separator.join([*(_short(item) for item in known[:LISTED]), *more])


def _short(text: str, length: int = 160) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
