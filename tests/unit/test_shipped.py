from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pytest
import yaml
from command import in_process
from refusal import refused

from affectlocus.config.corpus import Corpus, Pretraining
from affectlocus.config.experiment import load
from affectlocus.core.files import sha256
from affectlocus.data.corpus import PRETRAINING, write_corpus
from affectlocus.training import shipped
from affectlocus.training.shipped import FOLDER, RECORD, shipped_base

ROOT = Path(__file__).parents[2]
RECIPE = yaml.safe_load((FOLDER / "recipe.yaml").read_text())
RECORDED = json.loads((FOLDER / RECORD).read_text())
FIRST, SECOND = RECIPE["seeds"][:2]
NAMES = [f"{base}/seed{seed}" for base in RECIPE["bases"] for seed in RECIPE["seeds"]]


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pre-training text of the embedded default."""
    folder = tmp_path_factory.mktemp("shipped") / "corpus"
    write_corpus(Corpus(**RECIPE["corpus"]), folder)
    return folder / PRETRAINING


def test_the_record_lists_every_base_of_the_recipe_with_its_files() -> None:
    assert list(RECORDED["bases"]) == NAMES
    for name in NAMES:
        files = {path.name: sha256(path) for path in (FOLDER / name).iterdir()}
        assert files == RECORDED["bases"][name]["files"]
        assert "model.safetensors" in files


def test_the_shipped_bases_differ_from_each_other() -> None:
    weights = [RECORDED["bases"][name]["files"]["model.safetensors"] for name in NAMES]
    assert len(set(weights)) == len(NAMES)


def test_the_embedded_default_uses_the_shipped_bases(text: Path) -> None:
    loaded = load(ROOT / "params.yaml")
    assert loaded.corpus is not None
    # Numbers of samples change no document; mini-text has the first of the held-out ones.
    assert {**loaded.corpus.model_dump(), **RECIPE["corpus"]} == loaded.corpus.model_dump()
    assert loaded.seeds == RECIPE["seeds"]
    digest = sha256(text)
    for name in RECIPE["bases"]:
        for seed, model in loaded.bases[name].models(loaded.seeds).items():
            assert model.pretrain is not None
            found = shipped_base(model.pretrain, digest)
            assert found is not None
            assert found.name == f"{name}/seed{seed}"


@pytest.mark.parametrize("change", [{"seed": 0}, {"steps": 799}, {"beta2": 0.99}])
def test_another_recipe_is_not_shipped(change) -> None:
    recipe = Pretraining(**{**RECIPE["bases"]["qwen2"], "seed": FIRST, **change})
    assert shipped_base(recipe, RECORDED["text"]) is None


def test_another_text_has_no_shipped_base() -> None:
    assert shipped_base(Pretraining(**RECIPE["bases"]["qwen2"]), "0" * 64) is None


def test_pretrain_copies_a_shipped_base_and_says_so_in_the_manifest(
    tmp_path: Path, text: Path
) -> None:
    settings = json.dumps(RECIPE["bases"]["qwen2"] | {"seed": SECOND})
    arguments = ["--text", text, "--settings", settings, "--folder", "base", "--out", "base.json"]
    done = in_process(tmp_path, "pretrain", *arguments)
    assert done.returncode == 0, done.stderr
    manifest = json.loads((tmp_path / "base.json").read_text())
    recorded = RECORDED["bases"][f"qwen2/seed{SECOND}"]
    assert manifest["shipped"] == f"qwen2/seed{SECOND}"
    assert manifest["perplexity"] == recorded["measured"]["perplexity"]
    for name, digest in recorded["files"].items():
        assert sha256(tmp_path / "base" / name) == digest


def test_several_bases_of_one_command_have_the_bytes_that_each_has_alone(
    tmp_path: Path, text: Path
) -> None:
    small = {"architecture": "llama", "layers": 1, "steps": 3, "hidden_size": 16, "heads": 2}
    given = ("pretrain", "--text", text, "--settings", json.dumps(small))
    bases = [{"seed": seed, "folder": f"b{seed}", "out": f"b{seed}.json"} for seed in (1, 2)]
    held = Pretraining(**RECIPE["bases"]["qwen2"] | {"seed": SECOND}).model_dump(mode="json")
    bases.append(held | {"folder": "c", "out": "c.json"})
    done = in_process(tmp_path, *given, "--bases", json.dumps(bases), AFFECTLOCUS_CACHE="")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "c.json").read_text())["shipped"] == f"qwen2/seed{SECOND}"
    alone = ("pretrain", "--text", text, "--settings", json.dumps(small | {"seed": 2}))
    done = in_process(
        tmp_path, *alone, "--folder", "alone", "--out", "alone.json", AFFECTLOCUS_CACHE=""
    )
    assert done.returncode == 0, done.stderr
    names = sorted(path.name for path in (tmp_path / "alone").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "b2").iterdir())
    for name in names:
        assert sha256(tmp_path / "b2" / name) == sha256(tmp_path / "alone" / name)
    assert sha256(tmp_path / "b1/model.safetensors") != sha256(tmp_path / "b2/model.safetensors")


def test_a_damaged_shipped_base_is_refused_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "package"
    shutil.copytree(FOLDER, copy)
    weights = copy / f"qwen2/seed{FIRST}/model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    monkeypatch.setattr(shipped, "FOLDER", copy)
    base = shipped_base(Pretraining(**RECIPE["bases"]["qwen2"], seed=FIRST), RECORDED["text"])
    assert base is not None
    with refused("base.shipped-damaged", file=weights):
        base.copy(tmp_path / "base")
    assert not (tmp_path / "base").exists()


@pytest.mark.full
def test_training_a_shipped_base_again_gives_a_base_as_good(tmp_path: Path, text: Path) -> None:
    settings = json.dumps(RECIPE["bases"]["qwen2"] | {"seed": FIRST})
    arguments = ["--text", text, "--settings", settings, "--folder", "base", "--out", "base.json"]
    done = in_process(tmp_path, "pretrain", "--again", *arguments, AFFECTLOCUS_CACHE="")
    assert done.returncode == 0, done.stderr
    manifest = json.loads((tmp_path / "base.json").read_text())
    assert "shipped" not in manifest
    losses = [math.log(base["measured"]["perplexity"]) for base in RECORDED["bases"].values()]
    # On the kind of CPU that made it, the base is the same to the last bit; elsewhere rounding
    # errors grow, and its loss is within the spread of the seeds.
    margin = 2 * (max(losses) - min(losses))
    assert math.log(manifest["perplexity"]) == pytest.approx(losses[0], abs=margin)
