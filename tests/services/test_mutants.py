"""The tests of the saga can fail: whatever is done wrong on purpose, the state machine finds it and names it."""

import pytest

from tests.services.luck import tries
from tests.services.mutants import MUTANTS, seeded
from tests.services.oracle import Violated
from tests.services.test_machine import Saga, play
from tests.services.world import World

SEED = 7
"""Always the same, so that a mutant isn't caught on one day and missed on another."""


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_is_caught(world: World, name: str) -> None:
    """The state machine finds a sequence of steps after which the invariant that belongs to the mutant is violated."""
    mutant = MUTANTS[name]
    with seeded(mutant, world), pytest.raises(Violated) as caught:
        play(lambda: Saga(world, mutant.broker), SEED, tries(60, shrink=False))
    assert caught.value.invariant in mutant.violates


def test_without_a_mutant_nothing_is_found(world: World) -> None:
    """The same steps violate nothing where nothing is wrong."""
    play(lambda: Saga(world), SEED, tries(10, shrink=False))
