"""Check the arguments of public calls against their annotations, before the call does anything.

A wrong argument then causes one sentence that names the call and the parameter, instead of an error deep inside a
library. The annotations are checked strictly: ``True`` is not a number, and ``"3"`` is not an integer.
"""

from __future__ import annotations

import functools
import inspect
import reprlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import SimpleNamespace
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

from annotated_types import Ge, Gt, Le, MinLen

from labstack.errors import InvalidArgument

if TYPE_CHECKING:
    from pydantic import TypeAdapter
    from pydantic_core import ErrorDetails

Called = TypeVar("Called", bound=Callable[..., Any])
Class = TypeVar("Class", bound=type)

Seconds = Annotated[float, Ge(0), Le(3600)]
"""A duration in seconds, at most an hour."""

Positive = Annotated[float, Gt(0), Le(86_400)]
"""The length of a period, in seconds or minutes."""

Count = Annotated[int, Ge(0)]
"""A number of things."""

Portion = Annotated[float, Ge(0), Le(1)]
"""A share, from 0 to 1."""

Text = Annotated[str, MinLen(1)]
"""A text that is not empty."""

WORDS = {
    "callable_type": "a function",
    "dict_type": "a dictionary",
    "list_type": "a list",
    "string_too_short": "a text that is not empty",
    "string_type": "a text",
    "bool_type": "True or False",
    "int_type": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bytes_type": "bytes",
    "tuple_type": "a tuple",
    "string_unicode": "a text without half of a surrogate pair",
}
"""pydantic's types of errors, in words; the others have a message that starts with 'Input should be'."""


def checked_class(kind: Class) -> Class:
    """Check the arguments of the public methods of a class; a decorator."""
    for name, member in vars(kind).items():
        if inspect.isfunction(member) and not name.startswith("_"):
            setattr(kind, name, checked(member))
    return kind


def checked(function: Called) -> Called:
    """Check the arguments of each call of a function; a decorator."""
    signature = inspect.signature(function)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError:
            return function(*args, **kwargs)  # Python's own message names the function
        for name, value in bound.arguments.items():
            if value is signature.parameters[name].default:
                continue  # a call without arguments needs no check, and no import of pydantic
            if (annotation := _annotations(function).get(name, Any)) is Any:
                continue
            check = functools.partial(_check, function, annotation)
            kind = signature.parameters[name].kind
            if kind is inspect.Parameter.VAR_POSITIONAL:
                bound.arguments[name] = tuple(check(name, one) for one in value)
            elif kind is inspect.Parameter.VAR_KEYWORD:
                bound.arguments[name] = {key: check(key, one) for key, one in value.items()}
            else:
                bound.arguments[name] = check(name, value)
        return function(*bound.args, **bound.kwargs)

    return call  # type: ignore[return-value]


@functools.cache
def _annotations(function: Callable[..., Any]) -> dict[str, Any]:
    # Not of the result: its class may be imported for type checks only.
    parameters = {name: hint for name, hint in function.__annotations__.items() if name != "return"}
    names = inspect.unwrap(function).__globals__
    return get_type_hints(SimpleNamespace(__annotations__=parameters), names, include_extras=True)


def _check(function: Callable[..., Any], annotation: Any, parameter: str, value: Any) -> Any:
    """Return a value of an annotated type: the value itself, or the plain value of a NumPy or pandas object."""
    from pydantic import ValidationError

    expected: list[str] = []
    for candidate in _readings(annotation, value):
        try:
            _adapter(annotation).validate_python(candidate)
            str.encode(candidate if isinstance(candidate, str) else "")
        except ValidationError as error:
            expected = expected or [_expected(one, candidate) for one in error.errors(include_url=False)]
        except UnicodeEncodeError:
            expected = ["a text without half of a surrogate pair"]
        else:
            return candidate
    call = function.__qualname__.removesuffix(".__init__")
    raise InvalidArgument(
        f"{call} got {reprlib.repr(value)} as `{parameter}`.",
        next_step=f"pass {' or '.join(dict.fromkeys(expected))}",
    )


def _expected(error: ErrorDetails, value: Any) -> str:
    """Return what pydantic expects at one place of an argument."""
    keys = value if isinstance(value, Mapping) else ()
    inside = "".join(f" at {place!r}" for place in error["loc"] if isinstance(place, int) or place in keys)
    words = WORDS.get(error["type"]) or error["msg"].removeprefix("Input should be ").removeprefix("a valid ")
    return (
        ("a number " if error["type"].startswith(("greater", "less")) else "")
        + words.replace("an instance of Sequence", "a list")
        + inside
    )


def _readings(annotation: Any, value: Any) -> Iterator[Any]:
    if get_origin(annotation) is Iterable and isinstance(value, Iterable) and not isinstance(value, str | bytes):
        yield list(value)  # an iterator can be read only once
        return
    yield value
    if callable(getattr(value, "tolist", None)):
        yield value.tolist()


@functools.cache
def _adapter(annotation: Any) -> TypeAdapter[Any]:
    from pydantic import ConfigDict, TypeAdapter

    config = ConfigDict(arbitrary_types_allowed=True, strict=True, allow_inf_nan=False)
    origin, inner = get_origin(annotation), get_args(annotation)
    return TypeAdapter(list[inner] if origin is Iterable and inner else annotation, config=config)  # type: ignore[valid-type]
