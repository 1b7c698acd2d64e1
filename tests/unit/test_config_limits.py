"""transformers meets no code of a checkpoint's own, and no model that its files do not hold."""

from __future__ import annotations

import io
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from refusal import refused

from affectlocus.core.errors import InputError
from affectlocus.lm.config_limits import check_size, loading_errors


@pytest.fixture
def changed(tmp_path: Path, checkpoint: Callable[..., Path]) -> Callable[..., Path]:
    """`changed(key=value)`: a copy of a good checkpoint with other settings in its config.json."""

    def copy(**settings: Any) -> Path:
        shutil.copytree(checkpoint("llama"), tmp_path / "model")
        file = tmp_path / "model" / "config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | settings))
        return tmp_path / "model"

    return copy


def test_program_code_of_a_checkpoint_is_never_run(
    changed: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from affectlocus.config.hardware import Hardware
    from affectlocus.lm.devices import load
    from affectlocus.lm.prompts import Prompter

    own = {"AutoConfig": "evil.Evil", "AutoModelForCausalLM": "evil.Evil"}
    folder = changed(model_type="evil", auto_map=own)
    marker = folder / "ran"
    (folder / "evil.py").write_text(f"open({str(marker)!r}, 'w')\n")
    tokenizer = folder / "tokenizer_config.json"
    about = json.loads(tokenizer.read_text())
    about |= {"tokenizer_class": "Evil", "auto_map": {"AutoTokenizer": ["evil.Evil", None]}}
    tokenizer.write_text(json.dumps(about))
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n" * 9))
    for wanted in (lambda: load(folder, Hardware()), lambda: Prompter(folder)):
        with refused("model.needs-own-code", file=folder):
            wanted()
    assert not marker.exists()


def test_a_supported_model_with_code_in_its_folder_is_loaded_by_transformers(
    changed: Callable[..., Path],
) -> None:
    from affectlocus.config.hardware import Hardware
    from affectlocus.lm.devices import load

    folder = changed(auto_map={"AutoModelForCausalLM": "evil.Evil"})
    (folder / "evil.py").write_text("raise SystemExit('it ran')\n")
    assert type(load(folder, Hardware())).__module__.startswith("transformers.")


@pytest.mark.parametrize(
    "settings",
    [
        {"vocab_size": 10**9},
        {"num_hidden_layers": 10**8},
        {"intermediate_size": 2**50},
        {"hidden_size": "x"},
        {"num_attention_heads": 0},
        {"dtype": "__import__('os').system('ls')"},
        {"model_type": "weird"},
        {"model_type": ["llama"]},
    ],
    ids=str,
)
def test_a_configuration_that_its_files_do_not_bear_out_is_refused_in_one_line(
    changed: Callable[..., Path], settings: dict[str, Any]
) -> None:
    from affectlocus.config.hardware import Hardware
    from affectlocus.lm.devices import load

    folder = changed(**settings)
    with pytest.raises(InputError) as refused:
        load(folder, Hardware())
    assert str(refused.value).startswith(str(folder))


def test_a_good_one_is_not(changed: Callable[..., Path]) -> None:
    check_size(changed())


def test_a_full_card_is_none_of_the_files_fault(tmp_path: Path) -> None:
    import torch

    with pytest.raises(torch.OutOfMemoryError), loading_errors(tmp_path):
        raise torch.OutOfMemoryError("full")
    with pytest.raises(OSError, match="space"), loading_errors(tmp_path):
        raise OSError(28, "No space left on device")
