"""The embedded sets: what they hold, and that taking one picture does not cost the whole set."""

import pytest

from calotype.data.embedded import PEOPLE, Fashion, Fluent, FluentConfig, PhotoCropsConfig, Photos
from calotype.errors import UserError


def test_fluent_has_the_categories_it_is_said_to_have() -> None:
    everything = Fluent()
    assert len(everything) == 2781 and len(everything.classes) == 8 and set(PEOPLE) <= set(everything.classes)
    people = Fluent(PEOPLE)
    assert people.classes == PEOPLE and set(people.labels()) == {0, 1}
    assert len(people) == sum(everything.classes[k] in PEOPLE for k in everything.labels())


def test_fluent_is_laid_on_the_background_asked_for() -> None:
    white, green = Fluent(), FluentConfig(background=(0, 255, 0)).open()
    corners = [source[0].image.getpixel((0, 0)) for source in (white, green)]
    assert corners == [(255, 255, 255), (0, 255, 0)] and white.fingerprint() != green.fingerprint()


def test_unknown_categories_suggest() -> None:
    with pytest.raises(UserError, match="did you mean 'People & Body'"):
        Fluent(["People and Body"])


def test_lists_are_made_once() -> None:
    for source in (Fluent(), Fashion(), Photos(3)):
        assert source.captions() is source.captions()


def test_photo_crops_are_square_and_always_the_same() -> None:
    source = PhotoCropsConfig(5).open()
    assert len(source) == 5 * len(Photos())
    for i in (0, 7, len(source) - 1):
        image = source[i].image
        assert image.width == image.height >= 96 and image.tobytes() == source[i].image.tobytes()
        assert source[i].caption == Photos().captions()[i // 5]
    assert source[0].image.tobytes() != source[1].image.tobytes()
    with pytest.raises(UserError, match="cannot have -1 crops"):
        Photos(-1)
