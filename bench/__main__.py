"""`python -m bench SCENARIO`: run one scenario."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys

from bench import audit, auth, migrate, overhead

SCENARIOS = {"audit": audit.run, "auth": auth.run, "migrate": migrate.run, "overhead": overhead.run}


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench", description="Run a benchmark; the last line printed is JSON.")
    parser.add_argument("scenario", choices=sorted(SCENARIOS))
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    result = SCENARIOS[arguments.scenario](rounds=arguments.rounds)
    machine = {"cpus": os.cpu_count(), "machine": platform.machine(), "python": platform.python_version()}
    sys.stderr.flush()
    print(json.dumps({"scenario": arguments.scenario, **result, "machine": machine}), flush=True)


if __name__ == "__main__":
    main()
