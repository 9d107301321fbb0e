"""The program: `codesign`, and `python -m codesign`."""

from __future__ import annotations

import os


def main() -> None:
    """Run one command, see `codesign.cli.main.run`; Ctrl-C is answered in one line from the first moment on."""
    try:
        from codesign.cli.main import run

        run()
    except KeyboardInterrupt:
        os.write(2, b"codesign: interrupted\n")
        os._exit(130)


if __name__ == "__main__":
    main()
