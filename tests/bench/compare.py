"""What redis-compare and memcached-compare share: servers that take turns under load."""

import csv
import os
import statistics
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "integration"))
sys.dont_write_bytecode = True
from harness import BUILD, Group, free_ports, port_is_free, wait_for  # noqa: E402,F401

# Soon used all around, as in the long run: the first time a page of it costs its writer a fault.
RING_SIZE = "64M"
RING_BYTES = 64 << 20
FIELDS = ["shape", "server", "ops_per_second", "p50_us", "p99_us", "cpu_us", "cpu_us_by_process"]


def load(program, port, **options):
    """One run of a loader: (operations/s, p50 us, p99 us)."""
    arguments = []
    for name, value in options.items():
        arguments += [f"--{name}"] if value is True else [f"--{name}", str(value)]
    result = subprocess.run([os.path.join(BUILD, "tests", "bench", program), "--port", str(port),
                             *arguments], capture_output=True, text=True, timeout=600)
    if result.returncode != 0:
        raise SystemExit(f"{program} at port {port}: {result.stderr.strip()}")
    return tuple(float(word) for word in result.stdout.split())


def cpu_us(pid):
    """CPU time of a process's threads, exactly, rather than in ticks of the clock."""
    total = 0
    for tid in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{tid}/schedstat") as file:
            total += int(file.read().split()[0])
    return total / 1e3


class Server:
    """What is measured: a port, the processes behind it, and what its loader is told besides."""

    def __init__(self, port, processes, **options):
        self.port = port
        self.processes = processes
        self.options = options

    def run(self, program, requests, **options):
        """((operations/s, p50 us, p99 us), {process: CPU us of a request})."""
        before = {name: cpu_us(pid) for name, pid in self.processes.items()}
        figures = load(program, self.port, requests=requests, **self.options, **options)
        return figures, {name: (cpu_us(pid) - before[name]) / requests
                         for name, pid in self.processes.items()}

    def fill(self, program, **options):
        load(program, self.port, fill=True, **options)


class LeaderServer:
    """A group, wherever it leads; a run in which that changed is repeated."""

    def __init__(self, group, port, backend):
        self.group, self.port_of, self.backend = group, port, backend

    def server(self, leader):
        processes = {"leader's muproxy": self.group.read_pid(leader),
                     f"leader's {self.backend}": self.group.read_pid(leader, f"{self.backend}.pid")}
        for i in self.group.ids:
            if i != leader:
                processes[f"follower {i}'s muproxy"] = self.group.read_pid(i)
                processes[f"follower {i}'s {self.backend}"] = self.group.read_pid(
                    i, f"{self.backend}.pid")
        return Server(self.port_of(leader), processes)

    def run(self, program, requests, **options):
        for _ in range(5):
            leader = self.group.wait_leader()
            result = self.server(leader).run(program, requests, **options)
            if self.group.leader() == leader:
                return result
        raise SystemExit("the leader changes all the time: the machine is too busy")

    def fill(self, program, **options):
        load(program, self.port_of(self.group.wait_leader()), fill=True, **options)
        self.group.wait_level()


class Twemproxy:
    """nutcracker in front of one server."""

    def __init__(self, directory, server_port, redis=False):
        self.port = free_ports(2)
        conf = os.path.join(directory, "nutcracker.yml")
        with open(conf, "w") as file:
            file.write(f"cache:\n  listen: 127.0.0.1:{self.port}\n"
                       f"  redis: {str(redis).lower()}\n  servers:\n"
                       f"   - 127.0.0.1:{server_port}:1\n")
        self.process = subprocess.Popen(
            ["nutcracker", "-c", conf, "-s", str(self.port + 1), "-a", "127.0.0.1"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for(lambda: not port_is_free(self.port), "nutcracker")

    def close(self):
        self.process.terminate()
        self.process.wait()


def fill(servers, program, **options):
    """The same keys at all. twemproxy's server is the plain one."""
    for name, server in servers.items():
        if name != "twemproxy":
            server.fill(program, **options)


def measure(shape, servers, pairs, program, requests, **options):
    """The servers' runs, which take turns: rows of the table, medians."""
    samples = {name: [] for name in servers}
    for _ in range(pairs):
        for name, server in servers.items():
            samples[name].append(server.run(program, requests, **options))
    rows = []
    for name, runs in samples.items():
        ops, p50, p99 = [statistics.median(column) for column in zip(*(run[0] for run in runs))]
        cpu = [statistics.median(column) for column in zip(*(run[1].values() for run in runs))]
        # Whoever leads comes first, though that may change between runs.
        by_process = dict(zip(runs[0][1], cpu))
        rows.append(dict(zip(FIELDS, (shape, name, round(ops), p50, p99, round(sum(cpu), 2),
                                      "; ".join(f"{who} {us:.2f}"
                                                for who, us in by_process.items())))))
    return rows


def leaders_cpu_us(row):
    """What a request costs the leader's machine; None: nobody leads there."""
    parts = (part.rsplit(" ", 1) for part in row["cpu_us_by_process"].split("; "))
    return sum(float(us) for who, us in parts if who.startswith("leader's ")) or None


def show(rows):
    print(f"\n{rows[0]['shape']}\n  {'':24} {'ops/s':>10} {'p50 us':>8} {'p99 us':>8} "
          f"{'CPU us':>7}")
    plain = rows[0]["ops_per_second"]
    for row in rows:
        print(f"  {row['server']:24} {row['ops_per_second']:10.0f} {row['p50_us']:8.0f} "
              f"{row['p99_us']:8.0f} {row['cpu_us']:7.2f}   "
              f"({row['ops_per_second'] / plain * 100:.0f} % of plain)")
    for row in rows:
        own_us = leaders_cpu_us(row)
        print(f"    CPU us a request, {row['server']}: {row['cpu_us_by_process']}"
              + (f" (leader's: {own_us / rows[0]['cpu_us']:.2f} x plain)" if own_us else ""),
              flush=True)


def draw(rows, path):
    try:
        import matplotlib
    except ImportError:
        print("no picture: python3-matplotlib is not installed (scripts/install-deps --bench)")
        return
    matplotlib.use("Agg")
    from matplotlib import pyplot
    servers = list(dict.fromkeys(row["server"] for row in rows))
    shapes = list(dict.fromkeys(row["shape"] for row in rows))
    figure, axes = pyplot.subplots(figsize=(10, 2 + 0.4 * len(shapes)))
    width = 0.8 / len(servers)
    for n, server in enumerate(servers):
        values = {row["shape"]: row["ops_per_second"] for row in rows if row["server"] == server}
        places = [y + n * width for y, shape in enumerate(shapes) if shape in values]
        axes.barh(places, [values[shape] for shape in shapes if shape in values], width * 0.9,
                  label=server)
    axes.set_yticks([y + 0.4 - width / 2 for y in range(len(shapes))], shapes)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlabel("operations per second")
    axes.legend()
    figure.tight_layout()
    figure.savefig(path)


def write(rows, directory, name):
    """NAME.csv, and NAME.png if it can be drawn."""
    with open(os.path.join(directory, f"{name}.csv"), "w", newline="") as file:
        writer = csv.DictWriter(file, FIELDS)
        writer.writeheader()
        writer.writerows(rows)
    draw(rows, os.path.join(directory, f"{name}.png"))


def add_options(parser, requests, name):
    parser.add_argument("--requests", type=int, default=requests, help="of each run")
    parser.add_argument("--pairs", type=int, default=3, help="runs of each kind, taking turns")
    parser.add_argument("--only", default="", metavar="TEXT",
                        help="only shapes with this in their names")
    parser.add_argument("--out", default=".", help=f"directory of {name}.csv and {name}.png")


def parse(parser, shapes):
    """The options, and the shapes chosen."""
    options = parser.parse_args()
    chosen = [shape for shape in shapes if options.only.lower() in shape[0].lower()]
    if options.requests < 1000 or options.pairs < 1 or not os.path.isdir(options.out):
        parser.error("at least 1000 requests, one pair, and a directory for what comes of it")
    if not chosen:
        parser.error(f"no shape has '{options.only}' in its name")
    return options, chosen
