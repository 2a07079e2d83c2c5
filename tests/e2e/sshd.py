"""A real sshd with throw-away keys, and a link to it that is slow and breaks."""

import os
import platform
import shutil
import socket
import subprocess
import threading
import time
from pathlib import Path

PACKAGES = ["openssh-server", "openssh-client", "libwrap0"]

# Root's sshd asks for a user and a folder of its own; both are made where only this process sees them.
AS_ROOT = """set -e
mount -t tmpfs tmpfs /run
mkdir -m 755 /run/sshd
cp /etc/passwd "$FOLDER/passwd"
grep -q ^sshd: "$FOLDER/passwd" || echo sshd:x:65533:65534::/run/sshd:/usr/sbin/nologin >> "$FOLDER/passwd"
mount --bind "$FOLDER/passwd" /etc/passwd
exec "$@"
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Sshd:
    """Runs while the `with` block does. The system's own sshd serves, else that of Debian's package, unpacked.

    On loopback, or at another address where `inside` begins the commands that run there.
    """

    def __init__(self, folder, address="127.0.0.1", inside=()):
        self.folder, self.address, self.inside = folder, address, inside
        self.port = free_port()
        self.environment = dict(os.environ)

    def tool(self, name):
        found = shutil.which(name) or shutil.which(name, path=f"{self.folder}/root/usr/sbin:{self.folder}/root/usr/bin")
        return found or shutil.which(name, path="/usr/sbin:/sbin")

    def unpack(self):
        subprocess.run(["apt-get", "download", *PACKAGES], cwd=self.folder, check=True, capture_output=True)
        for package in self.folder.glob("*.deb"):
            subprocess.run(["dpkg-deb", "-x", package, self.folder / "root"], check=True)
        triplet = f"{platform.machine()}-linux-gnu"
        folders = [f"{self.folder}/root/{place}/{triplet}" for place in ["lib", "usr/lib"]]
        self.environment["LD_LIBRARY_PATH"] = ":".join([*folders, os.environ.get("LD_LIBRARY_PATH", "")])

    def __enter__(self):
        self.folder.mkdir()
        if not all(self.tool(name) for name in ["sshd", "ssh", "ssh-keygen"]):
            self.unpack()
        for key in ["host_key", "key"]:
            command = [self.tool("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-f", self.folder / key]
            subprocess.run(command, check=True, env=self.environment)
        settings = {
            "ListenAddress": self.address, "HostKey": self.folder / "host_key", "PidFile": "none", "UsePAM": "no",
            "AuthorizedKeysFile": self.folder / "key.pub", "StrictModes": "no", "PasswordAuthentication": "no",
        }
        options = [word for name, value in settings.items() for word in ["-o", f"{name}={value}"]]
        command = [self.tool("sshd"), "-D", "-e", "-f", "/dev/null", "-p", str(self.port), *options]
        if os.geteuid() == 0:
            command = ["unshare", "--mount", "sh", "-c", AS_ROOT, "sh", *command]
        command = [*self.inside, *command]
        self.log = open(self.folder / "log", "w")
        environment = self.environment | {"FOLDER": str(self.folder)}
        self.process = subprocess.Popen(command, env=environment, stderr=self.log, stdin=subprocess.DEVNULL)
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex((self.address, self.port)) == 0:
                    return self
            time.sleep(0.1)
        self.__exit__()
        raise RuntimeError(f"sshd does not listen: {(self.folder / 'log').read_text()}")

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()
        self.log.close()

    def transport(self, program, port):
        """What a platform file says to reach it."""
        user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
        known = {"StrictHostKeyChecking": "no", "UserKnownHostsFile": "/dev/null", "LogLevel": "ERROR"}
        options = ["-F", "/dev/null", "-i", str(self.folder / "key"), "-p", str(port)]
        options += [word for name, value in known.items() for word in ["-o", f"{name}={value}"]]
        return {"ssh": {"host": f"{user}@{self.address}", "options": options, "program": str(program), "timeout-s": 60}}


class Relay:
    """A port that leads to another one: each block arrives late, and one connection is cut after so many bytes."""

    def __init__(self, target, delay_s, cut_after):
        self.target, self.delay_s, self.cut_after = target, delay_s, cut_after
        self.connections = self.cuts = 0

    def __enter__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.listener.close()

    def accept(self):
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            far = socket.create_connection(("127.0.0.1", self.target))
            for source, sink, limit in [(near, far, None), (far, near, self.cut_after)]:
                threading.Thread(target=self.pump, args=(source, sink, limit), daemon=True).start()

    def pump(self, source, sink, limit):
        passed = 0
        try:
            while block := source.recv(16384):
                time.sleep(self.delay_s)
                passed += len(block)
                if limit and passed > limit and not self.cuts:
                    self.cuts += 1
                    break
                sink.sendall(block)
        except OSError:
            pass
        for end in [source, sink]:
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
