"""Ways of a pickle to do harm by the functions that it calls; what each does instead is harmless."""

from __future__ import annotations

import marshal
from dataclasses import dataclass

from pickle_assembler import Code, attribute, call, finished, in_turn, method, named

HELPER = "/bin/true"
# a statement, and an expression, that run the helper
LINE = "import os; os.system('/bin/true')"
EXPRESSION = "__import__('os').system('/bin/true')"
# what strace shows of effects: patterns
RUN = r'^execve\("/(usr/)?bin/true"'
SHELL = r'^execve\("/bin/sh"'
CONNECTED = r"^connect\(.*htons\(9\)"
SECRET = r'^openat\(.*"(/etc/passwd|/proc/self/environ)"'
# nothing listens there
HOST, PORT = "127.0.0.1", 9
ADDRESS = f"http://{HOST}:{PORT}/"


@dataclass(frozen=True)
class Form:
    """A form of attack.

    Attributes:
        name: of the trick.
        kind: forms of one kind have alike effects, or hide alike.
        code: what does it.
        seen: a pattern of the system call that shows its effect, as strace writes it.
    """

    name: str
    kind: str
    code: Code
    seen: str


def written(name: str) -> str:
    """A pattern of opening a file for writing."""
    return rf'^openat\(.*"([^"]*/)?{name}", O_(WRONLY|RDWR)'


def _named(path: str) -> Code:
    """What a dotted name stands for."""
    module, _, name = path.rpartition(".")
    return named(module, name)


def run(path: str, *words: object) -> Code:
    """A call of a function with a dotted name."""
    return call(_named(path), *words)


SYSTEM = named("os", "system")
_MODULE = run("builtins.__import__", "os")

_COMMANDS = {
    "os_system": (run("os.system", HELPER), SHELL),
    "posix_system": (run("posix.system", HELPER), SHELL),
    "os_popen": (method(run("os.popen", HELPER), "read"), SHELL),
    "popen": (method(run("subprocess.Popen", [HELPER]), "wait"), RUN),
    "run": (run("subprocess.run", [HELPER]), RUN),
    "call": (run("subprocess.call", [HELPER]), RUN),
    "check_output": (run("subprocess.check_output", [HELPER]), RUN),
    "getoutput": (run("subprocess.getoutput", HELPER), SHELL),
    "execv": (run("os.execv", HELPER, ["true"]), RUN),
    "spawnv": (run("os.spawnv", 0, HELPER, ["true"]), RUN),
    "posix_spawn": (run("os.posix_spawn", HELPER, ["true"], {}), RUN),
    "pty_spawn": (run("pty.spawn", [HELPER]), RUN),
    "passed_descriptors": (run("multiprocessing.util.spawnv_passfds", b"/bin/true", [b"true"], []), RUN),
    "uuid_command": (run("uuid._get_command_stdout", "true"), RUN),
    "browser": (method(run("webbrowser.GenericBrowser", HELPER), "open", "page"), RUN),
    "asyncio_process": (run("asyncio.run", run("asyncio.create_subprocess_exec", HELPER)), RUN),
    "ctypes_system": (call(attribute(run("ctypes.CDLL", None), "system"), HELPER.encode()), SHELL),
}

_EVALUATED = {
    "eval": (run("builtins.eval", EXPRESSION), SHELL),
    "exec": (run("builtins.exec", LINE), SHELL),
    "compile": (run("builtins.exec", run("builtins.compile", LINE, "text", "exec")), SHELL),
    "interpreter": (method(run("code.InteractiveInterpreter"), "runsource", LINE), SHELL),
    "timeit": (run("timeit.timeit", LINE, "pass", _named("time.time"), 1), SHELL),
    "profile": (run("cProfile.run", LINE), SHELL),
    "debugger": (method(run("bdb.Bdb"), "run", LINE), SHELL),
    "doctest": (run("doctest.run_docstring_examples", f">>> {EXPRESSION}\n0\n", {}), SHELL),
    "run_code": (run("runpy._run_code", run("builtins.compile", LINE, "a", "exec"), {}), SHELL),
    "run_path": (
        in_turn(
            method(run("pathlib.Path", "helper.py"), "write_text", LINE), run("runpy.run_path", "helper.py")
        ),
        SHELL,
    ),
    "module_written": (
        in_turn(
            method(run("pathlib.Path", "written_module.py"), "write_text", LINE),
            method(_named("sys.path"), "append", "."),
            run("builtins.__import__", "written_module"),
        ),
        SHELL,
    ),
    "source_loader": (
        in_turn(
            method(run("builtins.open", "part.py", "w", 1), "write", LINE + "\n"),
            method(run("importlib.machinery.SourceFileLoader", "part", "part.py"), "load_module"),
        ),
        SHELL,
    ),
    "marshalled": (
        call(
            run("types.FunctionType", run("marshal.loads", marshal.dumps(compile(LINE, "a", "exec"))), {}),
        ),
        SHELL,
    ),
}

_INDIRECT = {
    "partial": (call(run("functools.partial", SYSTEM, HELPER)), SHELL),
    "reduce": (run("functools.reduce", _named("operator.call"), [SYSTEM, HELPER]), SHELL),
    "map": (run("builtins.list", run("builtins.map", SYSTEM, [HELPER])), SHELL),
    "sum": (run("builtins.sum", run("builtins.map", SYSTEM, [HELPER])), SHELL),
    "filter": (run("builtins.tuple", run("builtins.filter", SYSTEM, [HELPER])), SHELL),
    "methodcaller": (call(run("operator.methodcaller", "system", HELPER), _MODULE), SHELL),
    "attrgetter": (call(call(run("operator.attrgetter", "system"), _MODULE), HELPER), SHELL),
    "starmap": (run("collections.deque", run("itertools.starmap", SYSTEM, [(HELPER,)])), SHELL),
    "at_exit": (run("atexit.register", SYSTEM, HELPER), SHELL),
    "thread": (method(run("threading.Timer", 0, SYSTEM, [HELPER]), "start"), SHELL),
    "finalizer": (run("weakref.finalize", _MODULE, SYSTEM, HELPER), SHELL),
    "default": (
        method(run("collections.defaultdict", run("functools.partial", SYSTEM, HELPER)), "__missing__", 1),
        SHELL,
    ),
}

_PACKAGES = {
    "numpy_fortran": (run("numpy.f2py.crackfortran.myeval", EXPRESSION), SHELL),
    "numpy_testing": (run("numpy.testing._private.utils.runstring", LINE, {}), SHELL),
    "numpy_vectorized": (call(run("numpy.vectorize", SYSTEM), [HELPER]), SHELL),
    "numpy_source": (method(run("numpy.lib.npyio.DataSource"), "open", ADDRESS + "a.npy"), CONNECTED),
    "pandas_apply": (method(run("pandas.Series", [HELPER]), "apply", SYSTEM), SHELL),
    "pandas_eval": (run("pandas.eval", "f(x)", "python", "python", {"f": SYSTEM, "x": HELPER}), SHELL),
    "pandas_read": (run("pandas.read_csv", ADDRESS), CONNECTED),
    "sklearn_function": (
        method(run("sklearn.preprocessing.FunctionTransformer", SYSTEM), "transform", HELPER),
        SHELL,
    ),
    "joblib_load": (
        in_turn(
            method(run("pathlib.Path", "part"), "write_bytes", finished(run("os.system", HELPER))),
            run("joblib.load", "part"),
        ),
        SHELL,
    ),
    "joblib_parallel": (call(run("joblib.Parallel", 1), [(SYSTEM, (HELPER,), {})]), SHELL),
}


def _file(name: str) -> Code:
    """A file is made."""
    return method(run("pathlib.Path", name), "write_text", "made")


_FILES = {
    "write": (method(run("builtins.open", "made.txt", "w", 1), "write", "made\n"), written("made.txt")),
    "write_path": (_file("made.bin"), written("made.bin")),
    "remove": (in_turn(_file("a.txt"), run("os.remove", "a.txt")), r'^unlink\("a.txt"\)'),
    "rename": (in_turn(_file("a.txt"), run("os.rename", "a.txt", "b.txt")), r'^rename\("a.txt"'),
    "chmod": (in_turn(_file("a.txt"), run("os.chmod", "a.txt", 0o700)), r'^chmod\("a.txt"'),
    "remove_tree": (
        in_turn(run("os.makedirs", "tree/part"), run("shutil.rmtree", "tree")),
        r'^(rmdir\("tree"|unlinkat\(.*"tree", AT_REMOVEDIR)',
    ),
    "link": (run("os.symlink", "/etc/hostname", "link"), r'^symlink\("/etc/hostname"'),
    "copy": (run("shutil.copyfile", "/etc/hostname", "copied"), written("copied")),
    "truncate": (in_turn(_file("a.txt"), run("os.truncate", "a.txt", 1)), r'^truncate\("a.txt"'),
    "log_file": (run("logging.FileHandler", "made.log"), written("made.log")),
    "database": (
        method(run("sqlite3.connect", "made.db"), "execute", "create table a (b)"),
        written("made.db"),
    ),
    "unpacked": (
        in_turn(
            run("shutil.make_archive", "packed", "tar", "/usr/share/zoneinfo/Arctic"),
            run("shutil.unpack_archive", "packed.tar", "unpacked"),
        ),
        written("packed.tar"),
    ),
    "environment": (
        method(
            run("pathlib.Path", "environment.txt"),
            "write_text",
            run("builtins.repr", _named("os.environ")),
        ),
        written("environment.txt"),
    ),
    "secret": (method(run("builtins.open", "/etc/passwd"), "read"), SECRET),
    "secret_lines": (run("linecache.getlines", "/etc/passwd"), SECRET),
    "environment_read": (method(run("pathlib.Path", "/proc/self/environ"), "read_bytes"), SECRET),
}

_CONNECTIONS = {
    "socket": (run("socket.create_connection", (HOST, PORT)), CONNECTED),
    "urlopen": (run("urllib.request.urlopen", ADDRESS), CONNECTED),
    "retrieve": (run("urllib.request.urlretrieve", ADDRESS, "got"), CONNECTED),
    "http": (method(run("http.client.HTTPConnection", HOST, PORT), "request", "GET", "/"), CONNECTED),
    "mail": (run("smtplib.SMTP", HOST, PORT), CONNECTED),
    "ftp": (method(run("ftplib.FTP"), "connect", HOST, PORT), CONNECTED),
    "remote_call": (method(run("xmlrpc.client.ServerProxy", ADDRESS), "name"), CONNECTED),
    "stream": (run("asyncio.run", run("asyncio.open_connection", HOST, PORT)), CONNECTED),
    "signal": (run("os.kill", run("os.getpid"), 0), r"^kill\(\d+, 0\)"),
}

_TABLES = {
    "command": _COMMANDS,
    "evaluated": _EVALUATED,
    "indirect": _INDIRECT,
    "package": _PACKAGES,
    "file": _FILES,
    "connection": _CONNECTIONS,
}
FORMS = tuple(
    Form(name, kind, code, seen) for kind, table in _TABLES.items() for name, (code, seen) in table.items()
)
