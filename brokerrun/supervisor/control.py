"""The control socket: one line of JSON a request, one a reply. 0600, in a folder of the user's."""

from __future__ import annotations

import hashlib
import json
import os
import selectors
import socket
import stat
import struct
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO, Final

import msgspec

from brokerrun.errors import BrokerrunError, ConfigError, NotRunning, UsageError

_MOST_PATH: Final = 100  # bytes that an address of a unix socket holds, less a reserve
_MOST_LINE: Final = 65536
_MOST_CLIENTS: Final = 128
_MOST_UNREAD: Final = 1_000_000  # bytes, of who asks and does not read
Request = dict[str, Any]
Reply = Callable[[object], bool]  # says whether the client is there to hear more
Answer = Callable[[Request, Reply], None]


def socket_path(runtime_dir: str, database: str, name: str) -> str:
    """Name the socket of an instance, in the folder that the surroundings say.

    Raises:
        ConfigError: The folder cannot be made, or is another user's.
    """
    key = f"{os.path.realpath(database)}\0{name}".encode()
    file = hashlib.sha256(key).hexdigest()[:16] + ".sock"
    folder = wanted_folder(runtime_dir)
    if len(os.fsencode(os.path.join(folder, file))) > _MOST_PATH:
        folder = _own_temporary_folder()
        if len(os.fsencode(os.path.join(folder, file))) > _MOST_PATH:
            raise ConfigError([f"runtime_dir {folder}: the path is too long for a socket"])
    _make_private(folder)
    return os.path.join(folder, file)


def wanted_folder(runtime_dir: str) -> str:
    """Name the folder of sockets, were there no bound on the length of an address."""
    if runtime_dir != "auto":
        return runtime_dir
    given = os.environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    if given:
        return given
    session = os.environ.get("XDG_RUNTIME_DIR")
    if session and os.path.isdir(session):
        return os.path.join(session, "brokerrun")
    return _own_temporary_folder()


def _own_temporary_folder() -> str:
    return os.path.join(tempfile.gettempdir(), f"brokerrun-{os.geteuid()}")


def _make_private(folder: str) -> None:
    """Make the folder 0700; one that is there has to be ours and closed to others' writing."""
    try:
        os.makedirs(os.path.dirname(folder), exist_ok=True)
        with suppress(FileExistsError):
            os.mkdir(folder, 0o700)
        status = os.lstat(folder)
    except OSError as error:
        raise ConfigError([f"runtime_dir {folder}: {error.strerror}"]) from error
    ours = stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()
    if not ours or status.st_mode & 0o022:
        raise ConfigError(
            [f"runtime_dir {folder}: expected a folder of this user that others cannot write to"]
        )


class ControlServer:
    """Listens in the supervisor's loop; never waits for a client."""

    def __init__(self, path: str, mode: int, selector: selectors.BaseSelector, answer: Answer):
        self.path, self._selector, self._answer = path, selector, answer
        self._clients: set[_Client] = set()
        with suppress(FileNotFoundError):
            os.unlink(path)  # of a predecessor: the lock of the slots says that it is gone
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.setblocking(False)
        before = os.umask(0o177)
        try:
            self._socket.bind(path)
        finally:
            os.umask(before)
        os.chmod(path, mode)
        self._socket.listen(_MOST_CLIENTS)
        selector.register(self._socket, selectors.EVENT_READ, self._accept)

    def close(self) -> None:
        """Stop listening, and let the clients see the end."""
        for client in list(self._clients):
            self._drop(client)
        self._selector.unregister(self._socket)
        self._socket.close()
        with suppress(FileNotFoundError):
            os.unlink(self.path)

    def _accept(self) -> None:
        """Let all in that wait."""
        with suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                self._let_in(connection)

    def _let_in(self, connection: socket.socket) -> None:
        if not _welcome(connection) or not self._make_room():
            connection.close()
            return
        connection.setblocking(False)
        client = _Client(connection)
        self._clients.add(client)
        self._selector.register(connection, selectors.EVENT_READ, lambda: self._read(client))

    def _make_room(self) -> bool:
        """Let the one go that has been idle the longest, where there are too many."""
        if len(self._clients) < _MOST_CLIENTS:
            return True
        idle = [client for client in self._clients if not client.awaits]
        if idle:
            self._drop(min(idle, key=lambda client: client.spoke_at))
        return bool(idle)

    def _read(self, client: _Client) -> None:
        try:
            data = client.connection.recv(_MOST_LINE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        *lines, client.received = (client.received + data).split(b"\n")
        for line in lines:
            client.spoke_at = time.monotonic()
            self._reply_to(client, line)
        if not data or len(client.received) > _MOST_LINE:
            self._drop(client)

    def _reply_to(self, client: _Client, line: bytes) -> None:
        client.awaits += 1

        def reply(value: object) -> bool:
            if client in self._clients:
                more = isinstance(value, dict) and value.get("more", False)
                client.awaits -= not more
                client.to_send += msgspec.json.encode(value) + b"\n"
                self._send(client)
            return client in self._clients

        try:
            request = json.loads(line)
        except (ValueError, RecursionError):
            request = None
        try:
            if not isinstance(request, dict):
                raise UsageError("expected one JSON object a line")
            self._answer(request, reply)
        except BrokerrunError as error:
            reply(refusal(error))

    def _send(self, client: _Client) -> None:
        """Send what the client takes now, and the rest when it reads on: only then is it heard."""
        try:
            sent = client.connection.send(client.to_send)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._drop(client)
            return
        client.to_send = client.to_send[sent:]
        if len(client.to_send) > _MOST_UNREAD:
            self._drop(client)
            return
        events = selectors.EVENT_WRITE if client.to_send else selectors.EVENT_READ
        self._selector.modify(client.connection, events, lambda: self._serve(client))

    def _serve(self, client: _Client) -> None:
        if client.to_send:
            self._send(client)
        if client in self._clients and not client.to_send:
            self._read(client)

    def _drop(self, client: _Client) -> None:
        if client in self._clients:
            self._clients.discard(client)
            self._selector.unregister(client.connection)
            client.connection.close()


class _Client:
    def __init__(self, connection: socket.socket):
        self.connection = connection
        self.received = self.to_send = b""
        self.spoke_at = time.monotonic()
        self.awaits = 0  # answers that are still to come


def _welcome(connection: socket.socket) -> bool:
    """Only root, and whom the mode of the socket lets in as this user or its group."""
    size = struct.calcsize("3i")
    _, uid, _ = struct.unpack(
        "3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    )
    return uid in (0, os.geteuid()) or bool(os.stat(connection.getsockname()).st_mode & 0o060)


def refusal(error: BrokerrunError) -> dict[str, object]:
    """Write an error as an answer: the command leaves with its exit status."""
    return {"error": str(error), "status": error.exit_status}


def ask(path: str, request: Request, timeout: float, *, until_gone: bool = False) -> Any:
    """Ask a running supervisor; with *until_gone* return only when it is gone.

    Raises:
        NotRunning: Nobody listens there.
        TimeoutError: It did not answer within *timeout* seconds.
        BrokerrunError: It answered with an error.
    """
    line = b""
    with _connected(path, timeout) as connection, _until_gone(connection) as file:
        connection.sendall(json.dumps(request).encode() + b"\n")
        line = file.readline()
        while until_gone and file.read(1):
            pass
    if not line:
        raise NotRunning("the supervisor ended before it answered")
    return _answered(line)


def follow(path: str, request: Request, timeout: float) -> Iterator[Any]:
    """Ask a running supervisor, and yield each of its answers until it is gone.

    Raises as `ask` does; *timeout* bounds the wait for the first one.
    """
    with _connected(path, timeout) as connection, _until_gone(connection) as file:
        connection.sendall(json.dumps(request).encode() + b"\n")
        for line in file:
            yield _answered(line)
            connection.settimeout(None)


def _connected(path: str, timeout: float) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(timeout)
    deadline = time.monotonic() + timeout
    while True:
        try:
            connection.connect(path)
            return connection
        except BlockingIOError as error:  # too many wait to be let in
            if time.monotonic() > deadline:
                connection.close()
                raise TimeoutError from error
            time.sleep(0.002)
        except OSError as error:
            connection.close()
            raise NotRunning(f"no supervisor answers at {path}: {error.strerror}") from error


@contextmanager
def _until_gone(connection: socket.socket) -> Iterator[BinaryIO]:
    """Read from it; that it went away in between is an end, not an error."""
    with suppress(BrokenPipeError, ConnectionResetError), connection.makefile("rb") as file:
        yield file


def _answered(line: bytes) -> Any:
    answer = json.loads(line)
    if isinstance(answer, dict) and "error" in answer:
        if answer.get("status") == ConfigError.exit_status:
            raise ConfigError(str(answer["error"]).splitlines())
        refused = BrokerrunError(str(answer["error"]))
        refused.exit_status = int(answer.get("status", refused.exit_status))
        raise refused
    return answer
