"""Hosts run the engine: `kafka` under Faust on a real broker, `local` over an in-memory log."""
