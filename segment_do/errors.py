"""Every error the platform raises on purpose.

    SegmentDoError
    ├── InvalidRequest          the caller must change something            never retried
    │   ├── MalformedBody         the body is not what the endpoint takes
    │   ├── TooLarge              a documented limit was passed
    │   ├── InvalidEvent          one event breaks the contract; its neighbours go on
    │   ├── TokenRequestRefused   what asks for an access token breaks OAuth's rules
    │   └── QueryRefused          SQL that may not run, or does not bind
    ├── Unauthorized            no key, an unknown key, or a wrong token
    │   └── ClientRefused         who asks for an access token has not proven who it is
    ├── NotFound                the thing named does not exist
    ├── Conflict                it exists already, or changed meanwhile
    ├── Unavailable             try again later                             retried
    │   ├── Busy                  a bound was reached: back-pressure
    │   ├── RateLimited           one caller asks too often
    │   ├── StorageFailed         a write or a sync failed: nothing was acknowledged
    │   ├── NotReady              a component is still starting
    │   ├── QueryTimedOut         SQL ran past its limit
    │   └── SlowBody              a request's body did not arrive in time
    ├── OwnershipLost           another activation owns this file now       the loser stops
    ├── CorruptData             stored bytes do not check out               a human looks
    ├── SettingsError           a setting cannot be used
    └── PlatformNotRunning      no platform answers for this home

Each says what happened, to what, and what to do. One place turns them into HTTP
(``actors/ingress/answers.py``), one decides about retries (``destinations/retry.py``).
Messages never carry a write key, a token or a payload.
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "Busy",
    "ClientRefused",
    "Conflict",
    "CorruptData",
    "InvalidEvent",
    "InvalidRequest",
    "MalformedBody",
    "NotFound",
    "NotReady",
    "OwnershipLost",
    "PlatformNotRunning",
    "QueryRefused",
    "QueryTimedOut",
    "RateLimited",
    "SegmentDoError",
    "SettingsError",
    "SlowBody",
    "StorageFailed",
    "TokenRequestRefused",
    "TooLarge",
    "Unauthorized",
    "Unavailable",
]


class SegmentDoError(Exception):
    """Base of the tree.

    ``code`` is stable and meant for programs, ``message`` is a sentence for people,
    ``hint`` says what to do about it, ``retryable`` whether the same call may succeed later.
    """

    code: ClassVar[str] = "error"
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, hint: str = "", code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        if code is not None:
            self.code = code  # type: ignore[misc]  # a leaf's finer code, e.g. missing_event

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".rstrip()

    def __reduce__(self) -> tuple[object, ...]:
        # Errors cross process borders (actor replies); keyword-only arguments need this.
        return (_rebuild, (type(self), self.message, self.hint, self.code, self._extra()))

    def _extra(self) -> dict[str, object]:
        return {}


def _rebuild(
    kind: type[SegmentDoError], message: str, hint: str, code: str, extra: dict[str, object]
) -> SegmentDoError:
    error = kind.__new__(kind)
    SegmentDoError.__init__(error, message, hint=hint, code=code)
    error.__dict__.update(extra)
    return error


class InvalidRequest(SegmentDoError):
    """The caller has to change the request; sending it again gives the same answer."""

    code = "invalid_request"


class MalformedBody(InvalidRequest):
    """The body cannot be read as what this endpoint takes."""

    code = "malformed_body"


class TooLarge(InvalidRequest):
    """A limit that the documentation states was passed."""

    code = "too_large"


class InvalidEvent(InvalidRequest):
    """One event breaks the contract. It is set aside; its neighbours go on."""

    code = "invalid_event"


class QueryRefused(InvalidRequest):
    """The SQL may not run (not one SELECT), or the engine cannot bind it."""

    code = "query_refused"


class TokenRequestRefused(InvalidRequest):
    """A request for an access token breaks OAuth's rules; ``oauth_error`` is what RFC 6749 section 5.2 calls it."""

    code = "token_request_refused"

    def __init__(
        self, message: str, *, hint: str = "", code: str | None = None, oauth_error: str = "invalid_request"
    ) -> None:
        super().__init__(message, hint=hint, code=code)
        self.oauth_error = oauth_error

    def _extra(self) -> dict[str, object]:
        return {"oauth_error": self.oauth_error}


class Unauthorized(SegmentDoError):
    """No credentials, unknown ones, or the wrong kind."""

    code = "unauthorized"


class ClientRefused(Unauthorized):
    """Who asks for an access token has not proven to be a known app: RFC 6749 calls it ``invalid_client``."""

    code = "invalid_client"


class NotFound(SegmentDoError):
    """The thing named does not exist."""

    code = "not_found"


class Conflict(SegmentDoError):
    """The thing exists already, or is in use."""

    code = "conflict"


class Unavailable(SegmentDoError):
    """Nothing was stored; the same request may succeed after ``retry_after`` seconds."""

    code = "unavailable"
    retryable = True

    def __init__(self, message: str, *, hint: str = "", code: str | None = None, retry_after: int = 1) -> None:
        super().__init__(message, hint=hint, code=code)
        self.retry_after = retry_after

    def _extra(self) -> dict[str, object]:
        return {"retry_after": self.retry_after}


class Busy(Unavailable):
    """A queue is at its bound; the caller should slow down."""

    code = "busy"


class RateLimited(Unavailable):
    """This caller asks too often; others are served."""

    code = "rate_limited"


class StorageFailed(Unavailable):
    """A write or a sync failed (disk full, I/O error). Nothing of it was acknowledged."""

    code = "storage_failed"


class NotReady(Unavailable):
    """A component has not finished starting."""

    code = "not_ready"


class QueryTimedOut(Unavailable):
    """The query ran past its time limit and was stopped."""

    code = "query_timed_out"


class SlowBody(Unavailable):
    """The client did not send its whole body in time; nothing was stored."""

    code = "slow_body"


class OwnershipLost(SegmentDoError):
    """Another activation holds this file's lock, or has raised its epoch: stop, do not write."""

    code = "ownership_lost"


class CorruptData(SegmentDoError):
    """Stored bytes fail their checksum where no crash can explain it."""

    code = "corrupt_data"


class SettingsError(SegmentDoError):
    """A setting has a value that cannot be used."""

    code = "settings"


class PlatformNotRunning(SegmentDoError):
    """No platform answers for this home directory."""

    code = "platform_not_running"
