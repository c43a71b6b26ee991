"""Whoever reads the package's front page finds every member."""

import calotype.diffusion as diffusion
from calotype.registry import Registry


def test_every_member_of_every_registry_can_be_imported_from_the_package() -> None:
    registries = [value for value in vars(diffusion).values() if isinstance(value, Registry)]
    assert len(registries) >= 10
    for registry in registries:
        for name in registry:
            member = registry[name].__name__
            assert getattr(diffusion, member, None) is registry[name], f"{registry.kind} {name!r}: {member}"
            assert member in diffusion.__all__, member
