"""The messages of Prometheus and of Loki as Google's own protobuf library writes them: what our readers are held against."""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

# name number type [repeated], a message's name standing for its type.
_HISTOGRAM = """
count_int 1 uint64 oneof; count_float 2 double oneof; sum 3 double; schema 4 sint32; zero_threshold 5 double; zero_count_int 6 uint64 zero;
zero_count_float 7 double zero; negative_spans 8 BucketSpan repeated; negative_deltas 9 sint64 repeated; negative_counts 10 double repeated;
positive_spans 11 BucketSpan repeated; positive_deltas 12 sint64 repeated; positive_counts 13 double repeated; reset_hint 14 int32;
timestamp 15 int64; custom_values 16 double repeated; start_timestamp 17 int64
"""
_FILES = {
    "io.prometheus.write.v2": {
        "BucketSpan": "offset 1 sint32; length 2 uint32",
        "Histogram": _HISTOGRAM,
        "Sample": "value 1 double; timestamp 2 int64; start_timestamp 3 int64",
        "Exemplar": "labels_refs 1 uint32 repeated; value 2 double; timestamp 3 int64",
        "Metadata": "type 1 int32; help_ref 3 uint32; unit_ref 4 uint32",
        "TimeSeries": "labels_refs 1 uint32 repeated; samples 2 Sample repeated; histograms 3 Histogram repeated; "
        "exemplars 4 Exemplar repeated; metadata 5 Metadata; created_timestamp 6 int64",
        "Request": "symbols 4 string repeated; timeseries 5 TimeSeries repeated",
    },
    "io.prometheus.client": {
        "Timestamp": "seconds 1 int64; nanos 2 int32",
        "LabelPair": "name 1 string; value 2 string",
        "Exemplar": "label 1 LabelPair repeated; value 2 double; timestamp 3 Timestamp",
        "Gauge": "value 1 double",
        "Counter": "value 1 double; exemplar 2 Exemplar; created_timestamp 3 Timestamp",
        "Quantile": "quantile 1 double; value 2 double",
        "Summary": "sample_count 1 uint64; sample_sum 2 double; quantile 3 Quantile repeated; created_timestamp 4 Timestamp",
        "Untyped": "value 1 double",
        "Bucket": "cumulative_count 1 uint64; cumulative_count_float 4 double; upper_bound 2 double; exemplar 3 Exemplar",
        "BucketSpan": "offset 1 sint32; length 2 uint32",
        "Histogram": "sample_count 1 uint64; sample_count_float 4 double; sample_sum 2 double; bucket 3 Bucket repeated; schema 5 sint32; "
        "zero_threshold 6 double; zero_count 7 uint64; zero_count_float 8 double; negative_span 9 BucketSpan repeated; "
        "negative_delta 10 sint64 repeated; negative_count 11 double repeated; positive_span 12 BucketSpan repeated; "
        "positive_delta 13 sint64 repeated; positive_count 14 double repeated; "
        "created_timestamp 15 Timestamp; exemplars 16 Exemplar repeated",
        "Metric": "label 1 LabelPair repeated; gauge 2 Gauge; counter 3 Counter; summary 4 Summary; untyped 5 Untyped; "
        "histogram 7 Histogram; timestamp_ms 6 int64",
        "MetricFamily": "name 1 string; help 2 string; type 3 int32; metric 4 Metric repeated; unit 5 string",
    },
}
_FILES["prometheus"] = {
    "BucketSpan": "offset 1 sint32; length 2 uint32",
    "Histogram": _HISTOGRAM,
    "Label": "name 1 string; value 2 string",
    "Sample": "value 1 double; timestamp 2 int64",
    "Exemplar": "labels 1 Label repeated; value 2 double; timestamp 3 int64",
    "TimeSeries": "labels 1 Label repeated; samples 2 Sample repeated; exemplars 3 Exemplar repeated; histograms 4 Histogram repeated",
    "MetricMetadata": "type 1 int32; metric_family_name 2 string; help 4 string; unit 5 string",
    "WriteRequest": "timeseries 1 TimeSeries repeated; metadata 3 MetricMetadata repeated",
    "LabelMatcher": "type 1 int32; name 2 string; value 3 string",
    "ReadHints": "step_ms 1 int64; func 2 string; start_ms 3 int64; end_ms 4 int64; "
    "grouping 5 string repeated; by 6 bool; range_ms 7 int64",
    "Query": "start_timestamp_ms 1 int64; end_timestamp_ms 2 int64; matchers 3 LabelMatcher repeated; hints 4 ReadHints",
    "ReadRequest": "queries 1 Query repeated; accepted_response_types 2 int32 repeated",
}
_FILES["logproto"] = {
    "Timestamp": "seconds 1 int64; nanos 2 int32",
    "LabelPair": "name 1 string; value 2 string",
    "Entry": "timestamp 1 Timestamp; line 2 string; structured_metadata 3 LabelPair repeated; parsed 4 LabelPair repeated",
    "Stream": "labels 1 string; entries 2 Entry repeated; hash 3 uint64",
    "PushRequest": "streams 1 Stream repeated",
}
_FILES["datadog"] = {
    "Resource": "type 1 string; name 2 string",
    "MetricPoint": "value 1 double; timestamp 2 int64",
    "Origin": "origin_product 4 uint32",
    "Metadata": "origin 1 Origin",
    "MetricSeries": "resources 1 Resource repeated; metric 2 string; tags 3 string repeated; points 4 MetricPoint repeated; "
    "type 5 int32; unit 6 string; source_type_name 7 string; interval 8 int64; metadata 9 Metadata",
    "MetricPayload": "series 1 MetricSeries repeated",
}
_KINDS = descriptor_pb2.FieldDescriptorProto


def _file(package: str, messages: dict[str, str]) -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(name=f"{package}.proto", package=package, syntax="proto3")
    for name, fields in messages.items():
        message = file.message_type.add(name=name)
        unions: dict[str, int] = {}
        for line in fields.split(";"):
            field_name, number, kind, *more = line.split()
            field = message.field.add(name=field_name, number=int(number), label=_KINDS.LABEL_OPTIONAL)
            if kind in messages:
                field.type, field.type_name = _KINDS.TYPE_MESSAGE, f".{package}.{kind}"
            else:
                field.type = getattr(_KINDS, f"TYPE_{kind.upper()}")
            if more == ["repeated"]:
                field.label = _KINDS.LABEL_REPEATED
            elif more:
                if more[0] not in unions:
                    unions[more[0]] = len(unions)
                    message.oneof_decl.add(name=more[0] + "_")
                field.oneof_index = unions[more[0]]
    return file


def messages(package: str) -> dict[str, Any]:
    """The message classes of a package, by name."""
    pool = descriptor_pool.DescriptorPool()
    pool.Add(_file(package, _FILES[package]))  # type: ignore[no-untyped-call]
    names = _FILES[package]
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.{name}")) for name in names}
