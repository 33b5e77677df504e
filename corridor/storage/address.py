"""The address of a database as operators and hosting platforms write it, in the terms of our drivers.

Platforms hand out addresses for libpq, `postgresql://user:password@host/name?sslmode=require`, where TLS is said in libpq's
words. The driver takes those only in an address of its own, so they travel in one; a word that nobody here understands is
refused at start, before a process fails on it or, worse, goes on without it.
"""

import ipaddress
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
"""libpq's, from none to the strictest (PostgreSQL's manual, 34.19.1); `prefer` is the default, and takes plain text too."""
ENCRYPTED = SSL_MODES[3:]
VERIFIED = SSL_MODES[4:]
_FOR_THE_DRIVER = ("sslmode", "sslrootcert", "sslcert", "sslkey", "application_name")
_FOR_SQLALCHEMY = ("host", "target_session_attrs")
_FILES = ("sslrootcert", "sslcert", "sslkey")
_SYSTEM = "system"
"""libpq's word for the certificate authorities that this machine trusts."""


class AddressRefused(ValueError):
    """Not an address that we understand whole; says why, without the password in it."""


@dataclass(frozen=True)
class Address:
    """One database: what SQLAlchemy connects to, and what only its driver is told."""

    url: URL
    words: Mapping[str, str]

    @property
    def is_sqlite(self) -> bool:
        """A file on this machine, not a server."""
        return self.url.get_backend_name() == "sqlite"

    @property
    def driver_arguments(self) -> dict[str, Any]:
        """For asyncpg: what is given in this way counts where the URL says nothing else."""
        return {"dsn": f"postgresql://?{urlencode(self.words)}"} if self.words else {}

    @property
    def is_private(self) -> bool:
        """Whether nobody on a network can read what is sent: encrypted, or it never leaves this machine."""
        return self.words.get("sslmode") in ENCRYPTED or all(map(_is_here, self._hosts()))

    def _hosts(self) -> list[str]:
        several = _every(self.url, "host")
        return [host.rpartition(":")[0] or host for host in several] or [self.url.host or ""]


def parse(text: str) -> Address:
    """Read an address of SQLite or PostgreSQL. Raises `AddressRefused`."""
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise AddressRefused("not an address; write postgresql://user:password@host/name") from None
    if url.get_backend_name() == "sqlite":
        return Address(url.set(drivername="sqlite"), {})
    if url.get_backend_name() not in ("postgresql", "postgres"):
        raise AddressRefused(f"{url.get_backend_name()} is not supported; use postgresql:// or sqlite:///")
    words = _words(url)
    rest = {name: url.query[name] for name in _FOR_SQLALCHEMY if name in url.query}
    return Address(url.set(drivername="postgresql+asyncpg", query=rest), words)


def _words(url: URL) -> dict[str, str]:
    """What only the driver is told, checked. `ssl` is asyncpg's own name for `sslmode`."""
    given = {("sslmode" if name == "ssl" else name): _every(url, name)[-1] for name in url.query}
    known = (*_FOR_SQLALCHEMY, *_FOR_THE_DRIVER)
    if unknown := sorted(given.keys() - set(known)):
        raise AddressRefused(
            f"{', '.join(unknown)} not understood here; leave it out. Understood are {', '.join(known)}"
        )
    words = {name: given[name] for name in _FOR_THE_DRIVER if name in given}
    mode = words.get("sslmode", "prefer")
    if mode not in SSL_MODES:
        raise AddressRefused(f"sslmode must be one of {', '.join(SSL_MODES)}")
    if mode in VERIFIED and "sslrootcert" not in words:
        raise AddressRefused(
            f"sslmode={mode} needs sslrootcert: the file of the authority that signed the server's certificate, or "
            f"{_SYSTEM} for those that this machine trusts"
        )
    if words.get("sslrootcert") == _SYSTEM:
        words["sslrootcert"] = ssl.get_default_verify_paths().cafile or _SYSTEM
    for name in _FILES:
        if name in words and not Path(words[name]).is_file():
            raise AddressRefused(f"{name}: there is no file {words[name]}")
    return words


def _every(url: URL, name: str) -> tuple[str, ...]:
    found = url.query.get(name, ())
    return (found,) if isinstance(found, str) else found


def _is_here(host: str) -> bool:
    """No host and a path both mean a socket of this machine."""
    if host in ("", "localhost") or host.startswith("/"):
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
