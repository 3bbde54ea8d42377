"""Prometheus' remote-write message, version 1, as protobuf: built here, since four messages need no compiler.

Source: prometheus/prometheus, prompb/remote.proto and prompb/types.proto (the fields that a sender of samples uses).
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

Field = descriptor_pb2.FieldDescriptorProto

PACKAGE = "migrascope.prometheus"
MESSAGES: dict[str, tuple[tuple[str, int, int, str], ...]] = {
    "Label": (("name", 1, Field.TYPE_STRING, ""), ("value", 2, Field.TYPE_STRING, "")),
    "Sample": (("value", 1, Field.TYPE_DOUBLE, ""), ("timestamp", 2, Field.TYPE_INT64, "")),
    "TimeSeries": (("labels", 1, Field.TYPE_MESSAGE, "Label"), ("samples", 2, Field.TYPE_MESSAGE, "Sample")),
    "WriteRequest": (("timeseries", 1, Field.TYPE_MESSAGE, "TimeSeries"),),
}
"""Message -> its fields: name, number, type, and the message that it repeats."""

Labels = tuple[tuple[str, str], ...]


def write_request(values: Iterable[tuple[Labels, int, float]]) -> bytes:
    """Write values (sorted labels, milliseconds, number) as a WriteRequest, one time series for each set of labels."""
    request = write_request_class()()
    known: dict[Labels, Any] = {}
    for labels, time_ms, value in values:
        series = known.get(labels)
        if series is None:
            series = known[labels] = request.timeseries.add()
            for name, word in labels:
                series.labels.add(name=name, value=word)
        series.samples.add(value=value, timestamp=time_ms)
    content: bytes = request.SerializeToString()
    return content


@cache
def write_request_class() -> Any:
    """The class of a WriteRequest."""
    file = descriptor_pb2.FileDescriptorProto(name="migrascope/remote.proto", package=PACKAGE, syntax="proto3")
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, number, kind, repeated in fields:
            message.field.add(
                name=field,
                number=number,
                type=Field.Type.ValueType(kind),
                label=Field.LABEL_REPEATED if repeated else Field.LABEL_OPTIONAL,
                type_name=f".{PACKAGE}.{repeated}" if repeated else None,
            )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.WriteRequest"))
