"""Scenarios: failures to show live. Each is a file in ``lab-stack/scenarios/``; this package plays and heals it."""

from labstack.scenarios.model import Scenario, ScenarioStep, load_scenario, load_scenarios
from labstack.scenarios.player import Player, ScenarioReport

__all__ = ["Player", "Scenario", "ScenarioReport", "ScenarioStep", "load_scenario", "load_scenarios"]
