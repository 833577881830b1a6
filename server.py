"""The composition root: flags and settings become the App, which gets a web UI and an API; a model loads meanwhile.

No decisions are made here. Start it with ./start_linux.sh or start_windows.bat, which install their own Python.
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
    from modules.config.shutdown import Shutdown

ROOT = Path(__file__).resolve().parent

#: Set in the environment of a process that a restart replaced: its page is already open in a browser.
RESTARTED = "WEBUI_RESTARTED"

#: Tells the libraries to send nothing anywhere, before any of them is imported.
QUIET = {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1"}


def main(argv: Sequence[str], ending: Shutdown | None = None) -> int:
    """Run until Ctrl+C. The exit code is 2, after one sentence, if the program cannot start as requested."""
    os.environ.update(QUIET)
    from installer.console import tolerate_encodings
    from modules.config.standby import stand_by

    tolerate_encodings()
    stand_by()
    from errors import UserError
    from modules.config.shutdown import Shutdown

    ending = ending or Shutdown()
    ending.listen()
    try:
        again = serve(argv, ending)
    except UserError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except (ImportError, SyntaxError) as error:  # a damaged package or file
        from installer.project import script_name

        logging.getLogger(__name__).exception("The program could not be imported:")
        sys.stderr.write(
            f"\nA package or program file is damaged or missing ({type(error).__name__}: {error}). Run "
            f"{script_name('start')} --repair to reinstall the packages; in a git clone, git status lists program "
            "files that were changed.\n"
        )
        return 1
    except KeyboardInterrupt:
        return 0
    finally:
        ending.over()
    return restart(again)


def serve(argv: Sequence[str], ending: Shutdown) -> Sequence[str]:
    """Build the App, load the model while the page is built, and serve until a restart is requested.

    Returns the arguments of the next start. Raises: UserError, KeyboardInterrupt.
    """
    from loaders.llamacpp.engine import disk_cache
    from modules.app import App
    from modules.library.startup import Startup
    from modules.web.serving import check_serving

    app = App.build(ROOT, argv)
    ending.keep = app.keep
    kept = os.environ.get(disk_cache.VARIABLE)
    try:
        os.environ.setdefault(disk_cache.VARIABLE, str(app.paths.cache / "kv"))  # what chats contain stays among them
        tell(verbose=app.launch.server.verbose)
        for note in app.notes:
            print(note, flush=True)
        check_serving(app.launch.server)  # before anything loads: the reason stands alone
        startup = Startup(app.paths, app.catalog, app.models, app.launch, loaded=app.use_named_loras)
        startup.begin(startup.choose())

        if app.launch.server.serves_api:
            from modules.api import launch as launch_api

            print(f"API: {launch_api(app).address}/v1", flush=True)
        if not app.launch.server.nowebui:
            from modules.ui import launch  # importing Gradio takes seconds: the model loads meanwhile

            print(f"Web UI: {launch(app)}", flush=True)
        while not app.session.asked.wait(0.5):  # in steps: on Windows a wait without a timeout cannot be interrupted
            pass
        print("Restarting, as requested in the Session tab.", flush=True)
        time.sleep(0.5)  # so that the page gets its response
        return app.session.argv
    finally:
        ending.clean = app.close()
        if kept is None:  # a restart may have other folders
            os.environ.pop(disk_cache.VARIABLE, None)


def restart(argv: Sequence[str]) -> int:
    """Replace this process by the next run, releasing its ports and memory."""
    os.environ[RESTARTED] = "1"
    command = [sys.executable, str(ROOT / "server.py"), *argv]
    sys.stdout.flush()
    if os.name == "nt":  # Windows would return to the terminal at once: wait for it instead
        return subprocess.call(command)
    os.execv(sys.executable, command)
    return 0


def tell(*, verbose: bool) -> None:
    """Show our own log lines in the terminal, and only errors of others."""
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    for ours in ("loaders", "modules"):
        logging.getLogger(ours).setLevel(logging.DEBUG if verbose else logging.INFO)


def run(argv: Sequence[str]) -> None:
    """As `main`, and then end the process, whatever still runs in it."""
    from modules.config.shutdown import Shutdown

    ending = Shutdown()
    ending.leave(main(argv, ending))


if __name__ == "__main__":
    from installer.own_python import use_own_python

    use_own_python(ROOT)
    run(sys.argv[1:])
