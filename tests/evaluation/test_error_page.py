"""The page of errors as a person uses it."""

import numpy as np
import pytest

from okdhp_edge.data.load import load
from okdhp_edge.evaluation.error_kinds import classify
from okdhp_edge.evaluation.error_page import error_page

pytestmark = pytest.mark.slow


@pytest.fixture
def page(browser, tmp_path):
    poses = load("synthetic:30", "all")
    rng = np.random.default_rng(0)
    xy = np.stack([s.xy + rng.normal(0, 1 + i, s.xy.shape) for i, s in enumerate(poses.samples)])
    text = error_page(poses, xy, classify(poses, xy), "made", 30, lambda _: None)
    (tmp_path / "errors.html").write_text(text, encoding="utf-8")
    browser.get(f"file://{tmp_path}/errors.html")
    return browser


def _column(page, table, number):
    rows = page.find_elements("css selector", f"#{table} tbody tr")
    return [row.find_elements("tag name", "td")[number].text for row in rows]


def test_tables_sort_by_the_column_that_is_clicked(page):
    joints = _column(page, "by_joint", 0)
    assert joints[-1] == "all"
    page.find_elements("css selector", "#by_joint th button")[2].click()
    good = [float(v) for v in _column(page, "by_joint", 2)[:-1]]
    assert good == sorted(good, reverse=True)
    page.find_elements("css selector", "#by_joint th button")[2].click()
    good = [float(v) for v in _column(page, "by_joint", 2)[:-1]]
    assert good == sorted(good)
    assert _column(page, "by_joint", 0)[-1] == "all"


def test_persons_come_by_pages_the_worst_first(page):
    from selenium.webdriver.support.ui import Select

    def shown():
        return [c.text for c in page.find_elements("css selector", "figcaption")]

    first = shown()
    assert len(first) == 24
    values = [float(text.split("OKS ")[1].split(" ")[0]) for text in first]
    assert values == sorted(values)
    page.find_element("id", "next").click()
    assert len(shown()) == 6 and not set(shown()) & set(first)
    assert not page.find_element("id", "next").is_enabled()
    Select(page.find_element("id", "sort")).select_by_value("miss")
    misses = [int(text.split(" missed")[0].split(" ")[-1]) for text in shown()]
    assert misses == sorted(misses, reverse=True)
    width = page.execute_script("return document.querySelector('figure img').naturalWidth")
    assert width == 440
