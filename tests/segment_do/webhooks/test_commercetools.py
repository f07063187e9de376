"""commercetools' notifications (`commercetools/*.json`) become identify calls, in whatever wrapper they come."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from segment_do.webhooks import Call, Made, Unmapped
from segment_do.webhooks.commercetools import CommercetoolsHook, CommercetoolsSettings

HERE = Path(__file__).parent / "commercetools"
CUSTOMER = "a1f0c9d2-5b0e-4a3c-9a57-0d7a9be5b6c1"


def notification(name: str) -> Any:
    return json.loads((HERE / f"{name}.json").read_text())


async def take(payload: Any, **settings: Any) -> Made:
    hook = CommercetoolsHook(CommercetoolsSettings(**settings))
    return await hook.take(Call("src_1", json.dumps(payload).encode(), {}, {}))


async def identified(name: str, **settings: Any) -> dict[str, Any]:
    made = await take(notification(name), **settings)
    (event,) = made.events
    assert isinstance(event, bytes)
    assert made.ignored == 0
    found: dict[str, Any] = json.loads(event)
    assert found["type"] == "identify"
    assert found["anonymousId"] == CUSTOMER
    assert found["context"]["externalIds"] == [
        {"id": CUSTOMER, "type": "commercetools_id", "collection": "users", "encoding": "none"}
    ]
    return found


async def test_a_created_customer_is_identified() -> None:
    """By email, with name, billing address and the rest of what a profile has a place for; never the password."""
    event = await identified("customer_created")
    assert event["userId"] == "ada@example.com"
    assert event["timestamp"] == "2026-03-01T09:00:00.123Z"
    assert event["traits"] == {
        "email": "ada@example.com",
        "name": "Ada Lovelace",
        "firstName": "Ada",
        "lastName": "Lovelace",
        "title": "Countess",
        "birthday": "1815-12-10",
        "company": {"name": "Analytical Engines"},
        "createdAt": "2026-03-01T09:00:00.000Z",
        "address": {"street": "Ockham Park", "city": "Ockham", "state": "Surrey", "country": "GB"},
    }


async def test_a_changed_email_is_the_new_user_id() -> None:
    """With the customer's id beside it, which joins it to the profile there is."""
    event = await identified("customer_email_changed")
    assert (event["userId"], event["traits"]) == ("countess@example.com", {"email": "countess@example.com"})


async def test_a_changed_address_identifies_with_email_name_and_address() -> None:
    """Where the address has an email."""
    event = await identified("customer_address_changed")
    assert event["userId"] == "countess@example.com"
    assert event["traits"] == {
        "email": "countess@example.com",
        "name": "Ada King",
        "address": {"street": "Dorset Street 1", "city": "London", "postalCode": "W1U 4EG", "country": "GB"},
        "phone": "+44 7700 900000",
    }


async def test_an_address_without_email_belongs_to_the_customer_id() -> None:
    """Nothing is guessed: the id alone says whose it is. So does one with an email where that is not to be trusted."""
    event = await identified("customer_address_changed_without_email")
    assert "userId" not in event
    assert event["traits"] == {"address": {"street": "Dorset Street", "city": "London", "country": "GB"}}
    event = await identified("customer_address_changed", address_email_is_user=False)
    assert "userId" not in event
    assert "email" not in event["traits"]


async def test_an_expanded_customer_says_the_email() -> None:
    """`resource.obj`, where the notification has it, comes before the address's own email."""
    payload = notification("customer_address_changed")
    payload["resource"]["obj"] = {"email": "ada@example.com"}
    (event,) = (await take(payload)).events
    assert isinstance(event, bytes)
    assert json.loads(event)["userId"] == "ada@example.com"


async def test_single_fields_are_traits() -> None:
    """A first name that was set."""
    assert (await identified("customer_first_name_set"))["traits"] == {"firstName": "Augusta"}


@pytest.mark.parametrize("name", ["order_created", "customer_group_set", "resource_updated"])
async def test_other_notifications_are_ignored(name: str) -> None:
    """Counted, and no error."""
    assert await take(notification(name)) == Made([], 1, {})


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (notification("payload_not_included"), "empty"),
        ({"hello": "world"}, "not_commercetools"),
        ([1], "not_commercetools"),
        ({**notification("customer_created"), "customer": None}, "malformed_message"),
        ({**notification("customer_email_changed"), "email": None}, "malformed_message"),
        ({**notification("customer_address_changed"), "address": "x"}, "malformed_message"),
    ],
    ids=["cut", "other", "number", "created", "email", "address"],
)
async def test_what_is_not_understood_is_set_aside(payload: Any, code: str) -> None:
    """With its reason, as a value."""
    (unmapped,) = (await take(payload)).events
    assert isinstance(unmapped, Unmapped)
    assert unmapped.error.code == code
    expected = payload[0] if isinstance(payload, list) else payload
    assert json.loads(unmapped.payload) == expected


async def test_one_project_alone() -> None:
    """Where the setting names it."""
    made = await take(notification("customer_created"), project="another")
    assert isinstance(made.events[0], Unmapped)
    assert isinstance((await take(notification("customer_created"), project="difference-engines")).events[0], bytes)


async def test_the_same_event_in_every_wrapper_and_attempt() -> None:
    """One message id, whatever the bus, so that a message that comes twice counts once."""
    plain = notification("customer_created")
    text = json.dumps(plain)
    ids = set()
    for payload in (
        plain,
        {"message": {"data": base64.b64encode(text.encode()).decode(), "messageId": "9"}, "subscription": "s"},
        {"Type": "Notification", "TopicArn": "t", "MessageId": "8", "Message": text},
        {"Records": [{"messageId": "7", "body": text}]},
        {"version": "0", "id": "6", "detail-type": "CustomerCreated", "detail": plain},
        {"specversion": "1.0", "id": "5", "type": "com.commercetools.customer.message.CustomerCreated", "data": plain},
        [{"id": "4", "eventType": "CustomerCreated", "subject": "c", "data": plain}],
    ):
        (event,) = (await take(payload)).events
        assert isinstance(event, bytes)
        ids.add(json.loads(event)["messageId"])
    assert len(ids) == 1
