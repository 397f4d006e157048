"""People: who referred them, whom they refer, and what they are owed."""

from stream_app.processors.people.processor import PeopleProcessor

__all__ = ["PeopleProcessor"]
