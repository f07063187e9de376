"""Chromium, spoken to through driver.mjs: contexts with pages, and what they asked of which host."""

from __future__ import annotations

import json
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

HERE = Path(__file__).parent


class Chromium:
    """One browser for the session. Commands are answered one at a time."""

    def __init__(self, executable: str) -> None:
        self._process = subprocess.Popen(
            ["node", "driver.mjs", executable],
            cwd=HERE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def __call__(self, op: str, **given: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"op": op, **given}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "the driver has ended"
        answer = json.loads(line)
        assert "error" not in answer, answer["error"]
        return answer["value"]

    def close(self) -> None:
        with self._process as process:
            assert process.stdin is not None
            process.stdin.close()
            process.wait(20)


class Visitor:
    """A browser context: cookies and storage of its own."""

    def __init__(self, chromium: Chromium, *, any_certificate: bool = False) -> None:
        self.chromium = chromium
        self.id = chromium("context", anyCertificate=any_certificate)

    def page(self, url: str | None = None) -> Page:
        page = Page(self)
        if url is not None:
            page.goto(url)
        return page

    def offline(self, offline: bool = True) -> None:
        self.chromium("offline", context=self.id, offline=offline)

    def cookies(self) -> dict[str, dict[str, Any]]:
        return {cookie["name"]: cookie for cookie in self.chromium("cookies", context=self.id)}

    def add_cookie(self, name: str, value: str, url: str) -> None:
        self.chromium("addCookie", context=self.id, cookie={"name": name, "value": value, "url": url})

    def hosts(self) -> set[str]:
        return {urlsplit(url).netloc for url in self.chromium("seen", context=self.id)["urls"]}

    def errors(self) -> list[str]:
        found: list[str] = self.chromium("seen", context=self.id)["errors"]
        return found

    def console(self) -> list[str]:
        """Errors and warnings that the browser or a page wrote."""
        found: list[str] = self.chromium("seen", context=self.id)["console"]
        return found

    def allow(self, *permissions: str) -> None:
        self.chromium("allow", context=self.id, permissions=list(permissions))

    def close(self) -> None:
        with suppress(AssertionError):
            self.chromium("closeContext", context=self.id)


class Page:
    def __init__(self, visitor: Visitor) -> None:
        self._chromium = visitor.chromium
        self.id = self._chromium("page", context=visitor.id)

    def goto(self, url: str) -> None:
        self._chromium("goto", page=self.id, url=url)

    def reload(self) -> None:
        self._chromium("reload", page=self.id)

    def back(self) -> None:
        """To the page before, from the back/forward cache where that has it."""
        self._chromium("back", page=self.id)

    def evaluate(self, script: str) -> Any:
        return self._chromium("evaluate", page=self.id, script=script)

    def until(self, script: str) -> None:
        """Wait until an expression is true."""
        self._chromium("until", page=self.id, script=script)

    def see(self, script: str) -> None:
        """Wait likewise, on a page whose policy allows no ``eval``."""
        self._chromium("see", page=self.id, script=script)

    def click(self, selector: str, *modifiers: str) -> None:
        self._chromium("click", page=self.id, selector=selector, modifiers=list(modifiers))

    def fill(self, selector: str, text: str) -> None:
        self._chromium("fill", page=self.id, selector=selector, text=text)

    def press(self, key: str) -> None:
        self._chromium("press", page=self.id, key=key)

    def show(self, width: int, height: int, scheme: str) -> None:
        """On a device of this size, ``light`` or ``dark``."""
        self._chromium("show", page=self.id, width=width, height=height, scheme=scheme)

    def screenshot(self, path: Path) -> None:
        """The whole page, as PNG."""
        self._chromium("screenshot", page=self.id, path=str(path))

    def close(self) -> None:
        """As a visitor closes a tab."""
        self._chromium("closePage", page=self.id)

    def script_seconds(self, script: str) -> float:
        found: float = self._chromium("scriptSeconds", page=self.id, script=script)
        return found
