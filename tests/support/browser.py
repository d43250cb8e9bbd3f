"""The pages of `longmill view` in a real browser: chromium without a window, led by playwright."""

import contextlib
import shutil
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import uvicorn
from playwright.sync_api import Browser, Page, expect, sync_playwright

from flows.view.app import view_app
from tasks.viewing.library import Library

TOKEN = "a-token-of-a-test"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PATIENCE_MS = 30_000  # for what comes in the end: the machine may be busy
NO_CHROMIUM = "there is no chromium on this machine (Debian: apt-get install chromium)"


@dataclass(frozen=True, slots=True)
class ServedPages:
    """Pages at an address, and a browser that may see them."""

    url: str
    browser: Browser

    @contextlib.contextmanager
    def page(self, **settings: Any) -> Iterator[Page]:
        """A window of its own that has the token; what it logs, or fails with, is an error at the end."""
        context = self.browser.new_context(**{"viewport": {"width": 1200, "height": 900}, **settings})
        page = context.new_page()
        faults: list[str] = []
        page.on("console", lambda message: faults.append(message.text))
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.goto(f"{self.url}/?token={TOKEN}")
        try:
            yield page
            assert not faults, faults
        finally:
            context.close()


@contextlib.contextmanager
def served_pages(*places: str) -> Iterator[ServedPages]:
    """Serve the pages of stores from a thread, and start the browser."""
    expect.set_options(timeout=PATIENCE_MS)
    config = uvicorn.Config(view_app(Library(list(places)), TOKEN), log_level="warning", ws="none", access_log=False)
    server = uvicorn.Server(config)
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="pages")
        thread.start()
        try:
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
                with contextlib.closing(browser):
                    yield ServedPages(f"http://127.0.0.1:{listener.getsockname()[1]}", browser)
        finally:
            server.should_exit = True
            thread.join(20)
