"""`python -m corridor.sandbox --port 8420 --data-dir sandbox-data --webhook-url http://…`: serve until a signal."""

import logging
import sys

from pydantic_settings import CliApp

from corridor.sandbox.config import SandboxConfig
from corridor.sandbox.server import build_server


def main(arguments: list[str]) -> None:
    """Entry point of the sandbox process; flags win over the environment."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    build_server(CliApp.run(SandboxConfig, cli_args=arguments)).run()


if __name__ == "__main__":
    main(sys.argv[1:])
