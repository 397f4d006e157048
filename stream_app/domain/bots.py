"""Programs that fetch pages, told from people by their user agent."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

from is_bot import Bots

from stream_app.domain.cache import BoundedCache

MAX_USER_AGENT = 512
"""What is behind is not looked at: programs name themselves early, and matching stays bounded in time."""

BotKind = Literal["", "bot", "ai_crawler", "data_centre"]


class BotDetector:
    """Says whether a user agent is a program's, and which kind.

    AI crawlers (training, search and on-demand fetchers of assistants) are told apart from other bots by our own
    table of name parts. `is_data_centre` is a hook for an address list of one's own: it is asked only when the user
    agent looks like a browser's and an address is given.
    """

    def __init__(
        self,
        ai_crawlers: Mapping[str, str],
        *,
        cache_size: int = 16_384,
        is_data_centre: Callable[[str], bool] | None = None,
    ) -> None:
        self._ai_crawlers = tuple((part.lower(), name) for part, name in ai_crawlers.items())
        self._bots = Bots()
        self._kinds: BoundedCache[str, BotKind] = BoundedCache(cache_size)
        self._is_data_centre = is_data_centre

    def is_bot(self, user_agent: str) -> bool:
        """True if a program sent it. An absent user agent is not held against anybody."""
        return bool(user_agent) and bool(self.kind(user_agent))

    def kind(self, user_agent: str, ip: str = "") -> BotKind:
        """Which kind of program; empty for people."""
        user_agent = user_agent[:MAX_USER_AGENT]
        kind = self._kinds.get(user_agent)
        if kind is None:
            kind = self._look(user_agent)
            self._kinds.put(user_agent, kind)
        if not kind and ip and self._is_data_centre is not None and self._is_data_centre(ip):
            return "data_centre"
        return kind

    def ai_crawler(self, user_agent: str) -> str:
        """The AI crawler's name; empty if it is none."""
        lowered = user_agent[:MAX_USER_AGENT].lower()
        for part, name in self._ai_crawlers:
            if part in lowered:
                return name
        return ""

    def _look(self, user_agent: str) -> BotKind:
        if not user_agent.strip() or user_agent == "-":
            return ""
        if self.ai_crawler(user_agent):
            return "ai_crawler"
        return "bot" if self._bots.is_bot(user_agent) else ""
