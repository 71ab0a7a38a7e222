"""Numbers in a plan: written out, or as an expression over the entries of the base's config."""

import ast
import operator
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

# A field of a plan that may be an expression. Once the plan is resolved it holds a number, which is the type that
# everything but `resolve` sees.
if TYPE_CHECKING:
    ConfigInt = int
    ConfigFloat = float
else:
    ConfigInt = int | str
    ConfigFloat = float | str

OPERATORS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Pow: operator.pow,
}
MAX_LENGTH = 200  # characters
MAX_NUMBER = 1e9


def evaluate_number(value: float | str, config: Mapping[str, Any]) -> float:
    """The number that `value` is, or that it says as an expression.

    An expression consists of numbers, names of entries of the base's config, `[i]` of a list, and + - * / // **.
    `out_channels or in_channels` is the second where the first is null.

    Args:
        value: A number or an expression.
        config: The base's config.

    Returns:
        A number of at most `MAX_NUMBER` in size, an int where it is whole.

    Raises:
        ValueError: `value` says anything else, or its result is not such a number.
    """
    if not isinstance(value, str):
        return _checked(value, value)
    try:
        if len(value) > MAX_LENGTH:
            raise SyntaxError(f"longer than {MAX_LENGTH} characters")
        result = _value(ast.parse(value, mode="eval").body, config)
    except (SyntaxError, ArithmeticError, LookupError, TypeError, RecursionError) as error:
        raise ValueError(f"{value!r:.80} cannot be worked out: {error}") from None
    return _checked(value, result)


def _checked(value: float | str, result: object) -> float:
    if not isinstance(result, int | float) or isinstance(result, bool) or not abs(result) <= MAX_NUMBER:
        raise ValueError(f"{value!r:.80} is {result!r:.80}, not a number up to {MAX_NUMBER:.0e}")
    return result


def evaluate_int(value: int | str, config: Mapping[str, Any]) -> int:
    """As `evaluate_number`, for whole numbers.

    Raises:
        ValueError: Also where the result is not a whole number.
    """
    result = evaluate_number(value, config)
    if not isinstance(result, int):
        raise ValueError(f"{value!r:.80} is {result}, not a whole number")
    return result


def _value(node: ast.AST, config: Mapping[str, Any]) -> Any:
    match node:
        case ast.Constant(value=int() | float() as value):
            return value
        case ast.Name(id=name):
            if name not in config:
                raise ValueError(f"the base's config has no {name!r}")
            return config[name]
        case ast.Subscript(value=inner, slice=ast.Constant(value=int(index))):
            return _value(inner, config)[index]
        case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATORS:
            a, b = _value(left, config), _value(right, config)
            if not all(isinstance(x, int | float) for x in (a, b)):  # a text times a number is a longer text
                raise TypeError("not a number")
            if isinstance(op, ast.Pow) and not (abs(a) <= 1e6 and abs(b) <= 100):
                raise ArithmeticError("too large a power")
            return OPERATORS[type(op)](a, b)
        case ast.BoolOp(op=ast.Or(), values=values):
            return next((v for inner in values if (v := _value(inner, config)) is not None), None)
    raise ValueError(
        f"{ast.unparse(node)!r:.80} is not a number, a name in the base's config, or a calculation with these"
    )
