"""Grade the answers of two versions to one request: which is right, and which does harm."""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass, field
from decimal import Decimal

from router_models.data.starter import Task
from router_models.types import Completion
from serve_graph.errors import EngineError, EngineTimeoutError, SaturatedError
from serve_graph.learning.comparing.compared_request import ComparedRequest
from serve_graph.learning.comparing.paths import PathTaken, TierAnswers
from serve_graph.learning.judging.judge_calls import NotJudgedError
from serve_graph.learning.judging.judge_prompts import DEFAULT_PROMPTS, conversation_text, why_not_judged
from serve_graph.learning.judging.judge_questions import JudgeQuestions, PairVerdict, UnparsableError
from serve_graph.learning.judging.task_graders import PROGRAM, TaskGraders

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class PairGrades:
    """What the judge says of both versions' answers; `why_not`: why it says nothing. `usd`: what asking cost.

    `tie`: its word depends on which answer stands first; `means`: what it said of each then, over both orders. `task`:
    by which a program graded them, where no judge was asked. Right and harm are None where they are not known, of a
    tie, and where both versions show the same.
    """

    stable_right: bool | None = None
    candidate_right: bool | None = None
    stable_harm: bool | None = None
    candidate_harm: bool | None = None
    grader: str | None = None
    why_not: str | None = None
    task: Task | None = None
    tie: bool = False
    means: tuple[float, float] | None = None
    usd: Decimal = field(default_factory=Decimal)


class PairGrader:
    """Grade pairs by a judge, each in both orders; by a program where the request is a known task.

    Parameters
    ----------
    questions : JudgeQuestions
        Whom to ask, and how.
    source : str
        The judge's name, as labels name sources.
    max_chars : int
        Characters of request and answers together, above which no judge is asked.
    programs : TaskGraders, optional
        The tasks that programs grade.
    """

    def __init__(
        self, questions: JudgeQuestions, source: str, max_chars: int, programs: TaskGraders | None = None
    ) -> None:
        self.programs = programs
        self.questions = questions
        self.source = source
        self.max_chars = max_chars
        self.template = questions.config.prompt or DEFAULT_PROMPTS["pairwise"]

    async def grade(
        self, request: ComparedRequest, stable: PathTaken, candidate: PathTaken, answers: TierAnswers
    ) -> PairGrades:
        """The grades of two paths' answers, or why there are none."""
        if (why := stable.why_not or candidate.why_not) is not None:
            return PairGrades(why_not=why)
        one, other = stable.completion, candidate.completion
        if is_same_answer(stable, candidate):
            return PairGrades()
        if stable.abstained or candidate.abstained:
            return _of_no_answer(stable, candidate)
        if one is None or other is None:
            return PairGrades(why_not="abstained")
        task = None if self.programs is None else self.programs.task_for(request.query)
        if (why := self._unreadable(request, one, other, task=task)) is not None:
            return PairGrades(why_not=why)
        grades = PairGrades(grader=self.source if task is None else PROGRAM, task=task)
        try:
            verdict = await self._verdict(request, one, other, task)
            grades.usd += verdict.usd
            grades.stable_right, grades.candidate_right = verdict.first, verdict.second
            grades.tie, grades.means = verdict.is_tie, verdict.means
            if not grades.tie:
                await self._note_harm(request, stable, candidate, grades, answers)
        except Exception as error:  # noqa: BLE001 (the reason is the row's)
            grades.why_not = _why(error)
            if grades.why_not == "error":
                logger.error("%s was not graded: %s", request.decision, type(error).__name__)
        return grades

    def _unreadable(self, request: ComparedRequest, *answers: Completion, task: Task | None) -> str | None:
        """Why whoever reads text is not asked about these answers; None where it is. Programs read long ones too."""
        most = self.max_chars if task is None else sys.maxsize
        for answer in answers:
            if (why := why_not_judged(request.query, answer, most)) is not None:
                return why
        if task is not None:
            return None
        chars = len(conversation_text(request.query)) + sum(len(answer.text) for answer in answers)
        return "too long" if chars > self.max_chars else None

    async def _verdict(
        self, request: ComparedRequest, one: Completion, other: Completion, task: Task | None
    ) -> PairVerdict:
        if task is not None and self.programs is not None:
            first, second = [await self.programs.is_right(task, answer) for answer in (one, other)]
            return PairVerdict(first, second, Decimal(0))
        return await self.questions.compare(self.template, conversation_text(request.query), one.text, other.text)

    async def _note_harm(
        self,
        request: ComparedRequest,
        stable: PathTaken,
        candidate: PathTaken,
        grades: PairGrades,
        answers: TierAnswers,
    ) -> None:
        """Say of both answers whether they harm: wrong, of a tier below the last, where the last tier's is right."""
        right = {stable.tier: grades.stable_right, candidate.tier: grades.candidate_right}
        wrong = [path for path in (stable, candidate) if not right[path.tier] and path.tier != request.last_tier]
        last_right = right.get(request.last_tier)
        if wrong and last_right is None:  # neither version shows the last tier's answer
            last_right = await self._last_right(request, wrong[0], grades, answers)
        harms = {path.tier: last_right for path in wrong}
        grades.stable_harm = harms.get(stable.tier, False)
        grades.candidate_harm = harms.get(candidate.tier, False)

    async def _last_right(
        self, request: ComparedRequest, wrong: PathTaken, grades: PairGrades, answers: TierAnswers
    ) -> bool | None:
        """Whether the last tier's answer is right; None where that is not known. No better than a wrong one: not."""
        try:
            last = await answers.get(request.last_tier, request.query)
            task = grades.task
            if wrong.completion is None or self._unreadable(request, wrong.completion, last, task=task) is not None:
                return None
            verdict = await self._verdict(request, wrong.completion, last, task)
            grades.usd += verdict.usd
            return False if verdict.is_tie else verdict.second
        except (NotJudgedError, EngineError, UnparsableError):
            return None


def _of_no_answer(stable: PathTaken, candidate: PathTaken) -> PairGrades:
    """Where one version says nothing, that is neither right nor harm; of the other's answer nobody is asked."""
    first, second = (False if path.abstained else None for path in (stable, candidate))
    return PairGrades(first, second, first, second, why_not="abstained")


def is_same_answer(one: PathTaken, other: PathTaken) -> bool:
    """Whether two versions show the same, whoever made it and however."""
    if one.why_not is not None or other.why_not is not None:
        return False
    if one.abstained or other.abstained:
        return one.abstained and other.abstained
    a, b = one.completion, other.completion
    if a is None or b is None or a is b:
        return a is b
    plain = not any(made.tool_calls or len(made.payload.get("choices") or ()) > 1 for made in (a, b))
    return plain and a.text.strip() == b.text.strip()


def _why(error: Exception) -> str:
    """Why answers are not graded, as rows and metrics have it."""
    if isinstance(error, NotJudgedError):
        return str(error)
    if isinstance(error, SaturatedError):
        return "busy"
    if isinstance(error, UnparsableError):
        return "unparsable"
    if isinstance(error, EngineTimeoutError):
        return "timeout"
    return "judge" if isinstance(error, EngineError) else "error"
