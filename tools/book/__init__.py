"""Build the book, a site made from the notebooks, the docs and the code: `python tools/make_book.py`."""
