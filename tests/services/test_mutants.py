"""The tests of the saga can fail: the state machine finds every deliberate defect and names it."""

import pytest

from tests.services.luck import tries
from tests.services.mutants import MUTANTS, seeded
from tests.services.oracle import Violated
from tests.services.test_machine import Saga, play
from tests.services.world import World

SEED = 7
"""A fixed seed, so that a mutant is caught in every run or in none."""


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_is_caught(world: World, name: str) -> None:
    """The state machine finds a sequence of steps that violates an invariant of the mutant."""
    mutant = MUTANTS[name]
    with seeded(mutant, world), pytest.raises(Violated) as caught:
        play(lambda: Saga(world, mutant.broker), SEED, tries(60, shrink=False))
    assert caught.value.invariant in mutant.violates


def test_without_a_mutant_nothing_is_found(world: World) -> None:
    """Without a defect, the same machine finds no violation."""
    play(lambda: Saga(world), SEED, tries(10, shrink=False))
