"""Randomness of the tests: the seed that makes a failure reproducible, and the number of examples."""

from hypothesis import HealthCheck, Phase, settings

from tests.suite import chance

SEED = chance.SEED
LONG = 10 if chance.LONG else 1


def example_settings(number: int, *, steps: int = 50, shrink: bool = True) -> settings:
    """Return the settings for a number of examples; the long run has ten times as many.

    Parameters
    ----------
    number
        The number of examples in the short run.
    steps
        The number of steps of a state machine in one example.
    shrink
        Whether hypothesis minimizes a failing example.
    """
    return settings(
        max_examples=number * LONG,
        stateful_step_count=steps,
        phases=[Phase.generate, Phase.shrink] if shrink else [Phase.generate],
        database=None,
        derandomize=False,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
