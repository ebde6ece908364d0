//! Containers with volumes begin in templates too: what each sees of the host is its own.

use std::fs;

use tests::fixture;

use super::was_warm;
use crate::snapshots::Store;

#[test]
fn each_has_its_own_and_no_more_than_it_may() {
    let store = Store::new("warm-volumes");
    let run = |options: &[&str], script: &str| {
        let options = [&["--timings", "--start", "warm"], options].concat();
        let run = store.hull(&["run"]).options(options);
        run.image(&fixture::busybox()).run(script)
    };
    let templates = || fs::read_dir(store.0.join("templates")).map_or(0, Iterator::count);
    let script = "cat /data/name; echo mine >>/data/kept; cat /data/kept /named/all /file 2>/dev/null; \
                  echo x >/fixed/x || echo refused; echo $0 >>/named/all; stat -f -c %T /data /";
    for name in ["one", "two"] {
        let host = store.0.join(name);
        fs::create_dir(&host).unwrap();
        fs::write(host.join("name"), name).unwrap();
        let at = host.to_str().unwrap();
        let (data, fixed) = (format!("{at}:/data"), format!("{at}:/fixed:ro"));
        let file = format!("{at}/name:/file:ro");
        let volumes = [
            "-v",
            &data,
            "-v",
            &fixed,
            "-v",
            "named:/named",
            "-v",
            &file,
            "--name",
            name,
        ];
        let outcome = run(&volumes, script);
        assert!(was_warm(outcome.exits(0)), "{outcome:?}");
        let before = if name == "one" { "" } else { "sh\n" };
        let told = outcome.out();
        assert!(
            told.starts_with(&format!("{name}mine\n{before}{name}refused\n")),
            "{outcome:?}"
        );
        assert!(!host.join("x").exists());
        assert_eq!(fs::read_to_string(host.join("kept")).unwrap(), "mine\n");
    }
    // Started again it sees what is there by now, and what it wrote.
    fs::write(store.0.join("one/name"), "new").unwrap();
    let again = store.hull(&["start", "-a", "one"]).finish();
    again.exits(0);
    let expected = "newmine\nmine\nsh\nsh\nnewrefused\n";
    assert!(again.out().starts_with(expected), "{again:?}");
    // The templates' directory has one for both, and a place for drafts.
    assert_eq!(templates(), 2);
    let outcome = run(&["--rm", "--storage", "10g"], "ls -d /data || echo none");
    assert_eq!(outcome.out(), "none\n", "{outcome:?}");
    assert_eq!(templates(), 3, "without volumes it is another shape");
    // Where a template cannot be used, what boots instead has the volumes.
    for entry in fs::read_dir(store.0.join("templates")).unwrap().flatten() {
        let _ = fs::write(entry.path().join("machine"), b"damaged");
    }
    let volume = format!("{}:/data", store.0.join("one").display());
    let run = store.hull(&[
        "run",
        "--rm",
        "--timings",
        "--storage",
        "10g",
        "-v",
        &volume,
    ]);
    let run = run
        .host_env("HULL_START", "auto")
        .image(&fixture::busybox());
    let booted = run.run("cat /data/name");
    assert!(!was_warm(booted.exits(0)), "{booted:?}");
    assert_eq!(booted.out(), "new");
}
