"""The console in a browser, on a server with keys that a proxy serves under a path."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from lab.browser import find_chromium, open_browser
from mask_store import MaskStore
from masking import Base, TaskSpec
from tests.support.models import random_bundle
from tests.support.serving import SPECS, TEXT, bundle_of, fill, listening, wait_until

pytest.importorskip("playwright", reason="needs playwright: pip install 'maskserve[browser]'")
Axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs the extra browser").Axe

from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, Request, Route, expect  # noqa: E402

CHROMIUM = find_chromium()
expect.set_options(timeout=30_000)  # a machine with other work is slow
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs a Chromium: apt-get install chromium")

PREFIX = "/nlp/v1"
CLIENT, ADMIN = "a client's key", "the admin's key"
HOSTILE = "<img src=x onerror=alert(1)>"
PAGES = {
    "": "Tasks",
    "tasks/sentiment": "sentiment",
    "memory": "Memory",
    "all": "Ask all tasks",
    "live": "Live",
    "nowhere": "Not found",
}
Open = Callable[..., Page]


@dataclass(frozen=True)
class Server:
    """A server that listens, and its store."""

    url: str
    store: MaskStore


@pytest.fixture(scope="module")
def server(base: Base, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    place = tmp_path_factory.mktemp("store")
    store = fill(place, base)
    store.publish(bundle_of(base, "sentiment", seed=1))
    spec = TaskSpec("sequence-classification", (HOSTILE, "<script>alert(2)</script>"), max_length=32)
    store.publish(random_bundle(base, spec, task="hostile"))
    with listening(base, place, root_path=PREFIX, api_keys=[CLIENT], admin_key=ADMIN) as url:
        yield Server(url, store)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    assert CHROMIUM is not None
    with open_browser(CHROMIUM) as browser:
        yield browser


@pytest.fixture
def visit(browser: Browser, server: Server) -> Iterator[Open]:
    """Opens a page of the console; what goes wrong in it fails the test."""
    wrong: list[str] = []
    contexts = []

    def visit(
        page: str = "",
        *,
        key: str | None = CLIENT,
        scheme: Any = "light",
        width: int = 1280,
        script: str = "",
    ) -> Page:
        context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
        contexts.append(context)
        if key is not None:
            context.add_init_script(
                f"sessionStorage.getItem('maskserve.key') ?? "
                f"sessionStorage.setItem('maskserve.key', {json.dumps(key)})"
            )
        context.add_init_script(script)
        opened = context.new_page()
        opened.on("pageerror", lambda error: wrong.append(f"{page}: {error}"))
        opened.on("console", lambda message: wrong.extend(_complaint(message)))
        opened.on("dialog", lambda dialog: wrong.append(f"{page}: a dialog says {dialog.message}"))
        opened.on("request", lambda request: wrong.extend(_elsewhere(request, server.url)))
        opened.goto(f"{server.url}{PREFIX}/ui#/{page}")
        expect(opened.locator("#health")).to_have_text("ready")
        return opened

    yield visit
    for context in contexts:
        context.close()
    assert wrong == []


def _complaint(message: ConsoleMessage) -> list[str]:
    """What a page reports, but for replies that tests provoke."""
    provoked = re.search(r"status of (401|404|409|422|503)", message.text)
    return [message.text] if message.type in ("error", "warning") and not provoked else []


def _elsewhere(request: Request, url: str) -> list[str]:
    inside = request.url.startswith((f"{url}{PREFIX}/", "blob:"))
    return [] if inside else [f"asked for {request.url}"]


def ask(server: Server, path: str, body: Any = None, *, key: str = ADMIN) -> Any:
    headers = {"authorization": f"Bearer {key}"}
    if body is None:
        reply = httpx.get(f"{server.url}/{path}", headers=headers)
    else:
        reply = httpx.post(f"{server.url}/{path}", headers=headers, json=body)
    assert reply.is_success, reply.text
    return reply.json()


def listed(server: Server) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = ask(server, "tasks")["tasks"]
    return found


def violations(page: Page) -> list[str]:
    found = Axe().run(page)
    return [
        f"{one['id']}: {[node['html'][:200] for node in one['nodes']]}"
        for one in found.response["violations"]
    ]


def answered(page: Page) -> Locator:
    """The answer of a task's page, once it is there."""
    page.get_by_role("button", name="Predict").click()
    answer = page.locator(".answer")
    expect(answer.locator(".timing")).to_be_visible()
    return answer


@pytest.mark.parametrize("page", PAGES)
def test_pages_can_be_read_by_everyone_in_light_and_dark_and_on_a_phone(visit: Open, page: str) -> None:
    opened = visit(page)
    expect(opened.get_by_role("heading", name=PAGES[page], level=1)).to_be_visible()
    expect(opened.locator(".skeleton, .blank")).to_have_count(0)
    for scheme, width in (("light", 1280), ("dark", 390)):
        opened.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        opened.set_viewport_size({"width": width, "height": 800})
        assert violations(opened) == []
        assert opened.evaluate("document.documentElement.scrollWidth") <= width


SHIFTS = """
window.shifted = 0;
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) window.shifted += entry.value;
}).observe({ type: "layout-shift", buffered: true });
"""


@pytest.mark.parametrize("page", PAGES)
def test_nothing_jumps_while_a_page_loads(visit: Open, page: str) -> None:
    for width in (1280, 390):
        opened = visit(page, width=width, script=SHIFTS)
        expect(opened.locator(".skeleton, .blank")).to_have_count(0)
        opened.evaluate("new Promise((painted) => requestAnimationFrame(() => setTimeout(painted)))")
        assert opened.evaluate("shifted") < 0.05


def test_columns_of_a_phone_are_one_below_the_other(visit: Open, server: Server) -> None:
    ask(server, "predict/sentiment", {"inputs": TEXT})
    for page, wanted in (("", 5), ("memory", 3)):
        opened = visit(page, width=390)
        expect(opened.locator("table.tasks tbody tr")).to_have_count(len(listed(server)))
        lefts = opened.locator("table.tasks td.number").evaluate_all(
            "cells => cells.map(cell => Math.round(cell.getBoundingClientRect().left))"
        )
        assert len(set(lefts)) == wanted


def test_answers_and_reports_can_be_read_by_everyone(visit: Open) -> None:
    for task in ("topics", "names", "relevance", "endings"):
        opened = visit(f"tasks/{task}", scheme="dark" if task == "names" else "light")
        answered(opened)
        assert violations(opened) == []


EVALUATION = {
    "metric": "accuracy",
    "examples": 100,
    "baseline": 0.4,
    "baseline_answer": "'good' for everything",
    "classes": [
        {"precision": 0.9, "recall": 0.75, "f1": 0.818, "count": 40},
        {"precision": 0.8, "recall": 0.95, "f1": 0.869, "count": 40},
        {"precision": None, "recall": 0.0, "f1": 0.0, "count": 20},
    ],
    "confusion": [[30, 8, 2], [1, 38, 1], [7, 13, 0]],
    "calibration_error": 0.031,
    "bins": [
        {"low": 0.5, "high": 0.6, "count": 12, "confidence": 0.55, "accuracy": 0.5},
        {"low": 0.9, "high": 1.0, "count": 88, "confidence": 0.97, "accuracy": 0.9},
    ],
}


def test_the_report_of_a_version_is_shown(visit: Open) -> None:
    def measured(route: Route) -> None:
        reply = route.fetch()
        labels = ["complimentary", "contradictory", "mixed"]
        route.fulfill(response=reply, json={**reply.json(), "evaluation": EVALUATION, "labels": labels})

    page = visit("memory")
    page.route("**/tasks/sentiment", measured)
    page.get_by_role("link", name="sentiment").click()
    expect(page.get_by_text("baseline 0.4000: 'good' for everything")).to_be_visible()
    cells = page.locator("table.confusion tbody tr").nth(2).locator("td").all_inner_texts()
    assert cells == ["7", "13", "0"]
    weakest = page.get_by_role("table", name="Precision").locator("tbody tr").first
    expect(weakest).to_contain_text("mixed")
    expect(page.get_by_role("img", name="Reliability")).to_be_visible()
    expect(page.get_by_text("calibration error 3.1 %")).to_be_visible()
    page.set_viewport_size({"width": 390, "height": 800})
    lines = page.locator("table.confusion thead th").evaluate_all(
        """heads => heads.map((head) => {
            const text = new Range();
            text.selectNodeContents(head);
            return text.getClientRects().length;
        })"""
    )
    assert lines == [1, 1, 1]  # no word is cut
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        assert violations(page) == []


@pytest.mark.parametrize("task", ["sentiment", "paraphrase", "topics"])
def test_scores_are_shown_best_first(visit: Open, server: Server, task: str) -> None:
    page = visit(f"tasks/{task}")
    answer = answered(page)
    body = ask(server, f"tasks/{task}")["example"]
    expected = sorted(ask(server, f"predict/{task}", body), key=lambda entry: -entry["score"])
    names = answer.locator(".bar-name").all_inner_texts()
    assert [name.partition("✓")[0].strip() for name in names] == [entry["label"] for entry in expected]
    assert answer.locator(".bar-value").first.inner_text() == f"{expected[0]['score'] * 100:.1f} %"
    given = [entry["label"] for entry in expected if entry.get("predicted")]
    assert answer.locator(".given").count() == len(given)


def test_entities_are_marked_where_they_are(visit: Open, server: Server) -> None:
    text = "😀 👍🏽 anna works in paris"  # characters of two UTF-16 units before the words
    found = ask(server, "predict/names", {"inputs": text, "parameters": {}})
    assert found, "the random task finds nothing: take another text"
    page = visit("tasks/names")
    page.get_by_label("Text", exact=True).fill(text)
    marks = answered(page).locator("mark").all_inner_texts()
    assert [mark.split() for mark in marks] == [[*one["word"].split(), one["entity_group"]] for one in found]


def test_choices_can_be_added_and_are_ranked(visit: Open, server: Server) -> None:
    page = visit("tasks/endings")
    page.get_by_role("button", name="Add a choice").click()
    page.get_by_label("Choice 3", exact=True).fill("the film was bad")
    context = page.get_by_label("Context").input_value()
    choices = [page.get_by_label(f"Choice {number}", exact=True).input_value() for number in (1, 2, 3)]
    expected = ask(server, "predict/endings", {"context": context, "choices": choices})
    answer = answered(page)
    assert answer.locator(".bar-name").all_inner_texts() == [entry["text"] for entry in expected]
    page.get_by_role("button", name="Remove choice 3").click()
    expect(page.get_by_label("Choice 3", exact=True)).to_have_count(0)


def test_values_and_ranks_are_shown(visit: Open, server: Server) -> None:
    page = visit("tasks/rating")
    (value,) = ask(server, "predict/rating", {"inputs": page.get_by_label("Text", exact=True).input_value()})
    assert float(answered(page).locator("dd").inner_text()) == pytest.approx(value["score"], rel=1e-3)
    page = visit("tasks/relevance")
    page.get_by_label("Document 2", exact=True).fill("it rains")
    body = {"query": page.get_by_label("Query").input_value(), "return_text": True}
    body["texts"] = [page.get_by_label(f"Document {one}", exact=True).input_value() for one in (1, 2)]
    expected = ask(server, "predict/relevance/rerank", body)
    assert answered(page).locator(".bar-name").all_inner_texts() == [one["text"] for one in expected]


def test_embeddings_are_compared(visit: Open, server: Server) -> None:
    details = {**ask(server, "tasks/sentiment"), "kind": "embedding", "example": {"inputs": "a film"}}
    page = visit("memory")
    page.route("**/tasks/sentiment", lambda route: route.fulfill(json=details))
    page.route("**/predict/sentiment/similarity", lambda route: route.fulfill(json=[0.25, 0.75]))
    page.get_by_role("link", name="sentiment").click()
    expect(page.get_by_label("Sentence 1", exact=True)).not_to_have_value("")
    page.get_by_label("Sentence 1", exact=True).fill("rain")
    page.get_by_label("Sentence 2", exact=True).fill("a movie")
    with page.expect_request("**/similarity") as sent:
        page.get_by_role("button", name="Predict").click()
    assert sent.value.post_data_json == {
        "inputs": {"source_sentence": "a film", "sentences": ["rain", "a movie"]}
    }
    expect(page.locator(".bar-name")).to_have_text(["a movie", "rain"])
    expect(page.locator(".bar-value")).to_have_text(["0.750", "0.250"])


def test_a_kind_that_the_page_does_not_know_takes_and_shows_json(visit: Open, server: Server) -> None:
    details = {**ask(server, "tasks/sentiment"), "kind": "something-new", "example": {"inputs": "good"}}
    page = visit("memory")
    page.route("**/tasks/sentiment", lambda route: route.fulfill(json=details))
    page.get_by_role("link", name="sentiment").click()
    page.get_by_label("Body of POST /predict/sentiment").fill("{no json")
    page.get_by_role("button", name="Predict").click()
    expect(page.get_by_role("alert")).to_contain_text("This is not JSON")
    page.get_by_label("Body of POST /predict/sentiment").fill('{"inputs": "good"}')
    assert '"label": "mixed"' in answered(page).inner_text()


def test_a_refused_text_says_why_and_the_page_goes_on(visit: Open) -> None:
    page = visit("tasks/sentiment")
    page.get_by_label("Text", exact=True).fill("good " * 100)
    with page.expect_response(lambda reply: reply.status == 422):
        page.get_by_role("button", name="Predict").click()
    expect(page.get_by_role("alert")).to_contain_text("this task takes at most 32")
    page.get_by_label("Text", exact=True).fill("good")
    answered(page)


@pytest.mark.parametrize("language", ["curl", "Python"])
def test_the_request_to_copy_is_the_one_that_was_made(visit: Open, language: str) -> None:
    page = visit("tasks/sentiment")
    page.get_by_label("Text", exact=True).fill('it\'s "good"\\ 😀')
    page.get_by_role("button", name=language, exact=True).click()
    code = page.locator("pre.code").inner_text()
    assert f"{PREFIX}/predict/sentiment" in code
    assert CLIENT not in code
    assert "Bearer YOUR_KEY" in code
    if language == "curl":
        body = code.split("-d '")[1].rstrip("'").replace("'\\''", "'")
        assert json.loads(body) == {"inputs": 'it\'s "good"\\ 😀'}
    else:
        compile(code, "snippet", "exec")
        assert '"inputs": "it\'s \\"good\\"\\\\ 😀"' in code


def test_texts_of_a_store_are_never_markup(visit: Open) -> None:
    page = visit("tasks/hostile")
    expect(page.get_by_text(HOSTILE).first).to_be_visible()
    assert HOSTILE in answered(page).inner_text()
    assert page.locator("main img, main script").count() == 0
    page.goto(page.url.split("#")[0] + f"#/tasks/{HOSTILE}")
    expect(page.get_by_role("alert")).to_contain_text("unknown task")
    assert page.locator("main img, main script").count() == 0


def test_the_key_is_asked_for_and_forgotten(visit: Open) -> None:
    page = visit(key=None)
    page.get_by_role("button", name="Enter a key").click()
    page.get_by_label("Client key or admin key").fill("wrong")
    page.get_by_role("button", name="Use this key").click()
    expect(page.get_by_text("The server does not take this key")).to_be_visible()
    expect(page.get_by_label("Filter tasks")).to_be_hidden()
    page.get_by_role("button", name="Enter another key").click()
    assert violations(page) == []
    page.get_by_label("Client key or admin key").fill(CLIENT)
    page.keyboard.press("Enter")
    expect(page.get_by_role("row")).to_have_count(1 + len(SPECS) + 1)
    assert page.evaluate("JSON.stringify(localStorage)").find(CLIENT) == -1
    page.get_by_role("button", name="Key: entered").click()
    page.get_by_role("button", name="Forget the key").click()
    expect(page.get_by_role("button", name="Enter a key")).to_be_visible()


def _confirm(page: Page, action: str) -> None:
    page.get_by_role("dialog").get_by_role("button", name=action).click()


def test_versions_are_compared_pinned_and_rolled_back(visit: Open, server: Server) -> None:
    page = visit("tasks/sentiment")
    rows = page.locator("table.versions tbody tr")
    expect(rows).to_have_count(2)
    page.get_by_role("button", name="Compare version 1").click()
    differing = ask(server, "tasks/sentiment/versions/2/diff?to=1")["differing"]
    expect(page.locator(".difference")).to_contain_text(f"{differing:,} of")
    page.get_by_role("button", name="Pin the task to version 1").click()
    _confirm(page, "Cancel")
    page.get_by_role("button", name="Pin the task to version 1").click()
    _confirm(page, "Pin to version 1")
    page.get_by_label("Client key or admin key").fill(ADMIN)  # the client's key is not enough
    _confirm(page, "Use this key")
    expect(page.get_by_text("Pinned to version 1, whatever is current.")).to_be_visible()
    assert "version 1" in answered(page).inner_text()
    page.get_by_role("button", name="Unpin").click()
    expect(rows.first).to_contain_text("served")
    page.get_by_role("button", name="Make version 1 current").click()
    _confirm(page, "Make version 1 current")
    expect(rows.last).to_contain_text("current")
    expect(rows.last).to_contain_text("served")
    assert server.store.current("sentiment").number == 1
    ask(server, "tasks/sentiment/rollback", {"version": 2})


def test_versions_share_requests_and_one_is_promoted(visit: Open, server: Server) -> None:
    page = visit("tasks/sentiment", key=ADMIN)
    page.get_by_role("button", name="Give version 1 a share of the requests").click()
    page.get_by_label("Per cent of the requests").fill("25")
    _confirm(page, "Share requests")
    notice = page.get_by_label("Traffic")
    expect(notice).to_contain_text("Version 1 gets 25 %")
    expect(notice).to_contain_text("nothing was compared yet")
    for _ in range(8):
        ask(server, "predict/sentiment", {"inputs": TEXT})
    wait_until(lambda: ask(server, "tasks/sentiment/traffic")["shadow"]["rows"] >= 5)
    page.reload()
    expect(notice).to_contain_text("inputs; scores differ by")
    expect(page.locator("table.versions tbody tr").last).to_contain_text("shadow")
    expect(page.get_by_role("button", name="Make version 1 current")).to_be_disabled()
    assert violations(page) == []
    page.get_by_role("button", name="Abort").click()
    _confirm(page, "Return to version 2")
    expect(page.get_by_text("Traffic was aborted: by an operator")).to_be_visible()
    page.get_by_role("button", name="Give version 1 a share of the requests").click()
    _confirm(page, "Share requests")
    page.get_by_role("button", name="Promote v1").click()
    _confirm(page, "Promote version 1")
    expect(page.locator("table.versions tbody tr").last).to_contain_text("served")
    assert server.store.current("sentiment").number == 1
    ask(server, "tasks/sentiment/rollback", {"version": 2})


def test_a_version_that_is_a_shadow_alone_is_shown_without_a_share(visit: Open, server: Server) -> None:
    headers = {"authorization": f"Bearer {ADMIN}"}
    url, plan = f"{server.url}/tasks/sentiment/traffic", {"weights": {"2": 100}, "shadow": 1}
    httpx.put(url, json=plan, headers=headers, timeout=30).raise_for_status()
    page = visit("tasks/sentiment")
    expect(page.get_by_label("Traffic")).to_contain_text("Version 2 gets 100 % (0 inputs here)")
    expect(page.get_by_label("Traffic")).not_to_contain_text("Version 1 gets")
    last = page.locator("table.versions tbody tr").last
    expect(last).to_contain_text("shadow")
    expect(last).not_to_contain_text("%")
    httpx.post(f"{url}/abort", headers=headers, timeout=30).raise_for_status()


def test_a_change_that_is_refused_after_the_key_was_given_says_why(visit: Open) -> None:
    replies = iter([(401, "a key is needed"), (409, "the store is locked")])

    def refuse(route: Route) -> None:
        status, error = next(replies)
        route.fulfill(status=status, json={"error": error})

    page = visit("tasks/sentiment")
    page.route("**/pin", refuse)
    page.get_by_role("button", name="Pin the task to version 1").click()
    _confirm(page, "Pin to version 1")
    page.get_by_label("Client key or admin key").fill(ADMIN)
    _confirm(page, "Use this key")
    expect(page.get_by_text("the store is locked")).to_be_visible()


def test_a_task_that_is_not_served_can_be_loaded(visit: Open, server: Server) -> None:
    ask(server, "tasks/rating/unload", {})
    page = visit(key=ADMIN)
    expect(page.get_by_text("1 unloaded")).to_be_visible()
    expect(page.locator("main .problem, main .bad")).to_have_count(0)
    page.get_by_role("link", name="rating").click()
    expect(page.get_by_role("alert")).to_contain_text("is unloaded")
    page.get_by_role("button", name="Load it").click()
    answered(page)


def test_many_tasks_are_filtered_and_sorted(visit: Open, server: Server) -> None:
    (one, *_) = listed(server)

    def thousands(route: Route) -> None:
        tasks = [{**one, "task": f"task-{n}", "bytes": n, "problem": None} for n in range(3000)]
        route.fulfill(json={"tasks": tasks, "not_served": []})

    page = visit("live")
    page.route("**/tasks", thousands)
    page.get_by_role("link", name="Tasks").click()
    rows = page.locator("table.tasks tbody tr")
    expect(rows).to_have_count(100)
    page.get_by_role("button", name="Show 100 more").click()
    expect(rows).to_have_count(200)
    page.get_by_role("button", name="Bytes").click()
    expect(rows.first).to_contain_text("task-2999")
    page.get_by_label("Filter tasks").fill("task-1234")
    expect(rows).to_have_count(1)
    page.get_by_label("Filter tasks").fill("nothing of this")
    expect(page.get_by_text("Nothing matches")).to_be_visible()


def test_one_text_is_asked_of_all_tasks(visit: Open, server: Server) -> None:
    page = visit("all")
    page.get_by_text("Second text, and choices").click()
    page.get_by_label("Second text").fill("he is here")
    expect(page.get_by_text("pairs need a second text")).to_have_count(0)
    expect(page.get_by_text("multiple choice needs choices")).to_be_visible()
    page.get_by_label("Choices").fill("good\nbad")
    count = len([task for task in listed(server) if task["kind"] != "embedding"])
    page.get_by_role("button", name=f"Ask {count} tasks").click()
    expect(page.get_by_text(f"{count} answers in")).to_be_visible()
    results = page.locator("article.result")
    assert results.count() == count > 1
    expect(results.locator(".problem")).to_have_count(0)
    body = {"inputs": page.get_by_label("Text", exact=True).input_value(), "truncate": True}
    best = max(ask(server, "predict/sentiment", body), key=lambda entry: entry["score"])
    expect(results.filter(has_text="sentiment").locator(".best .bar-name")).to_have_text(best["label"])
    assert violations(page) == []


def test_what_happens_is_seen_live(visit: Open, server: Server) -> None:
    page = visit("live")
    expect(page.get_by_text("No batch since the last look.")).to_be_visible(timeout=10_000)
    for _ in range(20):
        ask(server, "predict/sentiment", {"inputs": "good"})
    expect(page.get_by_text("nothing more waited")).to_be_visible(timeout=10_000)
    assert page.locator(".sparkline-line").count() > 0


def test_memory_is_drawn_to_scale(visit: Open, server: Server) -> None:
    page = visit("memory")
    report = ask(server, "memory")
    expect(page.locator("rect.copy")).to_have_count(len(report["tasks"]))
    expect(page.locator("rect.mask")).to_have_count(len(report["tasks"]))
    widths = page.locator("rect.base, rect.mask").evaluate_all(
        "shapes => shapes.map(shape => parseFloat(shape.getAttribute('width')))"
    )
    share = report["total"]["resident_bytes"] / report["finetuned"]["bytes"]
    assert sum(widths) == pytest.approx(100 * share, rel=1e-3)


def test_memory_of_versions_side_by_side_is_shown(visit: Open, server: Server) -> None:
    headers = {"authorization": f"Bearer {ADMIN}"}
    url, plan = f"{server.url}/tasks/sentiment/traffic", {"weights": {"2": 100}, "shadow": 1}
    httpx.put(url, json=plan, headers=headers, timeout=30).raise_for_status()
    page = visit("memory")
    tasks = len(ask(server, "tasks")["tasks"])
    expect(page.locator("rect.copy")).to_have_count(tasks + 1)
    rows = page.get_by_role("table", name="Bytes of each task").locator("tbody tr")
    expect(rows).to_have_count(tasks + 1)
    for number in (1, 2):
        expect(rows.filter(has_text=f"sentimentversion {number}")).to_have_count(1)
    httpx.post(f"{url}/abort", headers=headers, timeout=30).raise_for_status()


def test_a_server_without_tasks_says_what_to_do(visit: Open, server: Server) -> None:
    memory = {**ask(server, "memory"), "tasks": {}}
    memory["finetuned"] = {"copies": 0, "bytes": 0, "ratio": None, "ratio_in_precision": None}
    page = visit("live")
    page.route("**/tasks", lambda route: route.fulfill(json={"tasks": [], "not_served": []}))
    page.route("**/memory", lambda route: route.fulfill(json=memory))
    for name in ("Memory", "Ask all"):
        page.get_by_role("link", name=name, exact=True).click()
        expect(page.get_by_text("No task is served")).to_be_visible()
        page.locator(".empty").get_by_role("link", name="Tasks").click()
        expect(page.get_by_text("maskserve learn")).to_be_visible()
        expect(page.get_by_label("Filter tasks")).to_be_hidden()
        assert violations(page) == []


def test_a_server_that_goes_away_leaves_what_it_said_and_comes_back(visit: Open, server: Server) -> None:
    page = visit()
    rows = page.locator("table.tasks tbody tr")
    expect(rows).to_have_count(len(listed(server)))
    page.route("**/tasks", lambda route: route.fulfill(status=503, json={"error": "it restarts."}))
    expect(page.get_by_text("it restarts. Below is what it said last.")).to_be_visible()
    expect(rows).to_have_count(len(listed(server)))
    page.unroute("**/tasks")
    expect(page.locator(".toolbar p")).to_have_text(f"{len(listed(server))} tasks")
    page.route("**/tasks", lambda route: route.fulfill(status=503, json={"error": "it restarts."}))
    page.reload()
    expect(page.get_by_role("alert")).to_contain_text("This page tries again by itself.")
    page.unroute("**/tasks")
    expect(rows).to_have_count(len(listed(server)))
    expect(page.locator(".tiles, .toolbar").first).to_be_visible()


def test_a_long_text_leaves_the_page_short(visit: Open) -> None:
    page = visit("tasks/sentiment")
    page.get_by_label("Text", exact=True).fill("good " * 5000)
    assert page.locator("pre.code").evaluate("code => code.clientHeight") <= 320


def test_colours_are_chosen_and_kept(visit: Open) -> None:
    page = visit()
    background = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(background)
    for wanted in ("light", "dark"):
        page.get_by_role("button", name="Colours").click()
        expect(page.get_by_role("button", name=f"Colours: {wanted}")).to_be_visible()
    assert page.evaluate(background) != light
    page.route("**/main.js", lambda route: route.fulfill(content_type="text/javascript", body=""))
    page.reload()  # they are there before the page's work begins
    assert page.evaluate(background) != light


def test_the_keyboard_is_enough(visit: Open) -> None:
    page = visit()
    expect(page.locator("table.tasks")).to_be_visible()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    page.get_by_role("link", name="endings").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="endings")).to_be_visible()
    assert page.title() == "endings · maskserve"
    page.get_by_label("Context").press("Control+Enter")
    expect(page.locator(".timing")).to_be_visible()


def test_an_address_without_a_path_leads_to_the_page(browser: Browser, server: Server) -> None:
    page = browser.new_page()
    page.goto(f"{server.url}{PREFIX}/")
    assert page.url.rstrip("#/") == f"{server.url}{PREFIX}/ui"
    page.close()


def test_all_of_it_is_light(visit: Open) -> None:
    page = visit("tasks/sentiment")
    answered(page)
    sizes = page.evaluate("performance.getEntriesByType('resource').map(entry => entry.transferSize)")
    assert len(sizes) > 20
    assert sum(sizes) < 200_000
