"""The model hub: what a repository holds, and the bytes of one file. huggingface_hub speaks to it.

Its errors become sentences here. The endpoint is HF_ENDPOINT's, where that is set. This module keeps nothing on disk.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from difflib import get_close_matches

from errors import FetchFailed, InvalidInput, NotFound, Unavailable
from modules.library.hub_address import Address, RemoteFile

_TIMEOUT = 30.0  # seconds without a byte
_NETWORK = "Is there a network? What was fetched so far is kept; start it again."


class Interrupted(Exception):
    """A connection ended early, or the hub asked to wait: going on later makes sense. `wait` in seconds."""

    def __init__(self, why: str, wait: float = 0.0) -> None:
        super().__init__(why)
        self.wait = wait


class Hub:
    """The hub as one token sees it ("" for none). May be used from several threads."""

    def __init__(self, token: str = "", endpoint: str = "") -> None:
        self._token = token
        self._endpoint = (endpoint or os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")

    def files(self, address: Address) -> list[RemoteFile]:
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

    def stream(self, address: Address, file: RemoteFile, start: int) -> Iterator[bytes]:
        """The bytes of a file from `start` on. Raises: Interrupted, NotFound, Unavailable, FetchFailed."""
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
                skip = start if answer.status_code != 206 else 0  # it knows no ranges
                for chunk in answer.iter_raw():  # as they come: a cut loses none
                    yield chunk[skip:]
                    skip = max(0, skip - len(chunk))
        except (httpx2.TimeoutException, httpx2.NetworkError, httpx2.RemoteProtocolError) as error:
            raise Interrupted(str(error) or type(error).__name__) from None
        except httpx2.HTTPError as error:
            raise _failed(address, str(error), _NETWORK) from None

    def _check(self, address: Address, answer: object) -> None:
        import httpx2

        assert isinstance(answer, httpx2.Response)
        if answer.status_code in (408, 425, 429, 500, 502, 503, 504):
            wait = answer.headers.get("retry-after", "")
            raise Interrupted(f"the hub answers {answer.status_code}", min(float(wait), 60) if wait.isdigit() else 0)
        if answer.status_code == 416:
            raise Interrupted("the file on the hub is shorter than what was fetched")
        with self._told(address):
            from huggingface_hub.utils._http import hf_raise_for_status

            hf_raise_for_status(answer)
        if answer.headers.get("content-type", "").startswith("text/html"):
            raise _failed(
                address, "a web page came instead of the file", "Is HF_ENDPOINT right, or a login page between?"
            )

    @contextlib.contextmanager
    def _told(self, address: Address) -> Iterator[None]:
        """What goes wrong in the block, as one of our sentences."""
        import httpx2
        from huggingface_hub import errors

        try:
            yield
        except errors.GatedRepoError:
            todo = "this token has no access to it" if self._token else "a token is needed"
            raise Unavailable(
                f"{address.repo} is gated: {todo}. Accept its terms on its page, then give a token of your account."
            ) from None
        except errors.RevisionNotFoundError:
            raise NotFound(f"{address.repo} has no branch {address.branch}.") from None
        except errors.RepositoryNotFoundError:
            raise NotFound(
                f"There is no repository {address.repo} on the hub, or it is private.{self._similar(address)}"
            ) from None
        except errors.EntryNotFoundError:
            raise NotFound(f"{address.repo} has no such file. Press Get file list to see what it has.") from None
        except errors.OfflineModeIsEnabled:
            raise Unavailable("HF_HUB_OFFLINE is set: nothing is fetched.") from None
        except errors.HfHubHTTPError as error:
            status = error.response.status_code if error.response is not None else 0
            if status == 401:
                raise Unavailable(f"The hub does not take this token for {address.repo}. Give another one.") from None
            raise _failed(address, f"the hub answers {status}", "Try again later.") from None
        except errors.HFValidationError as error:
            raise InvalidInput(f"{address.repo} is no repository: {error}") from None
        except httpx2.HTTPError as error:
            raise _failed(address, f"the hub cannot be reached ({error})", _NETWORK) from None
        except (ValueError, TypeError, KeyError):
            raise _failed(
                address, "what came is not an answer of the hub", "Is HF_ENDPOINT right, or a login page between?"
            ) from None

    def _similar(self, address: Address) -> str:
        """Names that come near, where the hub offers a search."""
        from huggingface_hub import HfApi

        api, word = HfApi(self._endpoint, token=self._token or False), address.repo.rpartition("/")[2]
        with contextlib.suppress(Exception):  # it is only a help
            for search in dict.fromkeys((word, word[: max(3, len(word) // 2)], word[:4], word[:3])):
                names = [each.id for each in api.list_models(search=search, limit=20)]
                if near := get_close_matches(address.repo, names, n=3, cutoff=0.4):
                    return f" Did you mean {' or '.join(near)}?"
        return ""


def _failed(address: Address, why: str, todo: str) -> FetchFailed:
    return FetchFailed(address.repo, why, todo)
