# SPDX-License-Identifier: Apache-2.0
"""Container engines of the tests' own, and images for them.

An engine is started as a service with storage of its own, in a folder that goes with it; nothing of
it is left behind. Images are made of one static program (busybox, or a small server compiled here),
so that no registry is asked."""
import contextlib
import fcntl
import gzip
import hashlib
import http.client
import io
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tarfile
import tempfile

from deadline import DEADLINE, TooLate, children, until, wait_exit

CGROUPS = pathlib.Path("/sys/fs/cgroup")
BUSYBOX = pathlib.Path("/bin/busybox")
# A server that answers each request with a line, on $PORT; what it does else is its argument.
SERVER = r"""
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static void leave(int number) { (void)number; puts("ends"); fflush(stdout); _exit(0); }

/* What can be reached from here: a line for each address, and for DNS. */
static int ways(void)
{
    static const char *const addresses[] = {
        "169.254.169.254", "10.88.0.1", "172.17.0.1", "127.0.0.53", "192.0.2.1",
        "10.0.2.2", "2001:db8::1", "fd00::1", 0};
    for (int i = 0; addresses[i]; i++)
        for (int type = SOCK_STREAM; type <= SOCK_DGRAM; type++) {
            struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons(53)};
            struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = htons(53)};
            int is6 = inet_pton(AF_INET6, addresses[i], &six.sin6_addr) == 1;
            int fd = socket(is6 ? AF_INET6 : AF_INET, type, 0), r;
            inet_pton(AF_INET, addresses[i], &four.sin_addr);
            struct timeval wait = {1};
            char text[64] = "question";
            setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
            r = is6 ? connect(fd, (void *)&six, sizeof six)
                    : connect(fd, (void *)&four, sizeof four);
            if (r == 0) r = send(fd, text, 8, 0);
            if (r >= 0) r = recv(fd, text, sizeof text, 0);
            printf("%s %s\n", addresses[i], r > 0 ? "REACHED" : strerror(errno));
            close(fd);
        }
    puts("over");
    return 0;
}

/* Requests on one connection, whole, until none has come for 5 s. */
static void keep(int fd)
{
    static char text[1 << 16];
    for (size_t at = 0;;) {
        struct pollfd wait = {fd, POLLIN, 0};
        ssize_t got = poll(&wait, 1, 5000) == 1 ? read(fd, text + at, sizeof text - 1 - at) : 0;
        if (got <= 0) return;
        text[at += got] = 0;
        char *end = strstr(text, "\r\n\r\n"), *length = strcasestr(text, "\r\nContent-Length:");
        size_t body = length && length < end ? strtoul(length + 17, 0, 10) : 0;
        if (!end || at < end + 4 - text + body) continue;
        static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello\n";
        if (write(fd, answer, sizeof answer - 1) < 0) return;
        at = 0;
    }
}

/* GET /ill: the next 8 looks at /health are answered 503. GET /hold: answered after them. */
static int ill;
static const char *moody(const char *text, int fd)
{
    static int held = -1;
    if (!strncmp(text, "GET /ill ", 9)) ill = 8;
    if (!strncmp(text, "GET /hold ", 10)) return held = fd, NULL;
    if (strncmp(text, "GET /health ", 12) || !ill) return "200 OK";
    if (--ill == 0 && held >= 0) {
        dprintf(held, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nheld\n");
        close(held);
        held = -1;
    }
    return "503 Ill";
}

/* Uses CPU time: 20 ms a request, and half of the time between them, until GET /quiet. */
static int quiet;
static void burn(long ms)
{
    for (clock_t end = clock() + ms * (CLOCKS_PER_SEC / 1000); clock() < end;) {}
}
static void burn_until(int listener)
{
    struct pollfd wait = {listener, POLLIN, 0};
    while (!quiet && poll(&wait, 1, 10) == 0) burn(10);
}

/* GET /put: one more byte in /cache/f. GET /fill: how many MiB find room in /cache/all. Else: how
 * many bytes /cache/f has. */
static int cache(const char *text)
{
    static char mib[1 << 20];
    int put = !strncmp(text, "GET /put ", 9), fill = !strncmp(text, "GET /fill ", 10), count = 0;
    int flags = O_RDWR | O_CREAT | (fill ? O_TRUNC : O_APPEND);
    int fd = open(fill ? "/cache/all" : "/cache/f", flags, 0644);
    if (fd < 0) return perror("/cache"), 99999;
    if (put && write(fd, "x", 1) != 1) perror("write");
    while (fill && write(fd, mib, sizeof mib) == sizeof mib) count++;
    if (!fill) count = lseek(fd, 0, SEEK_END);
    close(fd);
    return count;
}

/* GET /NAME: what the environment has of it. */
static void variable(char *text, int fd)
{
    strtok(text + 5, " ");
    const char *value = getenv(text + 5) ? getenv(text + 5) : "";
    dprintf(fd, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n",
            strlen(value));
    for (ssize_t more; *value && (more = write(fd, value, strlen(value))) > 0;) value += more;
}

int main(int count, char **words)
{
    const char *how = count > 1 ? words[1] : "", *port = getenv("PORT");
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port ? atoi(port) : 8080)};
    int on = 1, listener = socket(AF_INET, SOCK_STREAM, 0);
    if (!strcmp(how, "exit")) { fputs("no weights\n", stderr); return 3; }
    if (!strcmp(how, "fine")) return 0;
    if (!strcmp(how, "crash")) abort();
    if (!strcmp(how, "ways")) return ways();
    if (!strcmp(how, "deaf")) for (;;) pause();
    if (!strcmp(how, "chatty"))
        for (;;) puts("a line of some bytes, and then the same line again and again");
    if (!strcmp(how, "eat"))
        for (char *page; (page = malloc(1 << 20));) memset(page, 1, 1 << 20);
    if (!strcmp(how, "late")) ill = 200, how = "moody";
    if (!strcmp(how, "elsewhere")) at.sin_port = htons(ntohs(at.sin_port) + 1);
    signal(SIGTERM, strcmp(how, "stubborn") ? leave : SIG_IGN);
    if (!strcmp(how, "keeps")) signal(SIGCHLD, SIG_IGN);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (void *)&at, sizeof at) || listen(listener, 64)) return perror("listen"), 1;
    puts("listens"); fflush(stdout);
    for (;;) {
        char text[4096] = "", answer[256];
        if (!strcmp(how, "burn")) burn_until(listener);
        int fd = accept(listener, 0, 0);
        if (!strcmp(how, "keeps") && fd >= 0 && fork() == 0) keep(fd), _exit(0);
        if (!strcmp(how, "keeps")) { close(fd); continue; }
        if (!strcmp(how, "env") && read(fd, text, sizeof text) > 5) {
            variable(text, fd);
            close(fd);
            continue;
        }
        if (read(fd, text, sizeof text) > 0) {
            const char *status = "200 OK";
            char body[16] = "hello\n";
            if (!strncmp(text, "GET /quiet ", 11)) quiet = 1;
            if (!strcmp(how, "burn")) burn(20);
            if (!strcmp(how, "cache")) snprintf(body, sizeof body, "%05d\n", cache(text));
            if (!strcmp(how, "loud")) puts("asked"), fflush(stdout);
            if (!strcmp(how, "tells")) puts(text), fflush(stdout); /* all of it */
            if (!strcmp(how, "moody") && !(status = moody(text, fd))) continue;
            int size = snprintf(answer, sizeof answer, "HTTP/1.1 %s\r\nContent-Length: 6\r\n"
                                "Connection: close\r\n\r\n%s", status, body);
            if (write(fd, answer, size) < 0) perror("write");
        }
        close(fd);
    }
}
"""


# ---- images -----------------------------------------------------------------------------------

def sha256(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def archive(files):
    """A tar of (name, bytes or link, mode) rows; a link is a symbolic one, or ("hard", to what)."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, what, mode in files:
            row = tarfile.TarInfo(name)
            row.mode = mode
            if isinstance(what, bytes):
                row.size = len(what)
                tar.addfile(row, io.BytesIO(what))
            elif what is None:
                row.type = tarfile.DIRTYPE
                tar.addfile(row)
            elif isinstance(what, tuple):
                row.type, row.linkname = tarfile.LNKTYPE, what[1]
                tar.addfile(row)
            else:
                row.type, row.linkname = tarfile.SYMTYPE, what
                tar.addfile(row)
    return out.getvalue()


class Image:
    """One layer and a configuration: as blobs, and as what engines load."""

    def __init__(self, files, config, architecture=None):
        layer = archive(files)
        self.layer = gzip.compress(layer, 6, mtime=0)
        machine = {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]
        self.config = json.dumps({
            "architecture": architecture or machine, "os": "linux", "config": config,
            "rootfs": {"type": "layers", "diff_ids": [sha256(layer)]},
            "history": [{"created": "2020-01-01T00:00:00Z"}]}).encode()
        self.digest = sha256(self.config)
        self.manifest = json.dumps({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json",
                       "digest": self.digest, "size": len(self.config)},
            "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
                        "digest": sha256(self.layer), "size": len(self.layer)}]}).encode()

    def blobs(self):
        return {sha256(data): data for data in (self.config, self.layer)}

    def docker_archive(self, layer=None):
        """As we put it together: gzip layers by their digest. `layer`: that instead of its own."""
        def path(digest):
            return "blobs/sha256/" + digest.split(":")[1]
        rows = [(path(self.digest), self.config, 0o644),
                (path(sha256(self.layer)), layer or self.layer, 0o644)]
        listed = [{"Config": path(self.digest), "RepoTags": None,
                   "Layers": [path(sha256(self.layer))]}]
        return archive(rows + [("manifest.json", json.dumps(listed).encode(), 0o644)])


def compile_server(folder):
    """The server as a static program, or a reason why there is none."""
    source = folder / "server.c"
    source.write_text(SERVER)
    return compile_static(folder, source)


def compile_static(folder, source, *libraries):
    program = folder / source.stem
    done = subprocess.run(["gcc", "-static", "-Os", "-w", "-D_GNU_SOURCE", "-o", program, source,
                           *libraries], stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return program.read_bytes()


def compile_known(folder, name, *libraries):
    """One of programs/."""
    source = pathlib.Path(__file__).parent / "programs" / f"{name}.c"
    return compile_static(folder, source, *libraries)


def server_image(program, *command, **config):
    rows = [("server", program, 0o755), ("tmp", None, 0o1777)]
    return Image(rows, {"Entrypoint": ["/server", *command], "ExposedPorts": {"8080/tcp": {}},
                        **config})


def busybox_image(*command):
    rows = [("bin", None, 0o755), ("bin/busybox", BUSYBOX.read_bytes(), 0o755),
            ("bin/sh", "busybox", 0o777), ("tmp", None, 0o1777)]
    return Image(rows, {"Entrypoint": list(command), "Env": ["PATH=/bin"]})


# ---- engines ----------------------------------------------------------------------------------

class Missing(Exception):
    """This machine cannot run that engine; says why."""


class _Socket(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("engine", timeout=DEADLINE)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(DEADLINE)
        self.sock.connect(str(self.path))


class Engine:
    """One engine's service. start() and stop() may be called in turn."""

    name = ""

    def __init__(self, folder):
        self.folder = folder
        self.socket = folder / "engine.sock"
        self.log = folder / "engine.log"
        self.process = None
        self.groups = None

    def command(self):
        raise NotImplementedError

    def start(self):
        self.socket.unlink(missing_ok=True)
        if self.groups is None:
            self.groups = os.open(CGROUPS, os.O_RDONLY)
            fcntl.flock(self.groups, fcntl.LOCK_SH)
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(  # conmon leaves a file `oom` where it is started
                self.command(), env={**os.environ, **self.environment()}, cwd=self.folder,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)

        def answers():
            assert self.process.poll() is None, self.log.read_text()[-2000:]
            with contextlib.suppress(OSError, http.client.HTTPException):
                return self.ask("GET", "/_ping")[0] == 200
            return False
        until("the engine's first answer", answers)
        return self

    def environment(self):
        return {}

    def connection(self):
        return _Socket(self.socket)

    def ask(self, method, path, body=None):
        connection = self.connection()
        try:
            headers = {"Content-Type": "application/json"} if body else {}
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def containers(self):
        status, body = self.ask("GET", "/v1.41/containers/json?all=1")
        assert status == 200, body
        return json.loads(body)

    def process_of(self, container):
        """Its first process, as this machine numbers it; 0: it has none, or is gone."""
        status, body = self.ask("GET", f"/v1.41/containers/{container}/json")
        assert status in (200, 404), body
        return json.loads(body)["State"]["Pid"] if status == 200 else 0

    def volumes(self):
        status, body = self.ask("GET", "/v1.41/volumes")
        assert status == 200, body
        return [row["Name"] for row in json.loads(body)["Volumes"] or []]

    def kill(self):
        """The service is gone, what it started is not."""
        self.process.kill()
        self.process.wait()
        self.process = None

    def stop(self):
        if self.process is None:
            return
        self.process.send_signal(signal.SIGTERM)
        wait_exit(self.process.pid, "the engine's end")
        self.process.wait()
        self.process = None

    def end(self):
        """Removes what there is, stops it, and leaves nothing."""
        if self.process is None:
            self.start()
        for container in self.containers():
            self.ask("DELETE", f"/v1.41/containers/{container['Id']}?force=1")
        # They end by themselves, while the engine is there; one that it forgot, as Docker does
        # where a client went away in the midst of a start, does not.
        mine = [pid for pid in children(os.getpid())
                if pid != self.process.pid and self._is_mine(pid)]
        with contextlib.suppress(TooLate):
            for pid in mine:
                wait_exit(pid, "the end of what the engine started")
        self.stop()
        self._end_those(mine)
        unmount(self.folder)
        shutil.rmtree(self.folder)
        self._end_groups()

    @staticmethod
    def _end_those(pids):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)

    def _end_groups(self):
        """All engines share them: the last one of all removes those that are empty."""
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(self.groups, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for name in ("libpod_parent/conmon", "libpod_parent", "docker"):
                for group in [*CGROUPS.glob(f"*/{name}"), CGROUPS / name]:
                    with contextlib.suppress(OSError):
                        group.rmdir()
        os.close(self.groups)
        self.groups = None

    def _is_mine(self, pid):
        """What it started and left to us, who are a subreaper: conmon says its folder."""
        with contextlib.suppress(OSError):
            return str(self.folder).encode() in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
        return False


def unmount(folder):
    rows = pathlib.Path("/proc/self/mounts").read_text().splitlines()
    points = [row.split()[1] for row in rows]
    for point in sorted((p for p in points if p.startswith(f"{folder}/")), reverse=True):
        subprocess.run(["umount", "-l", point], check=False)


class Podman(Engine):
    """Podman's service. Its locks are a file: by default they are shared memory, which stays. What
    watches a command inside ends soon after it: by default five minutes later."""

    name = "Podman"

    def __init__(self, folder):
        super().__init__(folder)
        runtime = next((name for name in ("runc", "crun") if shutil.which(name)), None)
        if not shutil.which("podman") or not runtime:
            raise Missing("podman and runc are not installed")
        self.config = folder / "containers.conf"
        self.config.write_text(f"""
[engine]
runtime = "{runtime}"
cgroup_manager = "cgroupfs"
events_logger = "file"
exit_command_delay = 1
lock_type = "file"
tmp_dir = "{folder}/tmp"
static_dir = "{folder}/static"
[network]
network_config_dir = "{folder}/networks"
""")

    def environment(self):
        return {"CONTAINERS_CONF": str(self.config), "XDG_RUNTIME_DIR": str(self.folder)}

    def command(self):
        return ["podman", "--root", self.folder / "root", "--runroot", self.folder / "run",
                "--tmpdir", self.folder / "tmp", "system", "service", "--time", "0",
                f"unix://{self.socket}"]


class Docker(Engine):
    """dockerd without any network of its own: most of what is tried needs none."""

    name = "Docker"
    network = ("--bridge=none",)

    def __init__(self, folder):
        super().__init__(folder)
        if not shutil.which("dockerd"):
            raise Missing("docker.io is not installed")
        if os.geteuid() != 0:
            raise Missing("dockerd runs as root alone")

    def command(self):
        return ["dockerd", "--data-root", self.folder / "root", "--exec-root", self.folder / "exec",
                "--pidfile", self.folder / "pid", "-H", f"unix://{self.socket}",
                *self.network, "--iptables=false", "--ip6tables=false", "--ip-forward=false",
                "--ip-masq=false", "--userland-proxy=false", "--group", "root",
                "--log-level", "warn"]


ENGINES = {"podman": Podman, "docker": Docker}


def new_engine(name, kinds=None):
    """Started; or Missing. `kinds`: others than ENGINES."""
    if os.geteuid() != 0:
        raise Missing("engines are tried as root alone")
    folder = pathlib.Path(tempfile.mkdtemp(prefix="pg-engine-", dir="/tmp"))
    try:
        return (kinds or ENGINES)[name](folder).start()
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
