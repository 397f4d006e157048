"""Our reference tables: who is a search engine, a social network, a payment host …, as TOML files in `tables/`.

`load()` reads and validates them. Their form is documented in `docs/sources.md`.
"""

from stream_app.reference.loader import TableError, load, load_from

__all__ = ("TableError", "load", "load_from")
