"""Runs cases of the Autobahn test-suite against a server: cases.py HOST:PORT CASE..., where 1.* are all of a group.

Writes what it thinks of each as JSON: of the messages, and of how the connection was closed.
"""

import asyncio
import json
import os
import sys

import kosoku


async def run(server: str, cases: list[str]) -> dict[str, str]:
    try:
        results = await kosoku.run_fuzzingclient(server, cases, concurrency=8)
    except kosoku.FailureError as failure:
        results = failure.results
    return {result.case_id: f"{result.behavior.value}, {result.behavior_close.value}" for result in results}


print(json.dumps(asyncio.run(run(sys.argv[1], sys.argv[2:]))), flush=True)
# All is said; the suite has threads of its own, which the interpreter's end does not always survive.
os._exit(0)
