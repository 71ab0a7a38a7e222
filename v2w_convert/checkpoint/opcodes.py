"""What a pickle would do, read from its opcodes without executing any.

A first filter that needs no torch. torch's own restricted unpickler has the last word.
"""

import pickletools

MAX_HASHED = 10_000  # objects in a tuple, those within it counted each time they are reached
ALLOWED_GLOBALS = {
    "collections OrderedDict",
    "collections Counter",
    "_codecs encode",
    "__builtin__ set",
    "builtins set",
    "builtins bytearray",
    "builtins complex",
}


def check_globals(pickled: bytes) -> None:
    """Check that a pickle refers to nothing but torch and plain containers.

    Raises:
        ValueError: If it names what is neither torch's nor a plain container.
    """
    texts: list[str] = []
    for opcode, argument, _ in pickletools.genops(pickled):
        if opcode.name in ("GLOBAL", "INST"):
            name = str(argument)
        elif opcode.name == "STACK_GLOBAL":
            name = " ".join(texts[-2:])
        else:
            texts = [*texts[-1:], argument] if isinstance(argument, str) else texts
            continue
        if name not in ALLOWED_GLOBALS and not name.startswith(("torch.", "torch ")):
            raise ValueError(f"it asks for more than tensors: {name!r:.200}, which could run code")


def check_tuple_sizes(pickled: bytes) -> None:
    """Python hashes a tuple by hashing all within it, and a few bytes suffice to put one twice into the next. Lists and
    dictionaries count as one: they cannot be hashed.

    Raises:
        ValueError: If a tuple holds itself twice over, many times: as a key, it would be hashed for years.
    """
    sizes: list[int] = []  # of what lies on the unpickler's stack
    marks: list[int] = []
    memo: dict[object, int] = {}
    for opcode, argument, _ in pickletools.genops(pickled):
        name = opcode.name
        if name == "MARK":
            marks.append(len(sizes))
        elif name == "MEMOIZE":
            memo[len(memo)] = sizes[-1] if sizes else 1
        elif name.endswith("PUT"):
            memo[argument] = sizes[-1] if sizes else 1
        elif name.endswith("GET"):
            sizes.append(memo.get(argument, 1))
        elif name == "DUP":
            sizes += sizes[-1:]
        else:
            taken = _take(sizes, marks, opcode)
            size = 1 + sum(taken) if "TUPLE" in name or name == "REDUCE" else 1  # torch.Size is a tuple, too
            if size > MAX_HASHED:
                raise ValueError(
                    f"a tuple of over {MAX_HASHED} objects, counted as often as they are reached"
                )
            sizes += [size] * len(opcode.stack_after)


def _take(sizes: list[int], marks: list[int], opcode: pickletools.OpcodeInfo) -> list[int]:
    """What the opcode takes off the stack: a number of things, or all down to the last mark and a number below."""
    before = opcode.stack_before
    count, at = len(before), len(sizes)
    if pickletools.markobject in before:
        count, at = before.index(pickletools.markobject), marks.pop() if marks else 0
    taken = sizes[max(0, at - count) :]
    del sizes[max(0, at - count) :]
    return taken
