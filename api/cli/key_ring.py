"""`corridor keys`: rotate the key ring of an embedded installation."""

from collections.abc import Mapping

from api.cli import output
from api.cli.exit_codes import ExitCode
from corridor.runtime import keys, settings


def rotate(given: Mapping[str, object]) -> ExitCode:
    """Add a key and make it the current one; every process reads the ring when it starts."""
    loaded = settings.load(**given)
    if loaded.encryption_keys is not None:
        output.talk("corridor: the ring comes from CORRIDOR_ENCRYPTION_KEYS; rotate it where that is kept")
        return ExitCode.CONFLICT
    path = keys.ring_path(loaded)
    ring = keys.load(loaded).rotated() if path.exists() else keys.KeyRing.generate()
    keys.save(ring, path)
    output.talk(f"{path}: {', '.join(ring.keys)}; restart every process so that it seals with the new key")
    output.line(ring.current)
    return ExitCode.OK
