"""Config nodes to objects: every node with a `_target_` is checked against that class's signature, then built."""

from __future__ import annotations

import dataclasses
import inspect
import typing
from collections.abc import Mapping
from typing import Any

import pydantic
from hydra.utils import get_class, instantiate

from scsave.errors import UserError

Node = dict[str, Any]
_STRICT = pydantic.ConfigDict(extra="forbid", arbitrary_types_allowed=True, protected_namespaces=())


def signature_model(target: type) -> type[pydantic.BaseModel]:
    """A pydantic model with one field for each argument of `target`."""
    # a dataclass's own hints: those that it inherits are read in the module where they are written
    hints = typing.get_type_hints(target if dataclasses.is_dataclass(target) else target.__init__, include_extras=True)
    fields: dict[str, Any] = {}
    for name, parameter in list(inspect.signature(target.__init__).parameters.items())[1:]:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue  # a class without arguments of its own
        default = ... if parameter.default is inspect.Parameter.empty else None
        fields[name] = (hints.get(name, Any) if default is ... else hints.get(name, Any) | None, default)
    return pydantic.create_model(target.__name__, __config__=_STRICT, **fields)


def explain(error: pydantic.ValidationError, where: str, known: list[str]) -> str:
    """The first mistake, in one line."""
    first = error.errors()[0]
    key = ".".join([where, *map(str, first["loc"][:1])]).strip(".")
    if first["type"] == "extra_forbidden":
        return f"{key}: unknown key; {where or 'the config'} takes: {', '.join(known)}"
    if first["type"] == "missing":
        return f"{key}: missing; set it with {key}=..."
    return wrong_value(key, first)


def wrong_value(key: str, mistake: Any) -> str:
    """What pydantic says of the value of `key`, and how it is written where it is a list for one or one for a list."""
    value, wanted = mistake["input"], mistake["type"]
    said = f"{key}={value!r}: {mistake['msg'][0].lower()}{mistake['msg'][1:]}"
    if wanted == "list_type" and isinstance(value, str | int):
        return f"{said}; write '{key}=[{value}]'"
    if wanted == "string_type" and isinstance(value, list) and value:
        return f"{said}; write {key}={value[0]}"
    if wanted in ("dict_type", "mapping_type"):
        return f"{said}; write '{key}={{name: value}}'"
    return said


def target_class(node: Node, where: str) -> type:
    name = node.get("_target_")
    allowed = ("scsave.", "lightning.pytorch.callbacks.") if where.startswith("callbacks") else ("scsave.",)
    if not isinstance(name, str) or not name.startswith(allowed):
        raise UserError(f"{where}._target_={name!r}: expected a class of scsave (scsave.<module>.<Class>)")
    try:
        return get_class(name)
    except Exception as error:
        raise UserError(f"{where}._target_={name}: no such class ({error.__class__.__name__})") from error


def check(node: Any, where: str) -> None:
    """UserError, naming the key, unless the node's arguments fit its class; nested nodes too."""
    if not isinstance(node, Mapping) or "_target_" not in node:
        raise UserError(f"{where}: expected a component with a _target_, got {node!r}; see configs/{where}/")
    model = signature_model(target_class(node, where))
    nested = {k: v for k, v in node.items() if isinstance(v, Mapping) and "_target_" in v}
    plain = {k: v for k, v in node.items() if k != "_target_" and k not in nested}
    for key, value in nested.items():
        check(value, f"{where}.{key}")
    try:
        model.model_validate(plain)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        if not (first["type"] == "missing" and first["loc"][0] in nested):
            raise UserError(explain(error, where, sorted(model.model_fields))) from None


def build(node: Node, where: str, **more: Any) -> Any:
    """The object that a node describes. UserError as `check`, or as the class's own rules say."""
    check(node, where)
    try:
        return instantiate(node, _convert_="all", **more)
    except Exception as error:
        cause = error.__cause__ or error
        if isinstance(cause, UserError):
            raise cause from None
        raise
