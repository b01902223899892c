"""How much is left to chance: the seed, so that what was found is found again, and the number of tries."""

from hypothesis import HealthCheck, Phase, settings

from tests.suite import chance

SEED = chance.SEED
LONG = 10 if chance.LONG else 1


def tries(number: int, *, steps: int = 50, shrink: bool = True) -> settings:
    """Say how often something is tried: ten times as often in the long run.

    Parameters
    ----------
    number
        Examples in the short run.
    steps
        Of a state machine, in one example.
    shrink
        Whether a failing example is made as small as it gets.
    """
    return settings(
        max_examples=number * LONG,
        stateful_step_count=steps,
        phases=[Phase.generate, Phase.shrink] if shrink else [Phase.generate],
        deadline=None,
        database=None,
        derandomize=False,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
