//! Ordinary software runs: Debian's python3 with threads, files and child processes.

use tests::fixture::python;
use tests::{Outcome, vm};

fn python3(script: &str) -> Outcome {
    vm().image(&python())
        .options(["--cpus", "2", "--memory", "512m"])
        .command(["python3", "-c", script])
        .finish()
}

#[test]
fn threads_files_and_subprocesses() {
    let script = r#"
import concurrent.futures, hashlib, os, subprocess, sys, tempfile, threading
lock, total = threading.Lock(), 0
def work(n):
    global total
    with lock:
        total += n
    return hashlib.sha256(str(n).encode()).hexdigest()
with concurrent.futures.ThreadPoolExecutor(8) as pool:
    digests = list(pool.map(work, range(200)))
assert total == 19900 and len(set(digests)) == 200
with tempfile.TemporaryDirectory() as place:
    for n in range(100):
        with open(os.path.join(place, str(n)), "wb") as file:
            file.write(os.urandom(1000))
    assert sum(os.path.getsize(os.path.join(place, name)) for name in os.listdir(place)) == 100000
out = subprocess.run(["sh", "-c", "cat; exit 3"], input=b"through a pipe", capture_output=True)
assert out.stdout == b"through a pipe" and out.returncode == 3
print("python", sys.version_info.major, os.uname().sysname)
"#;
    python3(script).prints("python 3 Linux\n");
}

#[test]
fn sockets_and_processes() {
    let script = r#"
import multiprocessing, os, socket, threading
with socket.create_server(("127.0.0.1", 0)) as server:
    def serve():
        peer, _ = server.accept()
        with peer:
            peer.sendall(peer.recv(100).upper())
    thread = threading.Thread(target=serve)
    thread.start()
    with socket.create_connection(server.getsockname()) as client:
        client.sendall(b"over loopback")
        assert client.recv(100) == b"OVER LOOPBACK"
    thread.join()
with multiprocessing.get_context("fork").Pool(3) as pool:
    print(sum(pool.map(abs, range(-10, 0))))
"#;
    python3(script).prints("55\n");
}
