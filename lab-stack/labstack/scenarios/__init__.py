"""Scenarios: failures to show live. Each is a file in ``lab-stack/scenarios/``; this package plays and heals it."""

from labstack.scenarios.model import Scenario, Step, load_scenario, load_scenarios
from labstack.scenarios.player import Player, Report

__all__ = ["Player", "Report", "Scenario", "Step", "load_scenario", "load_scenarios"]
