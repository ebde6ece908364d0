//! Volumes of a container that is saved: its copies have them together with it, as they are by then, and what was open goes on where
//! it is still the same file.

use std::path::PathBuf;

use tests::fixture::{self, scratch};

use super::{Store, WRITES_IN_MEMORY};

/// A container with a named volume and a directory of the host, and that directory.
fn source(store: &Store, script: &str) -> PathBuf {
    let host = scratch("snapshot-volumes-host").unwrap();
    let shared = format!("{}:/host", host.display());
    let options = ["-v", "kept:/kept", "-v", &shared];
    store.run("source", &[WRITES_IN_MEMORY, &options].concat(), script);
    host
}

#[test]
fn volumes_are_all_copies_together() {
    let store = Store::new("snapshot-volumes");
    // After the second in which the guest need not ask what the host has changed.
    let script = "mkdir /host/sub; cd /host/sub; echo one > file; echo early > /kept/stays; echo early > /kept/goes; \
                  exec 3>>/kept/log 4</kept/stays 5</kept/goes; cat file; while [ ! -e /go ]; do sleep 0.05; done; \
                  echo $(cat /go) >&3; sleep 2; pwd; cat file; while read l; do echo $l; done <&4; cat <&5 || echo broken; ls /kept; echo end; sleep 1000";
    let host = source(&store, script);
    store.wait_for("source", "one");
    store.save("source", "one");
    store.exec("source", "echo more >> /kept/stays; rm /kept/goes");
    std::fs::write(host.join("sub/file"), "two\n").unwrap();
    let run = ["run", "-d", "--from", "one", "--name", "copy"];
    store.hull(&run).finish().exits(0);
    for (name, gone) in [("copy", "broken"), ("source", "early")] {
        store.exec(name, &format!("echo {name} > /new; mv /new /go"));
        store.wait_for(name, "end");
        let logs = store.logs(name);
        let wanted = format!("/host/sub\ntwo\nearly\nmore\n{gone}\nlog\nstays\nend\n");
        assert!(logs.ends_with(&wanted), "{name}: {logs}");
    }
    assert_eq!(store.exec("source", "cat /kept/log"), "copy\nsource\n");
    // A snapshot keeps no volume; a copy of it does.
    let remove = || store.hull(&["volume", "rm", "kept"]).finish();
    store.hull(&["rm", "-f", "source"]).finish().exits(0);
    remove().exits(1).complains("is in use by container copy");
    store.hull(&["rm", "-f", "copy"]).finish().exits(0);
    remove().exits(0);
    let run = store.hull(&["run", "--from", "one"]).finish();
    run.exits(125).complains("There is no volume \"kept\"");
    assert_eq!(store.containers(), 0);
    // What is of this host goes to no other.
    let export = ["snapshot", "export", "-o", "/dev/null", "one"];
    let export = store.hull(&export).finish();
    export.exits(1).complains("directories of the host");
}

#[test]
fn clones_write_to_one_volume() {
    let store = Store::new("clone-volumes");
    let host = source(&store, "while :; do sleep 0.1; done");
    let script = "echo $HULL_CLONE >> /kept/all; echo $HULL_CLONE > /host/$HULL_CLONE";
    let clone = ["clone", "--rm", "-n", "3", "source", "sh", "-c", script];
    store.hull(&clone).finish().exits(0);
    assert_eq!(store.exec("source", "sort /kept/all"), "1\n2\n3\n");
    let read = |name| std::fs::read_to_string(host.join(name)).unwrap();
    assert_eq!(["1", "2", "3"].map(read), ["1\n", "2\n", "3\n"]);
}

/// What a process has changed by a mapping is in the file before others begin with that memory: they would write it down again, over
/// what is there by then.
#[test]
fn no_copy_writes_down_what_was_written_before() {
    let store = Store::new("snapshot-mapped");
    let script = "import mmap, os, time\n\
                  file = open('/kept/file', 'w+b', 0); file.write(bytes(4096))\n\
                  page = mmap.mmap(file.fileno(), 4096); page[0] = 1; print('up', flush=True)\n\
                  while not os.path.exists('/go'): time.sleep(0.05)\n\
                  page[1] = 2; page.flush(); print('done', flush=True); time.sleep(1000)";
    let run = store.hull(&["run", "-d", "--name", "source", "-v", "kept:/kept"]);
    let run = run.options(WRITES_IN_MEMORY).image(&fixture::python());
    run.command(["python3", "-c", script]).finish().exits(0);
    store.wait_for("source", "up");
    store.save("source", "one");
    store.exec("source", "touch /go");
    store.wait_for("source", "done");
    let run = ["run", "-d", "--from", "one", "--name", "copy"];
    store.hull(&run).finish().exits(0);
    store.exec("copy", "sync");
    let bytes = std::fs::read(store.0.join("volumes/kept/_data/file")).unwrap();
    assert_eq!(bytes.get(..3), Some(&[1, 2, 0][..]));
}

#[test]
fn a_volume_of_its_own_is_not_shared() {
    let store = Store::new("snapshot-anonymous");
    store.run("source", &["--storage", "0", "-v", "/own"], "sleep 1000");
    let create = store
        .hull(&["snapshot", "create", "source", "one"])
        .finish();
    create.exits(1).complains("Run it with -v NAME:/own");
}
