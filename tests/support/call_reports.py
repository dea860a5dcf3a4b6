"""Writes reports as the sandboxes publish them: sections around the calls, arguments, several processes."""

import gzip
import json
from dataclasses import dataclass, field
from pathlib import Path

DOCUMENT = "invoice.pdf"
READER = "C:\\Program Files (x86)\\Adobe\\Reader 9.0\\Reader\\AcroRd32.exe"


@dataclass
class Run:
    """A process: calls are names, or pairs of a thread's number and a name."""

    pid: int
    path: str
    calls: list
    parent: int = 1000
    command_line: str = ""
    more: dict = field(default_factory=dict)

    @property
    def name(self):
        return self.path.rsplit("\\", 1)[-1]

    def pairs(self):
        return [(self.pid * 10, call) if isinstance(call, str) else call for call in self.calls]


def chain():
    """What a sandbox sees when a reader opens a document: the shell, the reader and what that starts."""
    return [
        Run(400, "C:\\Windows\\System32\\lsass.exe", ["NtClose"], 340),
        Run(
            2100,
            "C:\\Windows\\System32\\cmd.exe",
            ["NtOpenFile", "NtCreateUserProcess"],
            command_line=f'cmd.exe /c start "" "C:\\Users\\me\\{DOCUMENT}"',
        ),
        Run(
            2200,
            READER,
            ["NtCreateFile", "NtReadFile", "NtReadFile", "LdrLoadDll", "NtClose"],
            2100,
            f'"{READER}" "C:\\Users\\me\\{DOCUMENT}"',
        ),
        Run(2300, "C:\\Windows\\splwow64.exe", ["NtClose"] * 9, 2200, "splwow64.exe 8192"),
    ]


def names(calls):
    """The names of the calls that were read, one a call."""
    return [calls.names[number] for number in calls.call]


def streams(calls):
    """The names of each stream."""
    found = []
    for name, first in zip(names(calls), calls.first, strict=True):
        if first:
            found.append([])
        found[-1].append(name)
    return found


def cuckoo(runs, document=DOCUMENT, order=("info", "target", "behavior", "debug")):
    """A report.json of Cuckoo 2 as an object; sections in the order given, calls before what names them."""
    processes = [
        {
            "process_path": run.path,
            "calls": [
                {
                    "category": "file",
                    "status": 1,
                    "stacktrace": [],
                    "api": api,
                    "return_value": 18446744073709551615 if place == 1 else 0,
                    "arguments": {"file_handle": "0x000000c4", "api": "no call", "buffer": '{"api": [\\"]}'},
                    "time": 1484153611.25 + place,
                    "tid": tid,
                    "flags": {"desired_access": "GENERIC_READ", "tid": [7]},
                }
                for place, (tid, api) in enumerate(run.pairs())
            ],
            "track": True,
            "pid": run.pid,
            "process_name": run.name,
            "command_line": run.command_line,
            "modules": [{"basename": "ntdll.dll", "imgsize": 1581056, "baseaddr": "0x77b70000"}],
            "time": 1,
            "tid": run.pid * 10,
            "first_seen": 1484153611.25,
            "ppid": run.parent,
            "type": "process",
            **run.more,
        }
        for run in runs
    ]
    sections = {
        "info": {"added": 1484153600.5, "score": 3.2, "machine": {"name": "win7"}, "platform": "windows"},
        "target": {"category": "file", "file": {"yara": [], "sha1": "00" * 20, "name": document, "size": 9}},
        "behavior": {
            "generic": [{"process_name": "lsass.exe", "pid": 400, "summary": {"calls": [{"api": "none"}]}}],
            "apistats": {str(run.pid): {"NtClose": 3} for run in runs},
            "processes": processes,
            "processtree": [{"pid": 400, "children": [], "command_line": "x"}],
            "summary": {"file_opened": ["C:\\Users\\me\\invoice.pdf"]},
        },
        "debug": {"log": ["2017-01-11 \u2713"], "errors": [None, True, []]},
    }
    return {name: sections[name] for name in order}


def cape(runs, document=DOCUMENT, repeated=None):
    """A report.json of CAPEv2 as an object; ``repeated`` says how often calls of a name came again."""
    repeated = repeated or {}
    processes = [
        {
            "process_id": run.pid,
            "process_name": run.name,
            "parent_id": run.parent,
            "module_path": run.path,
            "first_seen": "2024-01-02 03:04:05,678",
            "calls": [
                {
                    "timestamp": "2024-01-02 03:04:05,678",
                    "thread_id": str(tid),
                    "caller": "0x00401000",
                    "parentcaller": "0x00402000",
                    "category": "filesystem",
                    "api": api,
                    "status": True,
                    "return": "0x00000000",
                    "arguments": [{"name": "api", "value": "no call", "pretty_value": "x"}],
                    "repeated": repeated.get(api, 0),
                    "id": place,
                }
                for place, (tid, api) in enumerate(run.pairs())
            ],
            "threads": ["1"],
            "environ": {"UserName": "me", "CommandLine": run.command_line, "Bitness": "32-bit"},
            "file_activities": {"read_files": [], "write_files": [], "delete_files": []},
            **run.more,
        }
        for run in runs
    ]
    return {
        "statistics": {"processing": [{"name": "BehaviorAnalysis", "time": 1.5}]},
        "info": {"version": "2.4-CAPE", "id": 1},
        "behavior": {"processes": processes, "anomaly": [], "processtree": [], "summary": {}, "enhanced": []},
        "target": {"category": "file", "file": {"name": document, "path": "/tmp/x", "size": 9}},
        "CAPE": {"payloads": [], "configs": []},
    }


def drakvuf(runs, plugin="syscall", started=True):
    """Lines of a log of DRAKVUF; calls of all processes take turns."""
    lines = [{"Plugin": "procmon", "TimeStamp": "1.0", "PID": 4, "PPID": 0, "RunningProcess": "System"}]
    if started:
        lines += [
            {
                **_common("procmon", run.parent, 4, 8, "C:\\Windows\\explorer.exe", "NtCreateUserProcess"),
                "Status": "0x0",
                "NewPid": run.pid,
                "CommandLine": run.command_line,
                "ImagePathName": run.path,
            }
            for run in runs
            if run.command_line
        ]
    waiting = [(run, run.pairs()) for run in runs]
    for turn in range(max(len(pairs) for _, pairs in waiting)):
        for run, pairs in waiting:
            if turn >= len(pairs):
                continue
            tid, api = pairs[turn]
            line = _common(plugin, run.pid, run.parent, tid, "\\Device\\HarddiskVolume2" + run.path[2:], api)
            if plugin == "syscall":
                line |= {"Module": "nt", "vCPU": 0, "CR3": "0x119b1002", "Syscall": 369, "NArgs": 1}
                line |= {"Handle": "0xffffffff80001ac0"}
                lines.append(line)
                lines.append({**line, "Plugin": "sysret", "Ret": "0x0", "Info": "STATUS_SUCCESS"})
            else:
                line |= {"Event": "api_called", "CLSID": None, "CalledFrom": "0x7906c5"}
                line |= {"ReturnValue": "0x1", "Arguments": ["Arg0=0x0", 'Arg1=0x26:"POST"']}
                lines.append(line)
                lines.append({"Plugin": "apimon", "Event": "dll_loaded", "DllName": "x.dll", "PID": run.pid})
    return "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines)


def _common(plugin, pid, parent, tid, path, method):
    return {
        "Plugin": plugin,
        "TimeStamp": "1716999134.581449",
        "PID": pid,
        "PPID": parent,
        "TID": tid,
        "UserName": "SessionID",
        "UserId": 2,
        "ProcessName": path,
        "Method": method,
        "EventUID": "0x1f",
    }


def write(file: Path, content, packed=False) -> Path:
    """Write an object as JSON, or text or bytes as they are."""
    if isinstance(content, dict):
        content = json.dumps(content)
    if isinstance(content, str):
        content = content.encode("utf-8", errors="surrogatepass")
    file.write_bytes(gzip.compress(content, 1) if packed else content)
    return file
