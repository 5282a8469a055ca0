"""Fields of a protobuf message, read and written: numbers as varints, texts and messages as blocks of bytes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

# Slices of bytes are copies and read faster; those of a memoryview are none, as large weights want it.
Buffer: TypeAlias = "bytes | memoryview"


def fields(message: Buffer) -> Iterator[tuple[int, int, Any, int]]:
    """(number, wire type, value, where it ends) of each field; a length beyond the end is a ValueError."""
    # A graph has tens of thousands of fields, and most of their varints are one byte: no call for these.
    position, end = 0, len(message)
    while position < end:
        tag = message[position]
        if tag < 0x80:
            position += 1
        else:
            tag, position = _varint(message, position)
        number, kind = tag >> 3, tag & 7
        value: Any
        if kind == 2:
            if position < end and (length := message[position]) < 0x80:
                position += 1
            else:
                length, position = _varint(message, position)
            value = message[position : position + length]
            position += length
        elif kind == 0:
            if position < end and (value := message[position]) < 0x80:
                position += 1
            else:
                value, position = _varint(message, position)
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
            value = message[position : position + length]
            position += length
        else:
            raise ValueError(f"unknown wire type {kind}")
        if position > end or number == 0:
            raise ValueError("it is cut off or damaged")
        yield number, kind, value, position


def last_values(message: Buffer) -> dict[int, Any]:
    """The last value of each field number."""
    return {number: value for number, _, value, _ in fields(message)}


def _varint(message: Buffer, position: int) -> tuple[int, int]:
    result = shift = 0
    while True:
        if position >= len(message) or shift > 63:
            raise ValueError("it is cut off or damaged")
        byte = message[position]
        position += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result, position
        shift += 7


def repeated_integers(kind: int, value: Any) -> list[int]:
    """A repeated integer: one number, or many packed into a block."""
    if kind == 0:
        return [value]
    numbers, position = [], 0
    while position < len(value):
        number, position = _varint(value, position)
        numbers.append(number)
    return numbers


def signed(value: int) -> int:
    """An integer of 64 bits as int64 has it; varints are unsigned."""
    return value - (1 << 64) if value >> 63 else value


def message_of(kind: int, value: Any) -> Buffer:
    """A field's value that must be a message, text or packed numbers; else ValueError."""
    if kind != 2:
        raise ValueError("a message was expected and a number found")
    return value


def string(value: Buffer | None) -> str:
    """A text; empty where the field is missing."""
    return "" if value is None else str(value, "utf-8")


_ONE_BYTE = [bytes([value]) for value in range(0x80)]


def _encoded(value: int) -> bytes:
    if value < 0x80:
        return _ONE_BYTE[value]
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def number_field(number: int, value: int) -> bytes:
    """A field that holds a number."""
    return _encoded(number << 3) + _encoded(value)


def block_field(number: int, payload: bytes) -> bytes:
    """A field that holds a message or bytes."""
    return _encoded(number << 3 | 2) + _encoded(len(payload)) + payload


def text_field(number: int, value: str) -> bytes:
    """A field that holds a text."""
    return block_field(number, value.encode())
