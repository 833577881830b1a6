"""The model hub: lists a repository's files, and streams a file. Uses huggingface_hub.

Its errors become sentences here. The endpoint is that of HF_ENDPOINT, if set. This module stores nothing on disk.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches

from errors import FetchFailed, InvalidInput, NotFound, Unavailable
from modules.library.hub_address import HubAddress
from modules.library.hub_files import RemoteFile

_TIMEOUT = 30.0  # seconds without data
_NETWORK = "Check your network connection, then start it again to resume it."


@dataclass(frozen=True)
class FoundRepo:
    """A repository that a search has found. `parameters`: how many weights its model has; 0 if unknown."""

    repo: str
    parameters: int = 0
    downloads: int = 0
    likes: int = 0

    @property
    def size(self) -> int:
        """Bytes of its usual quantization (Q4_K_M), about."""
        return round(self.parameters * 0.6)


class NoBranch(NotFound):
    """The repository exists, but not the branch."""


class HubInterrupted(Exception):
    """A connection ended early, or the hub asked to wait: trying again later makes sense. `wait` in seconds."""

    def __init__(self, why: str, wait: float = 0.0) -> None:
        super().__init__(why)
        self.wait = wait


class HubClient:
    """The hub, with one token ("" for none). May be used from several threads."""

    def __init__(self, token: str = "", endpoint: str = "") -> None:
        self._token = token
        self._endpoint = (endpoint or os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")

    def files(self, address: HubAddress) -> list[RemoteFile]:
        """All files of a repository. Raises: NotFound, Unavailable, FetchFailed."""
        from huggingface_hub import HfApi
        from huggingface_hub.hf_api import RepoFile

        with self._told(address):
            entries = HfApi(self._endpoint, token=self._token or False).list_repo_tree(
                address.repo, recursive=True, revision=address.branch
            )
            return [
                RemoteFile(each.path, each.size, each.lfs.sha256 if each.lfs else "", each.blob_id)
                for each in entries
                if isinstance(each, RepoFile)
            ]

    def find(self, address: HubAddress) -> tuple[HubAddress, list[RemoteFile]]:
        """All files of a repository, and the address with the branch that it has, of those that were meant perhaps.

        Raises: NotFound, Unavailable, FetchFailed.
        """
        first: NotFound | None = None
        for reading in address.readings():
            try:
                return reading, self.files(reading)
            except NoBranch as error:
                first = first or error
        assert first
        raise first

    def search(self, words: str, limit: int = 20) -> list[FoundRepo]:
        """Repositories with GGUF files, those that are downloaded most first. Raises: Unavailable, FetchFailed."""
        from huggingface_hub import HfApi

        with self._told(HubAddress(words)):
            found = HfApi(self._endpoint, token=self._token or False).list_models(
                search=words, filter="gguf", sort="downloads", limit=limit, expand=["downloads", "likes", "gguf"]
            )
            return [
                FoundRepo(each.id, int((each.gguf or {}).get("total") or 0), each.downloads or 0, each.likes or 0)
                for each in found
            ]

    def stream(self, address: HubAddress, file: RemoteFile, start: int) -> Iterator[bytes]:
        """The bytes of a file from `start` on. Raises: HubInterrupted, NotFound, Unavailable, FetchFailed."""
        import httpx2
        from huggingface_hub import hf_hub_url
        from huggingface_hub.utils._headers import build_hf_headers
        from huggingface_hub.utils._http import get_session

        url = hf_hub_url(address.repo, file.path, revision=address.branch, endpoint=self._endpoint)
        headers = build_hf_headers(token=self._token or False)
        headers["Accept-Encoding"] = "identity"
        if start:
            headers["Range"] = f"bytes={start}-"
        try:
            with get_session().stream("GET", url, headers=headers, timeout=_TIMEOUT) as answer:
                self._check(address, answer)
                skip = start if answer.status_code != 206 else 0  # the server does not support ranges
                for chunk in answer.iter_raw():  # as they arrive: an interruption loses none
                    yield chunk[skip:]
                    skip = max(0, skip - len(chunk))
        except (httpx2.TimeoutException, httpx2.NetworkError, httpx2.RemoteProtocolError) as error:
            raise HubInterrupted(str(error) or type(error).__name__) from None
        except httpx2.HTTPError as error:
            raise _failed(address, str(error), _NETWORK) from None

    def _check(self, address: HubAddress, answer: object) -> None:
        import httpx2

        assert isinstance(answer, httpx2.Response)
        if answer.status_code in (408, 425, 429, 500, 502, 503, 504):
            wait = answer.headers.get("retry-after", "")
            raise HubInterrupted(
                f"the hub returned status {answer.status_code}", min(float(wait), 60) if wait.isdigit() else 0
            )
        if answer.status_code == 416:
            raise HubInterrupted("the file on the hub is shorter than the part already downloaded")
        with self._told(address):
            from huggingface_hub.utils._http import hf_raise_for_status

            hf_raise_for_status(answer)
        if answer.headers.get("content-type", "").startswith("text/html"):
            raise _failed(
                address,
                "the server returned a web page instead of the file",
                "Check HF_ENDPOINT, and whether your network requires a login.",
            )

    @contextlib.contextmanager
    def _told(self, address: HubAddress) -> Iterator[None]:
        """Convert errors in the block to our own sentences."""
        import httpx2
        from huggingface_hub import errors

        try:
            yield
        except errors.GatedRepoError:
            todo = "this token does not have access" if self._token else "an access token is required"
            raise Unavailable(
                f"{address.repo} is gated: {todo}. Accept its terms on the hub, then enter a token of that account."
            ) from None
        except errors.RevisionNotFoundError:
            raise NoBranch(f"{address.repo} has no branch {address.branch}.") from None
        except errors.RepositoryNotFoundError:
            raise NotFound(
                f"There is no repository {address.repo} on the hub, or it is private.{self._similar(address)}"
            ) from None
        except errors.EntryNotFoundError:
            raise NotFound(f"{address.repo} has no such file. Press Get file list to see its files.") from None
        except errors.OfflineModeIsEnabled:
            raise Unavailable("HF_HUB_OFFLINE is set, so nothing is downloaded.") from None
        except errors.HfHubHTTPError as error:
            status = error.response.status_code if error.response is not None else 0
            if status == 401:
                raise Unavailable(f"The hub rejected this token for {address.repo}. Enter another one.") from None
            raise _failed(address, f"the hub returned status {status}", "Try again later.") from None
        except errors.HFValidationError as error:
            raise InvalidInput(f"{address.repo} is not a valid repository: {error}") from None
        except httpx2.HTTPError as error:
            raise _failed(address, f"the hub is unreachable ({error})", _NETWORK) from None
        except (ValueError, TypeError, KeyError):
            raise _failed(
                address,
                "the server's response is not from the hub",
                "Check HF_ENDPOINT, and whether your network requires a login.",
            ) from None

    def _similar(self, address: HubAddress) -> str:
        """Similar names, if the hub offers a search."""
        from huggingface_hub import HfApi

        api, word = HfApi(self._endpoint, token=self._token or False), address.repo.rpartition("/")[2]
        with contextlib.suppress(Exception):  # only a suggestion, so errors are ignored
            for search in dict.fromkeys((word, word[: max(3, len(word) // 2)], word[:4], word[:3])):
                names = [each.id for each in api.list_models(search=search, limit=20)]
                if near := get_close_matches(address.repo, names, n=3, cutoff=0.4):
                    return f" Did you mean {' or '.join(near)}?"
        return ""


def _failed(address: HubAddress, why: str, todo: str) -> FetchFailed:
    return FetchFailed(address.repo, why, todo)
