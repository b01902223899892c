"""Select, schedule and report the tests: the code behind the hooks of the root ``conftest.py``."""
