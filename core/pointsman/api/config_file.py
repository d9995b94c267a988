"""A YAML file checked against a pydantic model, with errors for the person who wrote the file:

router.yaml:14: models[0].instances[2].role: must be 'prefill', 'decode' or 'mixed', not 'prefil'; did you mean 'prefill'?
"""

import difflib
import os
import types
import typing
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError, ValidationInfo
from pydantic_core import ErrorDetails, PydanticCustomError

Location = tuple[int | str, ...]
_M = TypeVar("_M", bound=BaseModel)


class Section(BaseModel):
    """A part of a configuration file: immutable, and without room for misspelt fields."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def files_of(section: BaseModel) -> Iterator[Path]:
    """Every file that a configuration names."""
    for _, value in section:
        for item in value if isinstance(value, tuple) else (value,):
            if isinstance(item, BaseModel):
                yield from files_of(item)
            elif isinstance(item, Path):
                yield item


def _existing_file(path: Path, info: ValidationInfo) -> Path:
    folder = info.context["folder"] if info.context else Path()
    resolved = (folder / path.expanduser()).resolve()
    if not resolved.is_file():
        raise PydanticCustomError("no_file", "no file at {resolved}", {"resolved": str(resolved)})
    if not os.access(resolved, os.R_OK):
        raise PydanticCustomError("unreadable", "{resolved} may not be read", {"resolved": str(resolved)})
    return resolved


ExistingFile = Annotated[Path, AfterValidator(_existing_file)]
"""A file that is there when the configuration is read; relative paths start at the configuration's folder."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a configuration file."""

    path: str
    message: str
    line: int | None = None
    """Counted from 1."""


class ConfigError(Exception):
    """The file cannot be used. `str()` names every problem on a line of its own."""

    def __init__(self, file: Path, problems: Sequence[Problem]) -> None:
        self.file = file
        self.problems = tuple(problems)
        super().__init__("\n".join(self._lines()))

    def _lines(self) -> Iterator[str]:
        for problem in self.problems:
            where = f"{self.file}:{problem.line}" if problem.line else f"{self.file}"
            yield (
                f"{where}: {problem.path}: {problem.message}"
                if problem.path
                else f"{where}: {problem.message}"
            )


def load_config(file: Path, model: type[_M]) -> _M:
    """Read and check a configuration file.

    Raises ConfigError with every problem found: unreadable file, broken YAML, fields that do not fit the model.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ConfigError(file, [Problem("", f"cannot be read: {reason}")]) from error
    return parse_config(text, model, file)


def parse_config(text: str, model: type[_M], file: Path) -> _M:
    """As `load_config`, on text; `file` names it in errors and anchors relative paths."""
    root, data = _read_yaml(text, file)
    try:
        return model.model_validate(data, context={"folder": file.parent})
    except ValidationError as error:
        found = [
            problem
            for details in error.errors(include_url=False)
            for problem in _problems(details, model, root)
        ]
        raise ConfigError(file, sorted(found, key=lambda problem: problem.line or 0)) from error


def _read_yaml(text: str, file: Path) -> tuple[yaml.Node, Any]:
    """The document twice: as nodes, which know their lines, and as data. Raises ConfigError."""
    try:
        loader = yaml.SafeLoader(text)
        try:
            root = loader.get_single_node()
            if root is None:
                raise ConfigError(
                    file, [Problem("", "is empty; docs/configuration.md shows a complete example")]
                )
            if repeated := list(_repeated_keys(root, (), set())):
                raise ConfigError(file, repeated)
            return root, loader.construct_document(root)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        raise ConfigError(file, [Problem("", f"not YAML: {error.problem}", line)]) from error
    except (yaml.YAMLError, ValueError) as error:  # a date that is none is a ValueError
        raise ConfigError(file, [Problem("", f"not YAML: {error}")]) from error


def conflicts(found: Iterable[tuple[Location, str]]) -> None:
    """For validators of whole documents: raises what is wrong between fields, each with its location.

    Raises PydanticCustomError, unless nothing was found.
    """
    if listed := list(found):
        text = "; ".join(f"{dotted(location)}: {message}" for location, message in listed)
        raise PydanticCustomError("conflicts", "{text}", {"text": text, "listed": listed})


def _problems(details: ErrorDetails, model: type[BaseModel], root: yaml.Node) -> Iterator[Problem]:
    section, location = _resolve(model, details["loc"])
    if details["type"] == "conflicts":
        for where, message in details["ctx"]["listed"]:
            yield Problem(dotted(where), message, _line(root, where))
        return
    if details["type"] == "too_short" and details["input"]:
        return  # its items are wrong, and reported
    if details["type"] == "extra_forbidden":
        fields = sorted(section.model_fields)
        message = f"unknown field{_hint(str(location[-1]), fields)}; there are {', '.join(fields)}"
    elif details["type"] == "missing":
        message = "is required"
    else:
        message = _message(details, location)
    yield Problem(dotted(location), message, _line(root, location))


def _message(details: ErrorDetails, location: Location) -> str:
    if details["type"] == "too_short":
        return "must have at least one item"
    message = details["msg"].replace("Input should be", "must be").removeprefix("Value error, ")
    given = details["input"]
    # What stands where a key belongs may be a secret in the wrong place: it is not repeated.
    secret = any("key" in str(part) for part in location)
    if message.startswith("must be") and isinstance(given, str | int | float) and not secret:
        message = f"{message}, not {given!r}"
    expected = str(details.get("ctx", {}).get("expected", ""))
    if isinstance(given, str) and not secret:
        message += _hint(given, [word.strip("'") for word in expected.replace(" or ", ", ").split(", ")])
    return message


def _hint(given: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(given, known, n=1)
    return f"; did you mean {close[0]!r}?" if close and close[0] != given else ""


def dotted(location: Location) -> str:
    """`models[0].instances[2].role`"""
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.removeprefix(".")


def _resolve(model: type[BaseModel], location: Location) -> tuple[type[BaseModel], Location]:
    """The section that a location lies in, and the location without the tags pydantic adds for unions."""
    section, here, kept = model, [model], list[int | str]()
    for part in location:
        if isinstance(part, int):
            kept.append(part)
            continue
        owner = next((candidate for candidate in here if part in candidate.model_fields), None)
        if owner is not None:
            section = owner
            here = list(_sections(owner.model_fields[part].annotation))
        elif part in {candidate.__name__ for candidate in here}:
            here = [candidate for candidate in here if candidate.__name__ == part]
            section = here[0]
            continue
        elif here:
            section = here[0]
        kept.append(part)
    return section, tuple(kept)


def _sections(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif isinstance(annotation, types.GenericAlias | types.UnionType) or typing.get_origin(annotation):
        for argument in typing.get_args(annotation):
            yield from _sections(argument)


def _children(node: yaml.Node) -> Iterator[tuple[int | str, yaml.Node, yaml.Node]]:
    """(key or index, the node to point at, the value) of everything directly inside a node."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield str(key.value), key, value
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield index, value, value


def _line(root: yaml.Node, location: Location) -> int:
    """The line of the deepest part of a location that the file has: a missing field points at its parent."""
    node, line = root, root.start_mark.line + 1
    for part in location:
        found = next(((mark, value) for key, mark, value in _children(node) if key == part), None)
        if found is None:
            break
        line, node = found[0].start_mark.line + 1, found[1]
    return line


def _repeated_keys(node: yaml.Node, location: Location, seen: set[int]) -> Iterator[Problem]:
    """YAML readers silently let the last of two equal keys win. Aliased nodes, even circular ones, are read once."""
    if id(node) in seen:
        return
    seen.add(id(node))
    lines: dict[int | str, int] = {}
    for key, mark, value in _children(node):
        here = (*location, key)
        line = mark.start_mark.line + 1
        if key in lines:
            yield Problem(dotted(here), f"appears twice; the first is on line {lines[key]}", line)
        lines[key] = line
        yield from _repeated_keys(value, here, seen)
