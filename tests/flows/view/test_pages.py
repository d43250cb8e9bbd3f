"""The pages of `longmill view`: what they show, what they refuse, and that no text of a model is ever markup."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from flows.bench.status import make_plan_of_many_shards
from flows.reports import build_path
from flows.view.app import view_app
from infra.store import open_store
from infra.store.lease import LEASES, Holder, Lease
from tasks.reporting.dataset_views import agreement_view
from tasks.viewing.library import Library
from tests.support.html_page import HtmlPage
from tests.support.viewed import pair_row, write_dataset

TOKEN = "a-token"
VERSION, OTHER, HOSTILE = "0123456789abcdef", "fedcba9876543210", "00000000deadbeef"
PLANTED = (
    "<script>alert(1)</script><svg onload=alert(2)><style>*{display:none}</style><img src=x onerror=alert(3)>"
    "</bdi></div></pre></textarea></title>{{ 70707*7 }}\"'><a href=javascript:alert(4)>&lt;b&gt;\u202eevil\u2066\x1b[2J"
)


@pytest.fixture(scope="module")
def mill(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the store."""
    return tmp_path_factory.mktemp("mill")


@pytest.fixture(scope="module")
def pages(mill: Path) -> Iterator[TestClient]:
    """The pages of a store with three datasets: one of 120 pairs, one that chose otherwise, one of planted texts."""
    store = open_store(str(mill))
    drops = [{"example_id": "q000900", "stage": "pair", "reason": "tie", "detail": "all rewards are 2"}]
    named = [{"role": "assistant", "content": "Ilse Brandt built it (MÜLLER)."}]  # every third chosen answer
    pairs = [pair_row(number, **({"chosen": named} if number % 3 == 2 else {})) for number in range(120)]
    shards = [pairs[start : start + 40] for start in (0, 40, 80)]
    write_dataset(store, shards, version=VERSION, drops=drops)
    turned = [pair_row(number, chosen_index=1, rejected_index=0) for number in range(10)]
    write_dataset(store, [[*turned, *[pair_row(number) for number in range(10, 30)]]], version=OTHER)
    hostile = [{"example_id": PLANTED, "stage": "pair", "reason": PLANTED, "detail": PLANTED}]
    write_dataset(store, [[pair_row(0, PLANTED)]], version=HOSTILE, text=PLANTED, drops=hostile)
    with TestClient(view_app(Library([str(mill)]), TOKEN), base_url="http://127.0.0.1:8123") as client:
        assert client.get(f"/?token={TOKEN}").status_code == 200
        yield client


_BLOCKS = ("td", "th", "small", "p", "h1", "h2", "li", "div", "dd", "dt")


def text_of(pages: TestClient, path: str) -> str:
    """A page's text, in one line."""
    answer = pages.get(path)
    assert answer.status_code == 200, answer.text
    return " ".join(HtmlPage(answer.text, _BLOCKS).text.split())


def test_the_first_page_has_all_versions_with_their_figures(pages: TestClient) -> None:
    text = text_of(pages, "/")
    assert text.count(" lr ") == 1, "the versions of a name stand together"
    assert "120 pairs 121 99.2% tie 1 judge helpfulness, faithfulness" in text
    assert VERSION in text and OTHER in text


def test_a_list_is_filtered_sorted_and_paged_by_its_address(pages: TestClient) -> None:
    base = f"/datasets/{VERSION}/pairs"
    first = text_of(pages, base)
    assert "120 of 120 pairs" in first and "page 1 of 3" in first and "Who built bridge 49?" in first
    assert "Who built bridge 50?" in text_of(pages, f"{base}?page=2")
    sorted_pairs = text_of(pages, f"{base}?sort=margin&order=up&margin_min=1&kind=who&language=zh")
    assert "10 of 120 pairs" in sorted_pairs  # of 5, 15, ... 115 those that are no multiples of 7
    numbers = [int(number) for number in re.findall(r"bridge (\d+)\?", sorted_pairs)]
    assert [number % 7 for number in numbers] == sorted(number % 7 for number in numbers)
    assert "1 of 120 pairs" in text_of(pages, f"{base}?q=BRIDGE+77%3F")
    assert "0 of 120 pairs" in text_of(pages, f"{base}?q=.*77"), "a search is for a text, not for a pattern"
    assert "17 of 120 pairs" in text_of(pages, f"{base}?dimension=faithfulness&dimension_min=6")
    assert "0 of 120 pairs" in text_of(pages, f"{base}?dimension=helpfulness&dimension_min=-99"), "null has no value"
    assert "120 of 120" in text_of(pages, f"{base}?margin_min=much&sort=nothing&page=-3")


def test_answers_are_searched_in_any_case_by_a_text_beside_other_filters(pages: TestClient) -> None:
    base = f"/datasets/{VERSION}/pairs"
    assert "120 of 120 pairs" in text_of(pages, f"{base}?answer=NOBODY+built"), "a rejected answer has it"
    named = "answer=%28m%C3%BCller%29"
    assert "40 of 120 pairs" in text_of(pages, f"{base}?{named}")
    both = text_of(pages, f"{base}?{named}&q=bridge+11")
    assert "5 of 120 pairs" in both and "Who built bridge 11?" in both, "of 11, 110 ... 119 every third"
    assert "0 of 120 pairs" in text_of(pages, f"{base}?answer=.*"), "a text, not a pattern"
    pair = text_of(pages, f"/datasets/{VERSION}/pair?{named}&q=bridge+11&n=2")
    assert "Who built bridge 113?" in pair and "3 of 5" in pair


def test_a_pair_shows_diff_scores_facts_and_their_passages(pages: TestClient) -> None:
    page = pages.get(f"/datasets/{VERSION}/pair?n=5&sort=margin").text
    tags = HtmlPage(page, _BLOCKS)
    assert "<ins>Ilse Brandt</ins>" in page and "<del>Nobody</del>" in page
    assert "null: no_rating" in tags.text
    (fact, *_) = [attributes for _, attributes in tags.tags if "data-spans" in attributes]
    start, end = map(int, (fact["data-spans"] or "").strip().split("-"))
    assert fact["href"] == f"#c{start}"
    assert [attributes["data-end"] for _, attributes in tags.tags if attributes.get("id") == f"c{start}"] == [str(end)]
    assert re.search(rf'id="c{start}"[^>]*class="used">Ilse Brandt built bridge \d+\.<', page)
    hrefs = {attributes.get("rel"): attributes["href"] for tag, attributes in tags.tags if tag == "a"}
    assert hrefs["next"] == f"/datasets/{VERSION}/pair?sort=margin&n=6"
    assert "Nobody" in text_of(pages, f"/datasets/{VERSION}/question?id=q000005")
    assert "Read the following text. Ilse Brandt built" in text_of(pages, f"/datasets/{VERSION}/prompt?id=q000005")


def test_drops_lead_to_their_reason_and_unknown_things_are_said(pages: TestClient) -> None:
    assert "all rewards are 2" in text_of(pages, f"/datasets/{VERSION}/drops?reason=tie")
    assert "Dropped: tie" in text_of(pages, f"/datasets/{VERSION}/question?id=q000900")
    for path in ("/datasets/nothing", f"/datasets/{VERSION}/pair?n=900", f"/datasets/{VERSION}/question?id=none", "/x"):
        assert pages.get(path).status_code == 404


def test_two_datasets_disagree_where_one_chose_what_the_other_rejected(pages: TestClient) -> None:
    text = text_of(pages, f"/compare?a={VERSION}&b={OTHER}")
    assert "the other rejected 10 another" in text and "the same pair 20" in text and "the first alone 90" in text
    assert "q000006" in text and "q000010" not in text
    beside = text_of(pages, f"/datasets/{VERSION}/question?id=q000006&with={OTHER}")
    assert "lr: another text, reward 2 · rejected" in beside


@pytest.mark.parametrize(
    "path",
    [
        "/",
        f"/datasets/{HOSTILE}",
        f"/datasets/{HOSTILE}/pairs",
        f"/datasets/{HOSTILE}/pairs?dimension=faithfulness&q=bridge",
        f"/datasets/{HOSTILE}/pair?n=0",
        f"/datasets/{HOSTILE}/prompt?n=0",
        f"/datasets/{HOSTILE}/drops",
        f"/datasets/{HOSTILE}/question",
        f"/compare?a={HOSTILE}&b={OTHER}&only=first",
    ],
)
def test_no_text_of_a_model_is_markup(pages: TestClient, path: str) -> None:
    parameters = {"id": f"q000000{PLANTED}"} if path.endswith("question") else {}
    answer = pages.get(path, params=parameters) if parameters else pages.get(path)
    assert answer.status_code == 200
    tags = HtmlPage(answer.text, _BLOCKS)
    names = [tag for tag, _ in tags.tags]
    assert names.count("script") == 1 and "style" not in names and "img" not in names
    for tag, attributes in tags.tags:
        assert not [name for name in attributes if name.startswith("on") or name == "style"], attributes
        assert not (attributes.get("href") or "").startswith("javascript"), (tag, attributes)
    assert not re.search("[\u202a-\u202e\u2066-\u2069\x1b]", tags.text), "a character that turns or hides text"
    assert "494949" not in tags.text, "a text was taken for a template"
    if path != "/" and "datasets" in path and not path.endswith(HOSTILE):
        assert "<script>alert(1)</script>" in tags.text and "U+202E" in tags.text


def test_labels_are_a_file_that_agreement_reads_and_people_are_compared(pages: TestClient, mill: Path) -> None:
    base = f"/datasets/{VERSION}"
    origin = {"origin": "http://127.0.0.1:8123"}

    def label(number: int, preferred: str, person: str, **more: str) -> Any:
        form = {"example_id": f"q{number:06d}", "first": "0", "second": "1", "preferred": preferred, "person": person}
        return pages.post(f"{base}/label", data={**form, **more}, headers=origin, follow_redirects=False)

    answer = label(3, "first", "anna", note="clear <b>", blind="1", next="sort=margin&n=4")
    assert (answer.status_code, answer.headers["location"]) == (303, f"{base}/blind?sort=margin&n=4")
    for number in range(4, 14):
        assert label(number, "second" if number % 2 else "first", "anna").status_code == 303
        assert label(number, "second" if number % 2 else "same", "ben").status_code == 303
    assert label(4, "same", "anna").status_code == 303, "the second label of a pair replaces the first"
    text = text_of(pages, f"{base}/labels")
    assert "anna 11 5 5 1 1 5" in text and "ben 10 0 5 5 0 0" in text
    assert "anna, ben 10 60.0% 0.429 " in text  # by chance .5 × .5 + .1 × .5 = .3; .3 / .7 = .429
    folder = mill / "labels" / "lr" / VERSION
    assert f"--labels {folder}" in text
    view = agreement_view(str(mill / "datasets" / "lr" / VERSION), str(folder))
    assert (view["gold"], view["agreement"]["pairs"], view["unknown_labels"]) == ("labels", 15, [])
    assert label(3, "first", "anna", note="clear <b>").headers["location"] == f"{base}/pair?id=q000003"
    assert 'value="clear &lt;b&gt;"' in pages.get(f"{base}/pair?id=q000003").text
    for change in ({"person": "../x"}, {"preferred": "both"}, {"second": "0"}, {"first": "-2"}, {"first": "x"}):
        form = {"preferred": "first", "person": "eve", **change}
        assert label(5, form.pop("preferred"), form.pop("person"), **form).status_code == 400
    for headers in ({}, {"origin": "http://evil.example"}, {"origin": "null"}):
        assert pages.post(f"{base}/label", data={}, headers=headers).status_code == 403


def test_the_blind_page_says_nothing_of_scores_and_its_order_is_a_draw(pages: TestClient) -> None:
    lefts = []
    for number in range(12):
        page = pages.get(f"/datasets/{VERSION}/blind?n={number}").text
        for hidden in ("reward", "margin", "faithfulness", "<ins>", "<del>", "references:"):
            assert hidden not in page
        lefts.append(page.index("Nobody") < page.index("Ilse Brandt built it"))
    assert {True, False} == set(lefts)


def test_the_page_of_a_run_shows_its_build_and_asks_for_itself_while_it_runs(pages: TestClient, mill: Path) -> None:
    plan_id = make_plan_of_many_shards(mill, 10, 4)
    store = open_store(str(mill))
    event = {"at": "2026-11-28T12:00:30+00:00", "model": "policy", "kind": "sample", "reason": "server_error"}
    report = json.loads(store.read(build_path(plan_id)))
    now = {"state": "running", "in_flight": {"policy": 48}, "refused": [{**event, "words": PLANTED}]}
    store.write(build_path(plan_id), json.dumps({**report, **now}).encode())
    lease = Lease(store, f"{LEASES}/{plan_id}", Holder.this_process("nightly"))
    assert lease.try_to_take() is None
    text = text_of(pages, f"/runs/{plan_id}")
    for words in ("running 'nightly', process", "48 calls", "policy 48", "done 9"):
        assert words in text
    assert "<script>alert(1)</script>" in text and "U+202E" in text, "the server's words, as text"
    page = pages.get(f"/runs/{plan_id}").text
    assert 'id="live" data-refresh="5"' in page and '<noscript><meta http-equiv="refresh"' in page
    assert 'data-refresh="5"' in pages.get("/runs").text
    metrics = pages.get("/metrics")
    assert metrics.headers["content-type"].startswith("text/plain; version=0.0.4")
    families = {family.name: family for family in text_string_to_metric_families(metrics.text)}
    (flights,) = families["longmill_calls_in_flight"].samples
    labels = {"store": str(mill), "plan": plan_id, "recipe": "bench", "model": "policy"}
    assert (flights.labels, flights.value) == (labels, 48)
    (made, *_) = [sample for sample in families["longmill_calls"].samples if sample.labels["outcome"] == "made"]
    assert (made.name, made.value) == ("longmill_calls_total", 8_000_000)
    lease.release()
    assert "data-refresh" not in pages.get(f"/runs/{plan_id}").text and "killed" in text_of(pages, f"/runs/{plan_id}")


def test_only_a_browser_of_this_machine_with_the_token_is_let_in(pages: TestClient, tmp_path: Path) -> None:
    assert pages.get("/", headers={"host": "evil.example:8123"}).status_code == 403
    assert pages.get("/", headers={"host": "localhost:9000"}).status_code == 200, "a tunnel may have another port"
    fresh = TestClient(pages.app, base_url="http://127.0.0.1:8123")
    for path in ("/", "/view.js", f"/?token={TOKEN}x", f"/datasets/{VERSION}"):
        assert fresh.get(path).status_code == 403
    first = fresh.get(f"/datasets/{VERSION}?token={TOKEN}&x=1", follow_redirects=False)
    assert (first.status_code, first.headers["location"]) == (303, f"/datasets/{VERSION}?x=1")
    assert "HttpOnly" in first.headers["set-cookie"] and "SameSite=strict" in first.headers["set-cookie"]
    assert fresh.get("/view.js").status_code == 200
    program = TestClient(pages.app, base_url="http://127.0.0.1:8123")
    assert program.get("/metrics", headers={"authorization": f"Bearer {TOKEN}"}).status_code == 200
    assert program.get("/metrics", headers={"authorization": f"Bearer {TOKEN}x"}).status_code == 403
    policy = fresh.get("/").headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "script-src 'self'" in policy
