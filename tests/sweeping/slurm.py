"""A Slurm cluster of two nodes on this machine: a real one, started for a test and stopped after it.

It needs root and Debian's ``slurm-wlm`` and ``munge``.  Nothing listens on another address than 127.0.0.1.
"""

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

_PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol")
_NODES = (("n1", 6818), ("n2", 6819))
_READY_WITHIN = 60
_CONFIGURATION = """\
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CryptoType=crypto/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
MpiDefault=none
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
PartitionName=tests Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP
"""


def missing():
    """Why there can be no cluster here; None when there can."""
    absent = [program for program in _PROGRAMS if shutil.which(program) is None]
    if absent:
        return f"no {', '.join(absent)} here: apt-get install slurm-wlm munge"
    return None if os.geteuid() == 0 else "only root may start a Slurm cluster for a test"


def version():
    """The version of Slurm; asked inside a cluster."""
    return subprocess.run(["sbatch", "--version"], check=True, capture_output=True, text=True).stdout.strip()


@contextlib.contextmanager
def cluster():
    """Inside, ``sbatch`` and its like reach two idle nodes of one core each; yields the folder of the logs."""
    folder = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))  # short: it holds a socket
    folder.chmod(0o755)
    (folder / "state").mkdir()
    (folder / "munge.key").write_bytes(os.urandom(1024))
    (folder / "munge.key").chmod(0o400)
    host = socket.gethostname()
    lines = [f"NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=1" for name, port in _NODES]
    nodes = "".join(f"{line} RealMemory=4000\n" for line in lines)
    (folder / "slurm.conf").write_text(_CONFIGURATION.format(host=host, folder=folder) + nodes)
    os.environ["SLURM_CONF"] = str(folder / "slurm.conf")
    names = ("munge.socket", "munge.log", "munge.pid", "munge.seed")
    options = [f"--{kind}={folder / name}" for kind, name in zip(_MUNGE_OPTIONS, names, strict=True)]
    commands = [
        ["munged", "--foreground", "--force", f"--key-file={folder / 'munge.key'}", *options],
        ["slurmctld", "-D", "-i"],
        *(["slurmd", "-D", "-N", name] for name, _ in _NODES),
    ]
    started = []
    try:
        for command in commands:
            with (folder / f"{command[0]}.out").open("ab") as log:
                started.append(subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True))
            time.sleep(1)
        _wait_for_nodes(started)
        yield folder
    finally:
        subprocess.run(["scancel", "--me"], check=False, capture_output=True, timeout=60)
        for process in reversed(started):
            process.terminate()
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        del os.environ["SLURM_CONF"]
        shutil.rmtree(folder)


_MUNGE_OPTIONS = ("socket", "log-file", "pid-file", "seed-file")


def _wait_for_nodes(started):
    end = time.monotonic() + _READY_WITHIN
    while True:
        assert all(process.poll() is None for process in started), "a daemon of Slurm has ended"
        asked = subprocess.run(["sinfo", "-h", "-N", "-o", "%T"], check=False, capture_output=True, text=True)
        if asked.returncode == 0 and asked.stdout.split() == ["idle"] * len(_NODES):
            return
        assert time.monotonic() < end, f"the nodes are not ready: {asked.stdout}{asked.stderr}"
        time.sleep(0.5)
