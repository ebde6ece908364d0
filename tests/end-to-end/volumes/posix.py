# What POSIX and Linux say of files, said by a program that runs on the host and in a guest: both must print the same.
import ctypes, errno, fcntl, mmap, os, shutil, stat, struct, subprocess, sys, time

os.chdir(sys.argv[1])
os.umask(0o022)
libc = ctypes.CDLL(None, use_errno=True)


def say(*words):
    print(*words, flush=True)


def fails(call, *arguments, **named):
    try:
        call(*arguments, **named)
    except OSError as error:
        return errno.errorcode[error.errno]
    return "done"


def write(name, text):
    with open(name, "wb") as file:
        file.write(text)


def read(name):
    with open(name, "rb") as file:
        return file.read()


# Names
write("a", b"a")
write("b", b"b")
os.mkdir("d", 0o777)
os.mkdir("full")
write("full/x", b"")
say(fails(os.mkdir, "a"), fails(os.rmdir, "full"), fails(os.rmdir, "a"), fails(os.unlink, "d"))
say(fails(os.rename, "d", "full"), fails(os.rename, "a", "d"), fails(os.rename, "d", "a"), fails(os.rename, "full", "full/y"))
say(fails(os.stat, "none"), fails(os.stat, "a/x"), fails(open, "n" * 256, "w"), fails(open, "d", "w"))
os.rename("a", "b")
say(read("b"), fails(os.stat, "a"))
os.link("b", "hard")
say(os.stat("b").st_nlink, os.stat("b").st_ino == os.stat("hard").st_ino, fails(os.link, "d", "l"), fails(os.link, "b", "hard"))
os.rename("b", "hard")
say(os.path.exists("b"), "of one file, a rename does nothing")
os.unlink("b")
os.symlink("hard", "soft")
os.symlink("soft2", "soft2")
os.symlink("/none", "dangling")
say(read("soft"), os.readlink("soft"), fails(open, "soft2"), fails(open, "dangling"), os.lstat("soft").st_size)
say(stat.filemode(os.stat("d").st_mode), stat.filemode(os.lstat("soft").st_mode))
os.mkfifo("pipe", 0o640)
say(stat.filemode(os.stat("pipe").st_mode))

# What has no name any more
file = open("gone", "w+b")
file.write(b"still here")
file.flush()
os.unlink("gone")
file.seek(0)
say(file.read(), os.fstat(file.fileno()).st_nlink)
nameless = os.open(".", os.O_TMPFILE | os.O_RDWR, 0o600)
os.write(nameless, b"nameless")
FOLLOW = 0x400
say(libc.linkat(-100, b"/proc/self/fd/%d" % nameless, -100, b"named", FOLLOW))
say(read("named"), stat.filemode(os.stat("named").st_mode))

# Modes, times, lengths
write("m", b"0123456789")
os.chmod("m", 0o4751)
say(oct(os.stat("m").st_mode))
os.chmod("m", 0o600)
os.utime("m", ns=(1_000_000_001, 5_000_000_007))
say(os.stat("m").st_atime_ns, os.stat("m").st_mtime_ns)
before = os.stat("m").st_mtime_ns
os.truncate("m", 4)
say(read("m"), os.stat("m").st_mtime_ns > before)
os.truncate("m", 6)
say(read("m"))
if os.getuid() == 0:
    os.chown("m", 123, 456)
    say(os.stat("m").st_uid, os.stat("m").st_gid)
    os.mkdir("group")
    os.chown("group", 0, 77)
    os.chmod("group", 0o2775)
    write("group/x", b"")
    os.mkdir("group/d")
    say(os.stat("group/x").st_gid, oct(os.stat("group/d").st_mode))
    os.chmod("m", 0o6755)
    os.chown("m", 1, 1)
    say(oct(os.stat("m").st_mode))
    os.chmod("m", 0o4777)
    if os.fork() == 0:
        os.setuid(1000)
        with open("m", "r+b") as file:
            file.write(b"x")
        os._exit(0)
    os.wait()
    say(oct(os.stat("m").st_mode), "another's write takes setuid away")
    os.chmod("full", 0o1777)
    os.chmod("full/x", 0o600)
    if os.fork() == 0:
        os.setuid(1000)
        say(fails(open, "full/x"), fails(os.unlink, "full/x"), fails(os.chmod, "m", 0o777), fails(os.chown, "m", 1000, -1))
        os._exit(0)
    os.wait()

# Data
with open("log", "ab") as one, open("log", "ab") as other:
    for number in range(3):
        one.write(b"1"), one.flush()
        other.write(b"2"), other.flush()
say(read("log"))
large = os.open("large", os.O_RDWR | os.O_CREAT | os.O_EXCL)
say(fails(os.open, "large", os.O_RDWR | os.O_CREAT | os.O_EXCL))
os.pwrite(large, b"end", 5 << 30)
say(os.fstat(large).st_size, os.pread(large, 9, 5 << 30), os.pread(large, 4, 1 << 30), os.stat("large").st_blocks < 1000)
os.posix_fallocate(large, 0, 65536)
say(os.stat("large").st_blocks >= 128, os.fstat(large).st_size)
PUNCH = 3
os.pwrite(large, b"x" * 8192, 0)
libc.fallocate(large, PUNCH, ctypes.c_long(4096), ctypes.c_long(4096))
say(os.pread(large, 8192, 0).count(b"x"))
os.ftruncate(large, 0)
blob = os.urandom(3 << 20)
write("blob", blob)
say(read("blob") == blob)
os.fsync(large), os.fdatasync(large)
directory = os.open("d", os.O_RDONLY)
os.fsync(directory)

# Shared maps
os.ftruncate(large, 1 << 20)
with mmap.mmap(large, 1 << 20) as view:
    view[4096:4100] = b"mmap"
    view.flush()
    say(os.pread(large, 4, 4096))
    os.pwrite(large, b"back", 8192)
    say(view[8192:8196])
    child = os.fork()
    if child == 0:
        view[0:5] = b"child"
        os._exit(0)
    os.wait()
    say(view[0:5])
say(read("large")[:5])

# Locks of both kinds
say(fails(fcntl.flock, large, fcntl.LOCK_EX | fcntl.LOCK_NB))
fcntl.lockf(large, fcntl.LOCK_EX, 10, 0)
if os.fork() == 0:
    again = os.open("large", os.O_RDWR)
    say(fails(fcntl.flock, again, fcntl.LOCK_EX | fcntl.LOCK_NB))
    say(fails(fcntl.lockf, again, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 5), fails(fcntl.lockf, again, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 10))
    os._exit(0)
os.wait()

# Extended attributes
os.setxattr("m", "user.colour", b"red")
os.setxattr("m", "user.empty", b"")
say(os.getxattr("m", "user.colour"), sorted(os.listxattr("m")), fails(os.setxattr, "m", "user.colour", b"", os.XATTR_CREATE))
os.removexattr("m", "user.colour")
say(fails(os.getxattr, "m", "user.colour"))

# File capabilities and access control lists, which root's volumes have as docker's do
if os.getuid() == 0:
    capability = struct.pack("<5I", 0x02000001, 1 << 10, 0, 0, 0)  # cap_net_bind_service=ep
    shutil.copy(os.path.realpath(sys.executable), "able")
    os.setxattr("able", "security.capability", capability)
    say(os.getxattr("able", "security.capability") == capability, os.listxattr("able"))
    held = "print([line for line in open('/proc/self/status') if line.startswith('CapEff')])"
    able = dict(user=1000, group=1000, extra_groups=[], stdout=subprocess.PIPE, text=True)
    say(subprocess.run(["./able", "-c", held], **able).stdout)
    with open("able", "ab") as file:
        file.write(b"x")
    say(fails(os.getxattr, "able", "security.capability"), "a write takes capabilities away")

    def rights(owner, user, group, mask, other):
        parts = [(1, owner, -1), (2, user, 1000), (4, group, -1), (16, mask, -1), (32, other, -1)]
        return struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *part) for part in parts)

    write("listed", b"listed")
    os.chmod("listed", 0o600)
    os.setxattr("listed", "system.posix_acl_access", rights(6, 4, 0, 4, 0))
    os.mkdir("heir")
    os.setxattr("heir", "system.posix_acl_default", rights(7, 6, 0, 6, 0))
    os.umask(0o077)
    write("heir/file", b"")
    os.mkdir("heir/d")
    os.umask(0o022)
    for name in ["listed", "heir/file", "heir/d"]:
        say(oct(os.stat(name).st_mode), os.getxattr(name, "system.posix_acl_access").hex())
    say(os.getxattr("heir/d", "system.posix_acl_default") == rights(7, 6, 0, 6, 0))
    for user in [1000, 1001]:
        if os.fork() == 0:
            os.setgroups([]), os.setgid(user), os.setuid(user)
            say(fails(open, "listed"), fails(open, "listed", "r+"), fails(open, "heir/file", "r+"))
            os._exit(0)
        os.wait()
    os.chmod("listed", 0o660)
    say(os.getxattr("listed", "system.posix_acl_access") == rights(6, 4, 0, 6, 0))

# Names that are made, and replaced, without being looked at before; those in `fresh` are known to nobody yet
EXCLUSIVE = os.O_CREAT | os.O_EXCL | os.O_WRONLY
say(fails(os.open, "fresh/old", EXCLUSIVE), fails(os.open, "fresh/astray", EXCLUSIVE), fails(os.open, "fresh/d", os.O_CREAT | os.O_WRONLY))
with open("fresh/way", "ab") as file:
    file.write(b"er")
with open("fresh/astray", "wb") as file:
    file.write(b"found")
say(read("fresh/old"), read("fresh/none"), fails(os.mkdir, "fresh/way"), fails(os.symlink, "x", "fresh/old"), fails(os.mkfifo, "fresh/d"))
if os.getuid() == 0:
    os.chmod("fresh", 0o1777)
    os.chmod("fresh/old", 0o600)
    if os.fork() == 0:
        os.setgroups([]), os.setuid(1000)
        write("fresh/own", b"own")
        say(fails(open, "fresh/old", "a"), fails(os.rename, "fresh/own", "fresh/old"), fails(os.link, "fresh/own", "fresh/old"))
        say(fails(os.rename, "fresh/own", "fresh/renamed"), os.stat("fresh/renamed").st_uid)
        os._exit(0)
    os.wait()

# A rename may swap, or keep what is there
write("one", b"1")
write("two", b"2")
say(libc.renameat2(-100, b"one", -100, b"two", 1), errno.errorcode[ctypes.get_errno()], libc.renameat2(-100, b"one", -100, b"two", 2))
say(read("one"), read("two"))

# Large pieces, which do not pass through the guest's memory, beside maps and small pieces, which do
piece = os.urandom(1 << 20)
wide = os.open("wide", os.O_RDWR | os.O_CREAT)
for offset in range(0, 4 << 20, 1 << 20):
    os.pwrite(wide, piece, offset)
with mmap.mmap(wide, 4 << 20) as view:
    say(view[:4096] == piece[:4096], os.pread(wide, 1 << 20, 1 << 20) == piece)
    view[(2 << 20) + 5 : (2 << 20) + 9] = b"here"
    say(os.pread(wide, 1 << 20, 2 << 20)[5:9])
    os.pwrite(wide, piece[::-1], 0)
    say(view[:4096] == piece[::-1][:4096], os.pread(wide, 9, 0) == piece[::-1][:9])
say(len(os.pread(wide, 1 << 20, (4 << 20) - 77)), os.pread(wide, 1 << 20, 4 << 20))
os.close(wide)

# A directory of many entries that changes while it is read
seen = []
for entry in os.scandir("many"):
    seen.append(entry.name)
    if len(seen) % 1000 == 0:
        os.close(os.open(f"many/new{len(seen)}", os.O_CREAT))
        os.unlink(f"many/{entry.name}")
        os.rename(f"many/new{len(seen)}", f"many/newer{len(seen)}")
old = [name for name in seen if not name.startswith("new")]
say(len(old), len(set(old)))
say(sorted((entry.name, entry.stat(follow_symlinks=False).st_size) for entry in os.scandir("fresh")))
say("all")
