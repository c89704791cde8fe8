"""Fixtures that several packages' tests share: one tiny model, taken through every stage once."""

import os
import shutil
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from hypothesis import settings

from okdhp_edge.backends.registry import list_profiles
from okdhp_edge.export.export_branch import ExportOptions, export_branch
from okdhp_edge.quantize.quantize_model import QuantizeOptions, quantize
from okdhp_edge.recipe.recipe import Recipe
from okdhp_edge.train.loop import train
from okdhp_edge.train.setup import TrainingOptions
from tests.helpers.tiny_models import DATA, DETECTOR_DATA, detector_recipe, tiny_recipe

# A property test must never turn a green build red by luck: the same examples every time.
settings.register_profile("fixed", derandomize=True, database=None, deadline=None)
settings.load_profile("fixed")

# Children write as those of users do: through a buffer.
os.environ.pop("PYTHONUNBUFFERED", None)

# Tiny tensors: a second thread would only wait for the first.
torch.set_num_threads(1)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What was skipped for want of what, a line a reason, each with the command that adds it."""
    reasons = Counter(
        str(report.longrepr[-1] if isinstance(report.longrepr, tuple) else report.longrepr)
        for report in terminalreporter.stats.get("skipped", [])
    )
    for reason, count in reasons.most_common():
        terminalreporter.write_line(f"{count} skipped: {reason.removeprefix('Skipped: ')}")


REPOSITORY = Path(__file__).parent.parent
_REAL_DATA = Path(os.environ.get("OKDHP_EDGE_TEST_DATA", REPOSITORY.parent / "shared" / "data"))


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real data sets; tests that need it skip where it is absent."""
    if not _REAL_DATA.is_dir():
        pytest.skip("real data absent: set OKDHP_EDGE_TEST_DATA to the folder of data sets")
    return _REAL_DATA


@pytest.fixture(scope="session")
def browser():  # type: ignore[no-untyped-def]
    """A headless Chromium; tests that need it skip where there is none."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    driver_path = shutil.which("chromedriver")
    if not chromium or not driver_path:
        pytest.skip("no Chromium with its driver here: apt install chromium chromium-driver")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for word in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage",
                 "--window-size=420,900"):  # fmt: skip
        options.add_argument(word)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver_path))
    driver.set_page_load_timeout(30)
    yield driver
    driver.quit()


@pytest.fixture(scope="session")
def once(
    tmp_path_factory: pytest.TempPathFactory, worker_id: str
) -> Callable[[str, Callable[[Path], Path]], Path]:
    """Makes something in a folder that all worker processes of this test run share."""
    base = tmp_path_factory.getbasetemp()
    root = base if worker_id == "master" else base.parent

    def make_once(name: str, make: Callable[[Path], Path]) -> Path:
        made = root / f"{name}.made"
        with FileLock(f"{made}.lock"):
            if not made.is_file():
                made.write_text(str(make(root)))
        return Path(made.read_text())

    return make_once


def _train_in(name: str, recipe: Recipe, data: str, root: Path) -> Path:
    options = TrainingOptions(out=root / "shared" / name, device="cpu", workers=0)
    return train(recipe, data, options)


@pytest.fixture(scope="session")
def trained(once: Callable[[str, Callable[[Path], Path]], Path]) -> Path:
    """The best checkpoint of a tiny model."""

    return once("trained", partial(_train_in, "tiny", tiny_recipe(), DATA))


@pytest.fixture(scope="session")
def exported(once: Callable[[str, Callable[[Path], Path]], Path], trained: Path) -> Path:
    """Its fp32 folder."""
    return once("exported", lambda _: export_branch(trained, ExportOptions(out=trained.parent)))


@pytest.fixture(scope="session")
def quantized(once: Callable[[str, Callable[[Path], Path]], Path], exported: Path) -> Path:
    """Its int8 folder; the gate is wide because a model this small has no accuracy to keep."""
    options = QuantizeOptions(data=DATA, max_drop=100.0, profiles=list_profiles())
    return once("quantized", lambda _: quantize(exported, options))


@pytest.fixture(scope="session")
def trained_detector(once: Callable[[str, Callable[[Path], Path]], Path]) -> Path:
    """The best checkpoint of a tiny person detector, which finds drawn people."""

    make = partial(_train_in, "detector", detector_recipe(), DETECTOR_DATA)
    return once("trained-detector", make)


@pytest.fixture(scope="session")
def int8_detector(
    once: Callable[[str, Callable[[Path], Path]], Path], trained_detector: Path
) -> Path:
    """Its int8 folder, beside which lies the fp32 one."""

    def make(_: Path) -> Path:
        fp32 = export_branch(trained_detector, ExportOptions(out=trained_detector.parent))
        profiles = ["onnxruntime", "openvino"]
        return quantize(
            fp32, QuantizeOptions(data=DETECTOR_DATA, max_drop=100.0, profiles=profiles)
        )

    return once("quantized-detector", make)
