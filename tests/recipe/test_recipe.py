import subprocess
import sys

import pytest
from pydantic import ValidationError

from okdhp_edge.artifacts.card import read_card
from okdhp_edge.artifacts.model_store import (
    SHIPPED_DETECTOR,
    SHIPPED_FLOAT_MODELS,
    SHIPPED_MODELS,
    resolve_recipe,
)
from okdhp_edge.errors import RecipeError
from okdhp_edge.pose.heatmap import HeatmapKind
from okdhp_edge.recipe.recipe import read_recipe, revalidate
from tests.conftest import REPOSITORY
from tests.helpers.tiny_models import tiny_recipe, write_tiny_recipe


@pytest.mark.parametrize(
    ("extra", "key", "near"),
    [("sead = 3", "sead", "seed"), ("[optimizer]\nepoch = 3", "optimizer.epoch", "epochs")],
)
def test_an_unknown_key_is_named_with_the_nearest(tmp_path, extra, key, near):
    path = write_tiny_recipe(tmp_path, extra if "[" not in extra else "")
    if "[" in extra:
        path.write_text(path.read_text().replace("epochs = 1", "epoch = 3"))
    with pytest.raises(RecipeError, match=rf"unknown key '{key}'; did you mean '{near}'"):
        read_recipe(path)


@pytest.mark.parametrize(
    ("table", "key", "near"),
    [("method = 'fpd'\nteacher = { path = 'x', windw = 3 }", "teacher.windw", "window"),
     ("method = 'okdhp'\nkd_weigth = 3", "kd_weigth", "kd_weight")],
)  # fmt: skip
def test_keys_of_the_recipes_own_method_are_proposed(tmp_path, table, key, near):
    path = write_tiny_recipe(tmp_path)
    path.write_text(f"{path.read_text()}[distillation]\n{table}\n")
    with pytest.raises(RecipeError, match=rf"'distillation.{key}'; did you mean '{near}'"):
        read_recipe(path)


def test_where_no_key_resembles_it_all_are_named(tmp_path):
    path = write_tiny_recipe(tmp_path)
    path.write_text(f"{path.read_text()}[distillation]\nmethod = 'supervised'\nkd_weight = 3\n")
    with pytest.raises(RecipeError, match="'distillation.kd_weight'; use one of method"):
        read_recipe(path)


@pytest.mark.parametrize(
    "changes",
    [{"distillation": {"method": ["okdhp"]}}, {"network": {"kind": "onnx", "file": 5}}],
)
def test_values_of_other_types_are_refused_not_crashed_on(changes):
    with pytest.raises(ValidationError):
        tiny_recipe(**changes)


def test_each_branch_is_read_with_its_own_sigma():
    recipe = tiny_recipe(heatmap={"sigma": 1.0, "branch_sigmas": [1.0, 2.0]})
    assert [recipe.decoder_spec(branch).sigma for branch in (0, 1)] == [1.0, 2.0]


def test_an_unknown_key_of_the_skeleton_is_named(tmp_path):
    path = write_tiny_recipe(tmp_path)
    path.write_text(path.read_text() + "\n[skeleton]\npair = 3\n")
    with pytest.raises(RecipeError, match=r"unknown key 'skeleton.pair'; did you mean"):
        read_recipe(path)


def test_a_recipe_that_was_changed_in_code_is_checked_like_one_that_is_read():
    recipe = tiny_recipe()
    assert revalidate(recipe) == recipe
    with pytest.raises(RecipeError, match="name"):
        revalidate(recipe.model_copy(update={"name": "weights (1)"}))


def test_a_peer_takes_sizes_that_its_network_takes():
    okdhp = {"method": "okdhp", "peer_size": [144, 144]}
    with pytest.raises(ValidationError, match="an hourglass needs distillation.peer_size in mult"):
        tiny_recipe(distillation=okdhp)


def test_an_unknown_key_in_the_network_is_named(tmp_path):
    path = write_tiny_recipe(tmp_path)
    path.write_text(path.read_text().replace("width = 16", "widht = 16"))
    with pytest.raises(RecipeError, match=r"'network.widht'; did you mean 'width'"):
        read_recipe(path)


def test_a_table_named_as_a_network_is_an_unknown_key(tmp_path):
    path = write_tiny_recipe(tmp_path)
    path.write_text(path.read_text() + "[hourglass]\nwidth = 16\n")
    with pytest.raises(RecipeError, match="unknown key 'hourglass"):
        read_recipe(path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [("size = [64, 64]", "size = [64, 65]", "input.size"),
     ("batch_size = 16", "batch_size = 0", "optimizer.batch_size"),
     ('name = "tiny"', 'name = "../up"', "name"),
     ("[network]", "[network", "cannot be read")],
)  # fmt: skip
def test_bad_values_are_named(tmp_path, old, new, message):
    path = write_tiny_recipe(tmp_path)
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(RecipeError, match=message):
        read_recipe(path)


@pytest.mark.parametrize("path", sorted(REPOSITORY.glob("models/*/recipe.toml")), ids=str)
def test_every_models_recipe_is_valid_and_named_as_its_folder(path):
    assert read_recipe(path).name == path.parent.name


@pytest.mark.parametrize("path", sorted(REPOSITORY.glob("recipes/*/*.toml")), ids=str)
def test_every_recipe_is_valid_and_named_as_its_file(path):
    # The laboratory's models are told from others by their name under models/.
    prefix = "lab-" if path.parent.name == "lab" else ""
    assert read_recipe(path).name == prefix + path.stem


def test_shipped_recipes_are_found_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("demo", "lite", "paper/hg4-mpii", "lab/okdhp"):
        assert read_recipe(resolve_recipe(name)).name.endswith(name.split("/")[-1])
    assert resolve_recipe(None) == resolve_recipe("demo")
    for name in ("nobody", "../../pyproject", "paper/../../pyproject"):
        with pytest.raises(RecipeError, match="does not exist"):
            resolve_recipe(name)


@pytest.mark.parametrize("name", [*SHIPPED_MODELS, SHIPPED_DETECTOR])
def test_the_recipe_is_that_of_the_model_that_is_shipped(name):
    """That of the last stage of its training."""
    models = REPOSITORY / "models" / name
    recipe = read_recipe(max(models.glob("recipe-*.toml"), default=models / "recipe.toml"))
    folder = "fp32" if name in SHIPPED_FLOAT_MODELS else "int8/openvino"
    card = read_card(models / folder)
    # Boxes may grow by another factor where a model is deployed.
    padding = {"box_padding": card.input.box_padding}
    assert recipe.input_spec().model_copy(update=padding) == card.input
    assert recipe.decoder_spec() == card.decoder
    kinds = {SHIPPED_DETECTOR: HeatmapKind.BOXES, "large": HeatmapKind.GAUSSIAN}
    assert recipe.decoder_spec().kind is kinds.get(name, HeatmapKind.PRESENCE)
    assert recipe.terms == card.terms
    assert ("Apache-2.0" if name in kinds else "research use") in recipe.terms


def test_the_default_recipe_is_found():
    assert read_recipe(resolve_recipe(None)).data.startswith("synthetic")


def test_overrides_keep_the_rest():
    recipe = read_recipe(resolve_recipe(None))
    changed = recipe.changed(epochs=7, seed=9)
    assert (changed.optimizer.epochs, changed.seed) == (7, 9)
    assert changed.network == recipe.network
    assert recipe.changed() == recipe


def test_a_recipe_that_is_its_own_base_is_refused(tmp_path):
    (tmp_path / "a.toml").write_text('base = "b.toml"\n')
    (tmp_path / "b.toml").write_text('base = "./a.toml"\n')
    with pytest.raises(RecipeError, match="is its own base"):
        read_recipe(tmp_path / "a.toml")


@pytest.mark.parametrize("content", [b"\xff\xfe", b"a = " + b"[" * 5000, b"x = 1\0"])
def test_a_damaged_recipe_is_one_line(tmp_path, content):
    (tmp_path / "a.toml").write_bytes(content)
    with pytest.raises(RecipeError) as caught:
        read_recipe(tmp_path / "a.toml")
    assert "\n" not in str(caught.value)


def test_the_old_spelling_of_a_table_is_read(tmp_path):
    base = write_tiny_recipe(tmp_path)
    base.write_text(base.read_text().replace("[optimizer]", "[optimiser]"))
    assert read_recipe(base).optimizer.epochs == 1
    (tmp_path / "more.toml").write_text(f'base = "{base.name}"\n[optimizer]\nepochs = 7\n')
    assert read_recipe(tmp_path / "more.toml").optimizer.epochs == 7


def test_a_neck_takes_sizes_in_multiples_of_16(tmp_path):
    (tmp_path / "recipe.toml").write_text(
        'name = "x"\n[network]\nkind = "mobilepose"\nneck = 4\n[input]\nsize = [112, 160]\n'
    )
    assert read_recipe(tmp_path / "recipe.toml").input.size == (112, 160)


def test_reading_a_recipe_needs_no_torch():
    code = "import sys, okdhp_edge.recipe.recipe; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=False).returncode == 0


@pytest.mark.parametrize(
    ("text", "says"),
    [('[network]\nkind = "hourglass"\nwidth = 4000\nbranches = [8, 8]', "billion weights"),
     ('[network]\nkind = "mobilepose"\nbranches = [' + "1, " * 1000 + "1]", "at most 32"),
     ('[network]\nkind = "hourglass"\n[input]\nsize = [32, 32]', "multiples of 64"),
     ('[network]\nkind = "mobilepose"\n[input]\nsize = [112, 160]', "multiples of 32"),
     ('[network]\nkind = "mobilepose"\nneck = 4\n[input]\nsize = [120, 160]', "multiple of 16"),
     ('[network]\nkind = "mobilepose"\n[optimizer]\nbatch_size = 1000000', "than 268 million")],
)  # fmt: skip
def test_what_no_machine_could_build_is_refused_with_the_number(tmp_path, text, says):
    (tmp_path / "recipe.toml").write_text(f'name = "x"\n{text}\n')
    with pytest.raises(RecipeError, match=says):
        read_recipe(tmp_path / "recipe.toml")
