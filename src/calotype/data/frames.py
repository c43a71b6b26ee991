"""In which pixels the boxes of a picture are counted: those its annotations speak of, or its own."""

from __future__ import annotations

from calotype.data.annotations import Size
from calotype.data.images import Header


def by(size: Size) -> str:
    """A size as people write it."""
    return f"{size[0]} x {size[1]}"


def same_shape(one: Size, other: Size) -> bool:
    """Whether both have one ratio of width to height, but for a pixel of rounding in `other`."""
    (w, h), (width, height) = one, other
    return abs(h - height * w / width) <= 1 or abs(w - width * h / height) <= 1


def scaled_alike(one: Size, other: Size) -> bool:
    """Whether one of the two may be the other, made smaller."""
    return same_shape(*sorted((one, other)))


def as_stored(frame: Size, header: Header) -> bool:
    """Whether a frame is of the picture as it is stored and not of the upright one."""
    if frame in (header.size, header.upright_size):
        return frame != header.upright_size
    return scaled_alike(frame, header.size) and not scaled_alike(frame, header.upright_size)


class Frames:
    """The frames of a source's pictures, and what is odd about those that were said.

    A picture that was made smaller or larger since may keep its boxes: they are counted in the size that is said. A
    size of another shape is taken for a mistake, and the boxes for pixels of the picture.
    """

    def __init__(self) -> None:
        self._seen = 0
        self._scaled: list[str] = []
        self._other: list[str] = []

    def __call__(self, told: Size | None, header: Header, name: str) -> Size | None:
        """The frame; None = the upright picture's size.

        Args:
            told: width and height by the annotations, if they say it.
            header: of the picture.
            name: names it to people.
        """
        self._seen += 1
        if told is None or told in (header.size, header.upright_size):
            return told
        fits = scaled_alike(told, header.upright_size) or scaled_alike(told, header.size)
        (self._scaled if fits else self._other).append(f"{name} is {by(header.upright_size)}, not {by(told)}")
        return told if fits else None

    @property
    def remarks(self) -> tuple[str, ...]:
        """What people should know."""
        told = (
            (self._scaled, "another size; boxes are taken to be counted in it"),
            (self._other, "a size of another shape; boxes are taken to be counted in the pictures' own pixels"),
        )
        return tuple(
            f"annotations give {len(odd):,} of {self._seen:,} pictures with boxes {what}: {odd[0]}"
            for odd, what in told
            if odd
        )
