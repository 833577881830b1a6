"""What happens to the candidates between the model and the draw, made ready to be told and to be drawn.

From the sampler stack's stages: a sentence for each step, and the shares of the few tokens worth following through
all of them. Plain data; it must not know how a picture is made.
"""

from __future__ import annotations

from dataclasses import dataclass

from loaders.params import SamplingParams
from loaders.sampling import ELSEWHERE, Stage
from modules.generation.place import Place
from modules.generation.token_view import Shown

#: How many tokens are followed by name; all others are one stream.
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
    gone: tuple[tuple[Shown, float], ...]
    best: tuple[tuple[Shown, float], ...]
    sentence: str


@dataclass(frozen=True, slots=True)
class Stream:
    """A token's probability at the model and after each step; 0 from the step on that removed it."""

    token: Shown
    shares: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Inside:
    """A look inside. `streams` are in the order of the model's own distribution; `n_vocab` is all there was."""

    steps: tuple[StepView, ...]
    streams: tuple[Stream, ...]
    n_vocab: int
    notes: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """All of it in words."""
        first, last = self.steps[0], self.steps[-1]
        acts = [step.sentence for step in self.steps[1:]] or ["No sampler acts: all knobs are neutral"]
        token, share = last.best[0]
        end = f"most likely now: {token.text} with {percent(share)}, of {last.kept:,} that are left"
        return f"Of {first.kept:,} candidates: {'; '.join(acts)}; {end}."


def inside(place: Place, params: SamplingParams) -> Inside:
    """Look at the steps of a place with these knobs. The model is not asked again. Raises: UserError."""
    notes: list[str] = []
    stages = place.stages(params, notes)
    known = SamplingParams.knobs()
    notes += [
        f"{name} is not one of these steps: it changes how replies are searched for."
        for name in sorted(ELSEWHERE - {"guidance_scale", "negative_prompt", "grammar_string"})
        if not known[name].is_neutral(getattr(params, name)) and place.model.supports(name)
    ]
    steps = tuple(_step(place, stage, params) for stage in stages)
    return Inside(steps, tuple(_streams(place, stages)), len(place.logits), tuple(dict.fromkeys(notes)))


def percent(share: float) -> str:
    """A probability as people read it: "83 %", "3.1 %", "0.04 %", "under 0.01 %"."""
    value = share * 100
    if value >= 9.95:
        return f"{value:.0f} %"
    if value >= 0.995:
        return f"{value:.1f} %"
    if value >= 0.01:
        return f"{value:.2f} %"
    return "under 0.01 %" if share > 0 else "0 %"


def _step(place: Place, stage: Stage, params: SamplingParams) -> StepView:
    value = stage.value
    if stage.name == "model" and params.guidance_scale != 1 and place.params.guidance_scale != 1:
        value = f"guidance {place.params.guidance_scale:g}"
    return StepView(
        name=stage.name,
        value=value,
        kept=stage.kept,
        removed=stage.removed,
        taken=stage.taken,
        moved=stage.moved,
        gone=tuple((place.token(id), share) for id, share in stage.gone[:6]),
        best=tuple((place.token(id), share) for id, share in stage.top[:6]),
        sentence=_sentence(stage),
    )


def _sentence(stage: Stage) -> str:
    name = f"{stage.name} {stage.value}".strip()
    if stage.name == "model":
        return f"the model offers {stage.kept:,}"
    if stage.removed:
        return f"{name} removed {stage.removed:,}, kept {stage.kept:,}"
    if stage.moved < 5e-5:
        return f"{name} changed nothing here"
    return f"{name} kept {stage.kept:,}, moved {percent(stage.moved)}"


def _streams(place: Place, stages: list[Stage]) -> list[Stream]:
    """The likeliest at the end come first in the choice; what the samplers took from the top is shown, too."""
    last = [id for id, _ in stages[-1].top[:FOLLOWED]]
    first = [id for id, _ in stages[0].top[:FOLLOWED]]
    lost = [id for id in first if id not in last]
    room = max(FOLLOWED - len(lost), FOLLOWED - 4)
    followed = [*last[:room], *lost][:FOLLOWED]
    followed.sort(key=lambda id: -float(stages[0].probabilities[id]))
    return [Stream(place.token(id), tuple(float(stage.probabilities[id]) for stage in stages)) for id in followed]
