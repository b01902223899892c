"""How the test suite chooses, schedules and reports its tests: the hooks behind the root ``conftest.py``."""
