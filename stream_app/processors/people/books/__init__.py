"""One person's books: entries, ranks, due times, reviews, payouts, records."""

from stream_app.processors.people.books.booked import Booked, Mismatch
from stream_app.processors.people.books.bookkeeper import Bookkeeper, Gone, next_due

__all__ = ["Booked", "Bookkeeper", "Gone", "Mismatch", "next_due"]
