"""Faust's sticky co-partitioning assignor, for workers whose address changes from one life to the next."""

from __future__ import annotations

import logging
from typing import Any

from faust.assignor.client_assignment import ClientMetadata
from faust.assignor.partition_assignor import PartitionAssignor
from yarl import URL

log = logging.getLogger(__name__)


class Assignor(PartitionAssignor):  # type: ignore[misc]  # faust ships no usable types
    """A static member that comes back is given the assignment of its former life, with the address it had then.

    Faust asserts that the address is its own; the assertion would end the membership for good.
    """

    _given: URL | None = None

    @property
    def _url(self) -> URL:
        return self._given or self.app.conf.canonical_url

    def on_assignment(self, assignment: Any) -> None:
        former: str = ClientMetadata.loads(self._decompress(assignment.user_data)).url
        self._given = URL(former)
        try:
            super().on_assignment(assignment)
        finally:
            self._given = None
        own = str(self._url)
        if former != own:
            log.info("back as the member that was at %s; the others learn of %s at the next rebalance", former, own)
            known = self.external_topic_distribution  # type: ignore[has-type]
            self.external_topic_distribution = {own if url == former else url: topics for url, topics in known.items()}
