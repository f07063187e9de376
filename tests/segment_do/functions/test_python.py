"""Functions in the sandbox: what they return, and that they cost nobody else anything. Real worker processes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import psutil
import pytest

from segment_do.errors import Busy, InvalidEvent, InvalidRequest
from segment_do.functions import Functions, check_python
from tests.waiting import until


@pytest.fixture
async def functions() -> AsyncIterator[Functions]:
    """Workers, ended afterwards."""
    running = Functions(seconds=0.5)
    yield running
    await running.close()


async def test_a_function_is_called(functions: Functions) -> None:
    """JSON in, JSON out."""
    function = check_python("def f(a, b):\n    return [{'sum': a['x'] + b, 'none': None, 'list': [1.5, 'ü']}]", "f")
    assert await functions.call(function, {"x": 1}, 2) == [{"sum": 3, "none": None, "list": [1.5, "ü"]}]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("raise ValueError('no order')", "line 2: ValueError: no order"),
        ("while True:\n        pass", "TimeoutError"),
        ("return [0] * 10**9", "MemoryError"),
        ("return f(x)", "RecursionError"),
        ("import os\n    return os.environ", "not supported"),
        ("import socket", "ModuleNotFoundError"),
        ("return open('/etc/passwd').read()", "Error"),
        ("return undefined_name", "NameError"),
    ],
)
async def test_what_a_function_does_costs_its_call_alone(functions: Functions, body: str, said: str) -> None:
    """It ends with a sentence, and the next call works."""
    with pytest.raises(InvalidEvent) as caught:
        await functions.call(check_python(f"def f(x):\n    {body}", "f"), 1)
    assert caught.value.code == "function_failed"
    assert said in caught.value.message
    assert await functions.call(check_python("def f(x):\n    return x + 1", "f"), 1) == 2


async def test_a_killed_worker_costs_no_call() -> None:
    """The call that it was busy with is made again."""
    functions = Functions(seconds=60.0)
    try:
        function = check_python("def f(x):\n    n = 0\n    while n < x:\n        n += 1\n    return n", "f")
        await functions.call(function, 1)
        (worker,) = [child for child in psutil.Process().children() if child.name() == "monty"]
        calling = asyncio.create_task(functions.call(function, 3_000_000))
        await until(lambda: worker.cpu_times().user >= 0.1)  # it is at work on it
        assert not calling.done()
        worker.kill()
        assert await calling == 3_000_000
    finally:
        await functions.close()


async def test_calls_see_nothing_of_one_another(functions: Functions) -> None:
    """A global that one call sets is not there in the next."""
    counting = check_python("n = 0\ndef f():\n    global n\n    n += 1\n    return n", "f")
    assert await asyncio.gather(*(functions.call(counting) for _ in range(20))) == [1] * 20


async def test_waiting_calls_are_bounded(functions: Functions) -> None:
    """The 65th at once is told to come again; those before it are served."""
    function = check_python("def f(x):\n    return x", "f")
    calls = await asyncio.gather(*(functions.call(function, x) for x in range(70)), return_exceptions=True)
    assert calls[:64] == list(range(64))
    assert all(isinstance(call, Busy) for call in calls[64:])


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("def f(:", "no Python in line 1"),
        ("x = 1", "does not define the function f"),
        ("class A:\n    def f(self): ...", "does not define the function f"),
        ("#" * 64_001, "64,000"),
    ],
)
def test_code_is_looked_at_before_it_is_kept(code: str, said: str) -> None:
    """Without running it."""
    with pytest.raises(InvalidRequest) as caught:
        check_python(code, "f")
    assert caught.value.code == "invalid_function"
    assert said in caught.value.message
