"""One person's books: entries, ranks, due times, reviews, payouts, records."""

from stream_app.processors.people.books.booked import Booked, Mismatch
from stream_app.processors.people.books.bookkeeper import Bookkeeper, next_due
from stream_app.processors.people.books.said import Said

__all__ = ["Booked", "Bookkeeper", "Mismatch", "Said", "next_due"]
