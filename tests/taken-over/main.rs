//! A VMM that was taken over after its guest has booted, in a build of hull for that alone: its guest says which of its threads does
//! what, and each act is refused. `cargo xtask test` makes the build; this prints SECURITY.md's table.

use std::collections::BTreeMap;
use std::path::Path;

use tests::fixture::scratch;
use tests::run::Outcome;
use tests::{hull, vm};

/// What the build is asked for: an act by its place among all, or `nothing`, in a thread that its guest's words lead to.
fn take_over(store: &Path, options: &[&str], thread: &str, act: &str) -> Outcome {
    let script =
        format!("mknod /kmsg c 1 11 && echo '<0>hostile {thread} {act}' >/kmsg && sleep 1000");
    let run = vm().host_env("HULL_START", "warm");
    let run = run.host_env("HULL_ROOT", store);
    run.options(options).run(&script)
}

/// What a VMM's end says: it was killed for the call, or this error was all it got.
fn told(outcome: &Outcome) -> Option<&'static str> {
    let said = outcome.exits(125).err();
    let ends = [
        ("(signal: 31 (SIGSYS))", "killed"),
        ("(exit status: 2)", "not found"),
    ];
    let end = ends.iter().find(|(end, _)| said.contains(end));
    end.map(|(_, told)| *told)
}

/// What is a thread's work, and no act of a hostile one: the network connects to where it may make sockets for, and the first makes
/// the process that writes its memory down.
const WORK: [(&str, &str); 2] = [("network", "connect"), ("first", "clone")];

#[test]
fn each_thread_of_a_vmm_is_refused_each_act() {
    let directory = scratch("taken-over").unwrap();
    // Templates of this build are nobody else's.
    let store = directory.join("store");
    let shared = directory.join("shared");
    std::fs::create_dir(&shared).unwrap();
    let volume = format!("--volume={}:/v", shared.display());
    let with_volume = ["--network=none", &volume];
    let threads: [(&str, &[&str]); 4] = [
        ("first", &with_volume),
        ("vcpu", &with_volume),
        ("files", &with_volume),
        ("network", &[]),
    ];
    // A call that it may make is made: so whoever is killed is killed for what it did.
    for (thread, options) in threads {
        let allowed = take_over(&store, options, thread, "nothing");
        allowed.exits(125).complains("(exit status: 200)");
    }
    let acts = hull(["acts"]).finish().exits(0).out();
    let (mut rows, mut refused, mut made) = (BTreeMap::new(), 0, Vec::new());
    for (number, act) in acts.lines().enumerate() {
        let row = threads.map(|(thread, options)| {
            if WORK.contains(&(thread, act)) {
                return "its work";
            }
            let outcome = take_over(&store, options, thread, &number.to_string());
            let told = told(&outcome);
            refused += u32::from(told.is_some());
            told.unwrap_or_else(|| {
                made.push(format!("{act} in {thread}: {outcome:?}"));
                "made"
            })
        });
        rows.entry(row).or_insert_with(Vec::new).push(act);
    }
    let names = threads.map(|(thread, _)| thread);
    println!("| {} | acts |\n|---|---|---|---|---|", names.join(" | "));
    for (row, acts) in rows {
        println!("| {} | {} |", row.join(" | "), acts.join("; "));
    }
    println!("{refused} acts were refused");
    assert!(made.is_empty(), "{made:#?}");
    std::fs::remove_dir_all(directory).unwrap();
}
