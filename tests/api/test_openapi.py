"""Our OpenAPI description, tested by schemathesis: whatever it allows is answered without a 5xx."""

from __future__ import annotations

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error

from loaders.base import Token
from loaders.params import SamplingParams
from modules.api.serve import build_api
from tests.api.conftest import Client
from tests.fake_engine import FakeModel

#: Tested elsewhere: the first loads files, the others change what other tests rely on.
LEFT_OUT = ("/v1/internal/model/load", "/v1/internal/model/unload")


class Few(FakeModel):
    """Its tokens are bytes, and there are only a few."""

    def _token(self, place: int, piece: bytes, alternatives: int | None) -> Token:
        return super()._token(place, piece, None if alternatives is None else min(alternatives, 256))


def test_every_knob_is_a_field_of_both_generation_routes(api: Client) -> None:
    schemas = build_api(api.app).openapi()["components"]["schemas"]
    for name in ("CompletionRequest", "ChatRequest"):
        assert set(SamplingParams.knobs()) <= set(schemas[name]["properties"])


def test_nothing_that_it_allows_breaks_it(api: Client) -> None:
    api.use(Few())
    schema = schemathesis.openapi.from_url(f"{api.url}/openapi.json")
    tried = 0
    for result in schema.get_all_operations():
        operation = result.ok()
        if operation.path in LEFT_OUT:
            continue
        tried += 1

        @settings(max_examples=25, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
        @given(operation.as_strategy())
        def probe(case: schemathesis.Case) -> None:
            if isinstance(case.body, dict):
                case.body.pop("max_tokens_second", None)  # the reply would take as long as this says
            case.call_and_validate(checks=[not_a_server_error])

        probe()
    assert tried > 15
