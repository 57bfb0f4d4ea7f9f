"""The data of an image by python3-rbd's asynchronous calls; io-client.ts does the same by cephkit, and fio.ts by fio."""

import random
import resource
import sys
import threading
import time

import rados
import rbd

from serve import serve

pool_name, image_name = sys.argv[1:]
cluster = rados.Rados(conffile="")
cluster.connect()
ioctx = cluster.open_ioctx(pool_name)
image = rbd.Image(ioctx, image_name)
size = image.size()
# librbd waits for each write until it has seen a flush, and fio's engine flushes to begin with.
image.flush()


def cpu_seconds():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def measure(load, seconds):
    kind, block_size, depth = load["kind"], load["blockSize"], load["depth"]
    blocks = size // block_size
    data = b"python!!" * (block_size // 8)
    sequence = iter(range(sys.maxsize))
    in_flight = threading.Semaphore(0)
    operations = [0] * depth
    failures = []

    def next_offset():
        number = random.randrange(blocks) if kind.startswith("rand") else next(sequence) % blocks
        return number * block_size

    def begin(slot):
        if time.perf_counter() >= end:
            in_flight.release()
        elif kind.endswith("read"):
            image.aio_read(next_offset(), block_size, lambda done, _: finish(slot, done, block_size))
        else:
            image.aio_write(data, next_offset(), lambda done: finish(slot, done, 0))

    # An exception would be lost in librbd's thread.
    def finish(slot, done, expected):
        result = done.get_return_value()
        if result == expected:
            operations[slot] += 1
            begin(slot)
        else:
            failures.append(result)
            in_flight.release()

    cpu_before = cpu_seconds()
    start = time.perf_counter()
    end = start + seconds
    for slot in range(depth):
        begin(slot)
    for _ in range(depth):
        in_flight.acquire()
    if failures:
        raise RuntimeError(f"{kind}: {failures}")
    elapsed_ms = (time.perf_counter() - start) * 1000
    cpu_ms = (cpu_seconds() - cpu_before) * 1000
    # What librbd has yet to write must not be in somebody else's time.
    image.flush()
    return {"operations": sum(operations), "elapsedMs": elapsed_ms, "cpuMs": cpu_ms}


serve({"measure": measure})
image.close()
ioctx.close()
cluster.shutdown()
