# What is done to a file system, on the host as in a guest: a large file, and entries of a directory. Prints a line for each
# figure: megabytes or microseconds, what is done, and how much or how long. What counts is the second time, when the guest
# has its memory.
import os, sys, time

LARGE = 64 << 20
FILES = 200
place = sys.argv[1]
piece = memoryview(bytearray(b"7" * (1 << 20)))


def data(path, say):
    def each(what, file, act, length=len(piece)):
        part = piece[:length]
        start = time.perf_counter()
        for offset in range(0, LARGE, length):
            act(file, [part], offset)
        say("megabytes", what, LARGE / 1e6 / (time.perf_counter() - start))

    file = os.open(path, os.O_RDWR | os.O_CREAT)
    each("a large file, written anew, 1024 KiB at a time", file, os.pwritev)
    each("a large file, written over, 1024 KiB at a time", file, os.pwritev)
    for length in (1 << 20, 128 << 10, 64 << 10):
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        each(f"a large file, read, {length >> 10} KiB at a time", file, os.preadv, length)
    each("a large file, read again, 64 KiB at a time", file, os.preadv, 64 << 10)
    os.close(file)
    os.unlink(path)


def entries(place, say):
    def each(what, act):
        start = time.perf_counter()
        for path in paths:
            act(path)
        say("microseconds", what, (time.perf_counter() - start) * 1e6 / FILES)

    def absent(path):
        try:
            os.stat(path + "x")
        except FileNotFoundError:
            pass

    os.mkdir(place)
    paths = [f"{place}/{number}" for number in range(FILES)]
    files = []
    each("open a new file", lambda path: files.append(os.open(path, os.O_CREAT | os.O_WRONLY)))
    each("close", lambda path: os.close(files.pop()))
    each("open", lambda path: files.append(os.open(path, os.O_RDONLY)))
    each("close after reading", lambda path: os.close(files.pop()))
    each("chmod", lambda path: os.chmod(path, 0o600))
    each("utimes", os.utime)
    each("truncate", lambda path: os.truncate(path, 9))
    each("setxattr", lambda path: os.setxattr(path, "user.name", b"value"))
    each("getxattr", lambda path: os.getxattr(path, "user.name"))
    each("link", lambda path: os.link(path, path + "x"))
    each("rename", lambda path: os.rename(path + "x", path + "y"))
    each("unlink one of two names", lambda path: os.unlink(path + "y"))
    # Longer than a guest believes what it was told.
    time.sleep(1.5)
    each("stat", os.stat)
    each("unlink", os.unlink)
    each("stat what is not there", absent)
    each("mkdir", os.mkdir)
    each("rmdir", os.rmdir)
    each("symlink", lambda path: os.symlink("target", path))
    each("readlink", os.readlink)
    for path in paths:
        os.unlink(path)
    os.rmdir(place)


for say in (lambda *_: None, lambda unit, what, figure: print(unit, f"{figure:.1f}", what)):
    data(f"{place}/large", say)
    # What a removal leaves to be done is not the next operation's.
    time.sleep(0.5)
    entries(f"{place}/entries", say)
