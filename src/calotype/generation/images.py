"""Finished pictures: 8 bits, contact sheets, and PNG files that tell how they were made.

A PNG of ours carries three notes, all plain text:

    parameters    the line that other image tools read and write: wish, then "Steps: 20, Sampler: ..., Seed: 7"
    calotype      the same and more as JSON; `read_png` gives it back, so a picture can be made again
    XMP           IPTC DigitalSourceType = trainedAlgorithmicMedia: a machine can tell that no camera saw this
                  (https://cv.iptc.org/newscodes/digitalsourcetype/); `mark=False` leaves it out
"""

from __future__ import annotations

import bisect
import contextlib
import errno
import io
import json
import math
import os
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image as PILImage
from PIL import ImageDraw, ImageFont, PngImagePlugin
from torch import Tensor

from calotype import __version__
from calotype.errors import BadImage, DiskFull, UserError
from calotype.types import Image

GENERATED = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
_XMP = f"""<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:xmp="http://ns.adobe.com/xap/1.0/"
 xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
 xmp:CreatorTool="Calotype {__version__}" Iptc4xmpExt:DigitalSourceType="{GENERATED}"/>
</rdf:RDF></x:xmpmeta>
<?xpacket end="r"?>"""


# --- pixels -----------------------------------------------------------------------------------------------------------


def to_uint8(image: Image) -> Tensor:
    """[-1, 1] floats of any shape -> 0 ... 255, rounded and clamped; the one way a picture becomes 8 bits.

    Raises:
        UserError: a value is NaN, which has no colour.
    """
    if bool(image.isnan().any()):
        raise UserError("a picture holds NaN: the weights are broken, or guidance is too strong; try a smaller --scale")
    return image.detach().float().add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8)


def to_pil(image: Tensor) -> PILImage.Image:
    """One picture (3, H, W) in [-1, 1] as an 8-bit RGB image."""
    if image.ndim != 3 or image.shape[0] != 3:
        raise ValueError(f"one picture of shape (3, H, W) was expected, got {tuple(image.shape)}")
    return PILImage.fromarray(to_uint8(image).permute(1, 2, 0).cpu().numpy())


# --- contact sheets ---------------------------------------------------------------------------------------------------

_PAPER, _INK, _QUIET, _EDGE = "#faf9f7", "#1f2328", "#5d6470", "#e6e3de"


def grid(
    images: Image,
    *,
    columns: int | None = None,
    captions: Sequence[str] | None = None,
    title: str | None = None,
    cell: int = 160,
) -> PILImage.Image:
    """A contact sheet on light paper.

    Args:
        images: (N, 3, H, W) in [-1, 1]; N may be 0.
        columns: pictures per row; None chooses a sheet somewhat wider than high.
        captions: one text per picture, set below it in at most three lines.
        title: a line above all.
        cell: width in pixels that small pictures are enlarged to, by a whole factor; larger ones keep their pixels.

    Raises:
        ValueError: as many captions as pictures were expected.
    """
    n, _, height, width = images.shape
    if captions is not None and len(captions) != n:
        raise ValueError(f"{n} pictures need {n} captions, got {len(captions)}")
    columns = max(1, min(columns or _columns(n), n))
    factor = max(1, round(cell / width))
    w, h = width * factor, height * factor
    small, large = ImageFont.load_default(max(13, w // 12)), ImageFont.load_default(max(20, w // 7))
    gap, line = max(10, w // 9), round(_line_height(small) * 1.3)

    texts = [wrap(text, small, w) for text in captions] if captions is not None else [[] for _ in range(n)]
    rows = [texts[k : k + columns] for k in range(0, n, columns)]
    text_heights = [max(len(lines) for lines in row) * line + (gap // 3 if any(row) else 0) for row in rows]
    sheet_width = columns * w + (columns - 1) * gap + 4 * gap
    head = wrap(title, large, sheet_width - 4 * gap, lines=2) if title else []
    head_height = len(head) * round(_line_height(large) * 1.3) + (3 * gap // 2 if head else 0)
    sheet_height = head_height + sum(h + t + gap for t in text_heights) + 3 * gap

    sheet = PILImage.new("RGB", (sheet_width, sheet_height), _PAPER)
    draw = ImageDraw.Draw(sheet)
    y = 2 * gap
    for text in head:
        draw.text((2 * gap, y), text, _INK, large)
        y += round(_line_height(large) * 1.3)
    y += 3 * gap // 2 if head else 0
    for r, row in enumerate(rows):
        for c, lines in enumerate(row):
            x = 2 * gap + c * (w + gap)
            picture = to_pil(images[r * columns + c])
            if factor > 1:  # smooth, as any viewer enlarges
                picture = picture.resize((w, h), PILImage.Resampling.BICUBIC)
            draw.rectangle((x - 1, y - 1, x + w, y + h), outline=_EDGE)
            sheet.paste(picture, (x, y))
            for k, text in enumerate(lines):
                draw.text((x + w / 2, y + h + gap // 3 + k * line), text, _QUIET, small, anchor="ma")
        y += h + text_heights[r] + gap
    return sheet


def _columns(n: int) -> int:
    """About 1.5 times as many columns as rows, and no row with few pictures in it."""
    wish = math.sqrt(1.5 * n)
    return min(range(1, n + 1), key=lambda c: abs(math.log(c / wish)) + (-n % c) / c, default=1)


Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def wrap(text: str, font: Font, width: float, lines: int = 3) -> list[str]:
    """Break `text` into at most `lines` lines no wider than `width` pixels; what does not fit ends in "…"."""
    out: list[str] = []
    line = ""
    words = text.split()
    while words and len(out) <= lines:
        word = words.pop(0)
        together = f"{line} {word}".lstrip()
        if font.getlength(together) <= width:
            line = together
        elif line:
            out.append(line)
            line = ""
            words.insert(0, word)
        else:  # a single word wider than the line: cut it
            fits = max(1, bisect.bisect(range(1, len(word) + 1), width, key=partial(_beginning, font, word)))
            out.append(word[:fits])
            words[:0] = [word[fits:]] if word[fits:] else []
    out += [line] if line else []
    if len(out) > lines:
        last = out[lines - 1]
        while last and font.getlength(last + "…") > width:
            last = last[:-1]
        out = [*out[: lines - 1], last.rstrip(" ,.;:") + "…"]
    return out


def _beginning(font: Font, text: str, length: int) -> float:
    return font.getlength(text[:length])


def _line_height(font: Font) -> float:
    _, top, _, bottom = font.getbbox("Ág")
    return bottom - top


# --- notes in PNG files -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Parameters:
    """The note under the keyword "parameters", as image tools have agreed on it.

    Args:
        prompt: the wish, any number of lines.
        negative: what was to be avoided; pictures of other tools have it.
        settings: name -> value in order ("Steps", "Sampler", "CFG scale", "Seed", "Size", "Model hash", "Version").
    """

    prompt: str = ""
    negative: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)

    def text(self) -> str:
        """The note's text; values with a comma, colon or line break are quoted as JSON strings."""
        quoted = {
            k: json.dumps(v, ensure_ascii=False) if re.search(r'[,:\n"]', v) else v for k, v in self.settings.items()
        }
        lines = [
            self.prompt,
            f"Negative prompt: {self.negative}" if self.negative else "",
            ", ".join(f"{k}: {v}" for k, v in quoted.items()),
        ]
        return "\n".join(line for line in lines if line)

    @classmethod
    def parse(cls, text: str) -> Parameters:
        """The inverse of `text`. The last line holds settings if it looks like them; all values are strings."""
        lines = text.strip().split("\n")
        pairs = re.findall(r'\s*(\w[\w \-/]*):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)', lines[-1])
        settings = {}
        if len(pairs) >= 3 or (pairs and pairs[0][0] == "Steps"):
            lines.pop()
            settings = {name: _unquote(value.strip()) for name, value in pairs}
        prompt, _, negative = "\n".join(lines).partition("Negative prompt:")
        return cls(prompt.strip(), negative.strip(), settings)


def _unquote(value: str) -> str:
    if value.startswith('"'):
        with contextlib.suppress(json.JSONDecodeError):
            return str(json.loads(value))
    return value


@dataclass(frozen=True)
class Note:
    """What a PNG file says about itself.

    Args:
        parameters: the line that other tools understand.
        record: our JSON, {} if there is none.
        generated: whether the file is marked as made by a trained model.
    """

    parameters: Parameters
    record: Mapping[str, Any]
    generated: bool


def save_png(
    image: PILImage.Image | Tensor,
    path: Path | str,
    parameters: Parameters | None = None,
    record: Mapping[str, Any] | None = None,
    *,
    mark: bool = True,
) -> None:
    """Write a PNG file with its notes; the file appears whole or not at all.

    Args:
        image: a Pillow image, or a tensor (3, H, W) in [-1, 1].
        parameters, record: the notes; None leaves them out.
        mark: say in XMP that a trained model made the picture.

    Raises:
        DiskFull: no room.
    """
    notes = PngImagePlugin.PngInfo()
    if parameters is not None:
        notes.add_text("parameters", parameters.text())  # becomes iTXt by itself where Latin-1 does not suffice
    if record is not None:
        notes.add_text("calotype", json.dumps(record))
    if mark:
        notes.add_itxt("XML:com.adobe.xmp", _XMP)
    data = io.BytesIO()
    (to_pil(image) if isinstance(image, Tensor) else image).save(data, "PNG", pnginfo=notes)
    write_bytes(path, data.getvalue())


def read_png(path: Path | str) -> Note:
    """The notes of a PNG file, ours or another tool's; absent ones are empty.

    Raises:
        BadImage: the file is missing, no PNG, damaged, or its notes are unreasonably large.
    """
    try:
        with PILImage.open(path, formats=["PNG"]) as image:
            image.load()  # notes may stand behind the pixels
            texts = {k: v for k, v in image.info.items() if isinstance(v, str)}
    except FileNotFoundError as error:
        raise BadImage(f"there is no file {path}") from error
    except (OSError, ValueError, SyntaxError, PILImage.DecompressionBombError) as error:
        raise BadImage(
            f"{path} cannot be read as a PNG picture ({error}); give a file that `generate` wrote"
        ) from error
    try:
        record = json.loads(texts.get("calotype", "{}"))
    except (json.JSONDecodeError, RecursionError) as error:
        raise BadImage(f"the note 'calotype' in {path} is damaged ({error})") from error
    return Note(
        Parameters.parse(texts["parameters"]) if texts.get("parameters") else Parameters(),
        record if isinstance(record, dict) else {},
        GENERATED in texts.get("XML:com.adobe.xmp", ""),
    )


def write_bytes(path: Path | str, data: bytes) -> None:
    """Replace the file by `data`, whole or not at all. Raises `DiskFull`."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.tmp-{uuid.uuid4().hex[:12]}")
    try:
        with fresh.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(f"no room left to write {path}; free some space and try again") from error
        raise OSError(error.errno, error.strerror, str(path)) from error  # named as the caller named it
    finally:
        fresh.unlink(missing_ok=True)
