"""The key ring: AES-256 keys by id, one of them current. New data is sealed with the current key only.

As JSON: `{"current": "k2", "keys": {"k1": "<base64 of 32 bytes>", "k2": "…"}}`. A key stays in the ring for
as long as anything sealed under it must be readable: histories (the namespace's retention, then the archive), what
providers sent, which the database keeps, and the secrets of merchants' webhook endpoints, which live as long as the
endpoint. Nothing is sealed again under a newer key, so in practice a key is never taken out.
"""

import base64
import json
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from corridor.runtime.refused import SettingsRefused
from corridor.runtime.settings import Settings, read_secret

KEY_BYTES = 32


@dataclass(frozen=True)
class KeyRing:
    """Keys by id and the id of the one that seals. The keys themselves are kept out of `repr`."""

    current: str
    keys: dict[str, bytes] = field(repr=False)

    def __post_init__(self) -> None:
        if self.current not in self.keys:
            raise SettingsRefused(f"key ring: the current key {self.current!r} is not in the ring")
        if short := sorted(key_id for key_id, key in self.keys.items() if len(key) != KEY_BYTES):
            raise SettingsRefused(f"key ring: not {KEY_BYTES} bytes long: {', '.join(short)}")

    @classmethod
    def generate(cls) -> "KeyRing":
        """A ring of one fresh key, `k1`."""
        return cls("k1", {"k1": secrets.token_bytes(KEY_BYTES)})

    @classmethod
    def parse(cls, text: str) -> "KeyRing":
        """Read the JSON form. Raises `SettingsRefused`; the text itself is never quoted in the error."""
        try:
            document = json.loads(text)
            keys = {str(k): base64.b64decode(v, validate=True) for k, v in document["keys"].items()}
            return cls(str(document["current"]), keys)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise SettingsRefused('key ring: expected {"current": id, "keys": {id: base64}}') from None

    def extended(self) -> tuple[str, "KeyRing"]:
        """The id of one more key and the ring with it, which seals as before: what a fleet must have first."""
        taken = [int(k[1:]) for k in self.keys if k[:1] == "k" and k[1:].isdigit()]
        key_id = f"k{max(taken, default=0) + 1}"
        return key_id, KeyRing(self.current, {**self.keys, key_id: secrets.token_bytes(KEY_BYTES)})

    def using(self, key_id: str) -> "KeyRing":
        """The same keys, sealing with this one. Raises `SettingsRefused` for a key that is not in the ring."""
        return KeyRing(key_id, self.keys)

    def rotated(self) -> "KeyRing":
        """The same ring with one more key, which becomes the current one."""
        key_id, ring = self.extended()
        return ring.using(key_id)

    def render(self) -> str:
        """The JSON form."""
        keys = {key_id: base64.b64encode(key).decode() for key_id, key in self.keys.items()}
        return json.dumps({"current": self.current, "keys": keys}, indent=2) + "\n"


def ring_path(settings: Settings) -> Path:
    """Where the embedded installation keeps its ring."""
    return settings.data_dir / "keyring.json"


def load(settings: Settings) -> KeyRing:
    """The ring of `CORRIDOR_ENCRYPTION_KEYS` (or `…_FILE`), else the data directory's. Raises `SettingsRefused`."""
    if settings.encryption_keys is not None:
        return KeyRing.parse(settings.encryption_keys.get_secret_value())
    return KeyRing.parse(read_secret(ring_path(settings)))


def load_or_generate(settings: Settings) -> KeyRing:
    """`load`, and on the first start of an embedded installation a new ring, kept with mode 0600.

    Raises `SettingsRefused` where an installation that was started before has none: a new one would open nothing.
    """
    if settings.encryption_keys is None and not ring_path(settings).exists():
        require_not_lost(settings)
        save(KeyRing.generate(), ring_path(settings))
    return load(settings)


def require_not_lost(settings: Settings) -> None:
    """Raises `SettingsRefused` where the embedded installation's ring is missing and its histories are there."""
    if not ring_path(settings).exists() and settings.temporal_store.exists():
        raise SettingsRefused(
            f"the key ring {ring_path(settings)} is missing, and {settings.data_dir} holds histories that are sealed "
            "with it. Nothing was started or made. Put the ring back from where you keep its copy; or begin anew with "
            "another data directory"
        )


def save(ring: KeyRing, path: Path) -> None:
    """Replace the file at once, so that a crash leaves the old ring or the new one, never half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{os.getpid()}.new")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(ring.render())
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
