"""Chromium at the pages for people: with and without scripts, light and dark, wide and narrow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from playwright.sync_api import Page

pytestmark = [
    pytest.mark.browser,
    # The runtime silences this when it is imported, which pytest undoes after the test at hand.
    pytest.mark.filterwarnings("ignore:X does not have valid feature names"),
]

PATHS = (
    "",
    "ui/",
    "ui/models/iris",
    "ui/models/wine?example=1",
    "ui/models/digits",
    "ui/models/wine/table",
    "ui/models/iris/code",
    "ui/models/breast-cancer/about",
    "ui/models/broken",
    "ui/models/nobody",
)


def _ask(page: Page) -> None:
    page.get_by_role("button", name="Get the answer").click()


def _serious(page: Page) -> list[str]:
    found: list[Any] = Axe().run(page).response["violations"]
    return [
        f"{violation['id']}: {node['html']}"
        for violation in found
        if violation["impact"] in ("serious", "critical")
        for node in violation["nodes"]
    ]


def test_from_the_gallery_to_an_answer(new_page: Callable[..., Page]) -> None:
    page = new_page()
    page.goto("")
    page.get_by_role("link", name="See the models").click()
    page.get_by_role("link", name="Iris species").click()
    page.get_by_label("Petal length").fill("1.4")
    page.get_by_label("Petal width").fill("0.2")
    page.evaluate("window.stays = true")
    _ask(page)
    expect(page.locator(".p-answer")).to_have_text("Iris setosa")
    bars = page.get_by_role("list", name="Probabilities").get_by_role("listitem")
    expect(bars).to_have_count(3)
    expect(page.get_by_label("Petal length")).to_have_value("1.4")
    assert page.evaluate("window.stays") is True


def test_without_scripts_the_same_form_answers(new_page: Callable[..., Page]) -> None:
    page = new_page(java_script_enabled=False)
    page.goto("ui/models/wine?example=1")
    _ask(page)
    expect(page.locator(".p-answer")).to_contain_text("cultivar")
    expect(page.get_by_label("Malic acid")).to_have_value("1.9")
    expect(page.get_by_role("button", name="Dark theme")).to_be_hidden()


def test_an_error_is_told_beside_its_field_and_goes_away(new_page: Callable[..., Page]) -> None:
    page = new_page()
    page.goto("ui/models/iris")
    field = page.get_by_label("Sepal length")
    field.fill("99")
    _ask(page)
    expect(page.get_by_role("alert")).to_be_focused()
    expect(field).to_have_attribute("aria-invalid", "true")
    expect(field).to_have_accessible_description(
        "cm The sepal is the outer, drooping leaf of the flower. Between 0.1 and 15 cm "
        "This is 99; it must be between 0.1 and 15 cm."
    )
    page.get_by_role("alert").get_by_role("link", name="Sepal length").click()
    expect(field).to_be_focused()
    field.fill("5")
    field.press("Control+Enter")
    expect(page.locator(".p-answer")).to_be_visible()
    expect(page.get_by_role("alert")).to_have_count(0)
    expect(field).not_to_have_attribute("aria-invalid", "true")


def test_without_scripts_the_browser_keeps_out_what_the_form_forbids(
    new_page: Callable[..., Page],
) -> None:
    page = new_page(java_script_enabled=False)
    page.goto("ui/models/iris")
    page.get_by_label("Sepal length").fill("99")
    _ask(page)
    expect(page.locator("input:invalid")).to_have_count(1)
    expect(page.locator(".p-answer")).to_have_count(0)


@pytest.mark.parametrize("scripts", [True, False])
def test_a_picture_is_answered_with_its_label(
    new_page: Callable[..., Page], demos: Path, scripts: bool
) -> None:
    page = new_page(java_script_enabled=scripts)
    page.goto("ui/models/digits")
    page.locator("input[type=file]").set_input_files(demos / "digits" / "examples" / "seven.png")
    expect(page.get_by_alt_text("Preview of the chosen picture")).to_be_visible(visible=scripts)
    _ask(page)
    expect(page.locator(".p-answer")).to_have_text("7")
    asked = page.get_by_alt_text("The picture seven.png")
    expect(asked).to_be_visible()
    if scripts:  # A page without scripts cannot be measured with one.
        assert asked.evaluate("image => image.naturalWidth") > 0


@pytest.mark.parametrize("event", ["paste", "drop"])
def test_a_picture_can_be_pasted_and_dropped(
    new_page: Callable[..., Page], demos: Path, event: str
) -> None:
    page = new_page()
    page.goto("ui/models/digits")
    data = list((demos / "digits" / "examples" / "three.png").read_bytes())
    page.evaluate(
        """([kind, data]) => {
            const files = new DataTransfer();
            files.items.add(new File([new Uint8Array(data)], "it.png", { type: "image/png" }));
            const target = document.querySelector("[data-drop]");
            const options = { bubbles: true, cancelable: true };
            target.dispatchEvent(kind === "drop"
                ? new DragEvent(kind, { ...options, dataTransfer: files })
                : new ClipboardEvent(kind, { ...options, clipboardData: files }));
        }""",
        [event, data],
    )
    expect(page.get_by_alt_text("Preview of the chosen picture")).to_be_visible()
    _ask(page)
    expect(page.locator(".p-answer")).to_have_text("3")


def test_a_file_that_is_no_picture_is_refused_at_its_field(
    new_page: Callable[..., Page],
) -> None:
    page = new_page()
    page.goto("ui/models/digits")
    file = {"name": "photo.png", "mimeType": "image/png", "buffer": b"%PDF-1.7"}
    page.locator("input[type=file]").set_input_files(file)  # type: ignore[arg-type]
    _ask(page)
    expect(page.get_by_role("alert")).to_contain_text("is no PNG, JPEG, WebP or GIF picture")
    expect(page.get_by_alt_text("Preview of the chosen picture")).to_be_hidden()


def test_a_table_is_shown_and_downloaded(new_page: Callable[..., Page], tmp_path: Path) -> None:
    page = new_page()
    page.goto("ui/models/wine/table")
    with page.expect_download() as template:
        page.get_by_role("link", name="Download the CSV template").click()
    path = tmp_path / template.value.suggested_filename
    template.value.save_as(path)
    page.get_by_label("CSV file").set_input_files(path)
    page.get_by_role("button", name="Show the answers").click()
    expect(page.get_by_role("heading", name="1 row answered")).to_be_visible()
    with page.expect_download() as answers:
        page.get_by_role("button", name="Download them as CSV").click()
    assert answers.value.suggested_filename == "wine-answers.csv"
    assert b"cultivar" in answers.value.path().read_bytes()


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ("bad gateway", "The server answered 502."),
        ("<main><h1>413</h1><p>That is too much.</p></main>", "That is too much."),
    ],
)
def test_what_stands_before_the_app_is_heard(
    new_page: Callable[..., Page], body: str, sentence: str
) -> None:
    page = new_page()
    page.goto("ui/models/iris")
    page.route("**/models/iris", lambda route: route.fulfill(status=502, body=body))
    _ask(page)
    expect(page.get_by_role("alert")).to_have_text(sentence)


def test_a_server_that_is_gone_is_told(new_page: Callable[..., Page]) -> None:
    page = new_page()
    page.goto("ui/models/iris")
    page.route("**/models/iris", lambda route: route.abort())
    _ask(page)
    expect(page.get_by_role("alert")).to_have_text("The server cannot be reached. Try again.")


def test_code_can_be_copied(new_page: Callable[..., Page]) -> None:
    page = new_page(permissions=["clipboard-read", "clipboard-write"])
    page.goto("ui/models/iris/code")
    page.get_by_role("button", name="Copy: With curl").click()
    expect(page.get_by_text("Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()").startswith("curl http://127.0.0.1")


def test_the_theme_follows_the_system_until_one_is_chosen(new_page: Callable[..., Page]) -> None:
    page = new_page(color_scheme="dark")
    root = page.locator("html")
    page.goto("ui/")
    expect(root).to_have_attribute("data-bs-theme", "dark")
    page.get_by_role("button", name="Dark theme", pressed=True).click()
    expect(root).to_have_attribute("data-bs-theme", "light")
    page.reload()
    expect(root).to_have_attribute("data-bs-theme", "light")


def test_without_scripts_the_system_theme_holds(new_page: Callable[..., Page]) -> None:
    pages = [new_page(java_script_enabled=False, color_scheme=s) for s in ("dark", "light")]
    for page, colour in zip(pages, ("rgb(17, 23, 22)", "rgb(244, 246, 244)"), strict=True):
        page.goto("ui/")
        expect(page.locator("body")).to_have_css("background-color", colour)


def test_the_keyboard_comes_to_the_content_first(new_page: Callable[..., Page]) -> None:
    page = new_page()
    page.goto("ui/")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("main")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Breast cancer")).to_be_focused()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_serious_is_found_by_axe(new_page: Callable[..., Page], scheme: str) -> None:
    page = new_page(color_scheme=scheme, reduced_motion="reduce")
    for path in PATHS:
        page.goto(path)
        assert _serious(page) == [], path
    page.goto("ui/models/iris")
    _ask(page)
    expect(page.locator(".p-answer")).to_be_visible()
    assert _serious(page) == []
    page.get_by_label("Sepal width").fill("")
    _ask(page)
    expect(page.get_by_role("alert")).to_be_visible()
    assert _serious(page) == []


def test_a_phone_never_scrolls_sideways(new_page: Callable[..., Page]) -> None:
    page = new_page(viewport={"width": 360, "height": 740})
    for path in PATHS:
        page.goto(path)
        assert page.evaluate("document.documentElement.scrollWidth") <= 360, path
