"""Make `scores.csv` from scored records: rows that no training saw, one for each place that is asked about.

How the file in this folder was made (the first command takes twenty minutes on two cores):
    confide annotate --model smollm2 --task geography --limit 12000 --out records.jsonl
    confide split records.jsonl --sizes train=2000,validation=300,calibration=1500,test=1300 --out split.jsonl
    confide train portable split.jsonl --out portable
    confide score split.jsonl --portable portable --source portable,logprob_sum --out scored.jsonl
    python examples/data/make_scores.py scored.jsonl examples/data/scores.csv
"""

import csv
import sys
from pathlib import Path

from confide.records import read_records

scored, out = map(Path, sys.argv[1:])
new = [record for record in read_records(scored) if record.split in ("calibration", "test")]
independent = {record.cluster: record for record in new}.values()

with out.open("w", encoding="utf-8", newline="") as file:
    writer = csv.writer(file)
    writer.writerow(["id", "question", "answer", "score", "logprob_sum", "label"])
    for record in independent:
        score, logprob = record.confidence["portable"], record.confidence["logprob_sum"]
        assert score is not None
        assert logprob is not None
        row = [record.question, record.answer, f"{score:.4f}", f"{logprob:.4f}", int(bool(record.correct))]
        writer.writerow([record.id, *row])
