"""Records: the row that everything passes on, and the files that hold rows."""

from confide.records.record import (
    Cost,
    Message,
    Record,
    RequestShape,
    Sample,
    Split,
    answer_log_probability,
)
from confide.records.record_files import (
    RecordWriter,
    check_records_file,
    half_written,
    parse_lines,
    read_record_table,
    read_records,
    write_records,
)
from confide.records.record_table import RecordTable
from confide.records.score_tables import read_scores
from confide.score_columns import ScoreColumns

__all__ = [
    "Cost",
    "Message",
    "Record",
    "RecordTable",
    "RecordWriter",
    "RequestShape",
    "Sample",
    "ScoreColumns",
    "Split",
    "answer_log_probability",
    "check_records_file",
    "half_written",
    "parse_lines",
    "read_record_table",
    "read_records",
    "read_scores",
    "write_records",
]
