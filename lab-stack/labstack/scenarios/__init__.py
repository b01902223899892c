"""Failures to show live: each a file in ``lab-stack/scenarios/``, played, proved and healed here."""

from labstack.scenarios.model import Scenario, Step, load_scenario, load_scenarios
from labstack.scenarios.player import Player, Report

__all__ = ["Player", "Report", "Scenario", "Step", "load_scenario", "load_scenarios"]
