//! User and group look-up.

use std::fs::File;
use std::vec;

use alloc::string::ToString;
use proptest::prelude::*;
use rustix::fs::CWD;

use super::*;

const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/sh\n\
    # a comment\n\
    broken line\n\
    postgres:x:70:70:Postgres,,,:/var/lib/postgresql:/bin/sh\n\
    nohome:x:71:71:::\n\
    1000:x:5:5::/home/strange:\n\
    plain:x:1000:1000::/home/plain:/bin/sh\n";
const GROUP: &[u8] = b"root:x:0:root\n\
    tape:x:26:\n\
    postgres:x:70:\n\
    ssl:x:101:plain,postgres\n\
    wheel:x:10:root,postgres\n\
    huge:x:4294967295:\n";

fn find(user: &str) -> Result<Identity, String> {
    Identity::look_up(user.as_bytes(), &[], PASSWD, GROUP).map_err(|error| error.to_string())
}

fn identity(uid: u32, gid: u32, groups: &[u32], home: &str) -> Result<Identity, String> {
    Ok(Identity {
        uid,
        gid,
        groups: groups.to_vec(),
        home: home.into(),
    })
}

#[test]
fn nothing_means_root_with_its_groups() {
    for user in ["", "0", "root", ":"] {
        assert_eq!(find(user), identity(0, 0, &[0, 10], "/root"), "{user:?}");
    }
}

#[test]
fn a_name_brings_supplementary_groups() {
    assert_eq!(
        find("postgres"),
        identity(70, 70, &[70, 101, 10], "/var/lib/postgresql")
    );
    assert_eq!(find("70"), find("postgres"));
}

#[test]
fn an_explicit_group_stands_alone() {
    assert_eq!(
        find("postgres:tape"),
        identity(70, 26, &[26], "/var/lib/postgresql")
    );
    assert_eq!(
        find("postgres:5000"),
        identity(70, 5000, &[5000], "/var/lib/postgresql")
    );
    assert_eq!(find(":tape"), identity(0, 26, &[26], "/root"));
}

#[test]
fn further_groups_come_last() {
    let find = |more: &[&str]| {
        let more: Vec<_> = more.iter().map(|name| Bytes::from(*name)).collect();
        Identity::look_up(b"postgres", &more, PASSWD, GROUP)
            .map(|found| found.groups)
            .map_err(|error| error.to_string())
    };
    assert_eq!(
        find(&["tape", "4711", "70"]),
        Ok(vec![70, 101, 10, 26, 4711])
    );
    assert_eq!(
        find(&["none"]).unwrap_err(),
        r#"Group "none" is not in the image's /etc/group"#
    );
}

#[test]
fn an_unknown_number_is_a_user_without_home() {
    assert_eq!(find("4242"), identity(4242, 0, &[0], "/"));
    assert_eq!(find("4242:4243"), identity(4242, 4243, &[4243], "/"));
}

#[test]
fn a_missing_home_is_the_root_directory() {
    assert_eq!(find("nohome"), identity(71, 71, &[71], "/"));
}

#[test]
fn the_first_entry_that_fits_by_name_or_number_wins() {
    assert_eq!(find("1000"), identity(5, 5, &[5], "/home/strange"));
}

#[test]
fn unknown_names_are_errors() {
    assert_eq!(
        find("nobody").unwrap_err(),
        r#"User "nobody" is not in the image's /etc/passwd"#
    );
    assert_eq!(
        find("root:nobody").unwrap_err(),
        r#"Group "nobody" is not in the image's /etc/group"#
    );
    assert_eq!(
        find("-1").unwrap_err(),
        r#"User "-1" is not in the image's /etc/passwd"#
    );
    assert_eq!(
        find("\u{1b}[2J").unwrap_err(),
        r#"User "\u{1b}[2J" is not in the image's /etc/passwd"#
    );
}

#[test]
fn numbers_beyond_the_signed_range_are_errors() {
    assert_eq!(
        find("2147483648").unwrap_err(),
        "Number 2147483648 is over 2147483647, the highest user or group"
    );
    assert!(find("0:huge").is_err());
    assert!(find("2147483647:2147483647").is_ok());
    // Not a number of 32 bits at all, so a name.
    assert!(find("4294967296").unwrap_err().starts_with("User"));
}

#[test]
fn an_image_without_the_files_still_has_numbers() {
    let root = tempfile::tempdir().unwrap();
    let found = Identity::find(b"7:8", &[], File::open(root.path()).unwrap()).unwrap();
    assert_eq!(
        found,
        Identity {
            uid: 7,
            gid: 8,
            groups: vec![8],
            home: b"/".to_vec()
        }
    );
    assert!(matches!(
        Identity::find(b"name", &[], File::open(root.path()).unwrap()),
        Err(IdentityError::NoUser(_))
    ));
}

#[test]
fn files_are_read_from_the_given_root() {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir(root.path().join("etc")).unwrap();
    std::fs::write(root.path().join("etc/passwd"), PASSWD).unwrap();
    std::fs::write(root.path().join("etc/group"), GROUP).unwrap();
    assert_eq!(
        Identity::find(b"postgres", &[], File::open(root.path()).unwrap()).unwrap(),
        find("postgres").unwrap()
    );
}

#[test]
fn what_is_not_a_plain_file_is_refused_without_waiting() {
    let root = tempfile::tempdir().unwrap();
    let passwd = root.path().join("etc/passwd");
    std::fs::create_dir_all(&passwd).unwrap();
    assert!(matches!(
        Identity::find(b"", &[], File::open(root.path()).unwrap()),
        Err(IdentityError::NotAFile { .. })
    ));
    std::fs::remove_dir(&passwd).unwrap();

    rustix::fs::mknodat(CWD, &passwd, FileType::Fifo, Mode::RWXU, 0).unwrap();
    assert!(matches!(
        Identity::find(b"", &[], File::open(root.path()).unwrap()),
        Err(IdentityError::NotAFile { .. })
    ));
    std::fs::remove_file(&passwd).unwrap();

    std::os::unix::fs::symlink("/dev/zero", &passwd).unwrap();
    assert!(matches!(
        Identity::find(b"", &[], File::open(root.path()).unwrap()),
        Err(IdentityError::NotAFile { .. })
    ));
    std::fs::remove_file(&passwd).unwrap();

    File::create(&passwd)
        .unwrap()
        .set_len(LARGEST_FILE as u64 + 1)
        .unwrap();
    assert!(matches!(
        Identity::find(b"", &[], File::open(root.path()).unwrap()),
        Err(IdentityError::NotAFile { .. })
    ));
}

proptest! {
    #[test]
    fn hostile_files_do_not_panic(
        user in prop::collection::vec(any::<u8>(), 0..20),
        passwd in prop::collection::vec(any::<u8>(), 0..300),
        group in "([a-z0-9,]{0,4}:){0,4}\n?",
    ) {
        if let Ok(found) = Identity::look_up(&user, &[], &passwd, group.as_bytes()) {
            prop_assert!(found.uid <= LARGEST_NUMBER);
            prop_assert_eq!(found.groups.first(), Some(&found.gid));
        }
    }
}
