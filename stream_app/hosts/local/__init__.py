"""The engine over an in-memory log with the same transactional semantics: replay, tests, a demo without a broker."""
