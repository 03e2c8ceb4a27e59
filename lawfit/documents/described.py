"""The words below a key of a document, as its description in a schema."""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Mapping
from functools import cache
from itertools import pairwise
from typing import Any


def described(document: type, core_schema: Any, handler: Any) -> dict[str, Any]:
    """The JSON schema of a type of `lawfit.documents`, with what is said below each of its own keys.

    Parameters
    ----------
    document : TypedDict
        Whose ``__get_pydantic_json_schema__`` this is.
    core_schema, handler
        As pydantic gives them.
    """
    schema: dict[str, Any] = handler(core_schema)
    properties = handler.resolve_ref_schema(schema)["properties"]
    for key, words in _said(document.__module__).get(document.__name__, {}).items():
        properties[key]["description"] = words
    return schema


@cache
def _said(module: str) -> Mapping[str, Mapping[str, str]]:
    """What stands below the keys of each class of a module; empty where its source is not there."""
    try:
        source = inspect.getsource(sys.modules[module])
    except OSError:
        return {}
    classes = [node for node in ast.parse(source).body if isinstance(node, ast.ClassDef)]
    return {node.name: dict(_below(node)) for node in classes}


def _below(node: ast.ClassDef) -> list[tuple[str, str]]:
    found = []
    for key, words in pairwise(node.body):
        match key, words:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                found.append((name, inspect.cleandoc(text)))
    return found
