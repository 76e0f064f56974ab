"""Take the README's picture of a running gateway: python docs/images/take.py http://127.0.0.1:8000."""

import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

with sync_playwright() as playwright:
    browser = playwright.chromium.launch(
        executable_path="/usr/bin/chromium", args=["--no-sandbox", "--disable-gpu"]
    )
    page = browser.new_page(viewport={"width": 1200, "height": 860})
    page.goto(f"{sys.argv[1]}/ui/models/iris")
    page.get_by_role("button", name="Get the answer").click()
    page.get_by_text("Version 1, in").wait_for()
    page.evaluate("scrollTo(0, 0)")
    page.screenshot(path=Path(__file__).with_name("model.png"))
    browser.close()
