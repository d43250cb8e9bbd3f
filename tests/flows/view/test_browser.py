"""The pages in a real browser: what only scripts, styles and a Content-Security-Policy at work can show."""

import contextvars
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from flows import reports
from infra.store import open_store
from tests.support.browser import CHROMIUM, NO_CHROMIUM, ServedPages, served_pages
from tests.support.small_build import CALLS, IN_FLIGHT, run_build, small_recipe
from tests.support.stub_server import running_stub
from tests.support.viewed import pair_row, write_dataset

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason=NO_CHROMIUM)]

DATASET = "/datasets/0123456789abcdef"
PAGES = ("/", "/runs", "/compare", DATASET, f"{DATASET}/pairs", f"{DATASET}/pair?n=0", f"{DATASET}/blind?n=0")


@pytest.fixture(scope="module")
def mill(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a dataset of 120 pairs."""
    mill = tmp_path_factory.mktemp("mill")
    text = "It stands to this day. " * 200  # the context is longer than its part of the page
    write_dataset(open_store(str(mill)), [[pair_row(number, text) for number in range(120)]], text=text)
    (mill / "plans").mkdir()
    return mill


@pytest.fixture(scope="module")
def pages(mill: Path) -> Iterator[ServedPages]:
    with served_pages(str(mill)) as pages:
        yield pages


def test_a_list_is_filtered_and_paged_with_the_keyboard_and_a_pair_is_labelled(pages: ServedPages, mill: Path) -> None:
    with pages.page() as page:
        page.goto(f"{pages.url}{DATASET}/pairs")
        page.keyboard.press("n")
        page.wait_for_url("**page=2**")
        page.keyboard.press("/")
        page.keyboard.type("bridge 77?")
        page.keyboard.press("Enter")
        page.wait_for_url("**q=bridge**")
        assert "1 of 120 pairs" in page.inner_text("main")
        page.keyboard.press("j")
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid", "the focus is seen"
        page.keyboard.press("Enter")
        page.wait_for_url("**/pair?**")
        fact = page.locator("a[data-spans]").first
        place = page.locator("#c0")
        page.locator("#context").evaluate("context => context.scrollTo(0, context.scrollHeight)")
        expect(place).not_to_be_in_viewport()
        fact.click()
        assert fact.get_attribute("aria-current") == "true"
        expect(place).to_have_class(re.compile("nearest"))
        expect(place).to_be_in_viewport()
        assert "Ilse Brandt built bridge 77." in place.inner_text()
        page.fill("[name=person]", "anna")
        page.locator("h1").click()  # away from the field, so that keys are keys
        page.keyboard.press("a")
        page.wait_for_selector("[data-key=a][aria-pressed=true]")
    (labels,) = (mill / "labels" / "lr").rglob("anna.jsonl")
    assert '"preferred":"first"' in labels.read_text().replace(" ", "")


def test_nothing_scrolls_sideways_on_a_narrow_screen_and_the_dark_scheme_is_followed(pages: ServedPages) -> None:
    grounds = set()
    with pages.page(viewport={"width": 360, "height": 740}) as page:
        for path in PAGES:
            page.goto(f"{pages.url}{path}")
            assert page.evaluate("document.documentElement.scrollWidth") <= 360, path
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            grounds.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert len(grounds) == 2


def test_without_scripts_a_fact_leads_to_its_passage_all_the_same(pages: ServedPages) -> None:
    with pages.page(java_script_enabled=False) as page:
        page.goto(f"{pages.url}{DATASET}/pair?n=3")
        page.locator("a[data-spans]").first.click()
        assert page.url.endswith("#c0")


@pytest.mark.usefixtures("prefect")
def test_the_page_of_a_run_follows_its_build(
    pages: ServedPages, mill: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reports, "REPORT_S", 0.2)
    with running_stub() as stub, pages.page() as page:
        stub.hold()
        price = {"policy": {"price": {"input_per_million": 1.0, "output_per_million": 2.0}}}
        recipe = small_recipe(folder, stub.url, str(mill), **price)
        build = threading.Thread(target=contextvars.copy_context().run, args=(run_build, recipe))
        build.start()
        stub.wait_for(IN_FLIGHT)
        page.goto(f"{pages.url}/runs")
        page.wait_for_selector("a.row")
        page.locator("a.row").first.click()
        page.wait_for_selector("[data-refresh]")
        expect(page.locator("#live")).to_contain_text(f"policy {IN_FLIGHT}")
        expect(page.locator(".state")).to_contain_text("running")
        stub.release()
        build.join(60)
        assert not build.is_alive() and stub.requests == CALLS
        page.wait_for_selector(".state.completed")
        text = page.inner_text("#live")
        assert "4 of 4 questions" in text and "USD so far" in text and "Published: bench" in text
        assert page.locator("[data-refresh]").count() == 0, "it has ended, so it is not asked for any more"
