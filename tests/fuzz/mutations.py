"""What is done to an input to make another of it: of bytes, of words that a reader knows, of XML's elements.

The same for the same seed and number, on any machine.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from typing import TypeAlias

Mutation: TypeAlias = Callable[[bytes, random.Random], bytes]

# Numbers, bitmaps and texts that some code somewhere does not expect.
STRANGE = [
    *(b"", b"0", b"-1", b"1", b"4294967295", b"4294967296", b"99999999999999999999", b"2147483647", b"1048576", b"NaN"),
    *(b"0x", b"0x0", b"0xf...f", b"0xffffffff", b"0x1,,,,,,,,,,,,", b",", b"0x00000001,0x", b"PU", b"Machine", b"L3Cache"),
    *(b"&lt;&amp;", b"\xc3\xa4", b"\xff", b" ", b"0000:00:00.0", b"ffffffff:ff:ff.f", b"1-2-3", b"%s%n", b"9" * 5000),
    *(b"\xc2\xb2", b"\xe2\x80\xae", b"\x1b[31m", b"\r", b"\n", b"\0", b"1e400", b"0_0", b"+1", b"[" * 2000),
]  # fmt: skip

# What libhwloc knows and the fixtures do not all have.
_ELEMENTS = [
    b"<info/>",
    b'<info name="Backend"/>',
    b'<memattr name="Capacity" flags="1"><memattr_value target_obj_gp_index="4" target_obj_type="NUMANode" value="5"/></memattr>',
    b'<memattr name="Bandwidth" flags="5"><memattr_value target_obj_type="NUMANode" value="5"/></memattr>',
    b'<cpukind cpuset="0x3" forced_efficiency="1"/>',
    b"<cpukind/>",
    b'<distances2 type="NUMANode" nbobjs="2" kind="5" indexing="os"><indexes length="4">0 1 </indexes><u64values length="12">10 20 20 10 </u64values></distances2>',
    b'<object type="PU" os_index="0"/>',
    b'<object type="NUMANode" os_index="7" cpuset="0x1" nodeset="0x80"/>',
    b'<object type="PCIDev" pci_busid="0000:00:00.0" pci_type="0302 [10de:20b2]"/>',
    b'<object type="Misc"/>',
    b'<userdata length="4">abcd</userdata>',
    b"<support name='x'/>",
]

_ATTRIBUTE = re.compile(rb' ([a-z_0-9]+)="([^"]*)"')
_TAG = re.compile(rb"<[^>]*>")


def _match(pattern: re.Pattern[bytes], document: bytes, chance: random.Random) -> re.Match[bytes] | None:
    """Some match of a pattern, from a place in the document onwards."""
    return pattern.search(document, chance.randrange(len(document))) or pattern.search(document)


def _change_bytes(document: bytes, chance: random.Random) -> bytes:
    changed = bytearray(document)
    for _ in range(chance.choice((1, 1, 2, 8))):
        changed[chance.randrange(len(changed))] = chance.randrange(256)
    return bytes(changed)


def _cut(document: bytes, chance: random.Random) -> bytes:
    start = chance.randrange(len(document))
    return document[:start] + document[start + chance.choice((1, 10, 100, 1000, len(document))) :]


def _repeat(document: bytes, chance: random.Random) -> bytes:
    start = chance.randrange(len(document))
    piece = document[start : start + chance.choice((1, 10, 100, 1000))]
    return document[:start] + piece * chance.choice((2, 10)) + document[start:]


def _drop_attribute(document: bytes, chance: random.Random) -> bytes:
    found = _match(_ATTRIBUTE, document, chance)
    return document if found is None else document[: found.start()] + document[found.end() :]


def _change_attribute(document: bytes, chance: random.Random) -> bytes:
    found = _match(_ATTRIBUTE, document, chance)
    if found is None:
        return document
    value = chance.choice([*STRANGE, found[2] + b"0", found[2][:-1], found[2][::-1]])
    return document[: found.start(2)] + value + document[found.end(2) :]


def _exchange_values(document: bytes, chance: random.Random) -> bytes:
    """Give an attribute the value that one of the same name has elsewhere."""
    found = _match(_ATTRIBUTE, document, chance)
    if found is None:
        return document
    other = _match(re.compile(rb" (" + found[1] + rb')="([^"]*)"'), document, chance)
    return document if other is None else document[: found.start(2)] + other[2] + document[found.end(2) :]


def _drop_tag(document: bytes, chance: random.Random) -> bytes:
    found = _match(_TAG, document, chance)
    return document if found is None else document[: found.start()] + document[found.end() :]


def _repeat_tag(document: bytes, chance: random.Random) -> bytes:
    found = _match(_TAG, document, chance)
    return document if found is None else document[: found.end()] + found[0] + document[found.end() :]


def _add_element(document: bytes, chance: random.Random) -> bytes:
    found = _match(_TAG, document, chance)
    return document if found is None else document[: found.end()] + chance.choice(_ELEMENTS) + document[found.end() :]


def _append_element(document: bytes, chance: random.Random) -> bytes:
    return document.replace(b"</topology>", chance.choice(_ELEMENTS) + b"</topology>")


_OF_BYTES: list[Mutation] = [_change_bytes, _cut, _repeat]

OF_XML: list[Mutation] = [
    *_OF_BYTES, _drop_attribute, _drop_attribute, _change_attribute, _change_attribute, _change_attribute,
    _exchange_values, _exchange_values, _drop_tag, _repeat_tag, _add_element, _append_element,
]  # fmt: skip


def of_text(words: Sequence[bytes]) -> list[Mutation]:
    """The mutations of a text, in which each word of these means something to its reader."""
    pattern = re.compile(rb"[A-Za-z0-9_]+")

    def put_word(text: bytes, chance: random.Random) -> bytes:
        place = chance.randrange(len(text) + 1)
        return text[:place] + chance.choice([*words, *STRANGE]) + text[place:]

    def change_word(text: bytes, chance: random.Random) -> bytes:
        found = _match(pattern, text, chance)
        return (
            text if found is None else text[: found.start()] + chance.choice([*words, *STRANGE]) + text[found.end() :]
        )

    def exchange_words(text: bytes, chance: random.Random) -> bytes:
        one, other = _match(pattern, text, chance), _match(pattern, text, chance)
        return text if one is None or other is None else text[: one.start()] + other[0] + text[one.end() :]

    return [*_OF_BYTES, put_word, put_word, change_word, change_word, exchange_words]


def mutate(content: bytes, mutations: Sequence[Mutation], chance: random.Random) -> bytes:
    """Apply some of the mutations, one after another."""
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        content = chance.choice(mutations)(content or b" ", chance)
    return content or b" "
