//! Volumes as directories, and paths of the host as they are judged.

use super::*;

fn nameless(target: &str) -> cli::Volume {
    cli::Volume {
        source: Source::Nameless,
        target: target.to_owned(),
        read_only: false,
        fill: true,
        make: true,
    }
}

#[test]
fn volumes_are_made_once_and_removed() {
    let root = tempfile::tempdir().unwrap();
    let volumes = Volumes::open(root.path()).unwrap();
    let containers = Containers::open(root.path()).unwrap();
    let labels = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
    let made = volumes.create("data", labels, false).unwrap();
    assert!(made.path.is_dir());
    std::fs::write(made.path.join("file"), "kept").unwrap();
    let again = volumes.create("data", BTreeMap::new(), true).unwrap();
    assert_eq!(again.about.labels.len(), 1);
    assert!(!again.about.anonymous);
    for name in ["", "x", ".", "..", "../data", "a/b", "data/", "-ab"] {
        let refused = volumes.create(name, BTreeMap::new(), false);
        assert!(matches!(refused, Err(VolumeError::Name(_))), "{name}");
        let unknown = volumes.remove(name, &containers);
        assert!(matches!(unknown, Err(VolumeError::Unknown(_))), "{name}");
    }
    assert_eq!(volumes.list().unwrap().len(), 1);
    volumes.remove("data", &containers).unwrap();
    assert!(volumes.list().unwrap().is_empty());
    assert!(!made.path.exists());
}

#[test]
fn a_volume_without_a_name_goes_with_its_container() {
    let root = tempfile::tempdir().unwrap();
    let volumes = Volumes::open(root.path()).unwrap();
    let found = volumes.find(&nameless("/x")).unwrap();
    let mut named = nameless("/y");
    named.source = Source::Name("named".to_owned());
    let named = volumes.find(&named).unwrap();
    assert!(found.path.is_dir() && named.path.is_dir());
    assert!(!share(&found).unwrap().read_only);
    remove_anonymous(&[found.clone(), named.clone()]);
    assert!(!found.path.exists() && named.path.is_dir());
    assert!(matches!(share(&found), Err(VolumeError::Missing(_))));
}

#[test]
fn a_path_is_judged_by_where_it_leads() {
    let directory = tempfile::tempdir().unwrap();
    let real = directory.path().canonicalize().unwrap();
    std::fs::create_dir(real.join("there")).unwrap();
    std::os::unix::fs::symlink("there", real.join("link")).unwrap();
    std::os::unix::fs::symlink("nowhere", real.join("broken")).unwrap();
    assert_eq!(resolved(&real.join("link")).unwrap(), real.join("there"));
    let new = resolved(&real.join("link/new/deep")).unwrap();
    assert_eq!(new, real.join("there/new/deep"));
    assert!(resolved(&real.join("broken")).is_err());
    assert!(resolved(&real.join("new/../../x")).is_err());
    // What became a link after it was judged is not opened.
    let volume = Volume {
        name: None,
        path: real.join("link"),
        target: "/x".to_owned(),
        read_only: true,
    };
    assert!(share(&volume).is_err());
    let socket = real.join("socket");
    let _listens = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let volume = Volume {
        path: socket,
        ..volume
    };
    assert!(matches!(share(&volume), Err(VolumeError::Kind(_))));
}
