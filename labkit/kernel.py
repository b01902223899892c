"""The preparation of a notebook's kernel, by the first cell of each notebook."""

from __future__ import annotations

import pandas as pd
from IPython import get_ipython

from labkit.errors import attach, load_ipython_extension
from labstack import Lab
from labstack.clients import databases, http
from labstack.lifecycle.report import in_notebook


def prepare_kernel(lab: Lab | None = None) -> Lab:
    """Prepare the kernel for a notebook's cells, and return the lab that they use.

    Errors get a next step, and the learner's own connections and requests to the lab ignore what the environment sets
    for other programs, such as a proxy. Tables have the same width in every environment.

    Parameters
    ----------
    lab : Lab, optional
        A lab to use instead of the user's.
    """
    if in_notebook():  # the kernel may belong to another environment, which does not load the extension
        load_ipython_extension(get_ipython())
    _set_table_width()
    databases.ignore_libpq_variables()
    http.exempt_loopback()
    lab = lab or Lab()
    attach(lab)
    return lab


def _set_table_width() -> None:
    """Set a fixed width for tables, so that they look the same in every environment."""
    for option, value in {
        "display.width": 120,
        "display.max_columns": 20,
        "display.max_rows": 60,
        "display.max_colwidth": 100,
    }.items():
        pd.set_option(option, value)
