"""Config nodes to objects: a node's `_target_` must stand in `configs/` for its slot, and its arguments must fit the class.

Nodes come from checkpoints and from run folders too, which may be anyone's. So a class is looked up among the `_target_`s
of the config group that the node stands in, at any depth, and no other callable is ever imported for one.
"""

import dataclasses
import importlib
import inspect
import typing
from collections.abc import Mapping
from functools import cache
from typing import Any

import pydantic

from scsave.compose import config_folder
from scsave.errors import UserError, nearest

Node = dict[str, Any]
TARGET, WHOLE = "_target_", "_recursive_"  # `_recursive_: false`: the class builds its nodes itself
# Strict, since a class is given the value as it stands: the text "no" is no `false`, `true` no 1, and "5" no number.
STRICT = pydantic.ConfigDict(
    extra="forbid", strict=True, allow_inf_nan=False, arbitrary_types_allowed=True, protected_namespaces=()
)
_ALIASES = {"references": "method", "closed": "method", "solver": "sampling", "text": "vectors", "extra": "callbacks"}
# Callbacks are Lightning's, not the package's: these, and those of configs/callbacks.
_CALLBACKS = ("LearningRateMonitor", "DeviceStatsMonitor", "ThroughputMonitor", "Timer", "RichModelSummary")


def slot_of(where: str) -> str:
    """The config group that a node at `where` belongs to: `task.level.references.mean` is a `method`."""
    slot = _ALIASES.get(where.split(".")[0], where.split(".")[0])
    for part in where.split(".")[1:]:
        part = _ALIASES.get(part, part)
        slot = part if (config_folder() / part).is_dir() else slot
    return slot


@cache
def registry(slot: str) -> frozenset[str]:
    """Every `_target_` of the config group `slot`."""
    import yaml

    def targets(node: Any) -> set[str]:
        if isinstance(node, list):
            return set().union(*map(targets, node))
        if not isinstance(node, dict):
            return set()
        own = {node[TARGET]} if isinstance(node.get(TARGET), str) else set()
        return own.union(*map(targets, node.values()))

    found: set[str] = set()
    for path in sorted((config_folder() / slot).rglob("*.yaml")):
        found |= targets(yaml.safe_load(path.read_text(encoding="utf-8")))
    if slot == "callbacks":
        found |= {f"lightning.pytorch.callbacks.{name}" for name in _CALLBACKS}
    return frozenset(found)


def target_class(node: Node, where: str) -> type:
    """The class that a node names. UserError unless it is registered for the node's slot."""
    name, slot = node.get(TARGET), slot_of(where)
    if not isinstance(name, str) or name not in registry(slot):
        raise UserError(
            f"{where}.{TARGET}={name!r}: not a class of the group {slot}; those stand in configs/{slot}/"
            f"{nearest(str(name), registry(slot))}"
        )
    module, _, attribute = name.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise UserError(f"{where}.{TARGET}={name}: no such class ({error})") from error
    if not inspect.isclass(found):
        raise UserError(f"{where}.{TARGET}={name}: not a class")
    return found


def signature_model(target: type) -> type[pydantic.BaseModel]:
    """A pydantic model with one field for each argument of `target`."""
    # a dataclass's own hints: those that it inherits are read in the module where they are written
    hints = typing.get_type_hints(target if dataclasses.is_dataclass(target) else target.__init__, include_extras=True)
    fields: dict[str, Any] = {}
    for name, parameter in list(inspect.signature(target.__init__).parameters.items())[1:]:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue  # a class without arguments of its own
        hint, required = hints.get(name, Any), parameter.default is inspect.Parameter.empty
        # configs say null for an empty dict: Hydra merges into a dict only keys that it has
        optional = not required and (parameter.default is None or typing.get_origin(hint) is dict)
        fields[name] = (hint | None if optional else hint, ... if required else parameter.default)
    return pydantic.create_model(target.__name__, __config__=STRICT, **fields)


def explain(error: pydantic.ValidationError, where: str, known: list[str]) -> str:
    """The first mistake, in one line."""
    first = error.errors()[0]
    name = str(first["loc"][-1] if first["type"] == "extra_forbidden" else first["loc"][0])
    key = f"{where}.{name}".strip(".")
    if first["type"] == "extra_forbidden":
        guess = nearest(name, known).replace("mean ", f"mean {where}." if where else "mean ")
        return f"{key}: unknown key; {where or 'the config'} takes: {', '.join(known)}{guess}"
    if first["type"] == "missing":
        return f"{key}: missing; set it with {key}=..."
    return wrong_value(key, first)


def wrong_value(key: str, mistake: Any) -> str:
    """What pydantic says of the value of `key`, and how it is written where it is a list for one or one for a list."""
    value, wanted = mistake["input"], mistake["type"]
    said = f"{key}={'null' if value is None else repr(value)}: {mistake['msg'][0].lower()}{mistake['msg'][1:]}"
    if wanted == "list_type" and isinstance(value, str | int):
        return f"{said}; write '{key}=[{value}]'"
    if wanted == "string_type" and isinstance(value, list) and value:
        return f"{said}; write {key}={value[0]}"
    if wanted == "string_type" and isinstance(value, bool | int | float):
        return f"{said}; quote it if it is a name: '{key}=\"{value}\"'"
    if wanted == "bool_type":
        return f"{said}; write true or false"
    if wanted in ("dict_type", "mapping_type"):
        return f"{said}; write '{key}={{name: value}}'"
    return said


def check(node: Any, where: str) -> None:
    """UserError, naming the key, unless the node's arguments fit its class; nested nodes too, at any depth."""
    if not isinstance(node, Mapping) or TARGET not in node:
        raise UserError(f"{where}: expected a component with a {TARGET}, got {node!r}; see configs/{slot_of(where)}/")
    target = target_class(node, where)
    model, arguments = signature_model(target), arguments_of(node, target)
    nested = {key for key, value in arguments.items() if check_nested(value, f"{where}.{key}")}
    try:
        model.model_validate({key: value for key, value in arguments.items() if key not in nested})
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        if not (first["type"] == "missing" and first["loc"][0] in nested):
            raise UserError(explain(error, where, sorted(model.model_fields))) from None
    if unknown := sorted(nested - set(model.model_fields)):
        takes = ", ".join(sorted(model.model_fields))
        raise UserError(f"{where}.{unknown[0]}: unknown key; {where} takes: {takes}")


def check_nested(value: Any, where: str) -> bool:
    """Check every node inside a value; is there one?"""
    if isinstance(value, Mapping):
        if TARGET in value:
            check(value, where)
            return True
        found = [check_nested(inner, f"{where}.{key}") for key, inner in value.items()]
        return any(found)
    found = [check_nested(inner, where) for inner in value] if isinstance(value, list) else []
    return any(found)


def arguments_of(node: Node, target: type) -> dict[str, Any]:
    """What a node gives to its class; `name` is no argument of a class whose name is its own."""
    own = {key: value for key, value in node.items() if key not in (TARGET, WHOLE)}
    if "name" in own and hasattr(target, "name") and "name" not in inspect.signature(target.__init__).parameters:
        del own["name"]
    return own


def build(node: Node, where: str, **more: Any) -> Any:
    """The object that a node describes. UserError as `check`, or as the class's own rules say."""
    check(node, where)
    return _built(node, where, more)


def _built(node: Node, where: str, more: dict[str, Any]) -> Any:
    target = target_class(node, where)
    arguments = arguments_of(node, target)
    if node.get(WHOLE, True):
        arguments = {key: _built_inside(value, f"{where}.{key}") for key, value in arguments.items()}
    made = target(**arguments, **more)
    if "name" in node and "name" not in arguments:
        made.name = node["name"]  # a row may have a name of its own
    return made


def _built_inside(value: Any, where: str) -> Any:
    if isinstance(value, Mapping):
        if TARGET in value:
            return _built(value, where, {})
        return {key: _built_inside(inner, f"{where}.{key}") for key, inner in value.items()}
    return [_built_inside(inner, where) for inner in value] if isinstance(value, list) else value
