"""The modules that LoRA can adapt: weight matrices of the seven projections, by name and shape.

The shapes come from a model on the meta device, where tensors have no memory, so that a model of
any size takes a second; or from the headers of a checkpoint.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from affectlocus.checkpoints.architectures import place
from affectlocus.checkpoints.native_models import native_model
from affectlocus.checkpoints.parameter_shapes import parameter_shapes
from affectlocus.core.errors import InputError
from affectlocus.core.extras import installed, missing_extra
from affectlocus.core.files import read_json
from affectlocus.core.projections import ALL, PROJECTIONS, ModuleSet, parse_modules
from affectlocus.lm.config_limits import check_depth

if TYPE_CHECKING:
    from transformers import PretrainedConfig


@dataclass(frozen=True)
class Target:
    """A module that an adapter can be attached to.

    Attributes:
        name: its full name in the model, without `.weight`.
        layer: counted from 0.
        projections: the projections in its weight; several if they are fused.
        shape: (d_out, d_in) of its weight.
        bias: entries of its bias; 0 without one.
    """

    name: str
    layer: int
    projections: tuple[str, ...]
    shape: tuple[int, int]
    bias: int = 0

    @property
    def weights(self) -> int:
        """Entries of the weight."""
        return prod(self.shape)

    @property
    def per_rank(self) -> int:
        """Parameters that LoRA adds for each rank: a row of A (d_in), a column of B (d_out)."""
        return sum(self.shape)


@dataclass(frozen=True)
class Layout:
    """The targets of a model, sorted by layer and projection, and its number of parameters.

    Attributes:
        hidden_size: width of the residual stream, if the configuration has it.
        bridge: module of a multimodal model's own bridge → its number of parameters.
    """

    name: str
    targets: tuple[Target, ...]
    parameters: int
    hidden_size: int | None = None
    bridge: Mapping[str, int] = field(default_factory=dict)

    def of(self, modules: str) -> list[Target]:
        """The targets of a module set.

        LoRA on a fused tensor has one A for all projections in it. It adapts them together, and
        cannot adapt one of them alone.

        Raises:
            InputError: a projection without a module in the model, or a part of a fused tensor.
        """
        wanted = parse_modules(modules)
        wanted.check_layers(1 + max(target.layer for target in self.targets), self.name)
        inside = {
            target.name: {one for one in target.projections if wanted.contains(target.layer, one)}
            for target in self.targets
        }
        found = [target for target in self.targets if inside[target.name]]
        lacking = set(wanted.projections).difference(*inside.values())
        if lacking:
            raise InputError(
                "base.no-module-for-lora",
                f"{self.name}: no module for {ModuleSet.of(lacking)} (the experts of a "
                "mixture are one parameter, which LoRA on modules does not adapt); use module sets "
                f"of {self.known or 'nothing'}",
                model=self.name,
                found=str(ModuleSet.of(lacking)),
                expected=self.known,
            )
        for target in found:
            if inside[target.name] != set(target.projections):
                fused = "+".join(target.projections)
                raise InputError(
                    "base.fused-projections",
                    f"{self.name}: {target.name.rpartition('.')[2]} holds {fused} in one tensor, "
                    f"which LoRA adapts as a whole, not {modules} alone; use a module set that "
                    f"contains {fused}",
                    model=self.name,
                    tensor=target.name,
                    found=modules,
                    expected=fused,
                )
        return found

    @property
    def known(self) -> str:
        """The projections that have a module in the model, as a module set."""
        names = {name for target in self.targets for name in target.projections}
        return str(ModuleSet.of(names))

    def has(self, modules: str) -> bool:
        """Whether LoRA can be applied to a module set."""
        try:
            self.of(modules)
        except InputError:
            return False
        return True


def lora_parameters(layout: Layout, modules: str, rank: int) -> int:
    """Parameters of LoRA at this rank on a module set."""
    return rank * sum(target.per_rank for target in layout.of(modules))


def fair_rank(layout: Layout, modules: str, rank: int) -> int:
    """The rank at which a module set has about as many LoRA parameters as all seven at `rank`.

    It is at least 1. It may exceed the full rank of a matrix (k and v are narrow), where additional
    ranks have no effect; `beyond_full_rank` of the ledger reports it.
    """
    whole, per_rank = lora_parameters(layout, ALL, rank), lora_parameters(layout, modules, 1)
    below = max(1, whole // per_rank)
    return below if whole - below * per_rank <= (below + 1) * per_rank - whole else below + 1


def layout(
    name: str, shapes: Iterable[tuple[str, tuple[int, ...]]], hidden_size: int | None = None
) -> Layout:
    """The layout of a model whose parameters have these names and shapes."""
    listed = dict(shapes)
    targets: list[tuple[tuple[int, int], Target]] = []
    for tensor, shape in listed.items():
        found = place(tensor)
        if found is None or found.parameter != "weight" or len(shape) != 2:
            continue
        if found.expert is not None:
            continue
        module = tensor.removesuffix(".weight")
        bias = prod(listed.get(f"{module}.bias", (0,)))
        names = found.module.projections
        target = Target(module, found.layer, names, (shape[0], shape[1]), bias)
        targets.append(((found.layer, PROJECTIONS.index(names[0])), target))
    if not targets:
        raise InputError(
            "base.no-projections",
            f"{name}: none of its modules is a q, k, v, o, gate, up or down projection; expected "
            "a language model such as Qwen, LLaMA, Mistral, Gemma or Phi-3",
            model=name,
        )
    ordered = tuple(target for _, target in sorted(targets, key=lambda entry: entry[0]))
    return Layout(name, ordered, sum(map(prod, listed.values())), hidden_size)


def layout_of_config(name: str, config: PretrainedConfig) -> Layout:
    """The layout of the model of a configuration, on the meta device; tied weights count once."""
    import torch
    import transformers as hf

    # Each mapping lists the configurations that its class can build a model of.
    for kind, configurations in (
        (hf.AutoModelForCausalLM, hf.MODEL_FOR_CAUSAL_LM_MAPPING),
        (hf.AutoModelForMultimodalLM, hf.MODEL_FOR_MULTIMODAL_LM_MAPPING),
        (hf.AutoModel, hf.MODEL_MAPPING),
    ):
        if type(config) not in configurations:
            continue
        with torch.device("meta"), warnings.catch_warnings():
            # A warning of transformers about its own code.
            warnings.simplefilter("ignore", FutureWarning)
            model = kind.from_config(config, trust_remote_code=False)
        shapes = {tensor: tuple(p.shape) for tensor, p in model.named_parameters()}
        width = getattr(config.get_text_config(), "hidden_size", None)
        found = layout(name, shapes.items(), width)
        return replace(found, bridge=_bridge(config.model_type, shapes))
    raise InputError(
        "model.unsupported-type",
        f"{name}: transformers has no model for {config.model_type!r}",
        model=name,
        key="model_type",
        found=config.model_type,
    )


def _bridge(model_type: str, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    """Module of the bridge of a multimodal model → its number of parameters; empty for others."""
    native = native_model({"model_type": model_type})
    counts: dict[str, int] = {}
    if native is not None:
        for start in native.starts["bridge"]:
            inside = [prod(shape) for name, shape in shapes.items() if name.startswith(start)]
            if start.endswith(".") and inside:  # a tensor of its own is not tuned
                counts[start[:-1]] = sum(inside)
    return counts


def layout_of(path: Path) -> Layout:
    """The layout of a model, from its config.json, the folder of one, or a checkpoint's manifest.

    A model that transformers does not support (InternLM2) is counted by the headers of its weights.
    If transformers is not installed, this applies to all dense language models; LLaMA, Mistral,
    Qwen2 and Qwen3 are counted from their configuration. The counts are the same.

    Raises:
        InputError: no configuration, or a model that can be counted in neither way.
        MissingExtraError: only transformers can count the model, and it is not installed.
    """
    name, file = _config_file(path)
    if not (installed("transformers") and installed("torch")):
        return _without_transformers(file, name)
    config = _read_config(file)
    return _layout_of_headers(file, name) if config is None else layout_of_config(name, config)


def config_of(path: Path) -> PretrainedConfig:
    """The configuration at a path as in `layout_of`.

    Raises:
        InputError: no configuration, or a model_type that transformers does not support.
    """
    _, file = _config_file(path)
    config = _read_config(file)
    if config is None:
        kind = read_json(file)["model_type"]
        raise InputError(
            "model.unsupported-type",
            f"{file}: transformers does not support model_type {kind!r}",
            file=file,
            key="model_type",
            found=kind,
        )
    return config


def _config_file(path: Path) -> tuple[str, Path]:
    """The name of a model, and its config.json."""
    file = path / "config.json" if path.is_dir() else path
    record = read_json(file)
    if isinstance(record, dict) and "folder" in record:
        from affectlocus.checkpoints.checkpoint_manifests import checkpoint_folder

        return path.stem, checkpoint_folder(path) / "config.json"
    if not isinstance(record, dict) or "model_type" not in record:
        raise InputError(
            "model.no-type",
            f"{file}: no model_type in this file; expected the config.json of a model, its folder, "
            "or the manifest of a checkpoint",
            file=file,
            key="model_type",
        )
    return file.parent.resolve().name if file.name == "config.json" else file.stem, file


def _read_config(file: Path) -> PretrainedConfig | None:
    """The configuration in a file; None if transformers does not support its model_type."""
    from transformers import AutoConfig

    record = read_json(file)
    check_depth(record, str(file))
    kind = record.pop("model_type")
    try:
        return AutoConfig.for_model(kind, **record)
    except ValueError:
        return None
    except Exception as error:  # configuration classes raise many types
        line = " ".join(str(error).split())
        raise InputError(
            "model.invalid-config",
            f"{file}: not a valid {kind} configuration ({line}); restore the file",
            file=file,
            expected=kind,
        ) from None


def _without_transformers(file: Path, name: str) -> Layout:
    config = read_json(file)
    check_depth(config, str(file))
    shapes = parameter_shapes(file.parent, config)
    if shapes is None:
        who = f"{file}: to count a model of type {config['model_type']!r}, affectlocus"
        raise missing_extra(who, "transformers")
    return layout(name, shapes.items(), config.get("hidden_size"))


def _layout_of_headers(file: Path, name: str) -> Layout:
    from affectlocus.checkpoints.weights import Weights

    try:
        weights = Weights(file.parent)
    except InputError as error:
        kind = read_json(file)["model_type"]
        raise InputError(
            "model.cannot-be-counted",
            f"{file}: transformers does not support model_type {kind!r}, and the weights in its "
            f"folder cannot be counted instead: {error}",
            file=file,
            key="model_type",
            found=kind,
        ) from None
    return layout(
        name,
        ((tensor, weights.shape(tensor)) for tensor in weights.names()),
        (weights.config or {}).get("hidden_size"),
    )
