"""JupyterLab's launcher entries and a learner's copy of the course."""
