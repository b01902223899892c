"""Sphinx's settings for the book. tools/make_book.py gathers the sources and calls Sphinx on them."""

project = "Saga Lab"
author = "the Saga Lab project"
copyright = "the Saga Lab project, Apache-2.0"
language = "en"

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton", "tools.book.mathml"]
smartquotes = False  # they would turn --json into –json

# The notebooks are shown as they were saved.
nb_execution_mode = "off"
myst_heading_anchors = 3
myst_enable_extensions = ["dollarmath"]
html_math_renderer = "mathml"

autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_type_aliases = {  # types with limits, which the text of each parameter describes
    **dict.fromkeys(("Seconds", "Positive", "Portion"), "float"),
    **dict.fromkeys(("Count", "Times", "AtOnce", "Partitions", "Requests"), "int"),
    "Text": "str",
    "Rate": "float | None",
}
napoleon_google_docstring = False
napoleon_use_rtype = False
python_maximum_signature_line_length = 90

html_theme = "furo"
html_title = "Saga Lab"
html_static_path = ["static"]
html_css_files = ["book.css"]
html_show_sourcelink = False
html_copy_source = False
html_show_sphinx = False
pygments_style = "friendly"
pygments_dark_style = "github-dark"
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#1b7a3d", "color-brand-content": "#1b6f8f"},
    "dark_css_variables": {"color-brand-primary": "#7fd19b", "color-brand-content": "#7cc4e0"},
}
