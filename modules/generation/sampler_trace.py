"""What happens to the candidates between the model and the draw, prepared for text and charts.

From the sampler chain's stages: a sentence for each step, and the probabilities of the few tokens worth following
through all of them. Plain data; it must not know how a chart is drawn.
"""

from __future__ import annotations

from dataclasses import dataclass

from loaders.params import SamplingParams
from loaders.sampling import NON_SAMPLER_PARAMS, SamplerStage
from modules.generation.logits_snapshot import LogitsSnapshot
from modules.generation.token_view import VisibleToken

#: How many tokens are followed by name; all others are combined.
FOLLOWED = 9


@dataclass(frozen=True, slots=True)
class StepView:
    """One step. Shares and masses are probabilities, 0 to 1; `gone` and `best` are tokens with theirs."""

    name: str
    value: str
    kept: int
    removed: int
    taken: float
    moved: float
    gone: tuple[tuple[VisibleToken, float], ...]
    best: tuple[tuple[VisibleToken, float], ...]
    sentence: str


@dataclass(frozen=True, slots=True)
class TokenTrace:
    """A token's probability before and after each step; 0 from the step that removed it."""

    token: VisibleToken
    shares: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class SamplerTrace:
    """The result. `streams` are in the order of the model's own distribution; `n_vocab` is the size of the
    vocabulary.
    """

    steps: tuple[StepView, ...]
    streams: tuple[TokenTrace, ...]
    n_vocab: int
    notes: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """The result as text."""
        first, last = self.steps[0], self.steps[-1]
        acts = [step.sentence for step in self.steps[1:]] or ["No sampler is active: all parameters are neutral"]
        token, share = last.best[0]
        end = f"most likely now: {token.text} with {format_percent(share)}, out of {last.kept:,} remaining"
        return f"Of {first.kept:,} candidates: {'; '.join(acts)}; {end}."


def trace_samplers(place: LogitsSnapshot, params: SamplingParams) -> SamplerTrace:
    """Trace the steps of a snapshot with these knobs. The model is not run again. Raises: UserError."""
    notes: list[str] = []
    stages = place.stages(params, notes)
    known = SamplingParams.knobs()
    notes += [
        f"{name} is not shown: it changes how replies are searched for."
        for name in sorted(NON_SAMPLER_PARAMS - {"guidance_scale", "negative_prompt", "grammar_string"})
        if not known[name].is_neutral(getattr(params, name)) and place.model.supports(name)
    ]
    steps = tuple(_step(place, stage, params) for stage in stages)
    return SamplerTrace(steps, tuple(_streams(place, stages)), len(place.logits), tuple(dict.fromkeys(notes)))


def format_percent(share: float) -> str:
    """A readable probability: "83 %", "3.1 %", "0.04 %", "under 0.01 %"."""
    value = share * 100
    if value >= 9.95:
        return f"{value:.0f} %"
    if value >= 0.995:
        return f"{value:.1f} %"
    if value >= 0.01:
        return f"{value:.2f} %"
    return "under 0.01 %" if share > 0 else "0 %"


def _step(place: LogitsSnapshot, stage: SamplerStage, params: SamplingParams) -> StepView:
    value = stage.value
    if stage.name == "model" and params.guidance_scale != 1 and place.params.guidance_scale != 1:
        value = f"guidance {place.params.guidance_scale:g}"
    return StepView(
        name=stage.name,
        value=value,
        kept=stage.kept,
        removed=stage.removed,
        taken=stage.dropped_mass,
        moved=stage.tv_distance,
        gone=tuple((place.token(id), share) for id, share in stage.dropped[:6]),
        best=tuple((place.token(id), share) for id, share in stage.top[:6]),
        sentence=_sentence(stage),
    )


def _sentence(stage: SamplerStage) -> str:
    name = f"{stage.name} {stage.value}".strip()
    if stage.name == "model":
        return f"the model provides {stage.kept:,}"
    if stage.removed:
        return f"{name} removed {stage.removed:,}, kept {stage.kept:,}"
    if stage.tv_distance < 5e-5:
        return f"{name} changed nothing"
    return f"{name} kept {stage.kept:,}, shifted {format_percent(stage.tv_distance)}"


def _streams(place: LogitsSnapshot, stages: list[SamplerStage]) -> list[TokenTrace]:
    """The most likely at the end are chosen first; then those that the samplers removed from the top."""
    last = [id for id, _ in stages[-1].top[:FOLLOWED]]
    first = [id for id, _ in stages[0].top[:FOLLOWED]]
    lost = [id for id in first if id not in last]
    room = max(FOLLOWED - len(lost), FOLLOWED - 4)
    followed = [*last[:room], *lost][:FOLLOWED]
    followed.sort(key=lambda id: -float(stages[0].probabilities[id]))
    return [TokenTrace(place.token(id), tuple(float(stage.probabilities[id]) for stage in stages)) for id in followed]
