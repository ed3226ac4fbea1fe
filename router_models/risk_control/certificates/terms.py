"""The terms a certificate is issued under, fixed before a label is read: budget, look, labels, validity, bindings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from router_models.risk_control.certificates.certificate import Certificate
from router_models.risk_control.certificates.promise import Promise
from router_models.risk_control.certificates.risks import PROMPT, check_budget
from router_models.risk_control.sequence import spent_delta, upper_bound


@dataclass(frozen=True, slots=True)
class CertificateTerms:
    """What every certificate states beside its evidence.

    Parameters
    ----------
    epsilon : float
        The largest risk that may be promised, in (0, 1).
    delta : float
        1 - confidence over all looks at these labels together, in (0, 1).
    label_source : str
        Who said right or wrong, as `Certificate` holds it.
    made_at, expires_at : datetime
        When the certificate is made and when it ends; aware datetimes.
    binds : mapping of str to str
        sha256 by name of everything that the proof depends on, as far as it is known beforehand.
    look_index : int
        Which look at these labels this is, from 1; 0: the only one there will ever be.
    one_row_per : str
        Of what one row counts: `prompt`, or the column by which rows were grouped.
    left_out : mapping of str to int
        CERT prompts that do not count for whose labels they are, by label source.
    patterns_tried : int
        How many patterns of one look are tested, of which one is taken: each spends an equal part.

    Raises
    ------
    DataError
        For an `epsilon` or `delta` outside (0, 1).
    """

    epsilon: float
    delta: float
    label_source: str
    made_at: datetime
    expires_at: datetime
    binds: Mapping[str, str] = field(default_factory=dict)
    look_index: int = 0
    one_row_per: str = PROMPT
    left_out: Mapping[str, int] = field(default_factory=dict)
    patterns_tried: int = 1

    def __post_init__(self) -> None:
        check_budget(self.epsilon, self.delta)

    @property
    def level(self) -> float:
        """The part of `delta` that this test may spend."""
        return spent_delta(self.delta, self.look_index) / self.patterns_tried

    def issue(
        self,
        what: str,
        *,
        n: int,
        accepted_n: int,
        errors: int,
        threshold: float | None,
        slices: Mapping[str, Promise] | None = None,
        also: Sequence[Promise] = (),
        settings: Mapping[str, float] | None = None,
    ) -> Certificate:
        """The certificate of a tested statement.

        Parameters
        ----------
        what : str
            The risk that is bounded by `epsilon`.
        n, accepted_n, errors : int
            Labels read, those among them that the statement is about, and the wrong ones of those.
        threshold : float, optional
            What a score is compared with; None where there is none for all.
        slices, also, settings : optional
            As `Certificate` holds them.

        Returns
        -------
        Certificate
            Made now, and bound to nothing yet.
        """
        return Certificate(
            what=what,
            epsilon=self.epsilon,
            delta=self.delta,
            level=self.level,
            n=n,
            accepted_n=accepted_n,
            errors=errors,
            upper=upper_bound(errors, accepted_n, self.level),
            threshold=threshold,
            label_source=str(self.label_source),
            made_at=self.made_at,
            expires_at=self.expires_at,
            binds=dict(self.binds),
            look_index=self.look_index,
            one_row_per=self.one_row_per,
            left_out=dict(self.left_out),
            slices=slices or {},
            also=tuple(also),
            settings=settings or {},
        )
