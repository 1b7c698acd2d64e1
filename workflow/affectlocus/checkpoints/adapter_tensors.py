"""The tensors of an adapter by their role, from their names.

A tensor is a low-rank factor of a module, replaces a tensor or some rows of it, or is not read.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from affectlocus.checkpoints.adapter_kinds import training_only, unsupported_tensor
from affectlocus.checkpoints.architectures import in_other_tower
from affectlocus.core.errors import InputError

Layout = Literal["peft", "mlx", "trained-only"]

LORA = re.compile(
    r"(?P<module>.+)\.lora_(?P<factor>A|B|embedding_A|embedding_B|magnitude_vector|a|b)"
    r"(?:\.(?P<adapter>(?!weight$|bias$)[^.]+))?(?P<leaf>\.weight|\.bias)?"
)
"""The name of a LoRA tensor."""
# The names of factors in mlx-vlm.
_VLM = re.compile(r"(?P<module>.+)\.(?P<factor>[AB])")
# LoRA-XS: an r×r matrix between A and B. peft removes `.default` from the name when it saves it.
_LATENT = re.compile(r"(?P<owner>.+)[._]lora_latent_mapping(?:\.[^.]+)??(?:\.weight)?")
# The prefix of peft's wrapper. Anything before it belongs to the model around the wrapped one.
_WRAPPER = "base_model.model."
_ORIGINAL = re.compile(r"\.(?:original_module|modules_to_save(?:\.[^.]+)?)(?=\.)")
_SAVED = re.compile(
    r"\.modules_to_save(?:\.[^.]+)?(?=\.)|\.token_adapter(?=\.base_layer\.)|\.base_layer(?=\.)"
)
_ROWS = re.compile(r"(?P<module>.+?)\.token_adapter\.trainable_tokens_delta(?:\.[^.]+)?")
_TABLES = ("embed_tokens", "tok_embeddings", "wte", "word_embeddings")


@dataclass(frozen=True)
class Factors:
    """The stored tensors of one module's low-rank change, by their names in the adapter's file."""

    a: str
    b: str
    # "embedding": of the transposed weight; "mlx": both transposed; "mlx embedding": A·B
    layout: str = "linear"
    magnitude: str | None = None  # DoRA
    bias: str | None = None  # added to the module's bias, with the scaling of B·A
    latent: str | None = None  # LoRA-XS: R of B·R·A

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all stored tensors."""
        names = (self.a, self.b, self.magnitude, self.bias, self.latent)
        return tuple(name for name in names if name is not None)

    @property
    def transposed(self) -> bool:
        """Whether A is stored as (d_in, r) and B as (r, d_out)."""
        return self.layout.startswith("mlx")


class AdapterTensors:
    """The tensors of an adapter by their role.

    Args:
        path: the adapter, for messages.
        names: the stored tensors.
        token_rows: whether the settings name rows that are trained.

    Attributes:
        factors: module → its low-rank factors.
        replaced: tensor → the stored tensor that replaces it.
        rows: tensor → the stored rows that replace some of its rows.
        Modules and tensors are named as in the file, without the prefix of peft's wrapper.

    Raises:
        InputError: tensors of several adapters or of another adapter type, or a missing factor.
    """

    def __init__(
        self, path: Path, names: Sequence[str], layout: Layout, token_rows: bool = False
    ) -> None:
        self.path, self._mlx = path, layout == "mlx"
        self.replaced: dict[str, str] = {}
        self.rows: dict[str, str] = {}
        # With several wrapped models, the prefix before the wrapper tells them apart.
        self._several = (
            len({name.rpartition(_WRAPPER)[0] for name in names if _WRAPPER in name}) > 1
        )
        self._found: defaultdict[str, dict[str, str]] = defaultdict(dict)
        latents = self._sort(names, token_rows)
        for name in latents:
            self._keep_latent(name)
        self._refuse_unknown(everywhere=layout == "peft")
        self.factors = {
            module: self._factors(module, names) for module, names in self._found.items()
        }
        without = [module for module, factors in self.factors.items() if factors.latent is None]
        if latents and without:
            raise InputError(
                "adapter.no-latent-mapping",
                f"{path}: {min(without)} has no lora_latent_mapping, though other modules have one "
                "(LoRA-XS); the adapter is incomplete",
                file=path,
                module=min(without),
            )

    def _sort(self, names: Sequence[str], token_rows: bool) -> list[str]:
        """Assigns each tensor its role; returns the matrices of LoRA-XS."""
        adapters: set[str] = set()
        latents = []
        trained_copies = {_ORIGINAL.sub("", name) for name in names if ".modules_to_save." in name}
        for name in names:
            if training_only(name):
                continue
            if self._mlx and (vlm := _VLM.fullmatch(name)):
                self._keep(self._found[vlm["module"]], vlm["factor"].lower(), name)
            elif lora := LORA.fullmatch(name):
                adapters |= {lora["adapter"]} - {None}
                if len(adapters) > 1:
                    raise InputError(
                        "adapter.several-adapters",
                        f"{self.path}: it holds several adapters ({', '.join(sorted(adapters))}); "
                        "expected one",
                        file=self.path,
                        found=sorted(adapters),
                    )
                key = lora["factor"] + (".bias" if lora["leaf"] == ".bias" else "")
                if self._mlx and key in ("A", "B"):
                    key = key.lower()  # mlx-vlm, in adapters that have a name
                self._keep(self._found[self._unwrapped(lora["module"])], key, name)
            elif _LATENT.fullmatch(name):
                latents.append(name)
            elif ".original_module." in name and _ORIGINAL.sub("", name) in trained_copies:
                pass  # peft's copy of the module that the trained one replaces
            elif self._mlx and name.endswith(".m"):
                self._keep(self._found[name.removesuffix(".m")], "magnitude", name)
            elif token_rows and (rows := _ROWS.fullmatch(name)):
                self._keep(self.rows, f"{self._unwrapped(rows['module'])}.weight", name)
            else:
                plain = _SAVED.sub("", self._unwrapped(name))
                # peft saves the embeddings twice: trained and original. The trained copy comes
                # first in the order of names.
                if ".modules_to_save." not in self.replaced.get(plain, ""):
                    self._keep(self.replaced, plain, name)
        return latents

    def _keep(self, names: dict[str, str], key: str, name: str) -> None:
        if key in names:
            raise InputError(
                "adapter.two-changes",
                f"{self.path}: {names[key]!r} and {name!r} change the same module; expected one of "
                "them",
                file=self.path,
                first=names[key],
                second=name,
            )
        names[key] = name

    def _unwrapped(self, name: str) -> str:
        """A name without the prefix of peft's wrapper."""
        before, _, rest = name.rpartition(_WRAPPER)
        return f"{before}{rest}" if self._several or in_other_tower(before) else rest

    def _keep_latent(self, name: str) -> None:
        """Assigns the matrix of LoRA-XS to its module."""
        match = _LATENT.fullmatch(name)
        assert match is not None
        owner = self._unwrapped(match["owner"])
        for module in (owner, owner.rpartition(".")[0]):
            names = self._found.get(module)
            if names is not None and "latent" not in names:
                names["latent"] = name
                return
        raise InputError(
            "adapter.stray-latent-mapping",
            f"{self.path}: {name!r} belongs to no module with one lora_A and one lora_B; expected "
            "all three in the same module, as LoRA-XS saves them",
            file=self.path,
            tensor=name,
        )

    def _refuse_unknown(self, everywhere: bool) -> None:
        """Refuses tensors of another adapter type, whatever the settings say."""
        unknown = unsupported_tensor(self.replaced, self._found, everywhere)
        if unknown is not None:
            plain, kind = unknown
            raise InputError(
                "adapter.unsupported-tensor",
                f"{self.path}: {self.replaced[plain]!r} is {kind}, so the change of its module is "
                "not known; merge the adapter into its base with the tool that made it, and give "
                "the merged model",
                file=self.path,
                tensor=self.replaced[plain],
                found=kind,
            )

    def _factors(self, module: str, names: dict[str, str]) -> Factors:
        for layout, first, second in (
            ("linear", "A", "B"),
            ("embedding", "embedding_A", "embedding_B"),
            ("mlx", "a", "b"),
        ):
            if first in names and second in names:
                read = {first, second, "magnitude_vector", "magnitude", "B.bias"}
                if layout == "linear" and not {"magnitude_vector", "B.bias"} & set(names):
                    read |= {"latent"}
                if unread := sorted(set(names) - read):
                    raise InputError(
                        "adapter.unsupported-factor",
                        f"{self.path}: {names[unread[0]]!r} is not read together with "
                        f"{names[first]!r}; merge the adapter into its base with its own tool and "
                        "give that folder",
                        file=self.path,
                        tensor=names[unread[0]],
                    )
                if layout == "mlx" and module.endswith(_TABLES):
                    layout = "mlx embedding"
                return Factors(
                    names[first],
                    names[second],
                    layout,
                    names.get("magnitude_vector") or names.get("magnitude"),
                    names.get("B.bias"),
                    names.get("latent"),
                )
        single = next(iter(names.values()))
        raise InputError(
            "adapter.lone-factor",
            f"{self.path}: {single!r} is without the other LoRA factor; expected both factors of a "
            "module",
            file=self.path,
            tensor=single,
        )
