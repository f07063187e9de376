"""A profile as a program asks for it: `await tom.profile("user_id:u1").traits()`, or `.traits().wait()` without an event loop.

Nothing is asked before an answer is awaited or waited for, and then once; what comes is kept nowhere. The platform is found, and the admin token,
as agents' handles find them. httpx is loaded by the first question.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping
from typing import Any, Final, Generic, TypeVar
from urllib.parse import quote

import msgspec

from segment_do.errors import InvalidRequest, NotFound, PlatformNotRunning, SegmentDoError
from segment_do.sdk.answers import refusal
from segment_do.sdk.source import Place
from segment_do.sdk.transport import Answer as HttpAnswer
from segment_do.sdk.transport import HttpTransport, TransportFailed

__all__ = ["Answer", "Profile"]

_ANSWER_SECONDS: Final = 30.0
_MAX_ANSWER_BYTES: Final = 64 * 2**20
"""A profile may hold thousands of traits."""

T = TypeVar("T")


class Answer(Generic[T]):
    """What a question gives back: ``await`` it on an event loop, or :meth:`wait` on any thread. Each time asks anew."""

    __slots__ = ("_ask",)

    def __init__(self, ask: Callable[[float], T]) -> None:
        self._ask = ask

    def wait(self, timeout: float = _ANSWER_SECONDS) -> T:
        """Ask and block until the answer is there; ``timeout`` in seconds.

        Raises:
            NotFound: nobody has that id, or the identity was never seen.
            Unavailable: not now; the same may succeed later.
            SegmentDoError: whatever else the platform said.
        """
        return self._ask(timeout)

    def __await__(self) -> Generator[Any, None, T]:
        import asyncio  # whoever awaits has it already; whoever does not need not pay for it

        return asyncio.to_thread(self._ask, _ANSWER_SECONDS).__await__()


class Profile:
    """One person or account, by one of its ids (``type:value``) or by its profile id."""

    def __init__(self, identity: str, external_id: str, place: Place) -> None:
        """
        Raises:
            InvalidRequest: the id is neither.
        """
        kind, colon, value = external_id.partition(":") if isinstance(external_id, str) else ("", ":", "")
        if (colon and not (kind and value)) or (not colon and not external_id.startswith(("use_", "acc_"))):
            raise InvalidRequest("A profile is named by one of its ids, as in user_id:u1, or by its profile id.")
        self.identity = identity
        self.external_id = external_id
        self._place = place

    def traits(self) -> Answer[dict[str, Any]]:
        """Name to value."""
        return Answer(lambda seconds: dict(self._profile(seconds)["traits"]))

    def external_ids(self) -> Answer[list[dict[str, str]]]:
        """``[{"type", "id"}, …]``, the one that names the profile first."""
        return Answer(lambda seconds: list(self._profile(seconds)["externalIds"]))

    def events(self, limit: int = 10) -> Answer[list[dict[str, Any]]]:
        """The newest events of the last 14 days, at most 100, as the Profile API tells them."""
        return Answer(lambda seconds: list(self._asked(seconds, "events", id=self.external_id, limit=limit)["events"]))

    def links(self) -> Answer[list[dict[str, Any]]]:
        """The accounts of a person, or the people of an account: ``[{"to_collection", "external_ids"}, …]``."""
        return Answer(lambda seconds: list(self._asked(seconds, "links", id=self.external_id)["links"]))

    def why(self, other: str) -> Answer[list[dict[str, Any]] | None]:
        """The shortest chain of events that makes this id and another (or a profile id) one profile; None where they are not one."""
        query = {"from": self.external_id, "to": other}
        return Answer(lambda seconds: self._asked(seconds, "why", **query)["chain"])

    def history(self) -> Answer[list[dict[str, Any]]]:
        """What made the profile: ``[{"edge", "joined", "leftOut", "merged"}, …]``."""
        return Answer(lambda seconds: list(self._asked(seconds, "history", id=self.external_id)["steps"]))

    def trait_history(self, name: str) -> Answer[list[dict[str, Any]]]:
        """The values that a trait had, the newest first, at most ten: ``[{"value", "timestamp", "messageId", "sourceId"}, …]``, of each the
        last event that set it. Empty where the profile never had the trait.
        """

        def ask(seconds: float) -> list[dict[str, Any]]:
            traits = self._asked(seconds, "trait-history", id=self.external_id, name=name)["traits"]
            return [value for each in traits for value in each["values"]]

        return Answer(ask)

    def __repr__(self) -> str:
        return f"<Profile {self.external_id!r} of {self.identity!r}>"

    def _profile(self, seconds: float) -> dict[str, Any]:
        return self._get(f"/api/profiles/{_part(self.identity)}/{_part(self.external_id)}", seconds)

    def _asked(self, seconds: float, question: str, **query: str | int) -> dict[str, Any]:
        asked = "&".join(f"{name}={_part(str(value))}" for name, value in query.items())
        return self._get(f"/api/identities/{_part(self.identity)}/{question}?{asked}", seconds)

    def _get(self, path: str, seconds: float) -> dict[str, Any]:
        url, headers = self._place.address(), {"Authorization": f"Bearer {self._place.admin_token()}"}
        answer = _fetch(url, path, headers, seconds)
        refused = refusal(answer, time.time())
        try:
            found = msgspec.json.decode(answer.body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            found = None
        if refused is not None:
            if isinstance(refused.error, NotFound) and isinstance(found, dict) and found.get("code") == "not_found":
                raise NotFound(refused.error.message)  # by the platform: its address is right
            raise refused.error
        if not isinstance(found, dict):
            raise PlatformNotRunning(f"What answers at {url} is not the platform.")
        return found


def _fetch(url: str, path: str, headers: Mapping[str, str], seconds: float) -> HttpAnswer:
    transport = HttpTransport()  # of this thread alone
    try:
        return transport.get(url + path, headers, seconds, _MAX_ANSWER_BYTES)
    except TransportFailed as error:
        failed: SegmentDoError = PlatformNotRunning(
            f"The platform at {url} cannot be reached ({error}).", hint="Start it with `segment-do dev`."
        )
        raise failed from error
    finally:
        transport.close()


def _part(text: str) -> str:
    try:
        return quote(text, safe="")
    except UnicodeEncodeError:
        raise InvalidRequest("An id holds what is no Unicode text.") from None
