"""Memory of glibc's allocator, counted in processes of their own."""

import platform
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")

COUNT_ARENAS = """
import ctypes, tempfile, threading
from okdhp_edge.system.allocator import limit_arenas
if {limited}:
    limit_arenas()
barrier = threading.Barrier(6)
libc = ctypes.CDLL("libc.so.6")
libc.malloc.restype = ctypes.c_void_p
def work():
    barrier.wait()  # all at once, so that none takes over another's arena
    libc.malloc(1000)
    barrier.wait()
threads = [threading.Thread(target=work) for _ in range(6)]
[t.start() for t in threads]
[t.join() for t in threads]
libc.fopen.restype = ctypes.c_void_p
with tempfile.NamedTemporaryFile() as file:
    stream = ctypes.c_void_p(libc.fopen(file.name.encode(), b"w"))
    libc.malloc_info(0, stream)
    libc.fclose(stream)
    print(open(file.name).read().count("<heap "))
"""

FREE_MOST = """
import ctypes
from pathlib import Path
from okdhp_edge.system.allocator import return_freed_memory
libc = ctypes.CDLL("libc.so.6")
libc.malloc.restype = ctypes.c_void_p
def measure():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
blocks = [libc.malloc(64_000) for _ in range(1600)]
for block in blocks:
    ctypes.memset(ctypes.c_void_p(block), 1, 64_000)
for block in blocks[:-1]:  # the last keeps the heap from shrinking
    libc.free(ctypes.c_void_p(block))
before = measure()
return_freed_memory()
print(before - measure())
"""


def _run(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return int(done.stdout)


def test_threads_of_a_run_share_two_arenas():
    assert _run(COUNT_ARENAS.format(limited=True)) <= 2 < _run(COUNT_ARENAS.format(limited=False))


def test_freed_memory_goes_back_to_the_system():
    assert _run(FREE_MOST) > 50e6
