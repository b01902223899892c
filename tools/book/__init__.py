"""The book: how the notebooks, the docs and the code become a site. `python tools/make_book.py` is the command."""
