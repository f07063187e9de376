"""`tom.profile(…)` of the Python SDK against the API in this process: awaited, and waited for on a thread."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from segment_do import Analytics
from segment_do.errors import InvalidRequest, NotFound, PlatformNotRunning, SettingsError, Unauthorized
from tests.actors.ingress.test_identity_api import ANN, event, tom
from tests.actors.profiled import Profiled

__all__ = ["tom"]  # a fixture


def handle(running: Profiled, agent: str = "tom", **given: Any) -> Analytics:
    return Analytics.for_(agent, **{"host": running.url, "token": running.settings.paths.token(), **given})


async def test_what_is_known(tom: Profiled) -> None:
    """Traits, ids, events, links, why and history; by an id and by the profile id."""
    await tom.send({"type": "group", "userId": "ann", "groupId": "acme", "messageId": "g1"})
    async with handle(tom) as agent:
        for name in ("user_id:ann", "email:ann@example.com", ANN):
            assert await agent.profile(name).traits() == {"email": "ann@example.com", "plan": "pro"}
        ann = agent.profile("user_id:ann")
        ids = {f"{each['type']}:{each['id']}" for each in await ann.external_ids()}
        assert ids == {"user_id:ann", "anonymous_id:a1", "anonymous_id:a2", "email:ann@example.com"}
        assert [each["message_id"] for each in await ann.events(limit=1)] == ["g1"]
        assert (await ann.links())[0]["to_collection"] == "accounts"
        chain = await ann.why("anonymous_id:a1")
        assert chain is not None
        assert [edge["messageId"] for edge in chain] == ["m2"]
        assert await ann.why("user_id:bob") is None
        assert [step["merged"] for step in await ann.history()] == [2, 3]
        named = agent.profile(ANN)
        assert (await named.history(), await named.why("anonymous_id:a1")) == (await ann.history(), chain)


async def test_without_an_event_loop(tom: Profiled) -> None:
    """The same answers by ``wait``; each time asks anew."""

    def ask() -> tuple[Any, Any]:
        with handle(tom) as agent:
            traits = agent.profile("user_id:ann").traits()
            return traits.wait(), traits.wait(timeout=20)

    first, second = await asyncio.to_thread(ask)
    assert first == second == {"email": "ann@example.com", "plan": "pro"}


async def test_trait_history(tom: Profiled) -> None:
    """The newest value first; a name of any kind; nothing where the profile never had it."""
    await tom.send(event("m5", "identify", userId="ann", traits={"plan": "free", "a&b=ü": 1}))
    async with handle(tom) as agent:
        ann = agent.profile("user_id:ann")
        assert [each["value"] for each in await ann.trait_history("plan")] == ["free", "pro"]
        assert [each["messageId"] for each in await ann.trait_history("a&b=ü")] == ["m5"]
        assert await ann.trait_history("never") == []


async def test_ids_of_any_kind(tom: Profiled) -> None:
    """Slashes, colons and letters of any kind."""
    async with handle(tom) as agent:
        for number, value in enumerate(("a/b", "a:b", "a+b", "?x#y", "Ünï")):
            await tom.send(event(f"m{number + 5}", "identify", userId=value, traits={"n": number}))
            assert await agent.profile(f"user_id:{value}").traits() == {"n": number}
            assert await agent.profile(f"user_id:{value}").why(f"user_id:{value}") == []


async def test_what_goes_wrong(tom: Profiled, tmp_path: Path) -> None:
    """Errors of the project's tree: nobody, a wrong token, no platform, no agent, an id that is none."""
    async with handle(tom) as agent, handle(tom, "nobody") as nobody, handle(tom, token="x") as stranger:
        for profile in (agent.profile("user_id:nobody"), nobody.profile("user_id:ann")):
            for answer in (
                profile.traits(),
                profile.events(),
                profile.links(),
                profile.history(),
                profile.trait_history("x"),
            ):
                with pytest.raises(NotFound) as caught:
                    await answer
                assert "host" not in caught.value.hint, "the platform was found; the profile was not"
        with pytest.raises(Unauthorized):
            await stranger.profile("user_id:ann").traits()
        for wrong in ("ann", "user_id:", ":ann"):
            with pytest.raises(InvalidRequest):
                agent.profile(wrong)
        with pytest.raises(InvalidRequest):
            await agent.profile("user_id:\ud800").traits()
        with pytest.raises(InvalidRequest):
            await agent.profile("user_id:ann").events(limit=1000)
    async with Analytics("key", host=tom.url) as client:
        with pytest.raises(SettingsError):
            client.profile("user_id:ann")
    async with Analytics.for_("tom", host="http://127.0.0.1:9", token="x") as away:
        with pytest.raises(PlatformNotRunning):
            await away.profile("user_id:ann").traits()
