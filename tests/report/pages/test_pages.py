import json
import re

from okdhp_edge.report.compare import compare_reports
from okdhp_edge.report.pages import render_live_page, render_report_page
from tests.helpers.fakes import ScriptedSource
from tests.helpers.running import run_on

_EXTERNAL_LINK = re.compile(
    r"""(?:src|href)\s*=\s*["'](?!data:|video/)|@import|url\((?!["']?data:)"""
)


def _data(page):
    return json.loads(re.search(r"const DATA = (.*);\n", page)[1].replace("<\\/", "</"))


def test_pages_need_nothing_but_themselves():
    report = {**run_on([ScriptedSource(30)])[0].with_samples(), "label": "a"}
    for page in (render_live_page(), render_report_page([report], [])):
        assert "/*" not in page  # every part is in its place
        assert not _EXTERNAL_LINK.search(page)
        assert 'name="viewport"' in page


def test_a_report_holds_the_runs_and_their_comparison():
    reports = [{**run_on([ScriptedSource(30)])[0].with_samples(), "label": label} for label in "ab"]
    page = render_report_page(reports, compare_reports(reports))
    data = _data(page)
    assert [r["label"] for r in data["reports"]] == ["a", "b"]
    assert data["comparison"][0]["what"] == "frames per second"


def test_a_name_cannot_end_the_script():
    report = {**run_on([ScriptedSource(30)])[0].with_samples(), "label": "</script><b>"}
    page = render_report_page([report], [])
    assert page.count("</script>") == 1
    assert _data(page)["reports"][0]["label"] == "</script><b>"
