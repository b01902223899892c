"""A JupyterHub for a class: the chart's values, the learner's image, the progress service, and learners' pods."""
