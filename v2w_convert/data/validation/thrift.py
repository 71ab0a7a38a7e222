"""Thrift's compact protocol, as far as parquet needs it: walked with bounds, before a library reads it.

https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
"""

from collections.abc import Iterator

TRUE, FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, SET, MAP, STRUCT = range(1, 13)
MAX_DEPTH = 12


class Thrift:
    """A walk over `data` from the place `at`. Every fault is a ValueError.

    Attributes:
        at: The next byte.
        left: How many elements of lists may still come.
    """

    def __init__(self, data: bytes, elements: int, at: int = 0):
        self.data, self.left, self.at = data, elements, at

    def fields(self) -> Iterator[tuple[int, int]]:
        """Number and type of each field of a struct; its value is to be read or skipped before the next.

        Numbers rise, as all writers have them: a second field of one number would replace the first.
        """
        last = 0
        while head := self._byte():
            number = last + (head >> 4) if head >> 4 else self.number()
            if number <= last:
                raise ValueError("its fields are not in order")
            last = number
            yield number, head & 15

    def number(self) -> int:
        """A whole number."""
        raw = self._unsigned()
        return raw >> 1 ^ -(raw & 1)

    def elements(self) -> tuple[int, int]:
        """How many elements a list has, and their type."""
        head = self._byte()
        count = head >> 4 if head >> 4 < 15 else self._unsigned()
        self._spend(count)
        return count, head & 15

    def skip(self, kind: int, depth: int = 0) -> None:
        """Pass over a value."""
        if depth > MAX_DEPTH:
            raise ValueError("it is nested too deeply")
        if kind in (I16, I32, I64):
            self._pass_number()
        elif kind == BINARY:
            self._pass(self._unsigned())
        elif kind == STRUCT:
            self._skip_fields(depth)
        elif kind in (LIST, SET):
            count, inner = self.elements()
            if inner in (TRUE, FALSE, BYTE):
                self._pass(count)
            else:
                for _ in range(count):
                    self.skip(inner, depth + 1)
        elif kind in (BYTE, DOUBLE):
            self._pass(1 if kind == BYTE else 8)
        elif kind not in (TRUE, FALSE):
            raise ValueError(f"it has a value of type {kind}")

    def _skip_fields(self, depth: int) -> None:
        """As `fields`, each skipped; a footer has a hundred thousand, so that calls are spared."""
        data, size, last = self.data, len(self.data), 0
        while self.at < size:
            head = data[self.at]
            self.at += 1
            if not head:
                return
            number = last + (head >> 4) if head >> 4 else self.number()
            if number <= last:
                raise ValueError("its fields are not in order")
            last, kind = number, head & 15
            if kind == I64 or kind == I32:
                self._pass_number()
            elif kind == BINARY and self.at < size and data[self.at] < 128:
                self.at += 1 + data[self.at]
            else:
                self.skip(kind, depth + 1)
        raise ValueError("it ends early")

    def _pass_number(self) -> None:
        data, at = self.data, self.at
        try:
            while data[at] > 127:
                at += 1
        except IndexError:
            raise ValueError("it ends early") from None
        self.at = at + 1

    def _byte(self) -> int:
        self._pass(1)
        return self.data[self.at - 1]

    def _unsigned(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7
            if shift > 63:
                raise ValueError("it has a number of more than 64 bits")

    def _pass(self, count: int) -> None:
        self.at += count
        if self.at > len(self.data):
            raise ValueError("it ends early")

    def _spend(self, count: int) -> None:
        self.left -= count
        if self.left < 0:
            raise ValueError("it has too many entries")
