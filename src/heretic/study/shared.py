"""A study that several runs write to, in a database or in a journal on a shared disk."""

import base64
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from ..errors import StudyError
from ..files import expand_home, make_directory, write_atomically
from ..installing import install_command
from .journal import make_storage, tensors_path
from .reader import NAME, RECORD

DRIVER, PULSE, FOUNDER = "driver", "driver ", "founder"
"""Attribute of a trial: the run that requested it. Prefix of the runs' heartbeat attributes, and the attribute that
names the run that begins the study."""
COPY = "--shared"
"""End of the names of copies on this machine."""
TENSORS = "tensors"
"""The name of the file of directions."""
RUNS_OF, FILES_OF = " runs", " files"
"""Suffixes of two more studies in the storage, which hold only attributes: heartbeats, and files."""
SECONDS_A_PULSE, SECONDS_A_LOOK = 10.0, 1.0
LOST_AFTER = 60.0
"""Seconds without a heartbeat after which a run counts as lost: six heartbeats, to allow for a slow database."""
ATTEMPTS, SECONDS_BETWEEN = 10, 0.1
"""For the tables of a database, which another run may create at the same moment."""
PIECE = 40_000
"""Characters of a file in one attribute: MySQL's text columns hold 64 kB."""
DIALECTS = {"postgresql": "psycopg", "mysql": "pymysql"}
"""The driver of a database that the extra `storage` installs."""


class SharedStorage:
    """A storage by its address, and the study of one model in it.

    The address may hold a password, so only `shown` is ever displayed, and no record or journal holds the address.
    """

    def __init__(self, address: str, study: str) -> None:
        """Raises:
        StudyError: the storage can't be reached.
        """
        self.shown = shown_address(address)
        self.name = study
        self.driver = uuid.uuid4().hex[:8]
        self._address = address
        self._ended = threading.Event()
        self._seen: dict[str, tuple[int, float]] = {}
        with self.readable_errors():
            self._storage = _open(address)

    @contextmanager
    def readable_errors(self) -> Iterator[None]:
        """Errors of the database as one paragraph, without the password."""
        try:
            yield
        except StudyError:
            raise
        # Each database driver raises errors of its own, which Optuna wraps or not.
        except Exception as error:
            if "sqlalchemy" not in type(error).__module__ and not isinstance(error, (OSError, _storage_error())):
                raise
            reason = without_secrets(str(error.__cause__ or error), self._address).strip().splitlines()
            raise StudyError(
                f"Expected a storage at {self.shown}, but it can't be used ({reason[0] if reason else 'no reason'}). "
                "Check the address, the database and its rights, and run the same command again: finished trials are "
                "kept."
            ) from None

    def join(self, say: Callable[[str], None]) -> None:
        """Registers this run, and waits for the record where another run is about to begin the study."""
        import optuna

        with self.readable_errors():
            try:
                # The storage lets only one run create it: that run begins the study.
                self._runs = optuna.create_study(storage=self._storage, study_name=self.name + RUNS_OF)
                self._runs.set_user_attr(FOUNDER, self.driver)
            except optuna.exceptions.DuplicatedStudyError:
                self._runs = optuna.load_study(storage=self._storage, study_name=self.name + RUNS_OF)
            self._pulse(0)
            threading.Thread(target=self._keep_pulsing, daemon=True).start()
            if not self._begun() and not self._leads():
                say("Another run begins this study; waiting for its directions and baseline.")
                while not self._begun() and not self._leads():
                    self._ended.wait(SECONDS_A_LOOK)

    def open(self, create: Callable[..., Any]) -> Any:
        """Optuna's study, made by `create` if it is new."""
        with self.readable_errors():
            return create(storage=self._storage, study_name=self.name)

    def close(self) -> None:
        """Ends this run's heartbeat, and closes the connections to a database."""
        self._ended.set()
        self._release()
        engine = getattr(self._storage, "engine", None)
        if engine is not None:
            engine.dispose()

    def drivers(self) -> int:
        """How many runs have joined the study so far."""
        return sum(key.startswith(PULSE) for key in self._runs.user_attrs)

    def lost(self, driver: str | None) -> bool:
        """Whether a run is gone: it has had no heartbeat for `LOST_AFTER` seconds."""
        if driver == self.driver:
            return False
        pulse, now = self._runs.user_attrs.get(f"{PULSE}{driver}", -1), time.monotonic()
        known, since = self._seen.get(str(driver), (None, now))
        if known != pulse:
            self._seen[str(driver)] = pulse, now
            return False
        return now - since > LOST_AFTER

    def _begun(self) -> bool:
        import optuna

        names = {each.study_name for each in optuna.get_all_study_summaries(self._storage)}
        return (
            self.name in names and RECORD in optuna.load_study(storage=self._storage, study_name=self.name).user_attrs
        )

    def _leads(self) -> bool:
        """Whether this run begins the study: it was the first, or the first is gone."""
        founder = self._runs.user_attrs.get(FOUNDER)
        if founder != self.driver and self.lost(founder):
            self._runs.set_user_attr(FOUNDER, self.driver)
            return True
        return bool(founder == self.driver)

    def copy_to(self, path: Path) -> bool:
        """Copies the study to a journal on this machine, which every command can read; False if it was not begun."""
        import optuna

        with self.readable_errors():
            if not self._begun():
                return False
            copy = path.with_name(f".{path.name}.copy")
            copy.unlink(missing_ok=True)
            make_directory(path.parent)
            optuna.copy_study(
                from_study_name=self.name, from_storage=self._storage, to_storage=make_storage(copy), to_study_name=NAME
            )
        write_atomically(path, copy.read_bytes())
        copy.unlink()
        return True

    def copy_here(self, path: Path) -> bool:
        """`copy_to`, and the file of the study's directions next to it."""
        if not self.copy_to(path):
            return False
        tensors = self.get_file(TENSORS)
        if tensors is not None:
            write_atomically(tensors_path(path), tensors)
        return True

    def put_file(self, name: str, content: bytes) -> None:
        """Stores a file of the study for other machines."""
        text = base64.b85encode(content).decode()
        with self.readable_errors():
            files = self._files()
            pieces = [text[start : start + PIECE] for start in range(0, len(text), PIECE)]
            for number, piece in enumerate(pieces):
                files.set_user_attr(f"{name} {number}", piece)
            # The length is written last: a file without it counts as missing.
            files.set_user_attr(name, len(pieces))

    def get_file(self, name: str) -> bytes | None:
        """A file that a run has stored; None if there is none."""
        with self.readable_errors():
            attributes = self._files().user_attrs
        if name not in attributes:
            return None
        return base64.b85decode("".join(attributes[f"{name} {number}"] for number in range(attributes[name])))

    def _files(self) -> Any:
        import optuna

        return optuna.create_study(storage=self._storage, study_name=self.name + FILES_OF, load_if_exists=True)

    def _release(self) -> None:
        """Returns this thread's connection to the pool."""
        remove = getattr(self._storage, "remove_session", None)
        if remove is not None:
            remove()

    def _pulse(self, count: int) -> None:
        self._runs.set_user_attr(f"{PULSE}{self.driver}", count)

    def _keep_pulsing(self) -> None:
        count = 0
        while not self._ended.wait(SECONDS_A_PULSE):
            count += 1
            try:
                self._pulse(count)
            except Exception:  # noqa: BLE001 (the next call of the search meets the same error, and reports it)
                continue
            finally:
                self._release()


def shown_address(address: str) -> str:
    """The address without its user's password and without parameters, which may hold one."""
    return re.sub(r"^([^:/@]+://[^:/@]*):.*@", r"\1:***@", address.partition("?")[0])


def without_secrets(text: str, address: str) -> str:
    """A message of the database without the password of the address."""
    secret = re.match(r"^[^:/@]+://[^:/@]*:(.*)@", address)
    text = text.replace(address, shown_address(address))
    for each in {secret[1], unquote(secret[1])} - {""} if secret else ():
        text = text.replace(each, "***")
    return text


def _storage_error() -> type[Exception]:
    from optuna.exceptions import StorageInternalError

    return StorageInternalError


def _open(address: str) -> Any:
    """Optuna's storage of a database or, for a path, over a journal that several processes write."""
    import optuna
    from optuna.storages import JournalStorage, RDBStorage
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if "://" not in address:
        path = expand_home(address)
        make_directory(path.parent)
        # Its lock works on NFS from version 3 on.
        return JournalStorage(JournalFileBackend(str(path), lock_obj=JournalFileOpenLock(str(path))))
    kind, _, rest = address.partition("://")
    if kind in DIALECTS and find_spec(DIALECTS[kind]) is not None:
        address = f"{kind}+{DIALECTS[kind]}://{rest}"
    try:
        return _database(partial(RDBStorage, address, engine_kwargs={"pool_pre_ping": True}))
    except (ImportError, ModuleNotFoundError) as error:
        raise StudyError(
            f"Expected the driver of a {kind} database, which is not installed. Install it with: "
            f"{install_command('storage')}"
        ) from error


def _database(connect: Callable[[], Any]) -> Any:
    """The storage that `connect` returns; tried again where another run creates its tables at the same moment."""
    from sqlalchemy.exc import IntegrityError, OperationalError, ProgrammingError

    for _ in range(ATTEMPTS - 1):
        try:
            return connect()
        except (IntegrityError, OperationalError, ProgrammingError) as error:
            if not isinstance(error, IntegrityError) and "already exists" not in str(error):
                raise
        time.sleep(SECONDS_BETWEEN)
    return connect()


def is_address(text: str) -> bool:
    """Whether a text names a storage that is shared: a database, or a file that ends in .journal."""
    return "://" in text or text.endswith(".journal")


def copy_of(address: str, directory: Path) -> Path:
    """A copy in `directory` of the study that an address names, as ADDRESS or ADDRESS#STUDY where it holds several.

    Raises:
        StudyError: the storage can't be reached, or holds no such study.
    """
    import optuna

    address, _, wanted = address.partition("#")
    storage = SharedStorage(address, wanted)
    if not wanted:
        with storage.readable_errors():
            names = [each.study_name for each in optuna.get_all_study_summaries(storage._storage)]
        studies = [name for name in names if not name.endswith((RUNS_OF, FILES_OF))]
        if len(studies) != 1:
            listing = f": {', '.join(studies)}. Name one: {storage.shown}#{studies[0]}" if studies else ""
            raise StudyError(f"Expected one study in {storage.shown}, found {len(studies)}{listing}.")
        storage.name = studies[0]
    path = directory / f"{storage.name}{COPY}.jsonl"
    begun = storage.copy_here(path)
    storage.close()
    if not begun:
        raise StudyError(f"Expected the study {storage.name} in {storage.shown}, found none that was begun.")
    return path
