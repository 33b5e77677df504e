"""Which addresses a merchant may make us connect to: public ones, after every tunnel prefix is unwrapped.

The ranges are spelled out because Python's `is_global` and `is_private` changed their meaning between versions
(CVE-2024-4032). Sources: the IANA special-purpose address registries, RFC 6890, RFC 6052, RFC 8215.
"""

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

Address = IPv4Address | IPv6Address

_NEVER_V4 = tuple(
    map(
        IPv4Network,
        (
            "0.0.0.0/8",
            "100.64.0.0/10",
            "169.254.0.0/16",
            "192.0.0.0/24",
            "192.0.2.0/24",
            "192.88.99.0/24",
            "198.18.0.0/15",
            "198.51.100.0/24",
            "203.0.113.0/24",
            "224.0.0.0/4",
            "240.0.0.0/4",
            # A public address that answers only inside Azure machines, with their credentials.
            "168.63.129.16/32",
        ),
    )
)
_PRIVATE_V4 = tuple(map(IPv4Network, ("10.0.0.0/8", "127.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")))
_PRIVATE_V6 = tuple(map(IPv6Network, ("::1/128", "fc00::/7")))
_METADATA_V6 = IPv6Network("fd00:ec2::/32")
_GLOBAL_V6 = IPv6Network("2000::/3")
# Inside 2000::/3 but special: IETF protocol assignments (Teredo, among them, is unwrapped first), documentation.
_NEVER_V6 = tuple(map(IPv6Network, ("2001::/23", "2001:db8::/32", "3fff::/20")))
_NAT64 = IPv6Network("64:ff9b::/96")


def is_allowed(text: str, private: bool = False) -> bool:
    """True when we may connect to this address. `private` also lets loopback and private networks through."""
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return False
    if isinstance(address, IPv4Address):
        return _v4_allowed(address, private)
    inner = list(_wrapped(address))
    if inner:
        return all(_v4_allowed(one, private) for one in inner)
    return _v6_allowed(address, private)


def _v4_allowed(address: IPv4Address, private: bool) -> bool:
    if any(address in network for network in _NEVER_V4):
        return False
    return private or not any(address in network for network in _PRIVATE_V4)


def _v6_allowed(address: IPv6Address, private: bool) -> bool:
    if private and any(address in network for network in _PRIVATE_V6):
        return address not in _METADATA_V6
    return address in _GLOBAL_V6 and not any(address in network for network in _NEVER_V6)


def _wrapped(address: IPv6Address) -> Iterator[IPv4Address]:
    """The IPv4 addresses a packet to `address` may end at: mapped, 6to4, Teredo (server and client), NAT64.

    The local-use NAT64 prefix 64:ff9b:1::/48 and IPv4-compatible addresses lie outside 2000::/3 and fall there.
    """
    if address.ipv4_mapped is not None:
        yield address.ipv4_mapped
    if address.sixtofour is not None:
        yield address.sixtofour
    if address.teredo is not None:
        yield from address.teredo
    if address in _NAT64:
        yield IPv4Address(int(address) & 0xFFFFFFFF)
