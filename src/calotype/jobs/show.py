"""What a source of pictures holds, said in a table and, if wanted, shown on a contact sheet."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from calotype.console import console, counting
from calotype.data.folder import open_source
from calotype.data.images import to_tensor
from calotype.data.summary import Summary, summarize
from calotype.errors import UserError
from calotype.generation.images import grid, save_png

LISTED = 8
"""Sizes, classes, bad files and duplicates that are named; the rest is counted."""

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
        UserError: no such source, no pictures in it, or none for the sheet that can be read.
        DiskFull: no room for the sheet.
    """
    source = open_source(text)
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
        save_png(sheet, out, mark=False)  # these are the pictures of the data, not of a model
        console().print(f"Contact sheet: {out}", markup=False)
    elif out is not None:
        raise UserError(f"there is no contact sheet, because none of the pictures of {source.name} can be read")
    return summary


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
    return f"{len(counts)}: {_listed(counts)}; {mean:.1f} boxes per picture, {summary.most_boxes} at most"


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
