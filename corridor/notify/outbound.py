"""The HTTP client for addresses that merchants choose: it cannot be turned against us (OWASP SSRF, ASVS 1.3.6).

The name is resolved once per attempt, every answer must be a public address, and the connection goes to the very
address that was checked, with SNI and certificate name of the host: a second DNS answer (rebinding) is never asked
for. No redirects, no proxies from the environment, no cookies, no connection kept, no body read; time is capped.
"""

import asyncio
import re
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from typing import Never

import httpx

from corridor.domain.failure import Refusal, Refused
from corridor.notify.addresses import is_allowed

URL_LIMIT = 2_048
CONNECT_SECONDS = 5.0
TOTAL_SECONDS = 15.0
ADDRESSES_TRIED = 3
NAMES_AT_ONCE = 64
"""Four merchants with silent name servers for each of their endpoints leave room for nobody else."""

Resolver = Callable[[str, int], Awaitable[Sequence[str]]]
"""(host, port) → addresses as text; raises `OSError` when the name has none."""

# Letters, digits, hyphens, at least two labels, the last one starting with a letter: no IP literal in any notation
# (dotted, decimal, hexadecimal, octal) passes, nor a bare intranet name. Unicode hosts arrive here as IDNA.
_PUBLIC_HOST = re.compile(
    r"(?=.{4,253}\Z)(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?"
)


class Trouble(StrEnum):
    """Why there was no HTTP answer; the words are shown to the merchant and name no address of ours."""

    ADDRESS_REFUSED = "address_refused"
    NAME_NOT_FOUND = "name_not_found"
    UNREACHABLE = "unreachable"
    TLS_FAILED = "tls_failed"
    TIMED_OUT = "timed_out"
    NOT_HTTP = "not_http"


class Undelivered(Exception):
    """No HTTP answer; the receiver may or may not have seen the message."""

    def __init__(self, trouble: Trouble) -> None:
        super().__init__(str(trouble))
        self.trouble = trouble


@dataclass(frozen=True)
class Answer:
    """What the receiver said."""

    status_code: int
    retry_after: str | None


@dataclass(frozen=True)
class Rules:
    """`private` is for the sandbox: http, any port, loopback and private networks. Live mode refuses to start so."""

    private: bool = False
    ports: frozenset[int] = frozenset({443})


def checked_url(text: str, rules: Rules) -> httpx.URL:
    """The URL, parsed by the parser that will also be used to connect.

    Raises `Refused(WEBHOOK_URL_NOT_ALLOWED)`; called when an endpoint is created and again at every attempt.
    """
    try:
        url = httpx.URL(text) if len(text) <= URL_LIMIT else _refuse("it is longer than 2048 characters")
    except httpx.InvalidURL:
        _refuse("it is not a URL")
    if url.scheme != "https" and not (rules.private and url.scheme == "http"):
        _refuse("it must start with https://")
    if url.userinfo:
        _refuse("it must not carry a user name or password")
    if not _host_allowed(url.raw_host.decode("ascii"), rules):
        _refuse("its host must be a public domain name")
    if not rules.private and _port(url) not in rules.ports:
        _refuse("its port must be 443")
    if not 0 < _port(url) < 65_536:
        _refuse("its port does not exist")
    return url


class SystemResolver:
    """The operating system's answers, looked up in threads of their own.

    A look-up cannot be interrupted: one whose name servers are silent keeps its thread for half a minute. In the loop's
    own threads that would hold up every connection of the process, to providers too; and each name is looked up once at
    a time, so that all the webhooks of one merchant wait for one thread.
    """

    def __init__(self, threads: int = NAMES_AT_ONCE) -> None:
        self._threads = ThreadPoolExecutor(threads, "webhook-names")
        self._under_way: dict[tuple[str, int], asyncio.Future[Sequence[str]]] = {}

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        """Without duplicates, in the system's order of preference. Raises `OSError`."""
        name = host, port
        if name not in self._under_way:
            looking = asyncio.get_running_loop().run_in_executor(self._threads, _look_up, host, port)
            self._under_way[name] = looking
            looking.add_done_callback(lambda done: self._is_done(name, done))
        # Whoever runs out of time leaves the look-up to the others who wait for it.
        return await asyncio.shield(self._under_way[name])

    def _is_done(self, name: tuple[str, int], done: asyncio.Future[Sequence[str]]) -> None:
        del self._under_way[name]
        if not done.cancelled():
            done.exception()  # asked for, also where nobody waits any more


def _look_up(host: str, port: int) -> Sequence[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class Outbound:
    """Posts bytes to merchants' URLs under `rules`. One instance serves a process; it keeps no state of attempts."""

    def __init__(
        self,
        rules: Rules,
        resolve: Resolver | None = None,
        tls: ssl.SSLContext | None = None,
        total_seconds: float = TOTAL_SECONDS,
    ) -> None:
        self._rules = rules
        self._resolve = resolve or SystemResolver()
        self._tls = tls or httpx.create_ssl_context(trust_env=False)
        self._total_seconds = total_seconds

    async def post(self, address: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Send `body` once. Raises `Undelivered` when there was no HTTP answer in time."""
        try:
            url = checked_url(address, self._rules)
        except Refused as refused:
            raise Undelivered(Trouble.ADDRESS_REFUSED) from refused
        try:
            async with asyncio.timeout(self._total_seconds):
                return await self._post_to_first(await self._addresses(url), url, headers, body)
        except TimeoutError as error:
            raise Undelivered(Trouble.TIMED_OUT) from error

    async def _addresses(self, url: httpx.URL) -> Sequence[str]:
        """Every address of the host; one that is not allowed condemns them all."""
        try:
            addresses = await self._resolve(url.raw_host.decode("ascii"), _port(url))
        except (OSError, UnicodeError) as error:
            raise Undelivered(Trouble.NAME_NOT_FOUND) from error
        if not addresses:
            raise Undelivered(Trouble.NAME_NOT_FOUND)
        if not all(is_allowed(one, self._rules.private) for one in addresses):
            raise Undelivered(Trouble.ADDRESS_REFUSED)
        return addresses[:ADDRESSES_TRIED]

    async def _post_to_first(
        self, addresses: Sequence[str], url: httpx.URL, headers: Mapping[str, str], body: bytes
    ) -> Answer:
        """Try the next address only while no connection was made: the message itself leaves at most once."""
        failure: Exception = OSError("no address")
        clock = asyncio.get_running_loop().time
        deadline = clock() + self._total_seconds
        for address in addresses:
            try:
                return await self._exchange(address, url, headers, body, deadline - clock())
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                failure = error
            except (httpx.HTTPError, OSError) as error:
                raise Undelivered(_trouble(error)) from error
        raise Undelivered(_trouble(failure)) from failure

    async def _exchange(
        self, address: str, url: httpx.URL, headers: Mapping[str, str], body: bytes, seconds: float
    ) -> Answer:
        """One request on a connection of its own to `address`: pooling by address would mix hosts' certificates."""
        request = httpx.Request(
            "POST",
            url.copy_with(host=address, fragment=None),
            headers={**headers, "host": url.netloc.decode("ascii"), "connection": "close"},
            content=body,
            extensions={
                "sni_hostname": url.raw_host.decode("ascii"),
                # TCP and TLS each have "connect": they end by themselves before the whole attempt is cancelled,
                # for httpcore forgets a socket that is cancelled in its handshake.
                "timeout": {
                    "connect": min(CONNECT_SECONDS, 0.45 * seconds),
                    "pool": seconds,
                    "read": seconds,
                    "write": seconds,
                },
            },
        )
        # The transport alone, without httpx.Client: nothing in it follows redirects, keeps cookies or reads proxies.
        async with httpx.AsyncHTTPTransport(verify=self._tls, trust_env=False, retries=0) as transport:
            response = await transport.handle_async_request(request)
            # The status is the answer. Whatever body follows is a merchant's to size, so none of it is read.
            await response.aclose()
        return Answer(response.status_code, response.headers.get("retry-after"))


def _trouble(error: Exception) -> Trouble:
    if _is_tls(error):
        return Trouble.TLS_FAILED
    if isinstance(error, httpx.TimeoutException):
        return Trouble.TIMED_OUT
    return Trouble.NOT_HTTP if isinstance(error, httpx.ProtocolError) else Trouble.UNREACHABLE


def _is_tls(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLError):
            return True
        error = error.__cause__ or error.__context__
    return False


def _host_allowed(host: str, rules: Rules) -> bool:
    if _PUBLIC_HOST.fullmatch(host):
        return True
    return rules.private and (host == "localhost" or is_allowed(host, private=True))


def _port(url: httpx.URL) -> int:
    return url.port if url.port is not None else (443 if url.scheme == "https" else 80)


def _refuse(why: str) -> Never:
    raise Refused(Refusal.WEBHOOK_URL_NOT_ALLOWED, f"this webhook URL is not allowed: {why}", pointer="/url")
