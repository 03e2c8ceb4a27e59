"""Settings that stand beside a log: JSON, or the YAML that trainers dump."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from lawfit.errors import LogFormatError

_MOST_BYTES: Final = 1 << 22  # a file of settings has some kilobytes
_MOST_ALIASED: Final = 100
NAMES: Final = (
    *("hparams.json", "hparams.yaml", "config.json", "config.yaml", "config.yml", "training_args.json"),
    *("training_args.yaml", "args.json", "args.yaml", "params.json", "params.yaml", "hyperparameters.yaml"),
)


def beside(folder: Path, names: Sequence[str] = NAMES) -> tuple[dict[str, Any], list[str]]:
    """Settings from the files of these names in a folder, the later under those of the earlier; and their names.

    A file that cannot be read says nothing; the second has its reason.
    """
    settings: dict[str, Any] = {}
    said: list[str] = []
    for name in names:
        path = folder / name
        if not path.is_file():
            continue
        try:
            settings = read_settings(path) | settings
        except LogFormatError as error:
            said.append(f"its settings are not read: {path.name} {str(error).removeprefix(str(path)).lstrip(': ')}")
    return settings, said


def read_settings(path: Path) -> dict[str, Any]:
    """A mapping of settings; empty where there is no such file.

    Raises
    ------
    LogFormatError
        Too long, or not readable as JSON or YAML.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(_MOST_BYTES + 1)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise LogFormatError(f"{path} cannot be read: {error.strerror or error}") from None
    if len(raw) > _MOST_BYTES:
        raise LogFormatError(f"{path} is longer than {_MOST_BYTES >> 20} MiB: no file of settings")
    content = raw.decode("utf-8", "replace").removeprefix("\ufeff")
    try:
        found = json.loads(content) if path.suffix == ".json" else _yaml(content)
    except (ValueError, RecursionError) as error:
        raise LogFormatError(
            f"{path} is not readable: {str(error).splitlines()[0] if str(error) else error!r}"
        ) from None
    return found if isinstance(found, dict) else {}


def _yaml(content: str) -> Any:
    """YAML of plain values: the safe loader makes nothing else.

    An alias to more than a flat list or mapping is refused, as a few nested ones blow up to any size. `1e-3` is a
    number to people and a word to YAML 1.1; it is left as written, and read as a number where one is due.
    """
    import yaml

    class Loader(yaml.SafeLoader):  # type: ignore[misc]
        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.AliasEvent) and not _flat(self.anchors.get(self.peek_event().anchor)):
                raise yaml.YAMLError("an alias (*name) to nested settings; write them out")
            return super().compose_node(parent, index)

    # A tag of a Python object, as some trainers dump for enums, has no meaning here: its plain content is kept.
    Loader.add_multi_constructor("tag:yaml.org,2002:python/", _plain)
    Loader.add_multi_constructor("!", _plain)
    try:
        return yaml.load(content, Loader)  # noqa: S506 - a subclass of the safe loader
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from None


def _flat(node: Any) -> bool:
    if node is None or isinstance(node.value, str):
        return True
    inner = [part for item in node.value for part in (item if isinstance(item, tuple) else (item,))]
    return len(inner) <= _MOST_ALIASED and all(isinstance(part.value, str) for part in inner)


def _plain(loader: Any, suffix: str, node: Any) -> Any:  # noqa: ARG001 - called so by the loader
    kind = type(node).__name__
    if kind == "MappingNode":
        return loader.construct_mapping(node, deep=True)
    if kind == "SequenceNode":
        return loader.construct_sequence(node, deep=True)
    return loader.construct_scalar(node)
