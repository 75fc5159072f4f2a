"""registry/index.html: the same bytes on every clone, pictures as they are, names made safe."""

import dataclasses
import io
import itertools
import json
import math
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest
from invented import disagreeing, write
from PIL import Image
from registry_store import tiny_protocol
from report_page import (
    HOSTILE,
    ROOT,
    SHOWN,
    boards,
    further_board,
    hostile_board,
    many_rows,
    tables,
)
from typer.testing import CliRunner

from bench.cli import app
from bench.core.commands import Runs, repeat_cell
from bench.core.errors import CheckFailed
from bench.core.store import Store
from bench.core.tasks import FURTHER_TASKS
from bench.leaderboard.rules import reason
from bench.leaderboard.wording import title
from bench.metrics import METRICS, short_title
from bench.registry import pages, publishing
from bench.registry.results import read_results
from bench.report import sheets
from bench.report.charts import _front, _score, cost_by_error, error_by_size
from bench.report.content import (
    PICTURES,
    RECONSTRUCTIONS,
    Exhibit,
    as_json,
    row_id,
    row_key,
    text,
)
from bench.report.details import details
from bench.report.page import _answer, web_page
from bench.report.tables import sort_value

GENERATOR = np.random.default_rng(0)


class Reader(HTMLParser):
    """What a page consists of: tags with attributes, and the text of its elements by tag."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self._open = ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._open = tag

    def handle_data(self, data):
        self.texts.setdefault(self._open, []).append(data)

    def data(self):
        """The embedded JSON, with the values and named details of each row."""
        (found,) = [t for t in self.texts["script"] if t.startswith('{"columns"')]
        data = json.loads(found)
        for row in data["rows"].values():
            values = dict(zip(data["columns"], data["cells"][row["cell"]], strict=True))
            changed = {data["columns"][place]: value for place, value in row["changed"]}
            row["values"] = values | changed
            row["details"] = [
                (title, [(data["names"][name], value) for name, value in lines])
                for title, lines in map(data["groups"].__getitem__, row["groups"])
            ]
        return data


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """What a clone has of results, in another folder."""
    root = tmp_path_factory.mktemp("elsewhere") / "clone"
    shutil.copytree(ROOT / "registry", root / "registry")
    shutil.copy(ROOT / "README.md", root / "README.md")
    return Store(root)


@pytest.fixture(scope="module")
def committed(clone):
    return pages.index_text(clone, "")


def test_every_clone_renders_the_committed_bytes(clone, committed):
    assert committed.encode() == (ROOT / "registry/index.html").read_bytes()
    assert str(clone.root) not in committed
    assert not re.search(r"\b20\d\d-\d\d-\d\d|https?://(?!www\.w3\.org)", committed)


def test_the_page_loads_nothing(committed):
    for tag, attributes in Reader(committed).tags:
        for name in ("src", "href"):
            address = attributes.get(name) or "data:"
            assert address.startswith(("data:", "#")) or tag == "a", (tag, address)
    assert "default-src 'none'" in committed
    assert len(committed.encode()) < 8_000_000


def test_every_row_is_in_the_table_in_the_order_of_the_mean(committed):
    ids = [a["id"] for tag, a in Reader(committed).tags if tag == "tr" and "id" in a]
    every = [dataclasses.replace(b, cells=c, further={}) for b in boards() for c in tables(b)]
    assert len(every) > len(boards())
    wanted = [row_id(cell) for board in every for cell in board.cells]
    assert sorted(ids) == sorted(wanted)
    for board in every:
        own = [row_id(cell) for cells in board.tracks().values() for cell in cells]
        assert [i for i in ids if i in set(own)] == own
        if not board.metric:  # costs are not compared
            continue
        sign = -1 if METRICS[board.metric].higher_is_better else 1
        for cells in board.tracks().values():
            means = [cell.mean(f"val_{board.metric}") for cell in cells]
            known = [sign * mean for mean in means if not math.isnan(mean)]
            assert known == sorted(known)


def test_the_csv_has_the_ledgers_digits(committed):
    data = Reader(committed).data()
    for board in boards():
        for cell in itertools.chain(*tables(board)):
            row = data["rows"][row_id(cell)]["values"]
            assert row["model"] == cell.model
            for column, mean in cell.means.items():
                if math.isnan(mean):
                    assert row[column] is None
                else:
                    assert row[column] == pytest.approx(mean, rel=1e-8)


def test_an_opened_row_says_how_to_repeat_it_and_by_which_digests(committed):
    data = Reader(committed).data()
    for row in data["rows"].values():
        values = row["values"]
        groups = {title: dict(lines) for title, lines in row["details"]}
        assert groups["Digests"]["row"] == values["configuration"]
        assert groups["Digests"]["rows of its table"] == values["rows_digest"]
        assert groups["Runs"]["seeds"].replace(" ", "") == values["seeds"]
        assert len(groups["Runs"]) == 2 + len(values["seeds"].split(","))
        assert row["command"].startswith(f"bench run --protocol {values['protocol']}")
        assert f"--model {values['model']}" in row["command"]
    assert sum(len(row["curves"]) for row in data["rows"].values()) > 50


def test_the_check_finds_a_page_that_was_changed_or_lost(store):
    disagreeing(store, tiny_protocol(store.root))
    write(store)
    pages.write_index(store)
    assert publishing.check(store)
    page = store.registry / "index.html"
    page.write_bytes(page.read_bytes().replace(b">fc_ae<", b">fc_be<", 1))
    with pytest.raises(CheckFailed, match=r"index.html line \d+ says .*bench leaderboard --write"):
        publishing.check(store)
    page.unlink()
    with pytest.raises(CheckFailed, match=r"index.html is missing"):
        publishing.check(store)
    assert pages.write_index(store) == ["registry/index.html"]
    assert pages.write_index(store) == []
    assert publishing.check(store)


def test_the_command_writes_a_file_with_a_link_to_mlflow(store, monkeypatch):
    """An empty workspace shows the results that are committed with bench."""
    out = store.root / "pages" / "mine.html"
    done = CliRunner().invoke(app, ["report", "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert str(out) in done.output
    address = "http://127.0.0.1:5000/#/experiments?workflowType=machine_learning"
    assert f'<a href="{address}">All runs in MLflow</a>' in out.read_text()
    assert "cnn_ae" in out.read_text()
    assert not (store.registry / "index.html").exists()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:secret@mlflow.example.org")
    CliRunner().invoke(app, ["report", "--out", str(out)])
    assert "https://me:***@mlflow.example.org" in out.read_text()
    assert "secret" not in out.read_text()
    done = CliRunner().invoke(app, ["report"])
    assert done.exit_code == 0
    assert "No results yet" in (store.registry / "index.html").read_text()
    assert CliRunner().invoke(app, ["report", "--out", ""]).exit_code == 2


def test_names_from_outside_are_escaped_once(committed):
    board, exhibit = hostile_board()
    page = web_page([board], {row_key(board.cells[0]): exhibit}, {})
    plain, hostile = Reader(committed), Reader(page)
    assert {tag for tag, _ in hostile.tags} <= {tag for tag, _ in plain.tags}
    sources = [a.get("src", "") for tag, a in hostile.tags if tag == "img"]
    assert all(source.startswith("data:image/png") for source in sources)
    assert not [a for _, a in hostile.tags if any(name.startswith("on") for name in a)]
    data = hostile.data()["rows"][row_id(board.cells[0])]
    assert data["command"] == SHOWN  # not escaped: the script shows it as text
    assert HOSTILE in data["values"].values()
    assert SHOWN in "".join(hostile.texts["span"])
    assert "&amp;amp;" in page and "&amp;amp;amp;" not in page and "&amp;lt;" not in page
    script = page[page.index('id="data">') : page.index("</script>")]
    assert "<" not in script.removeprefix('id="data">') and "\u2028" not in script


def test_json_within_a_script_cannot_end_it():
    given = {"a": "</script><!--\u2028\u2029&<script>", "b": 'é"\\'}
    written = as_json(given)
    assert json.loads(written) == given
    assert written.isascii() and not set("<>&") & set(written)
    with pytest.raises(ValueError, match="not JSON compliant"):
        as_json([math.nan])


def test_text_for_html():
    assert text("a<b & 'c'\n d") == "a&lt;b &amp; &#x27;c&#x27; d"
    assert text("\u202eabc") == r"\u202eabc"


@pytest.mark.parametrize("shape", [(24, 1, 28, 28), (3, 3, 32, 20), (40, 3, 64, 64), (1, 1, 1, 1)])
def test_pngs_hold_the_pixels(shape):
    sheet = GENERATOR.integers(0, 256, shape, dtype=np.uint8)
    assert sheets.can_show(sheet)
    with Image.open(io.BytesIO(sheets.png(sheet))) as image:
        image.load()
        found = np.asarray(image).reshape(shape[2], shape[0], shape[3], shape[1])
    assert (found.transpose(1, 3, 0, 2) == sheet).all()


@pytest.mark.parametrize("width", [28, 3])
def test_pngs_of_16_shades_are_within_half_a_shade(width):
    sheet = GENERATOR.integers(0, 256, (5, 1, 7, width), dtype=np.uint8)
    with Image.open(io.BytesIO(sheets.png(sheet, 4))) as image:
        found = np.asarray(image.convert("L")).reshape(7, 5, 1, width).transpose(1, 2, 0, 3)
    assert np.abs(found.astype(int) - sheet).max() <= 8
    assert len(np.unique(found)) == 16
    assert len(sheets.png(sheet, 4)) < len(sheets.png(sheet))
    colours = GENERATOR.integers(0, 256, (5, 3, 7, width), dtype=np.uint8)
    assert sheets.png(colours, 4) == sheets.png(colours)


def test_what_no_png_can_hold_is_no_picture():
    assert not sheets.can_show(np.zeros((2, 2, 8, 8), np.uint8))
    assert not sheets.can_show(np.zeros((2, 1, 8, 8), np.float32))
    assert not sheets.can_show(np.zeros((0, 1, 8, 8), np.uint8))


def test_pictures_stay_within_their_budget():
    few = [np.zeros((24, 1, 28, 28), np.uint8)] * 60
    assert sheets.affordable(few) == sheets.Fit()
    assert sheets.affordable(few * 5) == sheets.Fit(bits=4)
    assert sheets.affordable([np.zeros((24, 3, 28, 28), np.uint8)] * 20) == sheets.Fit()
    many = few * 10
    fit = sheets.affordable(many)
    assert 1 <= fit.most < 24
    assert fit.bits == 4
    pictures = sum(len(sheets.data_uri(sheet[: fit.most], fit.bits)) for sheet in many)
    assert pictures < 1.1 * sheets.BUDGET
    assert 1 <= sheets.affordable(many, 4_000_000).most < fit.most
    assert sheets.affordable(many, 9_000_000).most == 1
    assert sheets.affordable([], 9_000_000) == sheets.Fit()


def test_a_page_with_500_rows_and_pictures_stays_small():
    board, exhibits, originals = many_rows(500)
    page = web_page([board], exhibits, originals)
    assert len(page.encode()) < 8_000_000
    assert page.count('class="strip"') == 501
    assert "so that the page stays small" in page


@pytest.mark.parametrize(
    ("shown", "value"),
    [
        ("0.01501 ± 0.00005", 0.01501),
        ("1 to 6", 1),
        ("−0.2 %", -0.2),
        ("+44.7 %", 44.7),
        ("< 1 %", 0.5),
        ("> 99 %", 99.5),
        ("< 0.1 s", 0.05),
        ("2.5 min", 150),
        ("9.1 s", 9.1),
        ("12.34 M", 12_340_000),
        ("635,192", 635_192),
        ("5.3 of 8", 5.3),
        ("288 bits", 288),
        ("–", None),
        ("overcomplete", None),
    ],
)
def test_cells_sort_by_what_they_show(shown, value):
    assert sort_value(shown) == value


def test_every_badge_of_the_tables_has_its_reason():
    worn = {badge for board in boards() for cell in board.cells for badge in cell.badges}
    assert len(worn) >= 4
    assert all(map(reason, worn))
    for badge in ("2 of 10 diverged", "best of 30 trials", "3 codes never used", "few steps"):
        assert reason(badge)
    assert "exact copies" in reason("3 images in two parts")
    assert reason("something else") == ""


def test_the_front_is_what_no_row_beats():
    (board,) = [board for board in boards() if board.protocol == "quick"]
    score = _score("mse")
    for cells in board.tracks().values():
        front = _front(cells, score)
        for cell in cells:
            beaten = [
                other
                for other in cells
                if score.of(other) <= score.of(cell)
                and other.facts["multiply_adds"] <= cell.facts["multiply_adds"]
                and (score.of(other), other.facts["multiply_adds"])
                != (score.of(cell), cell.facts["multiply_adds"])
            ]
            assert (cell in front) == (not beaten), cell.row


def test_details_name_bits_and_confirmations():
    cell = boards()[0].cells[0]
    quick = next(b for b in boards() if b.protocol == "quick").cells[0]
    groups = dict(details(quick, Exhibit(confirmations=2)))
    assert dict(groups["Standing"])["confirmed"] == "by 2 runs"
    assert dict(groups["Model"])["code"] == "256 bits in 8 real numbers"
    discrete = dataclasses.replace(quick, track=type(quick.track)("bits", 288), code_size=32)
    assert (
        dict(dict(details(discrete, Exhibit()))["Model"])["code"] == "288 bits in 32 whole numbers"
    )
    none = dict(dict(details(cell, Exhibit(confirmations=0)))["Standing"])
    assert none["confirmed"] == "by no run yet"
    assert "confirmed" not in dict(dict(details(cell, Exhibit()))["Standing"])


def test_tuned_cells_are_repeated_by_their_study():
    runs = Runs("quick", ["fc_ae"], ["8"], [0, 1, 2])
    assert repeat_cell(runs, "default") == (
        "bench run --protocol quick --model fc_ae --latent-dim 8 --seed 0,1,2"
    )
    assert repeat_cell(runs, "tuned (30 trials)") == "bench sweep --winner quick.fc_ae.d8"
    assert repeat_cell(runs, "tuned (30 trials, study 2)", "mnist_mini") == (
        "bench sweep --winner quick.mnist_mini.fc_ae.d8.2"
    )


def test_samples_stand_on_a_tab_of_their_own():
    (board,) = [board for board in boards() if board.protocol == "quick"]
    sheet = np.zeros((4, 1, 28, 28), np.uint8)
    keys = [row_key(cell) for cell in board.cells[:2]]
    exhibits = {key: Exhibit(sheets={RECONSTRUCTIONS: sheet, "Samples": sheet}) for key in keys}
    page = web_page([board], exhibits, {(board.dataset, board.protocol): sheet})
    titles = re.findall(r'class="panel" data-title="(\w+)"', page)
    assert titles == ["Reconstructions", "Samples"]
    without = web_page([board], {key: Exhibit() for key in keys}, {})
    assert 'class="panel"' not in without


def test_every_kind_of_picture_says_what_it_shows(committed):
    titles = set(re.findall(r'class="panel" data-title="([^"]+)"', committed))
    hints = {line for line in PICTURES.values() if text(line) in committed}
    assert titles <= set(PICTURES) and len(titles) > 3
    assert {PICTURES[title] for title in titles - {RECONSTRUCTIONS}} <= hints


def test_costs_are_not_said_to_lack_a_rank():
    (board,) = [board for board in boards() if board.protocol == "quick"]
    page = web_page([board], {}, {})
    cost = page[page.index("fashion_mnist_mini: cost") :]
    assert "not ranked" not in cost[: cost.index("</section>")]


def test_lines_of_the_grid_end_before_the_names():
    (board,) = [board for board in boards() if board.protocol == "quick"]
    picture = error_by_size(board)
    grid = [float(x) for x in re.findall(r'class="grid" x1="[\d.]+" x2="([\d.]+)"', picture)]
    names = re.findall(r'class="end".*?<text x="([\d.]+)"', picture)
    assert len(grid) > 3 and max(grid) < min(map(float, names))


def test_every_pareto_front_says_its_size():
    (board,) = [board for board in boards() if board.protocol == "quick"]
    shown = re.findall(r"<text [^>]*>([^<]+)</text></a>", cost_by_error(board))
    assert {name for name in shown if ", " in name} == {"pca, 8", "pca, 32"}


def test_metrics_are_named_as_words_within_a_sentence():
    for metric in METRICS:
        for name in (title(metric), short_title(metric)):
            assert not re.match("[A-Z][a-z]", name)
    assert title("ssim_gaussian") == "SSIM, Gaussian window"
    assert short_title("macro_f1") == "macro F1"


def test_boards_of_further_tasks_stand_beside_the_ranking():
    board = further_board()
    page = web_page([board], {}, {})
    read = Reader(page)
    headings = re.findall(r"<h2>(.*?)</h2>", page)
    where = "quick <small>on fashion_mnist_mini"
    assert headings == [
        f"{where}</small>",
        f"{where}: representation</small>",
        f"{where}: cost</small>",
    ]
    ids = [attributes["id"] for _, attributes in read.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    rows = read.data()["rows"]
    assert len(rows) == 3 * len(board.cells)
    assert {row["facets"][3] for row in rows.values()} == {
        "reconstruction",
        "representation",
        "cost",
    }
    cell = board.further["representation"][0]
    groups = {title: dict(lines) for title, lines in rows[row_id(cell)]["details"]}
    measures = groups["Representation: validation | test"]
    assert measures == {short_title("probe_accuracy"): "0.5000 ± 0.1000 | 0.2500 ± 0.1000"}
    folded = [title for title in groups if " | " in title]
    assert folded == ["Representation: validation | test"]  # only what the board is about
    assert FURTHER_TASKS["representation"].question in page
    tables = page.split("<table>")[1:]
    assert f"validation {short_title('probe_accuracy')}" in tables[1]
    assert short_title("weight_bytes") in tables[2] and ">ranks<" not in tables[2]


def test_below_the_rows_of_a_task_stands_what_they_are_compared_with(committed):
    tables = re.findall(r"<table>.*?</table>", committed, re.S)
    compared = [table for table in tables if "<tfoot>" in table]
    found: list[str] = []
    for table in compared:
        foot = re.search(r"<tfoot>(.*?)</tfoot>", table, re.S)
        assert foot is not None
        lines = re.findall(r"<tr>(.*?)</tr>", foot[1], re.S)
        cells = [re.findall(r"<td[^>]*>(.*?)</td>", line) for line in lines]
        assert [texts[2] for texts in cells] == ["real images", "the mean image"]
        heads = re.findall(r"<th scope=\"col\"[^>]*><button>(.*?)</button>", table)
        assert len(cells[0]) == len(cells[1]) == len(heads)
        real = dict(zip(heads, cells[0], strict=True))
        assert real["code size"] == ""
        assert real["test FCD, Gaussian"] == real["test FCD, 10 Gaussians"], "of generation alone"
        found.append(real["test FCD, Gaussian"])
    assert "0.24" in found, "of quick"


def test_all_committed_pictures_are_shown():
    index = read_results(ROOT / "registry").scores
    page = (ROOT / "registry/index.html").read_text(encoding="utf-8")
    panels = page.split('<div class="panel" data-title=')[1:]
    strips = [
        panel.count('<div class="strip" data-row=')
        for panel in panels
        if panel.startswith(f'"{RECONSTRUCTIONS}"')
    ]
    assert sum(strips) == sum(entry.originals is not None for entry in index) > 50


def test_what_others_published_stands_below_its_board(committed):
    """Once for each data set that has figures, in a table of its own that no script sorts."""
    blocks = re.findall(r'<section class="board">.*?</section>', committed, re.DOTALL)
    named = [re.search("<h2>([^ ]+) ", block)[1] for block in blocks if "<h3>Beside" in block]
    assert sorted(named) == ["fashion_mnist", "mnist"]
    (table,) = re.findall(
        r'<div class="scroll published".*?</div>',
        next(block for block in blocks if "<h2>mnist " in block),
        re.DOTALL,
    )
    assert {"0.0369", "0.0360", "0.976"} <= set(re.findall(r">([^<>]+)</td>", table))
    assert " id=" not in table


def test_the_answer_of_a_board_is_by_size():
    (full,) = (board for board in boards() if board.protocol == "fashion_mnist")
    said = _answer(full)
    assert "code size 64: <b>plain_ae</b>" in said and "pca" not in said
    every = dict.fromkeys(cell.track.size for cell in full.cells)
    trained = {cell.track.size for cell in full.cells if cell.ranks and not cell.closed_form}
    if without := [str(size) for size in every if size not in trained]:
        assert f"No trained variant is ranked yet at code size {', '.join(without)}." in said
    assert len(without) < len(every)
    (quick,) = (board for board in boards() if board.protocol == "quick")
    assert "code size 8: <b>denoising_ae</b> (or one of 5 others); code size 32" in _answer(quick)
    (solved,) = (board for board in boards() if board.protocol == "mnist")
    assert _answer(solved).startswith("No trained variant is measured yet on <b>mnist</b>")


def test_the_number_of_seeds_is_shown_at_once(committed):
    heads = re.findall(r'<th scope="col"( class="[^"]*")?><button>seeds<', committed)
    assert heads and not any("more" in kind for kind in heads)


def test_the_page_without_results_says_so():
    assert "No results yet" in web_page([], {}, {})
