"""Find, download or build programs that no package registry ships, verify them, and keep them in the cache."""

from labstack.install.catalogue import Entry, entry, names
from labstack.install.finding import find_program
from labstack.install.installing import SOURCES, install
from labstack.install.store import Program

__all__ = ["SOURCES", "Entry", "Program", "entry", "find_program", "install", "names"]
