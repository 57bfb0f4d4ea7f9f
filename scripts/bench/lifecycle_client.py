"""The lifecycle of an image by python3-rbd; lifecycle-client.ts does the same by cephkit, call for call."""

import resource
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import rados
import rbd

from serve import serve

GIB = 2**30
PREFIX = "python"
GOLDEN = PREFIX + "-golden"
SNAPSHOT = "base"

pool_name, namespace = sys.argv[1:]
cluster = rados.Rados(conffile="")
cluster.connect()
ioctx = cluster.open_ioctx(pool_name)
ioctx.set_namespace(namespace)
librbd = rbd.RBD()
# Left open by `snapshot`, closed by `drop_snapshot`.
opened = {}


def create(name):
    librbd.create(ioctx, name, 1 * GIB)


def resize(name):
    image = rbd.Image(ioctx, name)
    image.resize(2 * GIB, allow_shrink=False)
    image.close()


def snapshot(name):
    image = opened[name] = rbd.Image(ioctx, name)
    image.create_snap(SNAPSHOT)
    image.protect_snap(SNAPSHOT)


def drop_snapshot(name):
    image = opened.pop(name)
    image.unprotect_snap(SNAPSHOT)
    image.remove_snap(SNAPSHOT)
    image.close()


def clone(name):
    librbd.clone(ioctx, GOLDEN, SNAPSHOT, ioctx, name + "-clone")


def drop_clone(name):
    librbd.remove(ioctx, name + "-clone")


def remove(name):
    librbd.remove(ioctx, name)


operations = {
    "create": create,
    "resize": resize,
    "snapshot": snapshot,
    "dropSnapshot": drop_snapshot,
    "clone": clone,
    "dropClone": drop_clone,
    "remove": remove,
}


def prepare():
    librbd.create(ioctx, GOLDEN, 1 * GIB)
    with rbd.Image(ioctx, GOLDEN) as image:
        image.create_snap(SNAPSHOT)
        image.protect_snap(SNAPSHOT)


def cpu_seconds():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def measure(operation, count, at_a_time):
    """Does an operation on `count` images, so many at a time."""
    run = operations[operation]
    latencies_ms = []
    numbers = iter(range(count))

    def work():
        for number in numbers:
            name = f"{PREFIX}-{number}"
            start = time.perf_counter_ns()
            run(name)
            latencies_ms.append((time.perf_counter_ns() - start) / 1e6)

    cpu_before = cpu_seconds()
    start = time.perf_counter_ns()
    if at_a_time == 1:
        work()
    else:
        for future in [threads.submit(work) for _ in range(at_a_time)]:
            future.result()
    elapsed_ms = (time.perf_counter_ns() - start) / 1e6
    return {"latenciesMs": latencies_ms, "elapsedMs": elapsed_ms, "cpuMs": (cpu_seconds() - cpu_before) * 1000}


# They live as long as the process, so that no start of a thread is in the times.
threads = ThreadPoolExecutor(max_workers=64)
serve({"prepare": prepare, "measure": measure})
for image in opened.values():
    image.close()
ioctx.close()
cluster.shutdown()
