"""Counts the decisions of a lake with other engines: delta-rs' own reader, and DuckDB over its file list.

Usage: interop.py LAKE. Prints one JSON object per engine: tenant/outcome -> decisions that are no duplicates.
"""

import json
import sys

import duckdb
from deltalake import DeltaTable

table = DeltaTable(sys.argv[1] + "/records")


def counted(rows):
    return {f"{tenant}/{outcome}": n for tenant, outcome, n in rows}


# delta-rs reads rows and partition values itself; only the counting is ours.
arrow = table.to_pyarrow_table(columns=["tenant", "class", "outcome", "duplicate"])
seen = {}
for row in arrow.to_pylist():
    if row["class"] == "decision" and not row["duplicate"]:
        key = f"{row['tenant']}/{row['outcome']}"
        seen[key] = seen.get(key, 0) + 1
print(json.dumps({"engine": "deltalake", "version": table.version(), "counts": seen}, sort_keys=True))

# DuckDB reads the files that the log names, and takes partition values from their folders.
query = """
    SELECT tenant, outcome, count(*) FROM read_parquet($files, hive_partitioning = true, union_by_name = true)
    WHERE class = 'decision' AND duplicate IS NOT TRUE GROUP BY ALL
"""
rows = duckdb.execute(query, {"files": table.file_uris()}).fetchall()
print(json.dumps({"engine": "duckdb", "version": table.version(), "counts": counted(rows)}, sort_keys=True))
