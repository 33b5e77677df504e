"""Over TLS the certificate must be the host's, although the connection goes to a bare address."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import pytest_asyncio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from corridor.notify.outbound import Outbound, Rules, Trouble, Undelivered


def self_signed(path: Path, host: str) -> None:
    """A self-signed certificate of `host` and its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    encoding, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    path.write_bytes(
        key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, plain)
        + certificate.public_bytes(encoding)
    )


class Shop:
    """A TLS receiver with a certificate for shop.example, noting the server name each client asks for."""

    def __init__(self, path: Path) -> None:
        self.path, self.port = path, 0
        self.asked: list[str | None] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    def client(self) -> Outbound:
        async def resolve(host: str, port: int) -> Sequence[str]:
            return ["127.0.0.1"]

        trust = ssl.create_default_context(cafile=str(self.path))
        return Outbound(Rules(private=True), resolve, trust)


@pytest_asyncio.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    shop = Shop(tmp_path / "shop.pem")
    self_signed(shop.path, "shop.example")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(shop.path)
    tls.sni_callback = lambda _socket, name, _context: shop.asked.append(name)
    server = await asyncio.start_server(shop.serve, "127.0.0.1", 0, ssl=tls)
    shop.port = server.sockets[0].getsockname()[1]
    yield shop
    server.close()


async def test_the_host_is_asked_for_and_its_certificate_accepted(shop: Shop) -> None:
    answer = await shop.client().post(f"https://shop.example:{shop.port}/", {}, b"{}")
    assert (answer.status_code, shop.asked) == (200, ["shop.example"])


async def test_a_certificate_of_another_host_is_refused(shop: Shop) -> None:
    with pytest.raises(Undelivered) as undelivered:
        await shop.client().post(f"https://other.example:{shop.port}/", {}, b"{}")
    assert undelivered.value.trouble is Trouble.TLS_FAILED
