"""registry/index.html in headless Chromium, from disk and with the network off.

Skipped without Chromium, unless BENCH_REQUIRE_BROWSER is set.
"""

import collections
import csv
import io
import os
import re
import shutil
from urllib.parse import parse_qs

import pytest
from report_page import ROOT, SHOWN, boards, further_board, hostile_board, many_rows, tables

from bench.core.tasks import FURTHER_TASKS
from bench.metrics import short_title
from bench.report.content import row_id, row_key
from bench.report.page import web_page

playwright = pytest.importorskip("playwright.sync_api")

PAGE = (ROOT / "registry/index.html").as_uri()
ROWS = ".scroll:not(.published) tbody tr:not(.detail)"
INSTALL = "install it: apt-get install chromium"
NAMES = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="module")
def browser():
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        if os.environ.get("BENCH_REQUIRE_BROWSER"):
            pytest.fail(
                "Chromium is required here and missing; install it: apt-get install chromium"
            )
        pytest.skip(f"no Chromium here; {INSTALL}")
    arguments = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=found, args=arguments)
        yield opened
        opened.close()


def written(folder, count):
    """The address of a page of so many rows."""
    board, exhibits, originals = many_rows(count)
    path = folder / "many.html"
    path.write_text(web_page([board], exhibits, originals), encoding="utf-8")
    return path.as_uri()


@pytest.fixture
def opened(browser):
    """Opens a page; fails if one said something on the console or asked for anything."""
    contexts, problems = [], []

    def open_page(address=PAGE, **settings):
        settings = {"viewport": {"width": 1440, "height": 900}, "offline": True, **settings}
        context = browser.new_context(**settings)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)  # far above what it takes, also on a busy machine
        page.on("console", lambda message: problems.append(message.text))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("dialog", lambda dialog: problems.append(f"dialog {dialog.message}"))
        page.on("request", lambda request: asked(request.url, address))
        page.goto(address)
        return page

    def asked(url, address):
        if (
            not url.startswith(("data:", "blob:"))
            and url.partition("#")[0] != address.partition("#")[0]
        ):
            problems.append(f"asked for {url}")

    yield open_page
    for context in contexts:
        context.close()
    assert problems == []


def shown(page, query=f"{ROWS} .name"):
    """The texts of the elements that are visible."""
    return page.eval_on_selector_all(
        query, "found => found.filter(e => e.offsetParent).map(e => e.innerText.trim())"
    )


def column(page, title):
    """The values of a column in the first board, in the order shown."""
    return page.evaluate(
        """title => {
          const table = document.querySelector("table");
          const at = [...table.tHead.rows[0].cells].findIndex(c => c.textContent === title);
          const rows = [...table.querySelectorAll("tbody tr:not(.detail)")];
          return rows.map(row => row.cells[at].dataset.v);
        }""",
        title,
    )


def view(page):
    return {key: values[0] for key, values in parse_qs(page.url.partition("#")[2]).items()}


def test_it_opens_and_shows_every_row(opened):
    page = opened()
    assert len(shown(page)) == sum(len(cells) for board in boards() for cells in tables(board))


def test_without_javascript_the_table_stands_in_the_order_of_the_mean(opened):
    page = opened(java_script_enabled=False)
    names = page.locator(f"{ROWS} .name").all_inner_texts()
    ordered = sorted(boards(), key=lambda board: board.protocol != "quick")
    assert names == [cell.row for b in ordered for cells in tables(b) for cell in cells]
    assert not page.locator("#controls").is_visible()
    assert page.locator(".wall .size h5").first.is_visible()
    assert page.locator("svg .pt").count() > 30


def test_sorting_by_a_column(opened):
    page = opened()
    before = column(page, "over PCA")
    head = page.locator("table").first.locator("th", has_text="over PCA")
    head.locator("button").focus()
    page.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "ascending"
    values = [float(value) for value in column(page, "over PCA") if value]
    assert values == sorted(values) and column(page, "over PCA")[-1] is None  # pca has none
    page.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "descending"
    values = [float(value) for value in column(page, "over PCA") if value]
    assert values == sorted(values, reverse=True) and column(page, "over PCA")[-1] is None
    page.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") is None
    assert column(page, "over PCA") == before


def test_every_column_sorts(opened, tmp_path):
    page = opened(written(tmp_path, 40))
    page.click("#all")
    heads = page.locator("table").first.locator("thead th")
    for number in range(heads.count()):
        heads.nth(number).locator("button").click()
        assert heads.nth(number).get_attribute("aria-sort") == "ascending"
    assert page.locator("th[aria-sort]:visible").count() >= 1


def test_filter_and_chips(opened):
    page = opened()
    page.fill("#q", "cnn")
    names = shown(page)
    assert names and all("cnn" in name for name in names)
    page.fill("#q", "worse pca vae")
    assert set(shown(page)) == {"vae", "beta_vae"}
    page.fill("#q", "")
    page.click("#chips button[name=size][value='8']")
    assert set(shown(page, f"{ROWS} td:first-child")) == {"8"}
    page.click("#chips button[name=task][value=reconstruction]")
    page.click("#chips button[name=dataset][value=mnist]")
    page.click("#chips button[name=protocol][value=mnist]")
    assert set(shown(page, "h2")) == {"mnist on mnist"}
    assert page.locator("#chips button[name=protocol][value=quick]").is_disabled()
    assert (
        page.locator("#chips button[name=size][value='8']").get_attribute("aria-pressed") == "true"
    )
    pressed = {"dataset": "mnist", "protocol": "mnist", "size": "8", "task": "reconstruction"}
    assert view(page) == pressed
    page.fill("#q", "no such row")
    assert shown(page) == [] and page.locator("#none").is_visible()


def test_points_follow_the_filter(opened):
    page = opened()
    assert page.locator("svg .pt:visible").count() > 30
    page.fill("#q", "fc_ae")
    kept = page.eval_on_selector_all("svg .pt:not(.off)", "all => all.map(e => e.dataset.row)")
    rows = page.eval_on_selector_all(f"{ROWS}:not([hidden])", "all => all.map(e => e.id)")
    assert kept and set(kept) <= set(rows)


def test_a_row_opens_and_closes(opened):
    (quick,) = [board for board in boards() if board.protocol == "quick"]
    cell = next(cell for cell in quick.cells if cell.row == "fc_ae")
    page = opened()
    button = page.locator(f"[id='{row_id(cell)}'] .name button")
    button.focus()
    page.keyboard.press("Enter")
    assert button.get_attribute("aria-expanded") == "true"
    said = page.locator(f"[id='{row_id(cell)}-detail']").inner_text()
    wanted = [cell.rows_digest, cell.board.protocol_fingerprint, cell.configuration, "256 bits"]
    wanted += ["bench run --protocol quick --model fc_ae --latent-dim 8", "SSIM Gaussian"]
    wanted += ["the highest mean validation error of its seeds"]
    assert [text for text in wanted if text not in said] == []
    assert page.locator(".detail svg polyline").count() == len(cell.seeds)
    button.click()
    assert button.get_attribute("aria-expanded") == "false"
    assert not page.locator(".detail").is_visible()
    assert view(page) == {}


def test_an_opened_row_folds_what_further_tasks_measure(opened):
    page = opened()
    page.locator(f"{ROWS} .name button").first.click()
    detail = page.locator(".detail:visible")
    assert "MSE at 8 bits" in detail.inner_text()
    assert short_title("probe_accuracy") not in detail.inner_text()
    folded = detail.locator("summary").all_inner_texts()
    assert folded == [f"{task.title}: validation | test" for task in FURTHER_TASKS.values()]
    detail.locator("summary").first.click()
    assert short_title("probe_accuracy") in detail.inner_text()


def test_no_table_is_cut_off_on_a_wide_screen(opened):
    page = opened()
    wide = page.eval_on_selector_all(
        ".scroll", "all => all.filter(e => e.scrollWidth > e.clientWidth).length"
    )
    assert wide == 0


def test_the_view_is_restored_from_the_hash(opened):
    page = opened()
    page.fill("#q", "ae")
    page.click("#chips button[name=size][value='32']")
    page.locator("table").first.get_by_role("button", name="test SSIM", exact=True).click()
    page.locator(f"{ROWS}:not([hidden]) .name button").nth(2).click()
    page.click("#all")
    page.locator(".sizes button", has_text="Code size 32").first.click()
    before, address = shown(page, "tbody tr"), page.url
    again = opened(address)
    assert shown(again, "tbody tr") == before
    assert again.input_value("#q") == "ae"
    assert again.locator(".detail:visible").count() == 1
    assert again.locator("#all").get_attribute("aria-pressed") == "true"
    assert again.locator("th[aria-sort=ascending]").first.inner_text().startswith("test SSIM")
    page.evaluate("location.hash = ''")  # a link to another view, or the way back
    page.wait_for_function("document.getElementById('q').value === ''")
    assert len(shown(page)) > len(shown(again))


def test_points_mark_their_row_and_lead_to_it(opened):
    page = opened()
    point = page.locator("svg a.pt").first
    row = page.locator(f"[id='{point.get_attribute('data-row')}']")
    point.focus()
    assert "on" in (row.get_attribute("class") or "")
    assert "test MSE" in page.locator(".readout").first.inner_text()
    marked = page.locator(".on[data-row]").count()
    assert marked >= 3  # in three pictures and on the wall
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.closest('tr')?.id") == row.get_attribute("id")
    assert row.is_visible() and view(page) == {}
    row.hover()
    assert "on" in point.get_attribute("class")


def test_the_wall_shows_the_same_images_at_a_chosen_size(opened):
    page = opened()
    wall = page.locator(".wall .panel[data-title=Reconstructions]").first
    for size in ("Code size 8", "Code size 32"):
        wall.locator(".sizes button", has_text=size).filter(
            has_text=re.compile(f"^{size}$")
        ).click()
        images = wall.locator(".size:visible .strip img")
        (quick,) = [board for board in boards() if board.protocol == "quick"]
        names = [cell.row for cell in quick.cells if cell.track.heading == size]
        assert wall.locator(".size:visible .strip a").all_inner_texts() == names
        sizes = images.evaluate_all("all => all.map(e => [e.naturalWidth, e.naturalHeight])")
        ((width, height),) = {tuple(size) for size in sizes}
        assert len(sizes) == len(names)
        # As many of the 24 images as the size of the page leaves room for.
        assert height == 28 and width % 28 == 0 and 8 <= width // 28 <= 24
        alternative = images.first.get_attribute("alt")
        assert alternative.startswith(f"Reconstructions of {names[0]}") and size in alternative


def test_the_wall_opens_at_the_size_with_the_most_rows(opened):
    page = opened(f"{PAGE}#protocol=fashion_mnist")
    wall = page.locator(".board:visible .wall .panel[data-title=Reconstructions]").first
    (full,) = [board for board in boards() if board.protocol == "fashion_mnist"]
    rows = collections.Counter(cell.track.heading for cell in full.cells)
    most = [size for size, count in rows.items() if count == max(rows.values())]
    assert wall.locator(".sizes [aria-pressed=true]").inner_text() == most[0]
    page = opened(f"{PAGE}#protocol=quick")  # as many rows of each size
    wall = page.locator(".board:visible .wall .panel[data-title=Reconstructions]").first
    assert wall.locator(".sizes [aria-pressed=true]").inner_text() == "Code size 8"


def test_csv_in_full_precision(opened):
    page = opened(f"{PAGE}#protocol=quick")
    page.fill("#q", "rae")
    with page.expect_download() as found:
        page.click("#csv")
    assert found.value.suggested_filename == "bench.csv"
    rows = list(csv.DictReader(io.StringIO(found.value.path().read_text(encoding="utf-8"))))
    (quick,) = [board for board in boards() if board.protocol == "quick"]
    cells = [cell for found in tables(quick) for cell in found if cell.row == "rae"]
    assert [row["row"] for row in rows] == ["rae"] * 2 * (1 + len(FURTHER_TASKS))
    for row, cell in zip(rows, cells, strict=True):
        assert float(row["test_mse"]) == pytest.approx(cell.mean("test_mse"), rel=1e-8)
        assert row["hyperparameters"] == cell.hyperparameters  # with commas
        assert row["selection_metric"] == cell.selection_metric


def test_copy_as_markdown(opened):
    page = opened(f"{PAGE}#protocol=quick", permissions=["clipboard-read", "clipboard-write"])
    page.fill("#q", "rae")
    page.click("#md")
    said = playwright.expect(page.locator("#said"))
    said.to_have_text(f"Copied {2 * (1 + len(FURTHER_TASKS))} rows")
    where = "## quick on fashion_mnist_mini"
    lines = page.evaluate("navigator.clipboard.readText()").splitlines()
    headings = [line for line in lines if line.startswith("#")]
    assert headings == [where, *(f"{where}: {task}" for task in FURTHER_TASKS)]
    page.click("#chips button[name=task][value=reconstruction]")
    page.click("#md")
    said.to_have_text("Copied 2 rows")
    text = page.evaluate("navigator.clipboard.readText()")
    lines = text.splitlines()
    assert lines[0] == where
    assert lines[2].startswith("| code size | ranks | variant | validation MSE | 95 % interval |")
    assert lines[3].startswith("|--:|--:|---|--:|")
    assert len(lines) == 6 and all(line.count("|") == lines[2].count("|") for line in lines[2:])
    assert "| rae | 0.01508 ± 0.00007 |" in text.replace("▸ ", "")
    page.click("#chips button[name=task][value=generation]")
    page.click("#md")
    said.to_have_text("Copied 2 rows")
    lines = page.evaluate("navigator.clipboard.readText()").splitlines()
    assert [line.split("|")[3].strip() for line in lines[-2:]] == ["real images", "the mean image"]
    assert len(lines) == 8 and all(line.count("|") == lines[2].count("|") for line in lines[2:])


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_needs_no_sideways_scrolling(opened, scheme):
    page = opened(viewport={"width": 390, "height": 844}, color_scheme=scheme)
    page.locator(".name button").first.click()
    page.locator(".name button", has_text="cnn_ae").nth(1).click()  # with more digits
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    over = page.eval_on_selector_all(
        ".detail .groups, .answer, #chips, .hint, h1, figcaption",
        "all => all.filter(e => e.offsetParent && e.getBoundingClientRect().right > 390).length",
    )
    assert over == 0
    assert page.eval_on_selector(".scroll", "table => table.scrollWidth - table.clientWidth") <= 0
    outside = page.eval_on_selector_all(
        ".detail svg text, .panels svg rect:not(.hit)",
        """all => all.filter(e => e.checkVisibility()).map(e => [
          e.getBoundingClientRect(), e.ownerSVGElement.getBoundingClientRect()
        ]).filter(([e, svg]) => e.left < svg.left || e.right > Math.min(svg.right + 1, 390)).length
        """,
    )
    assert outside == 0
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    brightness = sum(map(int, re.findall(r"\d+", paper)[:3]))
    assert (brightness > 600) == (scheme == "light")


def test_print_has_no_controls_and_is_light(opened):
    page = opened(color_scheme="dark")
    explained = page.locator("header details p")
    assert not explained.is_visible()
    page.emulate_media(media="print")
    assert explained.is_visible()
    assert not page.locator("#controls").is_visible()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.locator("table").first.is_visible()


def test_further_tasks_are_boards_of_their_own(opened, tmp_path):
    path = tmp_path / "further.html"
    path.write_text(web_page([further_board()], {}, {}), encoding="utf-8")
    page = opened(path.as_uri())
    page.click("#chips button[value=representation]")
    assert shown(page, "h2") == ["quick on fashion_mnist_mini: representation"]
    assert page.locator("svg .pt:visible").count() > 20
    page.locator(".name button:visible").first.click()
    assert short_title("probe_accuracy") in page.locator(".detail:visible").inner_text()
    page.click("#chips button[value=cost]")
    assert shown(page, "h2") == ["quick on fashion_mnist_mini: cost"]
    assert page.locator("figure:visible").count() == 0


def test_hostile_names_are_text(opened, tmp_path):
    board, exhibit = hostile_board()
    path = tmp_path / "hostile.html"
    path.write_text(web_page([board], {row_key(board.cells[0]): exhibit}, {}), encoding="utf-8")
    page = opened(path.as_uri())
    name = page.locator(".name button").first
    assert name.inner_text() == SHOWN
    name.click()
    assert page.locator(".detail code").inner_text() == SHOWN
    assert page.locator(".badge").first.inner_text() == SHOWN
    page.fill("#q", "onerror")
    assert len(shown(page)) == 1
    assert page.locator("img[src='x']").count() == 0


def test_500_rows_are_usable(opened, tmp_path):
    page = opened(written(tmp_path, 500))
    assert len(shown(page)) == 500
    page.locator("th button", has_text="test MSE").first.click()
    page.fill("#q", "_17")
    found = shown(page)
    assert len(found) == 11  # 17, 170 to 179
