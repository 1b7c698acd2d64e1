"""Python's syntax as text, without what people alone read, and the names that stand in it."""

from __future__ import annotations

import ast

# Calls whose texts are read by people: refusals, and the help of options and parameters.
_REFUSALS = ("InputError", "settings_option")
_DESCRIBED = {
    "Option": ("help", "metavar"),
    "Argument": ("help", "metavar"),
    "Field": ("description",),
}


class Reader:
    """Reads syntax as text, and notes on the way what it names.

    Attributes:
        names: every plain name, as often as it is used.
        attributes: name and attribute of every `name.attribute`.
        texts: the first part of every string that may be a path.
        imports: in functions too.
    """

    def __init__(self) -> None:
        self.names: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.texts: set[str] = set()
        self.imports: list[ast.Import | ast.ImportFrom] = []

    def told(self, node: object) -> str:
        """The text, the same by any Python that has its grammar."""
        if isinstance(node, list):
            return f"[{','.join([self.told(one) for one in node if not unread(one)])}]"
        if not isinstance(node, ast.AST):
            return repr(node)
        if isinstance(node, ast.Name):
            self.names.append(node.id)
            return f"Name({node.id})"
        if isinstance(node, ast.Constant):
            if isinstance(node.value, str):
                self.texts.add(node.value.partition("/")[0])
            return f"Constant({node.value!r})"
        if isinstance(node, ast.Attribute):
            if isinstance(node.value, ast.Name):
                self.attributes.append((node.value.id, node.attr))
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            self.imports.append(node)
        dropped: tuple[str, ...] = ()
        if isinstance(node, ast.Call):
            called = getattr(node.func, "id", None) or getattr(node.func, "attr", None)
            if called in _REFUSALS:
                return f"Call({called})"
            dropped = _DESCRIBED.get(str(called), ())
        # ast.dump shows fields that are empty, and each Python has other ones.
        parts = []
        for name in node._fields:
            value = getattr(node, name, None)
            if value is None or value == [] or name == "ctx":
                continue
            if dropped and name == "keywords":
                value = [one for one in value if one.arg not in dropped]
            parts.append(f"{name}={self.told(value)}")
        return f"{type(node).__name__}({','.join(parts)})"


def unread(node: object) -> bool:
    """A statement without effect: a docstring, of whatever it follows, or imports for types."""
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    # The name is false whenever the code runs.
    return (
        isinstance(node, ast.If)
        and isinstance(node.test, ast.Name)
        and node.test.id == "TYPE_CHECKING"
        and not node.orelse
    )
