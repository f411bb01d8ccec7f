from __future__ import annotations

import os
import pickle
import re
from importlib.resources import files
from pathlib import Path

import pytest
from tests.timesformers import section_of

from cover.config.recipe import Recipe
from cover.config.recipe_files import parse_recipe, read_recipe
from cover.config.training_sections import AugmentationSection, BestSection
from cover.errors import RecipeError

STANDARD = 'policy = "standard"\n'
K400 = '[datasets.k400]\ntrain = "k400.arrow"\n'
SSV2 = '[datasets.ssv2]\ntrain = "ssv2.arrow"\n'
RECIPES = Path(str(files("cover") / "recipes"))
OWN = [path for path in sorted(RECIPES.rglob("*.toml")) if path.name != "base.toml" and path.parent.name != "parts"]
GUIDE = (Path(__file__).parents[2] / "docs" / "training.md").read_text()


def read(folder: Path, text: str, *overrides: str) -> Recipe:
    (folder / "r.toml").write_text(text)
    return read_recipe(folder / "r.toml", overrides)


def message(folder: Path, text: str, *overrides: str) -> str:
    """The one line that a recipe is refused with, without the folder's name."""
    with pytest.raises(RecipeError) as caught:
        read(folder, text, *overrides)
    assert "\n" not in str(caught.value)
    return str(caught.value).replace(f"{folder}/", "")


def test_defaults_are_the_papers(tmp_path: Path) -> None:
    """§4.1 and Table 6, and docs/paper.md where the paper is silent."""
    recipe = read(tmp_path, STANDARD + K400)
    assert (recipe.data.batch_size, recipe.training.epochs) == (128, 20)
    optimizer = recipe.optimizer
    assert (optimizer.name, optimizer.learning_rate, optimizer.momentum) == ("sgd", 5e-3, 0.9)
    assert (optimizer.weight_decay, optimizer.warmup_epochs, optimizer.clip_gradient_norm) == (1e-4, 0, None)
    assert (optimizer.schedule, optimizer.drop_epochs, optimizer.drop_factor) == ("step", None, 0.1)
    model = section_of(recipe)
    assert (model.num_frames, model.image_size, model.patch_size, model.drop_path_rate) == (8, 224, 16, 0.1)
    assert (model.image_temporal, model.temporal_init) == ("attend", "zero")
    assert (recipe.evaluation.num_clips, recipe.evaluation.num_crops) == (1, 3)
    assert (recipe.training.reduction, recipe.training.label_smoothing) == ("dataset_mean", 0)
    assert (optimizer.layer_decay, optimizer.backbone_rate) == (1, 1)
    augmentation = recipe.augmentation
    assert (augmentation.randaugment.num_ops, augmentation.mixup, augmentation.cutmix, augmentation.repeats) == (
        0,
        0,
        0,
        1,
    )
    assert recipe.clips("k400").loss_weight == 1 and recipe.clips("k400").horizontal_flip


def test_a_recipe_lies_on_its_base_and_overrides_lie_on_both(tmp_path: Path) -> None:
    base = "[model]\ndepth = 3\nwidth = 48\n[optimizer]\ndrop_epochs = [1, 2, 3]\n[training]\nepochs = 5\n"
    (tmp_path / "base.toml").write_text(base)
    own = 'extends = "base.toml"\n' + STANDARD + K400 + "[model]\ndepth = 2\n[optimizer]\ndrop_epochs = [4]\n"
    recipe = read(tmp_path, own, "training.epochs=0.5", "data.cache_frames = true")
    assert (section_of(recipe).depth, section_of(recipe).width) == (2, 48)
    assert recipe.optimizer.drop_epochs == (4,)
    assert recipe.training.epochs == 0.5
    assert recipe.data.cache_frames


def test_paths_start_from_the_file_that_has_them_and_overrides_from_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project, here = tmp_path / "project", tmp_path / "here"
    for folder in (project / "parts", here):
        folder.mkdir(parents=True)
    part = '[data]\ncache_frames = true\ncache_folder = "../frames"\nexclude = ["leaks.csv", "/all/leaks.csv"]\n'
    (project / "parts" / "base.toml").write_text(part)
    monkeypatch.chdir(here)
    text = 'extends = "parts/base.toml"\ninit = "hf://owner/name"\n' + STANDARD + K400
    recipe = read(project, text, "datasets.k400.val=v.arrow", "datasets.k400.test=~/t.arrow")
    assert recipe.datasets["k400"].train == project / "k400.arrow"
    assert recipe.datasets["k400"].val == here / "v.arrow"
    assert recipe.datasets["k400"].test == Path.home() / "t.arrow"
    assert recipe.data.cache_folder == project / "frames"
    assert recipe.data.exclude == (project / "parts" / "leaks.csv", Path("/all/leaks.csv"))
    assert recipe.init == "hf://owner/name"
    assert read(project, STANDARD + K400, "init=runs/a b").init == str(here / "runs" / "a b")


def test_paths_of_the_recipes_in_the_package_start_from_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = read_recipe(RECIPES / "paper" / "table2_k400.toml")
    assert recipe.datasets["k400"].train == tmp_path / "manifests" / "k400-train.arrow"
    assert recipe.init == str(tmp_path / "weights" / "vit_base_patch16_224_in21k.npz")


def test_a_written_recipe_can_be_moved_together_with_its_data(tmp_path: Path) -> None:
    (tmp_path / "old" / "runs" / "a").mkdir(parents=True)
    recipe = read(tmp_path / "old", STANDARD + K400 + '[data]\nexclude = ["/all/leaks.csv"]\n')
    recipe.write(tmp_path / "old" / "runs" / "a" / "recipe.toml")
    (tmp_path / "old").rename(tmp_path / "new")
    moved = read_recipe(tmp_path / "new" / "runs" / "a" / "recipe.toml")
    assert moved.datasets["k400"].train == tmp_path / "new" / "k400.arrow"
    assert moved.data.exclude == (Path("/all/leaks.csv"),)


def test_two_levels_of_extends_are_refused(tmp_path: Path) -> None:
    (tmp_path / "base.toml").write_text('extends = "other.toml"\n')
    refusal = message(tmp_path, 'extends = "base.toml"\n' + STANDARD + K400)
    assert refusal == "r.toml: extends 'base.toml', which extends something itself; name that in r.toml too"


def test_parts_are_laid_over_each_other_in_their_order(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "small.toml").write_text("[model]\ndepth = 3\nwidth = 48\n")
    (tmp_path / "parts" / "ssv2.toml").write_text(SSV2 + "horizontal_flip = false\n[model]\ndepth = 4\n")
    own = 'extends = ["parts/small.toml", "parts/ssv2.toml"]\npolicy = "cotrain"\n' + K400
    recipe = read(tmp_path, own + "[datasets.ssv2]\nloss_weight = 0.5\n")
    assert (section_of(recipe).depth, section_of(recipe).width) == (4, 48)
    assert list(recipe.datasets) == ["ssv2", "k400"]
    ssv2 = recipe.datasets["ssv2"]
    clips = recipe.clips("ssv2")
    assert (ssv2.train, clips.horizontal_flip, clips.loss_weight) == (tmp_path / "parts" / "ssv2.arrow", False, 0.5)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            'polcy = "x"\n' + STANDARD + K400,
            "r.toml: unknown key 'polcy'; did you mean 'policy'? known here: policy, seed, init, ",
        ),
        (
            STANDARD + K400 + "wheight = 2\n",
            "r.toml: unknown key 'datasets.k400.wheight'; did you mean 'loss_weight'? known here: train, val, ",
        ),
        (
            STANDARD + K400 + "[model]\nnum_frame = 3\n",
            "r.toml: unknown key 'model.num_frame'; did you mean 'num_frames'? known here: variant, ",
        ),
        (
            STANDARD + K400 + '[model]\nnum_frames = "8"\n',
            "r.toml: model.num_frames = '8': input should be a valid int",
        ),
        (STANDARD + "seed = true\n" + K400, "r.toml: seed = True: input should be a valid integer"),
        (STANDARD + "[datasets.k400]\ntrain = 3\n", "r.toml: datasets.k400.train = 3: input should be a valid string"),
        (
            STANDARD + 'datasets.k400 = "k400.arrow"\n',
            "r.toml: datasets.k400 = 'k400.arrow': it is a table, such as { train = … }",
        ),
        (STANDARD + K400 + "[data]\nbatch_size = 0\n", "r.toml: data.batch_size = 0: input should be greater than 0"),
        (STANDARD + K400 + "[training]\nmicro_batches = 0\n", "r.toml: training.micro_batches = 0: it is a number, at"),
        (STANDARD + K400 + '[training]\nmicro_batches = "x"\n', "r.toml: training.micro_batches = 'x': it is a number"),
        (STANDARD + K400 + "[model]\ndrop_path_rate = 1.5\n", "r.toml: model.drop_path_rate = 1.5: input should be l"),
        (
            STANDARD + K400 + "[optimizer]\nlearning_rate = nan\n",
            "r.toml: optimizer.learning_rate = nan: input should ",
        ),
        (STANDARD + K400 + '[model]\nvariant = "vit"\n', "r.toml: model.variant = 'vit': input should be 'timesformer"),
        (STANDARD + K400 + "[data]\nshort_side = [9, 8]\n", "r.toml: data.short_side [9, 8] is not a range; write [s"),
        (
            STANDARD + K400 + '[data]\ncache_folder = "frames"\n',
            "r.toml: data.cache_folder 'frames' keeps the frames of data.cache_frames, which is off; set data.",
        ),
        (
            STANDARD + K400 + "[augmentation]\nmix_up = 0.8\n",
            "r.toml: unknown key 'augmentation.mix_up'; did you mean 'mixup'? known here: randaugment, ",
        ),
        (
            STANDARD + K400 + "[augmentation]\nrandaugment = { ops = 2 }\n",
            "r.toml: unknown key 'augmentation.randaugment.ops'; did you mean 'num_ops'? known here: num_ops, ",
        ),
        (
            STANDARD + K400 + "[augmentation]\nrandaugment = { num_ops = 2, magnitude = 30 }\n",
            "r.toml: augmentation.randaugment.magnitude = 30: input should be less than or equal to 10",
        ),
        (STANDARD + K400 + "[augmentation]\ncutmix = -1\n", "r.toml: augmentation.cutmix = -1: input should be gre"),
        (
            STANDARD + K400 + "[augmentation]\nrepeats = 3\n",
            "r.toml: data.batch_size 128 does not hold every sample 3 times (augmentation.repeats); make it a multiple",
        ),
        (STANDARD + K400 + "[training]\nlabel_smoothing = 1.0\n", "r.toml: training.label_smoothing = 1.0: input sho"),
        (STANDARD + K400 + "[optimizer]\nlayer_decay = 0.0\n", "r.toml: optimizer.layer_decay = 0.0: input should be "),
        (STANDARD + K400 + "[optimizer]\nbackbone_rate = 2\n", "r.toml: optimizer.backbone_rate = 2: input should be "),
        (K400, "r.toml: 'policy' is missing; it has no default"),
        (STANDARD, "r.toml: 'datasets' is missing; it has no default"),
        (STANDARD + "[datasets]\n", "r.toml: datasets = {}: it takes 1 or more"),
        (STANDARD + '[datasets.k400]\nval = "v"\n', "r.toml: 'datasets.k400.train' is missing; it has no default"),
        (STANDARD + K400 + SSV2, "r.toml: policy 'standard' trains one dataset, not 2; use policy = \"cotrain\""),
        (
            'policy = "cotrain"\ndata.rates = "sqrt"\n' + K400 + "rate = 2.0\n" + SSV2 + "rate = 1.0\n",
            "r.toml: datasets.k400.rate sets shares by hand, and data.rates = 'sqrt' by size; leave one of them out",
        ),
        (
            STANDARD + K400 + '[optimizer]\nname = "adamw"\nnesterov = true\n',
            "r.toml: optimizer.nesterov changes the momentum of SGD, and this is adamw with momentum 0.9; leave "
            "nesterov out",
        ),
        (
            STANDARD + K400 + "[data]\nrates = { temperature = 0 }\n",
            'r.toml: data.rates = {\'temperature\': 0}: it is "proportional", "sqrt", "uniform" or { temperature = T } '
            "with T of at least 0.1",
        ),
        (
            STANDARD + K400 + 'class_weights = "balanced"\n',
            'r.toml: datasets.k400.class_weights = \'balanced\': it is "inverse", "inverse_sqrt" or a table of '
            "classes and weights, each 0 or more",
        ),
        (
            STANDARD + K400 + 'class_balanced = true\nclass_weights = "inverse"\n',
            "r.toml: datasets.k400.class_balanced and class_weights = 'inverse' both make up for rare classes; "
            "leave one of them out",
        ),
        (
            'policy = "cotrain"\n' + K400 + "rate = 2.0\n" + SSV2,
            "r.toml: datasets.k400 has a rate and others have none; give a rate to all or to none",
        ),
        (
            STANDARD + K400 + '[optimizer]\nbalance = "pcgrad"\n',
            "r.toml: optimizer.balance = 'pcgrad' shares the update between datasets, and there is one; leave balance "
            "out",
        ),
        (
            'policy = "cotrain"\n' + K400 + SSV2 + "[optimizer]\nbackbone_rate = 0\nclip_dataset_norm = 1.0\n",
            "r.toml: optimizer.balance and clip_dataset_norm: optimizer.backbone_rate = 0 freezes all weights that",
        ),
        (
            STANDARD + K400 + "[optimizer]\nbackbone_rate = 0\n[training]\nmeasure_gradients_every = 1\n",
            "r.toml: training.measure_gradients_every: optimizer.backbone_rate = 0 freezes all weights that datasets",
        ),
        (
            STANDARD + '[datasets.k400]\ntrain = "k400.arrow"\n[training.best]\nmeasure = "loss"\n',
            "r.toml: training.best compares validations, and no dataset has a val manifest; name one",
        ),
        (
            'policy = "probe"\ninit = "runs/a"\n' + K400 + "[optimizer]\nbackbone_rate = 0.5\n",
            "r.toml: policy 'probe' freezes the backbone, and optimizer.backbone_rate = 0.5; leave it out, or train ",
        ),
        (STANDARD + K400 + K400, "r.toml is not a readable TOML file: Cannot declare ('datasets', 'k400') twice"),
        ("policy = standard\n", "r.toml is not a readable TOML file: Invalid value (at line 1, column 10)"),
        ('extends = "absent.toml"\n', "absent.toml: no such file; give the path of a TOML file"),
        ("extends = 3\n", 'r.toml: extends = 3 is neither a file nor a list of files; write ["a.toml"]'),
        (
            'policy = "probe"\ninit = "runs/a"\n' + K400 + "[augmentation]\nmixup = 0.8\n",
            "r.toml: policy 'probe' computes features once, of unchanged clips; leave out augmentation and temporal_ji",
        ),
        (
            STANDARD + K400 + "[data]\ncache_features = false\n",
            "r.toml: data.cache_features is a key of policy 'probe'; leave it out",
        ),
        (
            STANDARD + K400 + "[optimizer]\nlora = {}\nbackbone_rate = 0\n",
            "r.toml: optimizer.lora trains adapters in the backbone, and optimizer.backbone_rate = 0 freezes it; ",
        ),
        (
            STANDARD + K400 + "[optimizer]\nfresh_at_full_rate = true\nlayer_decay = 0.5\n",
            "r.toml: optimizer.fresh_at_full_rate keeps layer_decay and backbone_rate from weights that init does not ",
        ),
        ('policy = "probe"\n' + K400, "r.toml: policy 'probe' trains heads on frozen features and has no init; name"),
        (
            STANDARD + K400 + 'init_head = "k710"\n',
            "r.toml: datasets.k400.init_head names a head of init, and there is no init; name a run",
        ),
        (
            STANDARD + K400 + '[training]\nprecision = "fp8"\ncompile = true\n',
            "r.toml: training.compile leaves out the library's kernels, and precision 'fp8' needs them; turn compile o",
        ),
        (
            'policy = "probe"\ninit = "runs/a"\n' + K400 + '[training]\nprecision = "fp8"\n',
            "r.toml: policy 'probe' trains heads alone, which precision 'fp8' does not change; use \"bf16\"",
        ),
    ],
)
def test_a_mistake_is_answered_with_the_key_the_value_and_the_rule(tmp_path: Path, text: str, expected: str) -> None:
    assert message(tmp_path, text).startswith(expected)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("training.epochs", "--set 'training.epochs' is not of the form key=value; write --set training.epochs=5"),
        ("=5", "--set '=5' is not of the form key=value; write --set training.epochs=5"),
        ("training.epochs=many", "r.toml: training.epochs = 'many': input should be a valid number"),
        ("model.dept=3", "r.toml: unknown key 'model.dept'; did you mean 'depth'? known here: variant, "),
        ("model=3", "r.toml: model = 3: it is a table, such as {"),
    ],
)
def test_a_wrong_override_is_answered_alike(tmp_path: Path, override: str, expected: str) -> None:
    assert message(tmp_path, STANDARD + K400, override).startswith(expected)


def test_an_empty_path_is_none_as_who_overrides_a_part_wants(tmp_path: Path) -> None:
    (tmp_path / "base.toml").write_text(
        '[data]\ncache_folder = "frames"\ncache_frames = true\n' + K400 + 'val = "v.arrow"\n'
    )
    recipe = read(tmp_path, 'extends = "base.toml"\n' + STANDARD, "data.cache_folder=''", 'datasets.k400.val=""')
    assert recipe.data.cache_folder is None and recipe.datasets["k400"].val is None and recipe.data.cache_frames


def test_files_that_are_no_recipes_are_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"absent\.toml: no such file; give the path of a TOML file"):
        read_recipe(tmp_path / "absent.toml")
    (binary := tmp_path / "clip.mp4").write_bytes(b"\xff\xfe")
    for path in (tmp_path, binary):
        with pytest.raises(RecipeError, match=f"{path.name} is not a readable TOML file"):
            read_recipe(path)


def test_windows_line_ends_and_a_byte_order_mark_are_read(tmp_path: Path) -> None:
    (tmp_path / "base.toml").write_bytes(b"\xef\xbb\xbf[model]\r\ndepth = 3\r\n")
    text = 'extends = "base.toml"\r\n' + (STANDARD + K400).replace("\n", "\r\n")
    (tmp_path / "r.toml").write_bytes(b"\xef\xbb\xbf" + text.encode())
    recipe = read_recipe(tmp_path / "r.toml")
    assert (section_of(recipe).depth, recipe.datasets["k400"].train) == (3, tmp_path / "k400.arrow")


@pytest.mark.parametrize(
    ("part", "reason"),
    [
        ("/dev/zero", "it is a device, not a file"),
        ("pipe", "it is a pipe, not a file"),
        ("utf16.toml", "it is UTF-16 text; save it as UTF-8"),
        ("nested.toml", "it is nested too deeply"),
    ],
)
def test_a_part_that_is_no_text_file_is_refused_at_once(tmp_path: Path, part: str, reason: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "utf16.toml").write_text(STANDARD, encoding="utf-16")
    (tmp_path / "nested.toml").write_text("a = " + 100_000 * "[")
    for text in (f'extends = "{part}"\n' + STANDARD + K400, f'extends = ["{part}"]\n'):
        assert message(tmp_path, text) == f"{part} is not a readable TOML file: {reason}"


def test_adamw_has_a_default_rate_of_its_own(tmp_path: Path) -> None:
    for text, rate in (("", 5e-3), ('name = "adamw"', 1e-4), ('name = "adamw"\nlearning_rate = 0.002', 2e-3)):
        assert read(tmp_path, STANDARD + K400 + f"[optimizer]\n{text}\n").optimizer.learning_rate == rate


def test_a_written_recipe_reads_back_the_same(tmp_path: Path) -> None:
    text = (
        'policy = "cotrain"\ninit = "runs/pretrain"\nseed = 3\n'
        + K400
        + 'rate = 2.0\nreversal_pairs = [["in \\"1\\"", "out ü"]]\n'
        + SSV2
        + "rate = 1.0\nloss_weight = 0.5\n[data]\nshort_side = [256, 320]\n[training]\nmax_steps = 7\n"
    )
    recipe = read(tmp_path, text)
    recipe.write(tmp_path / "resolved.toml")
    assert read_recipe(tmp_path / "resolved.toml") == recipe


def test_whole_numbers_among_rates_and_weights_are_written_without_a_complaint(tmp_path: Path) -> None:
    """Pydantic warns of a number that is not of the type of its key."""
    text = STANDARD + K400 + "class_weights = { jump = 2 }\n[data]\nrates = { temperature = 3 }\n"
    recipe = read(tmp_path, text)
    recipe.write(tmp_path / "resolved.toml")
    assert read_recipe(tmp_path / "resolved.toml") == recipe and recipe.data.temperature == 3


@pytest.mark.parametrize("path", OWN, ids=lambda path: path.stem)
def test_our_own_recipes_are_valid_and_their_headers_complete(path: Path) -> None:
    recipe = read_recipe(path)
    assert recipe.datasets
    for entry in ("Command", "Hardware", "(Result|Expected)"):
        assert re.search(f"^# {entry}: +[^ ]", path.read_text(), re.MULTILINE), f"{path} has no line # {entry}:"


def test_a_recipe_travels_to_another_process(tmp_path: Path) -> None:
    recipe = read(tmp_path, STANDARD + K400, "model.depth=3", "data.exclude=['leaks.csv']")
    assert pickle.loads(pickle.dumps(recipe)) == recipe


def test_the_recipes_of_the_training_guide_are_recipes(tmp_path: Path) -> None:
    blocks = re.findall(r"```toml\n(.*?)```", GUIDE, re.DOTALL)
    examples = [read(tmp_path, block) for block in blocks if block.startswith("policy")]  # others are parts of one
    assert [recipe.policy for recipe in examples] == ["cotrain", "standard", "probe", "standard"]
    augmentation = examples[-1].augmentation
    assert (augmentation.randaugment.num_ops, augmentation.randaugment.magnitude) == (2, 7)
    assert (augmentation.mixup, augmentation.cutmix, augmentation.repeats) == (0.8, 1.0, 2)
    assert (examples[-1].optimizer.layer_decay, examples[-1].training.label_smoothing) == (0.75, 0.1)


@pytest.mark.parametrize("path", [path for path in OWN if path.parent.name == "paper"], ids=lambda path: path.stem)
def test_the_papers_recipes_leave_every_option_off(path: Path) -> None:
    recipe = read_recipe(path)
    assert recipe.augmentation == AugmentationSection()
    assert (recipe.optimizer.layer_decay, recipe.optimizer.warmup_epochs, recipe.training.label_smoothing) == (1, 0, 0)


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("rand-m9-n2-mstd0.5-inc1", (2, 9.0, 0.5, 0.5)),
        ("rand-m7-n4-mstd0.5-inc1", (4, 7.0, 0.5, 0.5)),
        ("rand-n3-inc1-p0.3", (3, 10.0, 0.0, 0.3)),
    ],
)
def test_published_policies_are_read(policy: str, expected: tuple[float, ...], tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text(STANDARD + K400 + f'[augmentation]\nrandaugment = "{policy}"\n')
    recipe = read_recipe(tmp_path / "r.toml")
    read = recipe.augmentation.randaugment
    assert (read.num_ops, read.magnitude, read.magnitude_std, read.probability) == expected
    assert read.operations == "timm"
    recipe.write(tmp_path / "again.toml")
    assert read_recipe(tmp_path / "again.toml").augmentation == recipe.augmentation


@pytest.mark.parametrize(
    "policy", ["rand-m9-mstd0.5", "augmix-m3", "rand-m9-q2-inc1", "rand-m9-inc0", "rand-m1.2.3-inc1"]
)
def test_policies_of_other_kinds_are_refused(policy: str, tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text(STANDARD + K400 + f'randaugment = "{policy}"\n')
    with pytest.raises(RecipeError, match=r"r.toml: datasets.k400.randaugment = .*: (it is a table or a policy|'rand)"):
        read_recipe(tmp_path / "r.toml")


def test_a_section_that_is_no_table_is_shown_as_one() -> None:
    values = {"policy": "standard", "datasets": {"k400": {"train": "a"}}, "training": {"best": "a"}}
    with pytest.raises(
        RecipeError, match=r"""training.best = 'a': it is a table, such as { measure = "top1" }; known"""
    ):
        parse_recipe(values, "test")


def test_the_measure_of_one_dataset_is_no_mean() -> None:
    assert BestSection(weights={"a": 1.0}).phrase == "top-1 of a"
    assert BestSection(weights={"a": 1.0, "b": 2.0}).phrase == "mean top-1 of 1 a, 2 b"
