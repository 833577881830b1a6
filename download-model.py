"""Fetch a model or LoRA from the hub, without the page: `python download-model.py USER/REPOSITORY[:BRANCH]`.

The flags are the original's. What is fetched, where it goes and how it is checked is modules/library's.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from errors import UserError
from modules.config.paths import Paths
from modules.config.user_data import folder_of
from modules.library.downloads import Downloads, Progress
from modules.library.hub_address import parse_address
from modules.library.hub_token import HubToken

ROOT = Path(__file__).resolve().parent


def main(argv: list[str]) -> int:
    """0 when everything is there, 1 when not; the reason goes to stderr."""
    parser = argparse.ArgumentParser(prog="download-model.py", description="Fetch a model or LoRA from the hub.")
    parser.add_argument("MODEL", help="user/repository, user/repository:branch, or the address of its page")
    parser.add_argument("--branch", default="main", help="branch of the repository")
    parser.add_argument("--specific-file", default="", help="file to fetch; several with commas between")
    parser.add_argument("--text-only", action="store_true", help="only configuration and tokenizer, no weights")
    parser.add_argument("--output", "--model-dir", dest="folder", default="", help="folder in place of models")
    parser.add_argument("--user-data-dir", default="", help="the folder that models and loras lie in")
    parser.add_argument("--list", action="store_true", help="only show what the repository holds")
    parser.add_argument("--threads", type=int, default=4, help="accepted; four files are fetched at once")
    parser.add_argument("--max-retries", type=int, default=5, help="accepted; attempts end after six without a byte")
    parser.add_argument("--clean", action="store_true", help="accepted; checksums decide what is fetched anew")
    parser.add_argument("--check", action="store_true", help="accepted; every file is checked as it comes")
    given = parser.parse_args(argv)
    paths = Paths.under(folder_of(ROOT, given.user_data_dir), given.folder or None)
    paths.ensure()
    downloads = Downloads(paths)
    try:
        address = parse_address(given.MODEL)
        if given.branch != "main":
            address = replace(address, branch=given.branch)
        token = HubToken(paths).known()
        choices = downloads.choices(address, token)
        if given.list:
            for each in choices:
                sys.stdout.write(f"{each.size / 1e6:12,.1f} MB  {each.name}\n")
            return 0
        names = [name.strip() for name in given.specific_file.split(",") if name.strip()]
        if given.text_only:
            names = [each.name for each in choices if each.name.endswith((".json", ".txt", ".model", ".jinja"))]
        downloads.wait(downloads.start(address, names, token), _show)
        sys.stdout.write("\n")
        return 0
    except UserError as error:
        sys.stderr.write(f"\n{error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("\nStopped. What came is kept: the same command goes on.\n")
        return 1
    finally:
        downloads.close()


def _show(now: Progress) -> None:
    share = now.done / now.size if now.size else 1
    sys.stdout.write(f"\r{now.name}: {share:6.1%} of {now.size / 1e6:,.0f} MB, {now.speed / 1e6:,.1f} MB/s   ")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
