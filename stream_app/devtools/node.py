"""What can be done to one broker of a cluster, whatever runs it."""

from __future__ import annotations

from abc import ABC, abstractmethod


class BrokerError(Exception):
    """A broker that should run does not. The message says what to look at."""


class NoBroker(BrokerError):
    """No way to a broker on this machine. The message says how to get one."""


class Node(ABC):
    """One broker. Every method returns only when what it did is true."""

    id: int
    address: str
    """host:port for clients; stays the same over restarts."""

    @property
    @abstractmethod
    def alive(self) -> bool:
        """Whether its process runs (a paused one does)."""

    @abstractmethod
    def stop(self) -> None:
        """Ends it in order: leadership moves away first."""

    @abstractmethod
    def kill(self) -> None:
        """SIGKILL: what a crash looks like."""

    @abstractmethod
    def start(self) -> None:
        """Starts it again with the data it had, and waits until it answers."""

    @abstractmethod
    def pause(self) -> None:
        """SIGSTOP: a hung machine."""

    @abstractmethod
    def resume(self) -> None:
        """Ends a pause."""
