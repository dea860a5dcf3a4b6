"""A Chromium that tests look at pages with, and a server of a few files of theirs."""

import http.server
import shutil
import threading
from contextlib import contextmanager

import pytest

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
needs_browser = pytest.mark.skipif(
    CHROMIUM is None or DRIVER is None, reason="chromium and chromedriver are not installed"
)

ARGUMENTS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--disable-dev-shm-usage", "--force-prefers-reduced-motion", "--window-size=1300,1400"),
)


@contextmanager
def chromium(folder):
    """A driver of a browser whose profile lies in ``folder``."""
    driver = _started(folder)
    try:
        driver.get("about:blank")
        yield driver
    finally:
        driver.quit()


def _started(folder, tries=3):
    from selenium import webdriver
    from selenium.common.exceptions import SessionNotCreatedException
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in (*ARGUMENTS, f"--user-data-dir={folder / str(tries)}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    try:
        return webdriver.Chrome(options=options, service=Service(DRIVER))
    except SessionNotCreatedException:
        # the driver waits a minute, and a busy machine may need more
        if tries == 1:
            raise
        return _started(folder, tries - 1)


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        found = self.server.files(self.path)
        kind, content = found or ("text/plain", b"")
        self.send_response(200 if found else 404)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        # all that the files ask for must come from here, and none of it stand in a page
        self.send_header("Content-Security-Policy", self.server.policy)
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


@contextmanager
def served(files, policy):
    """The address of a server on this machine; ``files`` gives kind and content of a path, None for none."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        server.files, server.policy = files, policy
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def open_address(browser, address):
    """A page as in a window that somebody looks at, whatever the test before has left."""
    browser.get("about:blank")
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": []})
    browser.execute_cdp_cmd("Emulation.setFocusEmulationEnabled", {"enabled": True})
    browser.get_log("performance"), browser.get_log("browser")
    browser.get(address)
    return browser


def open_page(browser, file, address=""):
    """The page of a report in a file, drawn."""
    open_address(browser, file.as_uri() + address)
    wait_until_drawn(browser)
    return browser


def wait_until_drawn(browser):
    """The driver may return while the page is still being read."""
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(browser, 30).until(lambda driver: all_by(driver, "#sample-title"))


def all_by(driver, selector):
    return driver.find_elements("css selector", selector)


def one(driver, selector):
    return driver.find_element("css selector", selector)
