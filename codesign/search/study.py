"""A study: what a search tried, in a database, through Optuna's storages; to be looked at, and to be shared.

A trial is one candidate in one round. Whoever works on it holds it: its heartbeat goes on while they do, and where that
ends, whatever ended it, the trial fails and another one of the same candidate may begin. So any number of processes, on
any number of machines, work on one study, and nothing is lost with one of them.

What a trial gave lies beside the trials, by the key of what made it: the first that comes is the one that all read.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import sqlite3
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from codesign._extras import require
from codesign._files import content_hash
from codesign.errors import UnavailableError, UserError

PURPOSE = "a study in a database"
HEARTBEAT_S, GRACE_S = 15, 60
"""How often those at work on a trial say so, and after how long a silence it is anybody's again."""
RESULTS = "codesign_results"
"""The table beside Optuna's."""
_KEY, _BY, _SAID = "key", "by", "gave nothing"


@dataclass(frozen=True)
class StudyPlace:
    """Where a study lies; whatever process is told opens it.

    Attributes:
        url: of the database, as SQLAlchemy has them: `postgresql://user:password@host/database`, `sqlite:////a/file`.
        name: of the study in it.
        objectives: by name, whether more is better.
        axes: values by name of what a trial may be.
        heartbeat_s, grace_s: see `HEARTBEAT_S` and `GRACE_S`.
    """

    url: str
    name: str
    objectives: Mapping[str, bool]
    axes: Mapping[str, Sequence[Any]]
    heartbeat_s: int = HEARTBEAT_S
    grace_s: int = GRACE_S

    @property
    def shown(self) -> str:
        """The address, for people: without its password."""
        try:
            return str(require("sqlalchemy", PURPOSE).make_url(self.url).render_as_string(hide_password=True))
        except ValueError:
            return "the database"


@dataclass(frozen=True)
class Trial:
    """A candidate in a round.

    Attributes:
        key: of what makes its result.
        values: by axis.
        about: what else is to be said of it, for people.
    """

    key: str
    values: Mapping[str, Any]
    about: Mapping[str, Any] = field(default_factory=dict)


class Shared(NamedTuple):
    """What some process made: a value of JSON, and perhaps a file."""

    value: dict[str, Any]
    file: bytes | None


class DamagedStudyError(UnavailableError):
    """The file is no database of SQLite, or a broken one."""


class Study:
    """A study that is open.

    Raises:
        UnavailableError: of all methods: the database cannot be reached, or not be used.
        UserError: its address cannot be read.
    """

    def __init__(self, place: StudyPlace) -> None:
        self.place = place
        self._optuna = require("optuna", PURPOSE)
        self._sql = require("sqlalchemy", PURPOSE)
        try:
            url = self._sql.make_url(place.url)
        except self._sql.exc.ArgumentError:
            raise UserError(
                "the study's address cannot be read, must be such as postgresql://user@host/database"
            ) from None
        if url.get_backend_name() == "postgresql":
            require("psycopg", "a study in PostgreSQL")
            url = url.set(drivername="postgresql+psycopg")
        elif url.get_backend_name() != "sqlite":
            raise UserError(f"{place.shown}: {url.get_backend_name()} given, must be postgresql or sqlite")
        self._file = url.database if url.get_backend_name() == "sqlite" else None
        self._states = self._optuna.trial.TrialState
        address = url.render_as_string(hide_password=False)
        self._engine = self._sql.create_engine(address)
        self._results = self._sql.Table(
            RESULTS,
            self._sql.MetaData(),
            self._sql.Column("key", self._sql.String(64), primary_key=True),
            self._sql.Column("value", self._sql.Text, nullable=False),
            self._sql.Column("file", self._sql.LargeBinary),
        )
        directions = ["maximize" if more else "minimize" for more in place.objectives.values()]
        self._optuna.logging.set_verbosity(self._optuna.logging.ERROR)
        logging.getLogger("alembic").setLevel(logging.ERROR)
        with self._reached(), self._alone(), _experiments():
            self._storage = self._optuna.storages.RDBStorage(
                address, heartbeat_interval=place.heartbeat_s, grace_period=place.grace_s
            )
            self._results.create(self._engine, checkfirst=True)
            self._study = self._optuna.create_study(
                storage=self._storage, directions=directions, study_name=place.name, load_if_exists=True
            )
            self._id: int = self._storage.get_study_id_from_name(place.name)
            self._study.set_user_attr("objectives", list(place.objectives))

    def close(self) -> None:
        """Give the connections back."""
        self._storage.remove_session()
        self._storage.engine.dispose()
        self._engine.dispose()

    def claim(self, trial: Trial, by: str) -> int | None:
        """Begin to work on a trial: its number; None if somebody is at work on it, or has ended with a result.

        Args:
            trial: which.
            by: whose work it is, so that it can be taken back (`take_back`).
        """
        with self._reached(), self._alone():
            if self.result(trial.key) is not None:
                return None
            if any(each.user_attrs.get(_KEY) == trial.key for each in self._trials(self._states.RUNNING)):
                return None
            return self._run(trial, by)

    @contextlib.contextmanager
    def held(self, number: int) -> Iterator[None]:
        """Within the block, a trial that was claimed is this process's."""
        over = threading.Event()
        trial_id = self._trial_id(number)

        def beat() -> None:
            while not over.wait(self.place.heartbeat_s):
                with contextlib.suppress(self._sql.exc.SQLAlchemyError):  # who goes on will say so
                    self._storage.record_heartbeat(trial_id)
            self._storage.remove_session()

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def give_up(self, number: int) -> None:
        """A trial that was claimed is anybody's again."""
        with self._reached(), contextlib.suppress(self._optuna.exceptions.UpdateFinishedTrialError):
            self._storage.set_trial_state_values(self._trial_id(number), self._states.FAIL)

    def take_back(self, by: str) -> None:
        """Give up all that was claimed by one who cannot be at work on it any more."""
        with self._reached():
            for each in self._trials(self._states.RUNNING):
                if each.user_attrs.get(_BY) == by:
                    self.give_up(each.number)

    def held_by_others(self, keys: Sequence[str]) -> set[str]:
        """Those of the keys that somebody is at work on; who was silent for too long is not."""
        with self._reached():
            with _experiments():
                self._optuna.storages.fail_stale_trials(self._study)
            return {each.user_attrs.get(_KEY) for each in self._trials(self._states.RUNNING)} & set(keys)

    def record(self, trial: Trial, values: Sequence[float] | str, broken: Mapping[str, float] | None = None) -> None:
        """Say what a trial gave, if nobody did.

        Args:
            trial: which; the one that was claimed, or a new one.
            values: of the objectives; or why there are none.
            broken: by how much it breaks each limit, by name; 0 or less where it does not.
        """
        with self._reached(), self._alone():
            mine = [each for each in self._trials() if each.user_attrs.get(_KEY) == trial.key]
            if any(each.state == self._states.COMPLETE or _SAID in each.user_attrs for each in mine):
                return
            running = [each.number for each in mine if each.state == self._states.RUNNING]
            trial_id = self._trial_id(running[0] if running else self._run(trial, ""))
            if isinstance(values, str):
                self._storage.set_trial_user_attr(trial_id, _SAID, values)
                self._storage.set_trial_state_values(trial_id, self._states.FAIL)
                return
            open_trial = self._optuna.trial.Trial(self._study, trial_id)
            for name, excess in (broken or {}).items():
                open_trial.set_constraint(name, excess)
            self._storage.set_trial_state_values(trial_id, self._states.COMPLETE, list(values))

    def result(self, key: str) -> Shared | None:
        """What a key made; None if nothing yet."""
        columns = self._results.c
        with self._reached(), self._engine.connect() as connection:
            asked = self._sql.select(columns.value, columns.file).where(columns.key == key)
            row = connection.execute(asked).one_or_none()
        if row is None:
            return None
        try:
            value = json.loads(row.value)
        except ValueError:
            value = None
        if not isinstance(value, dict):
            raise UnavailableError(f"{self.place.shown}: a result in the study's database cannot be read")
        return Shared(value, row.file)

    def put(self, key: str, value: dict[str, Any], file: bytes | None = None) -> Shared:
        """Keep what a key made, if nothing is kept yet; what is kept."""
        with self._reached():
            with contextlib.suppress(self._sql.exc.IntegrityError), self._engine.begin() as connection:
                connection.execute(self._results.insert().values(key=key, value=json.dumps(value), file=file))
            found = self.result(key)
        assert found is not None
        return found

    def _run(self, trial: Trial, by: str) -> int:
        """Let a new trial run: its number."""
        template = self._optuna.trial.create_trial(
            state=self._states.WAITING,
            params=dict(trial.values),
            distributions={name: self._any_of(name) for name in trial.values},
            user_attrs={_KEY: trial.key, _BY: by, **trial.about},
        )
        trial_id = self._storage.create_new_trial(self._id, template_trial=template)
        self._storage.record_heartbeat(trial_id)  # before it runs: one that never beat is never stale
        self._storage.set_trial_state_values(trial_id, self._states.RUNNING)
        return int(self._storage.get_trial_number_from_id(trial_id))

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Within the block, nobody else says who works on what; whatever ends the process ends it, too."""
        if self._file is not None:
            with Path(f"{self._file}-lock").open("ab") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                yield
            return
        number = int(content_hash(self.place.name)[:15], 16)
        with self._engine.connect() as connection:
            connection.execute(self._sql.select(self._sql.func.pg_advisory_lock(number)))
            try:
                yield
            finally:
                connection.execute(self._sql.select(self._sql.func.pg_advisory_unlock(number)))

    @contextlib.contextmanager
    def _reached(self) -> Iterator[None]:
        """What the database raises within the block is one line for people."""
        try:
            yield
        except (self._sql.exc.SQLAlchemyError, self._optuna.exceptions.StorageInternalError, OSError) as why:
            while why.__cause__ is not None and isinstance(why, self._optuna.exceptions.StorageInternalError):
                why = why.__cause__
            words = getattr(why, "orig", None) or getattr(why, "strerror", None) or why
            said = str(words).strip().splitlines() or [type(why).__name__]
            damaged = getattr(words, "sqlite_errorcode", None) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
            kind = DamagedStudyError if damaged else UnavailableError
            raise kind(f"{self.place.shown}: the study's database cannot be used: {said[0]}") from None

    def _trials(self, *states: Any) -> list[Any]:
        return list(self._storage.get_all_trials(self._id, deepcopy=False, states=states or None))

    def _trial_id(self, number: int) -> int:
        return int(self._storage.get_trial_id_from_study_id_trial_number(self._id, number))

    def _any_of(self, axis: str) -> Any:
        return self._optuna.distributions.CategoricalDistribution(tuple(self.place.axes[axis]))


@contextlib.contextmanager
def _experiments() -> Iterator[None]:
    """Within the block, Optuna does not say that it calls heartbeats experimental."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
