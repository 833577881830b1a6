"""The composition root: flags and settings become the App, the App gets its page and its API, the model loads beside.

Nothing is decided here. Start it with ./start_linux.sh or start_windows.bat, which bring their own Python.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from modules.config.ending import Ending

ROOT = Path(__file__).resolve().parent

#: Set in the environment of a run that another one has become: its page is open in a browser already.
RESTARTED = "WEBUI_RESTARTED"

#: Nothing is sent anywhere: said to the libraries before any of them is imported.
QUIET = {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1"}


def main(argv: Sequence[str], ending: Ending | None = None) -> int:
    """Run until Ctrl+C. The exit code is 2, after one sentence, when the start cannot be as it was asked for."""
    os.environ.update(QUIET)
    from errors import UserError
    from modules.config.ending import Ending

    ending = ending or Ending()
    ending.listen()
    try:
        again = serve(argv, ending)
    except UserError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except KeyboardInterrupt:
        return 0
    finally:
        ending.over()
    return restart(again)


def serve(argv: Sequence[str], ending: Ending) -> Sequence[str]:
    """Build the App, let the model load while the page is made, and serve until a restart is asked for.

    Returns the arguments of the next start. Raises: UserError, KeyboardInterrupt.
    """
    from modules.app import App
    from modules.library.startup import Startup

    app = App.build(ROOT, argv)
    ending.keep = app.keep
    try:
        tell(verbose=app.launch.server.verbose)
        for note in app.notes:
            print(note, flush=True)
        startup = Startup(app.paths, app.shelf, app.models, app.launch, loaded=app.use_named_loras)
        startup.begin(startup.choose())

        if app.launch.server.serves_api:
            from modules.api import launch as launch_api

            print(f"The API is at {launch_api(app).address}/v1", flush=True)
        if not app.launch.server.nowebui:
            from modules.ui import launch  # Gradio takes seconds to import: the model loads meanwhile

            print(f"The page is at {launch(app)}", flush=True)
        while not app.session.asked.wait(0.5):  # in steps: on Windows a wait without an end cannot be interrupted
            pass
        print("Starting again, as the Session tab asked for.", flush=True)
        time.sleep(0.5)  # for the answer to the page that asked
        return app.session.argv
    finally:
        ending.clean = app.close()


def restart(argv: Sequence[str]) -> int:
    """Become the next run: nothing of this one stays, ports and memory included."""
    os.environ[RESTARTED] = "1"
    command = [sys.executable, str(ROOT / "server.py"), *argv]
    sys.stdout.flush()
    if os.name == "nt":  # Windows would hand the terminal back at once: wait for it instead
        return subprocess.call(command)
    os.execv(sys.executable, command)
    return 0


def tell(*, verbose: bool) -> None:
    """Let our own log lines reach the terminal, and of others only what went wrong."""
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    for ours in ("loaders", "modules"):
        logging.getLogger(ours).setLevel(logging.DEBUG if verbose else logging.INFO)


def run(argv: Sequence[str]) -> None:
    """As `main`, and end the process, whatever still runs in it."""
    from modules.config.ending import Ending

    ending = Ending()
    ending.leave(main(argv, ending))


if __name__ == "__main__":
    run(sys.argv[1:])
