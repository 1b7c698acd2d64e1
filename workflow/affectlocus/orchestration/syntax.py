"""Python code as text without docstrings and messages, and the names that it uses."""

from __future__ import annotations

import ast

# Arguments that only people read: the help of options and parameters.
_DESCRIBED = {
    "Option": ("help", "metavar"),
    "Argument": ("help", "metavar"),
    "Field": ("description",),
}


class Reader:
    """Converts a syntax tree to text, and collects the names in it.

    Attributes:
        names: every plain name, once for each use.
        attributes: name and attribute of every `name.attribute`.
        texts: the first part of every string that may be a path.
        imports: all import statements, those in functions included.
    """

    def __init__(self) -> None:
        self.names: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.texts: set[str] = set()
        self.imports: list[ast.Import | ast.ImportFrom] = []

    def text_of(self, node: object) -> str:
        """The text of a node; the same with every version of Python that can parse it."""
        if isinstance(node, list):
            return f"[{','.join([self.text_of(one) for one in node if not unread(one)])}]"
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
            if str(called).endswith("Error") or called == "settings_option":
                return f"Call({called})"  # the arguments are an error's message, or a help text
            dropped = _DESCRIBED.get(str(called), ())
        # Not ast.dump: it shows empty fields, which differ between versions of Python.
        parts = []
        for name in node._fields:
            value = getattr(node, name, None)
            if value is None or value == [] or name == "ctx":
                continue
            if dropped and name == "keywords":
                value = [one for one in value if one.arg not in dropped]
            parts.append(f"{name}={self.text_of(value)}")
        return f"{type(node).__name__}({','.join(parts)})"


def unread(node: object) -> bool:
    """Whether a statement has no effect: a text (a docstring), or imports for type checkers."""
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    # TYPE_CHECKING is false at run time.
    return (
        isinstance(node, ast.If)
        and isinstance(node.test, ast.Name)
        and node.test.id == "TYPE_CHECKING"
        and not node.orelse
    )
