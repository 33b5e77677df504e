"""Addresses as platforms hand them out: TLS as libpq's words say it, and nothing that is not understood."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from sqlalchemy import Connection, text

from corridor.runtime.refused import SettingsRefused
from corridor.runtime.settings import load
from corridor.storage.address import SSL_MODES, AddressRefused, parse
from corridor.storage.database import Database, DatabaseUnavailable
from tests.unit.test_notify_tls import self_signed

_SSL_REQUEST_BYTES = 8


@contextlib.asynccontextmanager
async def behind_tls(url: str, certificate: Path) -> AsyncIterator[str]:
    """The server of `url` as a platform offers it: over TLS, on localhost."""
    direct = urlsplit(url)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(_SSL_REQUEST_BYTES)
        writer.write(b"S")
        with contextlib.suppress(ssl.SSLError, ConnectionError):
            await writer.start_tls(context)
            onward = await asyncio.open_connection(direct.hostname, direct.port)
            await asyncio.gather(_pass(reader, onward[1]), _pass(onward[0], writer))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    yield direct._replace(netloc=f"postgres@localhost:{port}").geturl()
    server.close()


async def _pass(source: asyncio.StreamReader, to: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while piece := await source.read(65536):
            to.write(piece)
            await to.drain()
    to.close()


def _one(connection: Connection) -> int:
    return int(connection.execute(text("SELECT 1")).scalar_one())


@pytest.mark.parametrize("words", ["sslmode=require", "ssl=require", "sslmode=verify-full&sslrootcert={ca}"])
async def test_a_platforms_address_is_spoken_over_tls(
    words: str, postgres_database: str, tmp_path: Path
) -> None:
    self_signed(tmp_path / "ca.pem", "localhost")
    async with behind_tls(postgres_database, tmp_path / "ca.pem") as url:
        database = Database(f"{url}?{words.format(ca=tmp_path / 'ca.pem')}")
        assert await database.read(_one) == 1
        await database.close()


@pytest.mark.parametrize("signed_for", ["localhost", "elsewhere.example"])
async def test_verify_full_refuses_another_authority_and_another_name(
    signed_for: str, postgres_database: str, tmp_path: Path
) -> None:
    self_signed(tmp_path / "server.pem", signed_for)
    self_signed(tmp_path / "other.pem", "localhost")
    trusted = tmp_path / ("other.pem" if signed_for == "localhost" else "server.pem")
    async with behind_tls(postgres_database, tmp_path / "server.pem") as url:
        database = Database(f"{url}?sslmode=verify-full&sslrootcert={trusted}")
        with pytest.raises(DatabaseUnavailable):
            await database.read(_one)
        await database.close()


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("mysql://db/corridor", "mysql is not supported"),
        ("db.example", "not an address"),
        ("postgresql://db:port/corridor", "not an address"),
        ("postgresql://u:canary@db/c?sslmode=always", "sslmode must be one of disable, allow"),
        ("postgresql://u:canary@db/c?channel_binding=canary", "channel_binding not understood"),
        ("postgresql://u:canary@db/c?sslmode=verify-full", "needs sslrootcert"),
        ("postgresql://u:canary@db/c?sslmode=verify-ca&sslrootcert=/nowhere/ca", "no file /nowhere/ca"),
    ],
)
def test_what_is_not_understood_is_refused_at_start_without_the_password(address: str, why: str) -> None:
    with pytest.raises(SettingsRefused, match=f"DATABASE_URL: .*{why}") as refusal:
        load(database_url=address)
    assert "canary" not in str(refusal.value)


def test_this_machines_authorities_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "all.pem").touch()
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "all.pem"))
    address = parse("postgresql://db/corridor?sslmode=verify-full&sslrootcert=system")
    assert address.words["sslrootcert"] == str(tmp_path / "all.pem")


@pytest.mark.parametrize("mode", SSL_MODES)
def test_only_tls_that_is_required_is_private(mode: str, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").touch()
    address = parse(f"postgresql://db/corridor?sslmode={mode}&sslrootcert={tmp_path / 'ca.pem'}")
    assert address.is_private is (mode in ("require", "verify-ca", "verify-full"))


def test_an_address_that_is_refused_says_so_to_every_caller() -> None:
    with pytest.raises(AddressRefused):
        Database("postgresql://db/corridor?unheard_of=1")
