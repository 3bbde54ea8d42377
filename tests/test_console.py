"""The console protocol: what is written is read back, and nothing whatever is read wrongly."""

from __future__ import annotations

import random
import string
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workload.console import (
    BUCKETS,
    LONGEST_LINE_BYTES,
    Disk,
    GuestError,
    Latency,
    Parser,
    Phase,
    Ready,
    Record,
    Tick,
    Xor,
    write,
)
from workload.errors import BadValueError

NUMBERS = st.integers(min_value=0, max_value=2**64 - 1)
WORDS = st.builds(
    str.__add__,
    st.sampled_from(string.ascii_lowercase),
    st.text(string.ascii_lowercase + string.digits + "_-", max_size=15),
)
TEXTS = st.text([chr(code) for code in range(0x20, 0x7F) if chr(code) not in "@*"], min_size=1)


@st.composite
def readies(draw: st.DrawFn) -> Ready:
    rates = st.integers(min_value=0, max_value=2**53).map(float)
    loops = draw(st.dictionaries(WORDS, rates, min_size=1, max_size=4))
    names = ("line", "guest_ns", "vcpus", "working_set_bytes", "granularity_bytes", "tick_ms", "rate_limit_bytes")
    return Ready(loop=draw(st.sampled_from(sorted(loops))), loops=loops, **{name: draw(NUMBERS) for name in names})


@st.composite
def latencies(draw: st.DrawFn) -> Latency:
    counts = draw(st.dictionaries(st.integers(0, BUCKETS - 1), NUMBERS, min_size=1))
    names = ("line", "sequence", "guest_ns", "taken_ns", "sum_ns", "most_ns")
    return Latency(counts=dict(sorted(counts.items())), **{name: draw(NUMBERS) for name in names})


RECORDS: st.SearchStrategy[Record] = st.one_of(
    readies(),
    st.builds(Xor, line=NUMBERS, vcpu=NUMBERS, sequence=NUMBERS, guest_ns=NUMBERS, bytes=NUMBERS, taken_ns=NUMBERS),
    st.builds(Tick, line=NUMBERS, sequence=NUMBERS, guest_ns=NUMBERS),
    st.builds(Phase, line=NUMBERS, number=NUMBERS, guest_ns=NUMBERS),
    latencies(),
    st.builds(
        Disk,
        line=NUMBERS,
        sequence=NUMBERS,
        guest_ns=NUMBERS,
        bytes=NUMBERS,
        taken_ns=NUMBERS,
        writes=NUMBERS,
        sum_ns=NUMBERS,
        most_ns=NUMBERS,
    ),
    st.builds(GuestError, line=NUMBERS, guest_ns=NUMBERS, text=TEXTS),
)
NOISE = st.one_of(
    st.binary(max_size=40),
    st.sampled_from(
        [b"\n", b"\r\n", b"@m1 ", b"@", b"*", b"*00000000", b"@m1 1 tick 2 3 *", b"[    1.234567] foo\r\n"]
    ),
    RECORDS.map(lambda record: write(record).encode()),
    RECORDS.map(lambda record: write(record).encode()[5:]),
    RECORDS.map(lambda record: write(record).encode()[:-5]),
)


def tick(number: int) -> Tick:
    return Tick(line=number, sequence=number, guest_ns=1000 + number)


def line(number: int) -> bytes:
    return write(tick(number)).encode()


@given(st.lists(RECORDS))
def test_what_is_written_is_read_back(records: list[Record]) -> None:
    parser = Parser()
    assert parser.feed("".join(map(write, records)).encode()) == records
    assert (parser.lines, parser.garbage_lines, parser.foreign_lines) == (len(records), 0, 0)


@given(st.lists(RECORDS))
def test_a_terminal_that_makes_two_bytes_of_a_newline_changes_nothing(records: list[Record]) -> None:
    parser = Parser()
    assert parser.feed("".join(map(write, records)).replace("\n", "\r\n").encode()) == records
    assert parser.garbage_lines == 0


@given(st.lists(NOISE).map(b"".join), st.randoms(use_true_random=False))
def test_no_input_raises_and_no_chunking_changes_what_is_found(data: bytes, chance: random.Random) -> None:
    whole, pieces = Parser(), Parser()
    found = whole.scan(data)
    cuts = sorted(chance.choices(range(len(data) + 1), k=chance.randrange(8)))
    chunks = [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    assert [one for chunk in chunks for one in pieces.scan(chunk)] == found
    assert vars(pieces) == vars(whole)


@given(st.lists(RECORDS, min_size=1, max_size=4), st.data())
def test_flipped_bits_never_make_a_wrong_record(records: list[Record], data: st.DataObject) -> None:
    stream = bytearray("".join(map(write, records)).encode())
    # Three at most: so many a CRC-32 finds for certain in lines of this length, more only with all but certainty.
    for position in data.draw(st.lists(st.integers(0, len(stream) * 8 - 1), min_size=1, max_size=3, unique=True)):
        stream[position // 8] ^= 1 << position % 8
    found = Parser().feed(bytes(stream) + b"\n")
    assert all(record in records for record in found)


@given(RECORDS, st.data())
def test_a_torn_line_costs_itself_alone(record: Record, data: st.DataObject) -> None:
    text = write(record).encode()
    torn = text[: data.draw(st.integers(1, len(text) - 3))]  # without the last digit of its CRC
    parser = Parser()
    assert parser.feed(torn + line(7)) == [tick(7)]
    assert parser.garbage_lines == 1


def test_a_kernel_message_inside_a_line_costs_that_line_alone() -> None:
    parser = Parser()
    text = line(2)
    assert parser.feed(line(1) + text[:9] + b"[    3.141592] hello\r\n" + text[9:] + line(3)) == [tick(1), tick(3)]
    assert parser.lost_lines == 1
    assert parser.garbage_lines == 2


def test_kernel_messages_before_and_behind_a_record_cost_nothing() -> None:
    parser = Parser()
    text = line(1)
    data = b"[    3.141592] hello " + text[:-1] + b"\r\n[   12.000001][    T1] bye\r\n" + text[:-1]
    assert parser.feed(data + b"[    3.2] no, cut short\n") == [tick(1), tick(1)]
    assert (parser.foreign_lines, parser.garbage_lines) == (2, 1)


def test_what_is_neither_ours_nor_the_kernels_is_counted() -> None:
    parser = Parser()
    assert parser.feed(b"grub> \r\n\r\n  \xff\xfe\n") == []
    assert (parser.garbage_lines, parser.garbage_bytes, parser.foreign_lines) == (2, 7, 0)


def test_a_stream_without_newlines_is_counted_and_does_not_grow_without_bound() -> None:
    parser = Parser()
    for _ in range(10):
        assert parser.feed(b"x" * 3000) == []
    assert parser.garbage_bytes == 30_000 // LONGEST_LINE_BYTES * LONGEST_LINE_BYTES
    assert parser.feed(b"\n" + line(1)) == [tick(1)]


def test_missing_numbers_are_lost_lines_but_a_late_start_is_none() -> None:
    parser = Parser()
    parser.feed(line(41) + line(42) + line(45) + line(46))
    assert parser.lost_lines == 2
    parser.feed(line(0) + line(1))
    assert parser.lost_lines == 2


@pytest.mark.parametrize(
    "body",
    [
        "1 tick 02 3", "1 tick -2 3", "1 tick 2", "1 tick 2 3 4", "1 tack 2 3", "tick 2 3", "1 tick  2 3", "",
        "1 tick \u0662 3", "1 ready 1 1 1 1 1 1 nosuch lcg4=1", "1 error 1 ",
        "1 phase 1", "1 latency 1 1 1 1 1", "1 latency 1 1 1 1 1 27=1", "1 latency 1 1 1 1 1 2=1,1=1",
        "1 latency 1 1 1 1 1 1=1,1=1", "1 latency 1 1 1 1 1 01=1", "1 latency 1 1 1 1 1 100=1",
    ],
)  # fmt: skip
def test_a_fitting_crc_does_not_excuse_a_line_outside_the_grammar(body: str) -> None:
    head = f"@m1 {body} ".encode()
    parser = Parser()
    assert parser.feed(head + b"*%08x\n" % zlib.crc32(head)) == []
    assert parser.garbage_lines == 1


def test_another_version_of_the_protocol_is_not_read() -> None:
    assert Parser().feed(line(1).replace(b"@m1", b"@m2")) == []


@pytest.mark.parametrize("text", ["", "a@b", "a*b", "a\nb", "caf\u00e9"])
def test_a_text_that_the_grammar_cannot_carry_is_refused(text: str) -> None:
    with pytest.raises(BadValueError, match="does not fit the console protocol"):
        write(GuestError(line=1, guest_ns=2, text=text))


def test_a_panic_is_seen_and_its_message_kept() -> None:
    parser = Parser()
    parser.feed(line(1) + b"[    2.345678] Kernel panic - not syncing: No working init found.\r\n")
    parser.feed(b"[    2.400000] ---[ end Kernel panic - not syncing: other ]---\r\n")
    assert parser.panicked == "Kernel panic - not syncing: No working init found."
    assert (parser.foreign_lines, parser.garbage_lines) == (2, 0)


def test_each_record_knows_where_its_line_ends() -> None:
    first, second = line(1), line(2)
    parser = Parser()
    assert parser.scan(first + b"junk\n" + second[:4]) == [(tick(1), len(first))]
    assert parser.scan(second[4:]) == [(tick(2), len(first) + 5 + len(second))]
