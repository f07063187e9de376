"""commercetools: messages about customers become identify calls.

A Subscription delivers them in the platform's format or as CloudEvents, through Pub/Sub, SNS, SQS, EventBridge or Event Grid, whose wrappers are
taken off. Rules: commercetools HTTP API, "Customer Messages" and "Subscriptions".

A message about an email or an address does not carry the rest of the customer. So each event has the customer's id as anonymous id as well,
which is what joins it to the profile that the customer's other messages made.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from segment_do.errors import InvalidEvent
from segment_do.webhooks.call import Call, Made, Unmapped, decoded, event_id
from segment_do.webhooks.wrappers import Message, unwrap

__all__ = ["CommercetoolsHook", "CommercetoolsSettings"]

_encode: Final = msgspec.json.Encoder().encode
_Traits = dict[str, Any]


class CommercetoolsSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Settings of the kind ``commercetools``."""

    project: str | None = None
    """Take messages of this project key alone."""
    address_email_is_user: bool = True
    """Whether the email in a changed address says who the customer is. Turn it off where customers have things sent to others."""


class CommercetoolsHook:
    """Made from settings. Calls are not signed: the buses that deliver them send the write key."""

    signed = False

    def __init__(self, settings: CommercetoolsSettings) -> None:
        self._settings = settings

    def verify(self, call: Call) -> None:
        """See :class:`~.call.Hook`."""

    async def take(self, call: Call) -> Made:
        """See :class:`~.call.Hook`."""
        messages, reply = unwrap(decoded(call.body), call.headers)
        events: list[bytes | Unmapped] = []
        ignored = 0
        for message in messages:
            try:
                event = self._event(call.source_id, message)
            except InvalidEvent as error:
                events.append(Unmapped(_encode(message.payload), error))
            else:
                ignored += event is None
                events += [] if event is None else [_encode(event)]
        return Made(events, ignored, reply)

    def _event(self, source_id: str, message: Message) -> dict[str, Any] | None:
        """The identify call of a message; None where it says nothing of a customer that a profile has a place for."""
        if message.error is not None:
            raise message.error
        told = message.payload
        if not isinstance(told, dict) or not isinstance(told.get("resource"), dict):
            raise InvalidEvent("This is no notification of commercetools.", code="not_commercetools")
        project = told.get("projectKey")
        if self._settings.project is not None and project not in (None, self._settings.project):
            raise InvalidEvent("The notification is of another project.", code="other_project")
        if told.get("notificationType", "Message") != "Message" or told["resource"].get("typeId") != "customer":
            return None
        if told.get("payloadNotIncluded"):
            raise InvalidEvent("The message was too large for its queue, and came without its content.", code="empty")
        traits_of = _TRAITS.get(told.get("type", ""))
        if traits_of is None:
            return None
        traits = traits_of(told)
        customer_id = told["resource"].get("id")
        email = traits.get("email") or _text(_object(told["resource"].get("obj")).get("email"))
        if email is None and self._settings.address_email_is_user:
            email = _text(_object(told.get("address")).get("email"))
        if email is None and not customer_id:
            raise InvalidEvent("The message names no customer.", code="no_customer")
        if email is not None:
            traits = {**traits, "email": email}
        return {
            "type": "identify",
            "messageId": event_id(source_id, f"{project}:{told.get('id') or message.delivery or _encode(told)!r}", 0),
            **({"userId": email} if email is not None else {}),
            **({"anonymousId": customer_id} if customer_id else {}),
            **({"timestamp": told["createdAt"]} if isinstance(told.get("createdAt"), str) else {}),
            "traits": traits,
            "context": {
                "library": {"name": "commercetools"},
                "externalIds": _external_ids(customer_id),
            },
        }


def _created(told: _Traits) -> _Traits:
    customer = told.get("customer")
    if not isinstance(customer, dict):
        raise InvalidEvent("CustomerCreated came without its customer.", code="malformed_message")
    return _present(
        email=_text(customer.get("email")),
        name=_name(customer),
        firstName=_text(customer.get("firstName")),
        lastName=_text(customer.get("lastName")),
        title=_text(customer.get("title")),
        birthday=_text(customer.get("dateOfBirth")),
        company=_company(customer.get("companyName")),
        createdAt=_text(customer.get("createdAt")),
        **_placed(_main_address(customer)),
    )


def _email_changed(told: _Traits) -> _Traits:
    email = _text(told.get("email"))
    if email is None:
        raise InvalidEvent("CustomerEmailChanged came without the email.", code="malformed_message")
    return {"email": email}


def _address_changed(told: _Traits) -> _Traits:
    address = told.get("address")
    if not isinstance(address, dict):
        raise InvalidEvent(f"{told.get('type')} came without the address.", code="malformed_message")
    return _present(name=_name(address), **_placed(address))


def _one(field: str, trait: str) -> Callable[[_Traits], _Traits]:
    return lambda told: {trait: told.get(field)}  # null where the customer's was taken away


_TRAITS: Final[dict[str, Callable[[_Traits], _Traits]]] = {
    "CustomerCreated": _created,
    "CustomerEmailChanged": _email_changed,
    "CustomerAddressAdded": _address_changed,
    "CustomerAddressChanged": _address_changed,
    "CustomerFirstNameSet": _one("firstName", "firstName"),
    "CustomerLastNameSet": _one("lastName", "lastName"),
    "CustomerTitleSet": _one("title", "title"),
    "CustomerDateOfBirthSet": _one("dateOfBirth", "birthday"),
    "CustomerCompanyNameSet": lambda told: {"company": _company(told.get("companyName"))},
}


def _main_address(customer: _Traits) -> _Traits:
    """Where the bills go, else where the goods go, else the first."""
    addresses = [one for one in customer.get("addresses") or [] if isinstance(one, dict)]
    by_id = {one["id"]: one for one in addresses if isinstance(one.get("id"), str)}
    for name in ("defaultBillingAddressId", "defaultShippingAddressId"):
        if isinstance(wanted := customer.get(name), str) and wanted in by_id:
            return by_id[wanted]
    return addresses[0] if addresses else {}


def _placed(address: _Traits) -> _Traits:
    """An address as Segment's spec has it, and the telephone number that belongs to it."""
    street = " ".join(filter(None, (_text(address.get("streetName")), _text(address.get("streetNumber")))))
    spelled = _present(
        street=street or None,
        city=_text(address.get("city")),
        state=_text(address.get("state")) or _text(address.get("region")),
        postalCode=_text(address.get("postalCode")),
        country=_text(address.get("country")),
    )
    return _present(address=spelled or None, phone=_text(address.get("phone")) or _text(address.get("mobile")))


def _external_ids(customer_id: Any) -> list[dict[str, str]]:
    if not isinstance(customer_id, str) or not customer_id:
        return []
    return [{"id": customer_id, "type": "commercetools_id", "collection": "users", "encoding": "none"}]


def _name(who: _Traits) -> str | None:
    return " ".join(filter(None, (_text(who.get("firstName")), _text(who.get("lastName"))))) or None


def _company(name: Any) -> dict[str, str] | None:
    return {"name": text} if (text := _text(name)) else None


def _object(value: Any) -> _Traits:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _present(**values: Any) -> _Traits:
    return {name: value for name, value in values.items() if value is not None}
