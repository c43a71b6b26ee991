"""A folder of pictures.

The folder tells by its shape what it is:

* `metadata.jsonl` in it: one JSON object per line with "file_name", and optionally "caption" (or "text"), "label" (or
  "class"), "objects" (`{"bbox": [[x, y, width, height], ...], "categories": [...]}` in pixels), "label_map" and
  "conditioning_image" (names of files);
* `annotations.json`, `instances*.json` or `_annotations.coco.json`: COCO's boxes; the pictures are those it lists, in
  the folder or in `images/`. Of a folder `train2017` without one, `annotations/instances_train2017.json` beside it;
* pictures in subfolders only, two or more of them: one class per subfolder;
* otherwise plain pictures, wherever they lie.

What belongs to a picture may lie beside it: `cat.txt`, its caption, and `cat.labels.png`, its label map, beside
`cat.jpg`; or `label_maps/cat.png` and `conditioning_images/cat.png` for `images/cat.jpg`. `captions*.json` holds COCO's
captions and is looked for in the same places. Every picture has a label map, or none has; the same holds for
conditioning images.

Boxes, label maps and conditioning images are of the upright picture, or of the picture as it is stored: where EXIF lets
width and height change places, their size tells which. Boxes of a picture that was made smaller since are counted in
the size that COCO's file says.

Names that begin with a dot are passed over. Classes are in the order of their names; if all are numbers, in the order
of the numbers. Classes of COCO's boxes are in the order of their ids.
"""

from __future__ import annotations

import difflib
import hashlib
import operator
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image

from calotype.data.annotations import Annotated, Annotations, Sieve, Size, turned
from calotype.data.coco_files import BOXES, CAPTIONS, find_coco, parts_with_boxes
from calotype.data.found import Found
from calotype.data.frames import Frames, as_stored, by, same_shape
from calotype.data.images import FORMATS, MAX_PIXELS, SUFFIXES, Header, open_image, read_header
from calotype.data.label_maps import open_label_map, read_areas
from calotype.data.metadata import METADATA, read_metadata
from calotype.data.names import MAX_CAPTION, below, exists, inside, numbered, ordinary, printable, strange, tidy
from calotype.data.source import Record, Source
from calotype.errors import BadImage, UserError
from calotype.layout import Box

SKIPPED = "__MACOSX"
"""The folder of resource forks that some archives unpack to; its files have the suffixes of pictures."""

IMAGES, LABEL_MAPS, CONDITIONING_IMAGES = "images", "label_maps", "conditioning_images"
"""Folders beside one another."""
LABELS = ".labels.png"
"""The end of the name of a label map beside its picture."""


@dataclass(frozen=True)
class Entry:
    """A picture on disk, before it is decoded.

    Args:
        path: of the file.
        caption: "" if there is none.
        label: -1 if there is none.
        boxes: relative to `frame`.
        frame: width and height in which the boxes' pixels were counted, if that was said.
        label_map: a file.
        conditioning_image: a file.
    """

    path: Path
    caption: str
    label: int
    boxes: tuple[Box, ...] = ()
    frame: Size | None = None
    label_map: Path | None = None
    conditioning_image: Path | None = None


class FolderSource(Source):
    """The pictures of a folder, in the order of their names; of metadata.jsonl, in the order of its lines.

    Args:
        path: the folder; searched recursively, without following links to folders.
        max_pixels: larger pictures count as bad.

    Raises:
        UserError: no such folder, no pictures in it, or something written about them that makes no sense.
    """

    def __init__(self, path: Path | str, max_pixels: int = MAX_PIXELS) -> None:
        self.path = Path(path)
        self.name = printable(str(path))
        self._max_pixels = max_pixels
        if not exists(self.path):
            raise UserError(f"there is no folder {self.name[:200]}; name a folder of pictures, or embedded:NAME")
        if not self.path.is_dir():
            raise UserError(f"{self.path} is a file; name the folder that holds the pictures")
        found, self.objects, remarks = _found(self.path)
        if not found and (self.path / METADATA).is_file():
            raise UserError(f"{self.path / METADATA} is empty; fill it, or remove it to use the pictures without it")
        if not found:
            raise UserError(
                f"{self.path} holds no pictures; looked for {', '.join(SUFFIXES)} ({', '.join(FORMATS)}) in it and its "
                "subfolders"
            )
        labels = numbered(f.label for f in found if f.label is not None)
        self.classes = tuple(labels)
        frames, sieve, kinds = Frames(), Sieve(), {name: k for k, name in enumerate(self.objects)}
        self._entries = [_entry(f, labels, kinds, frames, sieve) for f in found]
        sieve.check()
        self.remarks = (*remarks, *frames.remarks, *sieve.remarks)
        maps = self._all_or_none([e.label_map for e in self._entries], "label map")
        self.areas = read_areas(self.path, maps) if maps else ()
        self.paired = bool(self._all_or_none([e.conditioning_image for e in self._entries], "conditioning image"))

    def _all_or_none(self, paths: Sequence[Path | None], noun: str) -> list[Path]:
        known = [path for path in paths if path is not None]
        if 0 < len(known) < len(paths):
            raise UserError(
                f"{len(known):,} of {len(paths):,} pictures of {self.name} have a {noun}, "
                f"{self.key(paths.index(None))} has none; give every picture one, or none"
            )
        return known

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, index: int) -> Record:
        entry, key = self._entries[index], self.key(index)
        image = open_image(entry.path, self._max_pixels)
        if not entry.boxes and entry.label_map is None and entry.conditioning_image is None:
            return Record(image, entry.caption, entry.label, key)
        header = read_header(entry.path, self._max_pixels)
        return Record(
            image,
            entry.caption,
            entry.label,
            key,
            _upright_boxes(entry, header),
            None if entry.label_map is None else self._label_map(entry.label_map, image, header),
            None if entry.conditioning_image is None else self._partner(entry.conditioning_image, image, header),
        )

    def _label_map(self, path: Path, image: Image.Image, header: Header) -> Image.Image:
        labels = _turned_alike(open_label_map(path, len(self.areas), self._max_pixels), header, operator.eq)
        if labels.size != image.size:
            raise BadImage(
                f"{printable(str(path))} is {by(labels.size)}, its picture {by(image.size)}; make the label map as "
                "large as the picture"
            )
        return labels

    def _partner(self, path: Path, image: Image.Image, header: Header) -> Image.Image:
        partner = _turned_alike(open_image(path, self._max_pixels), header, same_shape)
        if not same_shape(partner.size, image.size):
            raise BadImage(
                f"{printable(str(path))} is {by(partner.size)}, its picture {by(image.size)}; give both one shape"
            )
        return partner if partner.size == image.size else partner.resize(image.size, Image.Resampling.LANCZOS)

    def captions(self) -> Sequence[str]:
        return [e.caption for e in self._entries]

    def labels(self) -> Sequence[int]:
        return [e.label for e in self._entries]

    def key(self, index: int) -> str:
        return printable(str(self._entries[index].path.relative_to(self.path)))

    def fingerprint(self) -> str:
        h = hashlib.sha256()
        for e in self._entries:
            lines = f"{self._stamp(e.path)}|{e.caption}|{e.label}\n"
            if e.boxes:
                lines += f"{e.frame}|{[(b.label, b.x0, b.y0, b.x1, b.y1) for b in e.boxes]}\n"
            lines += "".join(f"{self._stamp(p)}\n" for p in (e.label_map, e.conditioning_image) if p is not None)
            h.update(lines.encode(errors="surrogatepass"))  # a name on disk need not be UTF-8
        if self.objects or self.areas:
            h.update(repr((self.objects, self.areas)).encode())
        return "folder-" + h.hexdigest()[:16]

    def _stamp(self, path: Path) -> str:
        stat = path.stat() if path.exists() else None
        size, time = (stat.st_size, stat.st_mtime_ns) if stat else (-1, -1)
        return f"{path.relative_to(self.path)}|{size}|{time}"


# --- what belongs to a picture --------------------------------------------------------------------------------------


def _entry(found: Found, labels: dict[str, int], kinds: dict[str, int], frames: Frames, sieve: Sieve) -> Entry:
    boxes: tuple[Box, ...] = ()
    frame = None
    if found.boxes:
        try:
            header = read_header(found.path)
            frame = frames(found.frame, header, printable(found.path.name))
            boxes = sieve(found.boxes, kinds, frame or header.upright_size)
        except BadImage:  # which is said when the picture is asked for
            boxes = ()
    label = -1 if found.label is None else labels[found.label]
    caption = _sidecar(found.path) if found.caption is None else found.caption
    return Entry(found.path, caption, label, boxes, frame, found.label_map, found.conditioning_image)


def _upright_boxes(entry: Entry, header: Header) -> tuple[Box, ...]:
    """Of the picture as `open_image` gives it; they may be of the picture as it is stored."""
    if header.turn is None or entry.frame is None or not as_stored(entry.frame, header):
        return entry.boxes
    return tuple(turned(box, header.turn) for box in entry.boxes)


def _turned_alike(image: Image.Image, header: Header, fits: Callable[[Size, Size], bool]) -> Image.Image:
    """What belongs to a picture, turned as the picture is if it fits the picture as stored and only so."""
    if header.turn is None or fits(image.size, header.upright_size) or not fits(image.size, header.size):
        return image
    return image.transpose(header.turn)


# --- what a folder holds ----------------------------------------------------------------------------------------------


def _found(folder: Path) -> tuple[list[Found], tuple[str, ...], list[str]]:
    """The pictures, the classes of their boxes, and remarks about what says nothing of any picture."""
    coco, told = find_coco(folder, BOXES), find_coco(folder, CAPTIONS)
    if ordinary(folder / METADATA):
        found = read_metadata(folder)
        named = numbered(box.category for f in found for box in f.boxes or ())
    else:
        found, named = _by_name(folder, None if coco is None else _listed(folder, coco)), {}
    if coco is not None:
        if any(f.boxes is not None for f in found):
            raise UserError(f"both {folder / METADATA} and a COCO file in {folder} have boxes; keep one of them")
        found = _with_boxes(folder, found, coco)
    if told is not None:
        captions = {_place(folder, p): p.captions[0] for p in told.pictures if p.captions}
        found = [replace(f, caption=captions.get(f.path)) if f.caption is None else f for f in found]
    found = [_with_companions(folder, f) for f in found]
    return found, tuple(named) if coco is None else coco.categories, [*_idle(folder, found, coco, told)]


def _idle(folder: Path, found: list[Found], coco: Annotations | None, told: Annotations | None) -> Iterator[str]:
    """Remarks about annotations that are there and say nothing of any picture."""
    if coco is None and told is None:
        yield from parts_with_boxes(folder)
    if coco is not None and not any(f.boxes for f in found):
        yield f"{coco.name} has no box of any picture (captions are read from {CAPTIONS[0]})"
    if told is not None and not any(f.caption for f in found):
        yield f"{told.name} has no caption of any picture"
    for file in (coco, told):
        if file is not None and file.repeated:
            yield f"{file.name}: {file.repeated:,} annotations have the id of an earlier one and are left out"
    for name, used in (
        (LABEL_MAPS, any(f.label_map for f in found)),
        (CONDITIONING_IMAGES, any(f.conditioning_image for f in found)),
    ):
        if (folder / name).is_dir() and not used:
            yield f"{name}/ holds nothing that belongs to a picture; {name}/cat.png would, to {IMAGES}/cat.jpg"
    odd = [text for f in found if f.caption is None and strange(text := f.path.with_suffix(".txt"))]
    if odd:
        yield f"{printable(odd[0].name)}{_more(odd)} is no ordinary file, so its picture has no caption"


def _more(names: Sequence[object]) -> str:
    return f" (and {len(names) - 1:,} more)" if len(names) > 1 else ""


def _place(folder: Path, picture: Annotated) -> Path:
    """Where a COCO file means a picture to be: in the folder, or in `images/`. Outside, if its name is absolute so."""
    if not picture.name:
        raise UserError(f"{picture.where} has no 'file_name'; write the name of its file")
    plain, within = below(folder, picture.name), folder / IMAGES / picture.name
    return within if not exists(plain) and exists(within) else plain


def _listed(folder: Path, coco: Annotations) -> list[Path]:
    root = folder.resolve()
    return [inside(folder, root, _name(folder, p), p.where) for p in coco.pictures]


def _name(folder: Path, picture: Annotated) -> str:
    path = _place(folder, picture)
    return str(path.relative_to(folder) if path.is_relative_to(folder) else path)


def _with_boxes(folder: Path, found: list[Found], coco: Annotations) -> list[Found]:
    known = {}
    for picture in coco.pictures:
        path = _place(folder, picture)
        if path in known:
            raise UserError(f"{picture.where}: {printable(picture.name)!r} is listed before; list every picture once")
        known[path] = picture
    return [replace(f, boxes=known[f.path].boxes, frame=known[f.path].size) if f.path in known else f for f in found]


def _by_name(folder: Path, listed: list[Path] | None) -> list[Found]:
    """Those listed, or all there are; subfolders are classes if there are two of them and no pictures beside."""
    base = _base(folder)
    pictures = _pictures(base) if listed is None else sorted(listed)
    parts = [p.relative_to(base if p.is_relative_to(base) else folder).parts for p in pictures]
    tops = [printable(p[0]) for p in parts]
    classed = all(len(p) > 1 for p in parts) and len(set(tops)) > 1
    return [Found(p, label=top if classed else None) for p, top in zip(pictures, tops, strict=True)]


def _base(folder: Path) -> Path:
    """Where the pictures are."""
    beside = [name for name in (LABEL_MAPS, CONDITIONING_IMAGES) if (folder / name).is_dir()]
    if not beside:
        return folder
    if not (folder / IMAGES).is_dir():
        raise UserError(f"{folder} has {beside[0]}/ but no {IMAGES}/; put the pictures that they belong to there")
    return folder / IMAGES


def _pictures(folder: Path) -> list[Path]:
    found: list[Path] = []
    for place, inner, names in os.walk(folder):
        inner[:] = [name for name in inner if not name.startswith(".") and name != SKIPPED]
        shown = [n for n in names if n.lower().endswith(SUFFIXES) and not n.startswith(".")]
        stems = {Path(n).stem for n in shown if not n.endswith(LABELS)}
        found += [Path(place, n) for n in shown if not (n.endswith(LABELS) and n.removesuffix(LABELS) in stems)]
    return sorted(p for p in found if p.is_file())


def _with_companions(folder: Path, found: Found) -> Found:
    """With the files that belong to it by their names."""
    path, images = found.path, folder / IMAGES
    labels, partners = [path.with_suffix(LABELS)], []
    if path.is_relative_to(images):
        inner = path.relative_to(images)
        if (folder / LABEL_MAPS).is_dir():
            labels.append((folder / LABEL_MAPS / inner).with_suffix(".png"))
        if (folder / CONDITIONING_IMAGES).is_dir():
            partners = [(folder / CONDITIONING_IMAGES / inner).with_suffix(suffix) for suffix in SUFFIXES]
    return replace(
        found,
        label_map=found.label_map or next((p for p in labels if p.is_file()), None),
        conditioning_image=found.conditioning_image or next((p for p in partners if p.is_file()), None),
    )


def _sidecar(path: Path) -> str:
    text = path.with_suffix(".txt")
    if not text.is_file():
        return ""
    with text.open("rb") as file:
        return tidy(file.read(MAX_CAPTION).decode("utf-8-sig", errors="replace"))


def open_source(text: str | Path) -> Source:
    """A source by name: a folder, or `embedded:NAME`; raises `UserError`."""
    from calotype.data.embedded import NAMES, embedded

    name = str(text)
    if not name.strip():
        raise UserError(f"no pictures are named; give a folder, or one of {', '.join(f'embedded:{n}' for n in NAMES)}")
    if name.startswith("embedded:"):
        return embedded(name.removeprefix("embedded:"))
    base, slash, split = name.removeprefix("embedded").lstrip(":/").partition("/")
    near = difflib.get_close_matches(base, NAMES, n=1, cutoff=0.7)
    if near and not exists(Path(name)):
        raise UserError(f"there is no folder {name}; did you mean 'embedded:{near[0]}{slash}{split}'?")
    return FolderSource(name)
