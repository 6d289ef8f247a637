"""`python -m bench SCENARIO [PART ...]`: run one scenario, or parts of it."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from typing import Any

from bench import audit, auth, catalogue, migrate, overhead, reads, workers

SCENARIOS: dict[str, Any] = {
    "audit": audit.run,
    "auth": auth.run,
    "catalogue": catalogue.run,
    "migrate": migrate.run,
    "overhead": overhead.run,
    "reads": reads.run,
    "workers": workers.run,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench", description="Run a benchmark; the last line printed is JSON.")
    parser.add_argument("scenario", choices=sorted(SCENARIOS))
    parser.add_argument("parts", nargs="*", help="parts of the scenario (migrate: small, large, far); none: all")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    chosen = {"parts": arguments.parts} if arguments.parts else {}
    result = SCENARIOS[arguments.scenario](rounds=arguments.rounds, **chosen)
    machine = {"cpus": os.cpu_count(), "machine": platform.machine(), "python": platform.python_version()}
    sys.stderr.flush()
    print(json.dumps({"scenario": arguments.scenario, **result, "machine": machine}), flush=True)


if __name__ == "__main__":
    main()
