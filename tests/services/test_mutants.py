"""The tests of the saga can fail: the state machine finds every deliberate defect and names it."""

import pytest

from tests.services.luck import example_settings
from tests.services.mutants import MUTANTS, seeded
from tests.services.oracle import Violated
from tests.services.test_machine import Saga, run_machine
from tests.services.world import World
from tests.suite.chance import short_sample

SEED = 7
"""A fixed seed, so that a mutant is caught in every run or in none."""


SLOW = ("offset committed first",)
"""Mutants whose violation takes up to two minutes to find."""


@pytest.mark.parametrize(
    "name", short_sample([name for name in MUTANTS if name not in SLOW], 3) + short_sample(SLOW, 0)
)
def test_a_mutant_is_caught(world: World, name: str) -> None:
    """The state machine finds a sequence of steps that violates an invariant of the mutant."""
    mutant = MUTANTS[name]
    with seeded(mutant, world), pytest.raises(Violated) as caught:
        run_machine(lambda: Saga(world, mutant.broker), SEED, example_settings(200, shrink=False))
    assert caught.value.invariant in mutant.violates


@pytest.mark.long
def test_no_violation_is_found_without_a_mutant(world: World) -> None:
    """Without a defect, the same machine finds no violation."""
    run_machine(lambda: Saga(world), SEED, example_settings(10, shrink=False))
