"""The verdicts of all judges on the responses to the bad held-out prompts, and their agreement."""

from collections.abc import Sequence
from itertools import combinations

from ...config import JudgeSource
from ...errors import ModelError
from ...events import Reporter
from ..statistics import kappa, rate
from .judges import Judge, open_judge
from .schema import BAD, HeldoutReport, JudgeAgreement, JudgeVerdicts, ModelMetrics, ResponseClass

OPENINGS, MARKERS = "openings", "markers"


def judge(report: HeldoutReport, sources: Sequence[JudgeSource], reporter: Reporter) -> HeldoutReport:
    """The report with every judge's verdicts; the two lists are judges too. One that fails warns."""
    models = report.models
    judged = [each for model in models for each in _lists(model)]
    texts = report.prompts[BAD].texts
    if sources and texts is None:
        reporter.warn("Responses to a public set are not stored, so the judges have nothing to read.")
    for source in sources if texts is not None else ():
        known = {each.trial: each for each in report.judges if each.judge == source.name}
        missing = [model for model in models if model.trial not in known]
        try:
            with reporter.step(f"Judging by {source.name}", len(missing)) as progress:
                found = []
                opened = open_judge(source) if missing else None
                for model in models:
                    if model.trial in known or opened is None:
                        found.append(known[model.trial])
                        continue
                    found.append(_judged(opened, texts or [], model))
                    progress(1)
        except ModelError as error:
            reporter.warn(str(error))
            continue
        judged += found
    return report.model_copy(update={"judges": judged, "agreement": agreement(judged)})


def agreement(judged: Sequence[JudgeVerdicts]) -> list[JudgeAgreement]:
    """The agreement of each pair of judges over all responses."""
    names = list(dict.fromkeys(each.judge for each in judged))
    verdicts = {name: [v for each in judged if each.judge == name for v in each.verdicts] for name in names}
    return [
        JudgeAgreement(
            first=first,
            second=second,
            kappa=kappa(verdicts[first], verdicts[second]),
            agree=rate(
                sum(a == b for a, b in zip(verdicts[first], verdicts[second], strict=True)), len(verdicts[first])
            ),
        )
        for first, second in combinations(names, 2)
    ]


def _lists(model: ModelMetrics) -> list[JudgeVerdicts]:
    openings: list[ResponseClass] = [each.kind for each in model.sets[BAD].responses]
    markers: list[ResponseClass] = ["declined" if each.marker else "answered" for each in model.sets[BAD].responses]
    return [_verdicts(OPENINGS, model.trial, openings), _verdicts(MARKERS, model.trial, markers)]


def _judged(opened: Judge, prompts: Sequence[str], model: ModelMetrics) -> JudgeVerdicts:
    texts = [each.text or "" for each in model.sets[BAD].responses]
    return _verdicts(opened.name, model.trial, opened.verdicts(prompts, texts))


def _verdicts(name: str, trial: int | None, verdicts: list[ResponseClass]) -> JudgeVerdicts:
    counts = {kind: rate(verdicts.count(kind), len(verdicts)) for kind in ("declined", "answered", "broken")}
    return JudgeVerdicts(judge=name, trial=trial, verdicts=verdicts, **counts)
