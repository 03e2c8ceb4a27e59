"""The page of what to run next, without a browser: its plan, its files, its refusals."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lawfit.launch.grid import packs
from tests.client import TestClient
from tests.dashboard.views import is_light, nodes_of

ASKED = {"params": "1B", "tokens": "20B", "budget": "1e17flops"}


def test_a_plan_with_its_files(shipped: TestClient) -> None:
    document = shipped.get("/v1/plans/next", params=ASKED).json()
    page = shipped.get("/next", params=ASKED)
    assert page.status_code == 200
    assert is_light(page.content, nodes_of(page.text))
    for words in (
        f"expected to bring the interval of the learning rate from x{document['now']['lr_factor']:.2f} to ",
        "lawfit plan next --params 1B --tokens 20B --budget 1e17flops --recipe proxy_sweep --grid next.json",
        "What is known now, and what would be",
        "Where the runs lie",
        *(grid["why"][1:] for grid in document["grids"]),
    ):
        assert words in page.text
    query = "params=1B&amp;tokens=20B&amp;budget=1e17flops"
    assert f'data-rehearse="{query}"' in page.text  # what the button keeps and plays is the plan of the page
    assert document["id"] not in page.text  # a page keeps nothing, so that the id would bring nothing back
    files = re.findall(r'href="(/next/[^"]+)"', page.text)
    grid, table = (shipped.get(path.replace("&amp;", "&")) for path in files)
    assert grid.json() == document["grid_file"]
    assert sum(len(pack.runs) for pack in packs(grid.json(), vocab=4096)) == document["budget"]["runs"]
    assert grid.headers["content-disposition"] == 'attachment; filename="next.json"'
    assert len(table.text.splitlines()) == 1 + document["budget"]["runs"]


def test_an_empty_store_gets_a_first_sweep(empty: TestClient) -> None:
    form = empty.get("/next")
    assert (form.status_code, "There are no runs yet: the plan is a first sweep" in form.text) == (200, True)
    assert 'role="alert"' not in form.text
    page = empty.get("/next", params={**ASKED, "budget": "1e18flops"})
    assert page.status_code == 200
    assert "There is no fit that may be used" in page.text


def test_a_recipe_of_another_trainer_has_no_grid_file(client: TestClient) -> None:
    asked = {"params": "20B", "tokens": "400B", "budget": "1e21flops"}
    page = client.get("/next", params=asked).text
    assert "trained with simulated" in page
    assert "grid.json" not in page
    refused = client.get("/next/grid.json", params=asked, headers={"Accept": "text/html"})
    assert refused.status_code == 409
    assert "take the rows of the plan to the program that trained it" in refused.text
    assert client.get("/next/runs.csv", params=asked).status_code == 200


@pytest.mark.parametrize(
    ("more", "status", "words"),
    [
        ({"budget": "$200"}, 422, "A budget in dollars needs &#39;FLOP/s of one GPU&#39;"),
        ({"budget": "$200", "flops_per_second": "4e14"}, 422, "A budget in dollars needs price"),
        ({"budget": ""}, 422, "Budget: an amount is needed, for instance"),
        ({"budget": "lots"}, 422, "write 1e19flops, 20gpu-hours, 64runs or $200"),
        ({"price": "2"}, 422, "A price for each GPU-hour needs"),
        ({"params": "many"}, 422, "Target parameters: "),
        ({"budget": "3runs"}, 409, "3 runs buys no grid"),
        ({"max_params": "10"}, 409, "No run can be made within these limits"),
        ({"params": "3.2M", "tokens": "64M"}, 409, "Nothing worth running: the target lies among the runs"),
        ({"recipe": "nobody"}, 404, "nobody"),
    ],
)
def test_bad_input_is_a_sentence_on_the_page(
    shipped: TestClient, more: dict[str, str], status: int, words: str
) -> None:
    page = shipped.get("/next", params={**ASKED, **more})
    assert (page.status_code, words in page.text) == (status, True)
    assert "<form" in page.text
    if status == 422:
        assert shipped.get("/next/grid.json", params={**ASKED, **more}).status_code == 422


def test_the_report_has_the_same(tmp_path: Path, shipped: TestClient) -> None:
    from lawfit.report.page import write_next_report

    document = shipped.get("/v1/plans/next", params=ASKED).json()
    content = write_next_report(tmp_path / "next.html", document).read_text(encoding="utf-8")
    assert "What to run next for 1B parameters, 20B tokens" in content
    assert "Grids to run" in content
