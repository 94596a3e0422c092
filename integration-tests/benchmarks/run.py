#!/usr/bin/env python3
"""Measures Tidewire beside other stacks in one run and writes the page that shows it.

    cargo build --release --examples
    sudo integration-tests/benchmarks/run.py --suites DIR [--rounds 5] [--seconds 4]      # writes BENCHMARKS.md
    integration-tests/benchmarks/run.py --from target/benchmarks.json                     # writes the page again

DIR holds the suites: tunsuite.py, memsuite.py, lib.py, setup.sh, teardown.sh, the load generator kt and the peers, built.
They are not part of this repository. Variants take turns (A B A B), so that a machine that slows down slows all of them.
"""
import argparse
import datetime
import json
import os
import pathlib
import platform
import re
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAMS = ROOT / "target/release/examples"
TUN = ["--tun", "ptun", "--address", "10.9.0.2/24", "--kernel-address", "10.9.0.1/24"]
PACKET = ["--packet", "vb", "--address", "10.8.0.3/24"]
BODY = 2 << 30


def in_namespace(name, command):
    return ["ip", "netns", "exec", name, *map(str, command)]


class Server:
    """One of our programs in a namespace, ready once it says so."""

    def __init__(self, namespace, program, flags, cpu=None):
        subprocess.run(["ip", "-n", "pfT", "link", "del", "ptun"], stderr=subprocess.DEVNULL)
        pin = ["taskset", "-c", str(cpu)] if cpu is not None else []
        command = pin + [PROGRAMS / program[0], *program[1:], *flags, "--json"]
        self.process = subprocess.Popen(in_namespace(namespace, command), stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"{command} did not start")
        self.listening = json.loads(line)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(5)

    def processor_seconds(self):
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def fields(text):
    """What kt prints: name=value pairs."""
    return {key: float(value) for key, value in re.findall(r"(\w+)=([0-9.]+)(?=\s|$)", text)}


def load(suites, namespace, *arguments, cpu=None):
    pin = ["taskset", "-c", str(cpu)] if cpu is not None else []
    run = subprocess.run(
        in_namespace(namespace, [*pin, suites / "kt", *arguments]), capture_output=True, text=True, timeout=60
    )
    if run.returncode != 0:
        sys.exit(f"kt {arguments}: {run.stdout}{run.stderr}")
    return fields(run.stdout)


def suite(suites, script, ours, *arguments, cpu=None):
    """Runs one of the suites; gives its results as {"variant/test": [record, ...]}."""
    results = suites / "results.jsonl"
    results.unlink(missing_ok=True)
    pin = ["taskset", "-c", str(cpu)] if cpu is not None else []
    environment = dict(os.environ, OURS=ours, BENCH_DIR=str(suites))
    command = [*pin, "python3", suites / script, *map(str, arguments)]
    subprocess.run(command, cwd=suites, env=environment, check=True)
    records = {}
    for line in results.read_text().splitlines():
        record = json.loads(line)
        records.setdefault(record["name"], []).append(record)
    return records


def values(records, key):
    return [record[key] for record in records if key in record and "err" not in record]


def measure(options):
    suites = options.suites.resolve()
    rounds, seconds = options.rounds, options.seconds
    out = {"rounds": rounds, "seconds": seconds, "machine": machine(), "offloads": {}, "figures": {}}
    figures = out["figures"]

    def keep(name, found):
        if not found:
            sys.exit(f"{name}: nothing was measured")
        figures[name] = found

    subprocess.run(["bash", "setup.sh"], cwd=suites, check=True)
    try:
        for name, namespace, flags in [("TUN", "pfT", TUN), ("AF_PACKET", "pfB", PACKET)]:
            with Server(namespace, ["perf", "serve"], flags) as server:
                granted = server.listening["offloads"]
            missing = {"csum", "tso4", "tso6"} - set(granted)
            if missing:
                sys.exit(f"{name}: {missing} not granted, so the figures would not mean what the page says")
            out["offloads"][name] = granted

        serve = f"{PROGRAMS}/perf serve {' '.join(TUN)}"
        ours = f"tidewire={serve};tidewire-plain={serve} --no-offload;tidewire-2={serve} --queues 2 --workers 2"
        ours += f";tidewire-bytes={serve} --zero-copy"
        bulk = "up1,down1,up8,down8"
        records = suite(suites, "tunsuite.py", ours, rounds, seconds, "tidewire,tidewire-bytes,tidewire-2,nsoff-ct,ipstack-ct", bulk)
        records |= suite(suites, "tunsuite.py", ours, rounds, seconds, "tidewire-plain,smol-tun-1m", "up1,down1")
        for name, found in records.items():
            keep(f"tun/{name}", values(found, "MBps"))
        # Both ends on one processor: a wake across processors costs more than all the rest.
        records = suite(
            suites, "tunsuite.py", ours, rounds, seconds, "tidewire,smol-tun-1m,ipstack-ct", "ping,crr1,crr16", cpu=0
        )
        for name, found in records.items():
            keep(f"pinned/{name}", values(found, "p50_us" if "ping" in name else "cps"))
        packet(suites, rounds, seconds, keep)
        http(rounds, keep)
        memory(suites, rounds, seconds, keep)
        records = suite(suites, "memsuite.py", ours, min(rounds, 2), "tidewire,ipstack,kernel")
        for name, found in records.items():
            per = [(r["rss1"] - r["rss0"]) / r["ok"] for r in found if r.get("ok")]
            keep(f"idle/{name.removeprefix('mem-')}", per)
    finally:
        subprocess.run(["bash", "teardown.sh"], cwd=suites)
    return out


def packet(suites, rounds, seconds, keep):
    """AF_PACKET on a veth: our stack beside the kernel's own on the other end of the same cable."""
    figures = {}
    for _ in range(rounds):
        for name, address, program in [
            ("tidewire", "10.8.0.3", ["perf", "serve"]),
            ("tidewire-bytes", "10.8.0.3", ["perf", "serve", "--zero-copy"]),
            ("kernel", "10.8.0.2", ["perf", "serve", "--kernel", "--bind", "10.8.0.2"]),
        ]:
            flags = [] if name == "kernel" else PACKET
            with Server("pfB", program, flags):
                for test, port, streams in [("up", 5001, 1), ("down", 5002, 1), ("up", 5001, 8), ("down", 5002, 8)]:
                    found = load(suites, "pfA", test, address, port, seconds, streams)
                    figures.setdefault(f"packet/{name}/{test}{streams}", []).append(found["MBps"])
            with Server("pfB", program, flags, cpu=0):
                found = load(suites, "pfA", "ping", address, 5003, 20000, 64, cpu=0)
                figures.setdefault(f"packet/{name}/ping", []).append(found["p50_us"])
                found = load(suites, "pfA", "crr", address, 5004, 4000, 1, cpu=0)
                figures.setdefault(f"packet/{name}/crr1", []).append(found["cps"])
    for name, found in figures.items():
        keep(name, found)


def http(rounds, keep):
    """axum on our stack, fetched by curl."""
    figures = {}
    for _ in range(rounds):
        for name, own, theirs, flags, address in [
            ("TUN", "pfT", "pfT", TUN, "10.9.0.2"),
            ("AF_PACKET", "pfB", "pfA", PACKET, "10.8.0.3"),
        ]:
            with Server(own, ["http"], flags):
                url = f"http://{address}/bytes/{BODY}"
                form = "%{size_download} %{speed_download}"
                command = ["curl", "-s", "-o", "/dev/null", "-w", form, "--max-time", "60", url]
                run = subprocess.run(in_namespace(theirs, command), capture_output=True, text=True, check=True)
                size, speed = run.stdout.split()
                assert int(size) == BODY, run.stdout
                figures.setdefault(f"http/{name}", []).append(float(speed) / 1e6)
    for name, found in figures.items():
        keep(name, found)


def memory(suites, rounds, seconds, keep):
    """No device: both ends in one thread."""
    figures = {}
    for _ in range(rounds):
        for name, flags in [("super-packets", []), ("mtu-1500", ["--mtu", "1500", "--no-offload"])]:
            command = [PROGRAMS / "perf", "memory", "--seconds", str(seconds), "--json", *flags]
            run = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True)
            result = json.loads(run.stdout.splitlines()[-1])
            figures.setdefault(f"memory/tidewire/{name}", []).append(result["bytes_per_second"] / 1e6)
        for name, mtu in [("super-packets", 65535), ("mtu-1500", 1500)]:
            command = [suites / "peers/target/release/smolmem", str(mtu), str(1 << 20), str(seconds)]
            run = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True)
            figures.setdefault(f"memory/smoltcp/{name}", []).append(fields(run.stdout)["MBps"])
    for name, found in figures.items():
        keep(name, found)


def machine():
    model = re.search(r"model name\s*:\s*(.*)", pathlib.Path("/proc/cpuinfo").read_text())
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    return {
        "processor": model.group(1) if model else platform.machine(),
        "processors": os.cpu_count(),
        "kernel": platform.release(),
        "commit": commit.stdout.strip(),
        "date": datetime.date.today().isoformat(),
    }


def cell(figures, name, unit=1.0, digits=2):
    found = figures.get(name)
    if not found:
        return "–"
    middle, low, high = (statistics.median(found) / unit, min(found) / unit, max(found) / unit)
    return f"{middle:.{digits}f} ({low:.{digits}f}–{high:.{digits}f})"


def table(head, rows):
    lines = ["| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows]]
    return "\n".join(lines) + "\n"


def render(out, note):
    figures, m = out["figures"], out["machine"]
    note = f" {note}" if note else ""
    gb = lambda name: cell(figures, name, 1000.0)
    bulk = [
        [label, *(gb(f"{prefix}/{test}") for test in ("up1", "down1", "up8", "down8"))]
        for label, prefix in [
            ("**Tidewire**, TUN", "tun/tidewire"),
            ("**Tidewire**, TUN, `write_bytes` and `read_chunk`", "tun/tidewire-bytes"),
            ("**Tidewire**, TUN, two queues, two threads", "tun/tidewire-2"),
            ("netstack-smoltcp with offload, TUN", "tun/nsoff-ct"),
            ("ipstack, TUN", "tun/ipstack-ct"),
            ("**Tidewire**, TUN without offloads", "tun/tidewire-plain"),
            ("smoltcp, 1 MiB buffers, TUN without offloads", "tun/smol-tun-1m"),
            ("**Tidewire**, AF_PACKET on veth", "packet/tidewire"),
            ("**Tidewire**, AF_PACKET on veth, `write_bytes` and `read_chunk`", "packet/tidewire-bytes"),
            ("Linux (tokio::net), veth", "packet/kernel"),
        ]
    ]
    latency = [
        [label, cell(figures, f"{prefix}/ping", digits=1), *(cell(figures, f"{prefix}/{t}", 1000.0, 1) for t in ("crr1", "crr16"))]
        for label, prefix in [
            ("**Tidewire**, TUN", "pinned/tidewire"),
            ("smoltcp, TUN", "pinned/smol-tun-1m"),
            ("ipstack, TUN", "pinned/ipstack-ct"),
            ("**Tidewire**, AF_PACKET on veth", "packet/tidewire"),
            ("Linux (tokio::net), veth", "packet/kernel"),
        ]
    ]
    inside = [
        [label, gb(f"memory/{prefix}/super-packets"), gb(f"memory/{prefix}/mtu-1500")]
        for label, prefix in [("**Tidewire**, both applications' copies included", "tidewire"), ("smoltcp, no application data touched", "smoltcp")]
    ]
    idle = [
        [label, *(cell(figures, f"idle/{prefix}-{n}", 1024.0, 1) for n in (1000, 10000))]
        for label, prefix in [("**Tidewire**, one end", "tidewire"), ("ipstack, one end", "ipstack")]
    ]
    granted = "; ".join(f"{name}: {', '.join(flags)}" for name, flags in out["offloads"].items())
    return f"""# Benchmarks

Written by `integration-tests/benchmarks/run.py` from one run: commit {m["commit"]}, {m["date"]}, Linux {m["kernel"]},
{m["processors"]} processors ({m["processor"]}), a virtual machine. Medians of {out["rounds"]} rounds of {out["seconds"]} s in which the
variants took turns, with the smallest and largest in brackets. Compare within this page only: the same machine gives other
figures on another day.{note}

Offloads granted (the run fails without checksum and TCP segmentation offload): {granted}.

## Bulk, GB/s

*Up* is from the kernel's `kt` to the stack, which discards; *down* is from the stack to the kernel.

{table(["", "up, 1 stream", "down, 1 stream", "up, 8 streams", "down, 8 streams"], bulk)}
`GET /bytes/{BODY}` from axum on Tidewire with curl: {gb("http/TUN")} GB/s over TUN, {gb("http/AF_PACKET")} GB/s over AF_PACKET.

## Latency and connections, both ends on one processor

{table(["", "round trip of 64 octets, µs", "thousand connections a second", "16 at once"], latency)}
## In memory, both ends in one thread, GB/s

{table(["", "super-packets", "MTU 1500, checksums"], inside)}
## Memory of an idle connection, KiB

{table(["", "1,000 open", "10,000 open"], idle)}
## Again

```console
$ cargo build --release --examples
# integration-tests/benchmarks/run.py --suites DIR --rounds {out["rounds"]} --seconds {out["seconds"]}
```

One of ours alone needs no suites: `perf serve --tun tw0 --address 10.7.0.2/24 --kernel-address 10.7.0.1/24` in one shell,
`perf client up --kernel --congestion cubic --connect 10.7.0.2` in another, and `perf memory` without any device.
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--suites", type=pathlib.Path, help="folder of the suites and their built peers")
    parser.add_argument("--from", dest="source", type=pathlib.Path, help="write the page from an earlier run's results")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--results", type=pathlib.Path, default=ROOT / "target/benchmarks.json")
    parser.add_argument("--page", type=pathlib.Path, default=ROOT / "BENCHMARKS.md")
    parser.add_argument("--note", default="", help="a sentence about the circumstances, for the page")
    options = parser.parse_args()
    if options.source:
        out = json.loads(options.source.read_text())
    elif options.suites:
        started = time.monotonic()
        out = measure(options)
        options.results.write_text(json.dumps(out, indent=1))
        print(f"measured for {time.monotonic() - started:.0f} s; results in {options.results}", file=sys.stderr)
    else:
        parser.error("--suites or --from")
    options.page.write_text(render(out, options.note))


if __name__ == "__main__":
    main()
