"""What Temporal's refusals are to an operator: a server that is away, a key it does not take, a namespace it has not."""

from temporalio.service import RPCError, RPCStatusCode

_REFUSES = {
    RPCStatusCode.PERMISSION_DENIED: "refuses these credentials",
    RPCStatusCode.UNAUTHENTICATED: "refuses these credentials",
    RPCStatusCode.NOT_FOUND: "does not know it",
    RPCStatusCode.FAILED_PRECONDITION: "does not do that now",
    RPCStatusCode.INVALID_ARGUMENT: "does not understand it",
    RPCStatusCode.UNIMPLEMENTED: "cannot do that",
}
_IN_WORDS = ("PermissionDenied", "Unauthenticated")
"""The client tells a refused connection in words only, as a `RuntimeError`."""


def trouble(error: RPCError | RuntimeError) -> str:
    """One line: whether Temporal is away or says no, with its own words."""
    first = str(error).partition("\n")[0]
    if isinstance(error, RPCError):
        if verb := _REFUSES.get(error.status):
            return f"Temporal {verb}: {error.message}"
    elif any(word in first for word in _IN_WORDS):
        return f"Temporal refuses these credentials: {first}"
    return f"Temporal cannot be reached: {first}"
