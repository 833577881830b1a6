"""Fetch a model or LoRA from the hub, without the page: `python download-model.py USER/REPOSITORY[:BRANCH]`.

The flags are the original's. What is fetched, where it goes and how it is checked is modules/library's.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from installer.own_python import use_own_python

ROOT = Path(__file__).resolve().parent
if __name__ == "__main__":
    use_own_python(ROOT)

from errors import UserError
from modules.config.paths import Paths
from modules.config.user_data import user_data_folder
from modules.library.downloads import DownloadManager, DownloadProgress
from modules.library.hub_address import parse_address
from modules.library.hub_token import HubToken


def main(argv: list[str]) -> int:
    """0 when everything is there, 1 when not; the reason goes to stderr."""
    parser = argparse.ArgumentParser(
        prog="download-model.py", description="Download a model or LoRA from the Hugging Face hub."
    )
    parser.add_argument("MODEL", help="user/repository, user/repository:branch, or the URL of its page")
    parser.add_argument("--branch", default="main", help="branch of the repository")
    parser.add_argument("--specific-file", default="", help="file to download; separate several with commas")
    parser.add_argument(
        "--text-only", action="store_true", help="download only configuration and tokenizer files, no weights"
    )
    parser.add_argument("--output", "--model-dir", dest="folder", default="", help="folder to use instead of models")
    parser.add_argument("--user-data-dir", default="", help="folder that contains models and loras")
    parser.add_argument("--list", action="store_true", help="only list the files of the repository")
    parser.add_argument(
        "--threads", type=int, default=4, help="accepted for compatibility; four files are downloaded at once"
    )
    parser.add_argument(
        "--max-retries",
        type=int,
        default=5,
        help="accepted for compatibility; a download fails after six attempts without data",
    )
    parser.add_argument(
        "--clean",
        action="store_true",
        help="accepted for compatibility; checksums decide which files are downloaded again",
    )
    parser.add_argument(
        "--check", action="store_true", help="accepted for compatibility; every file is checked while it is downloaded"
    )
    given = parser.parse_args(argv)
    paths = Paths.under(user_data_folder(ROOT, given.user_data_dir), given.folder or None)
    paths.ensure()
    downloads = DownloadManager(paths)
    try:
        address = parse_address(given.MODEL)
        if given.branch != "main":
            address = replace(address, branch=given.branch)
        token = HubToken(paths).known()
        found = downloads.find(address, token)
        if given.list:
            for each in found.choices():
                sys.stdout.write(f"{each.size / 1e6:12,.1f} MB  {each.name}\n")
            return 0
        names = [name.strip() for name in given.specific_file.split(",") if name.strip()]
        if given.text_only:
            names = [each.path for each in found.files if each.path.endswith((".json", ".txt", ".model", ".jinja"))]
        downloads.wait(downloads.start(found, names, token), _show)
        sys.stdout.write("\n")
        return 0
    except UserError as error:
        sys.stderr.write(f"\n{error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("\nStopped. Run the same command again to resume the download.\n")
        return 1
    finally:
        downloads.close()


def _show(now: DownloadProgress) -> None:
    share = now.done / now.size if now.size else 1
    sys.stdout.write(f"\r{now.name}: {share:6.1%} of {now.size / 1e6:,.0f} MB, {now.speed / 1e6:,.1f} MB/s   ")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
