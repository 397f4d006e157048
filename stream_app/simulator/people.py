"""The people of the simulated town. Nobody is stored: a number and a seed say everything about a person."""

from __future__ import annotations

from stream_app.engine.partitioning import murmur2
from stream_app.simulator.site import DESKTOPS, FIRST_NAMES, LAST_NAMES, PHONES

_MASK = 0xFFFFFFFFFFFFFFFF


def mix(number: int) -> int:
    """A 64-bit number that looks random. Source: the finaliser of SplitMix64."""
    number = (number + 0x9E3779B97F4A7C15) & _MASK
    number = ((number ^ (number >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    number = ((number ^ (number >> 27)) * 0x94D049BB133111EB) & _MASK
    return number ^ (number >> 31)


class Device:
    """A browser or app of a person: one client id, one user agent, one address."""

    __slots__ = ("app", "client_id", "ip", "place", "user_agent")

    def __init__(self, traits: int, number: int) -> None:
        """`traits` are the person's, `number` is 0 for the everyday device and 1 for the other one."""
        own = mix(traits + number)
        self.client_id = b"%016x" % own
        self.place = murmur2(self.client_id) & 0x7FFFFFFF
        phone = (traits + number) % 5 < 3
        self.app = phone and own % 100 < 9
        choice = PHONES if phone else DESKTOPS
        self.user_agent = choice[own % 16 % len(choice)]
        self.ip = b"%d.%d.%d.%d" % ((85, 87, 91, 213)[own & 3], own >> 8 & 255, own >> 16 & 255, own >> 24 & 253 | 1)


class Person:
    """What never changes about person number `index`."""

    __slots__ = ("index", "registered", "second_device", "traits")

    def __init__(self, seed: int, index: int) -> None:
        traits = self.traits = mix(mix(seed) ^ index)
        self.index = index
        self.registered = traits % 100 < 22
        """Has an account, and logs in now and then."""
        self.second_device = traits // 100 % 100 < 25
        """Uses the phone and the laptop: two client ids that only a login ties together."""

    def device(self, other: bool) -> Device:
        return Device(self.traits, int(other and self.second_device))

    @property
    def user_id(self) -> bytes:
        return b"u%d" % self.index

    @property
    def contact(self) -> tuple[bytes, bytes, bytes]:
        """Name, e-mail, phone: none of them anybody's."""
        first, last = FIRST_NAMES[(self.traits >> 8 & 0xFF) % 10], LAST_NAMES[(self.traits >> 16 & 0xFF) % 9]
        email = b"%b.%b%d@example.%b" % (
            first.lower(),
            last.lower(),
            self.index,
            (b"com", b"org", b"net")[self.traits % 3],
        )
        return first + b" " + last, email, b"+3712%07d" % (self.traits % 10_000_000)
