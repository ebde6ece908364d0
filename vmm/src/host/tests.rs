//! What somebody is told whose host cannot run hull.

use super::*;

#[test]
fn the_group_to_join_is_named() {
    let groups = "root:x:0:\nkvm:x:106:ann,bob\nbroken\nnogroup:x:65534:\n";
    assert_eq!(group_name(groups, 106).as_deref(), Some("kvm"));
    assert_eq!(group_name(groups, 0).as_deref(), Some("root"));
    assert_eq!(group_name(groups, 7), None);
}

#[test]
fn each_way_to_lack_kvm_says_what_to_do() {
    let absent = explain_kvm(&io::Error::from(io::ErrorKind::NotFound));
    assert!(
        absent.contains("modprobe") && absent.contains("cargo xtask lab"),
        "{absent}"
    );
    let refused = explain_kvm(&io::Error::from(io::ErrorKind::PermissionDenied));
    assert!(
        refused.contains("usermod") || refused.contains("chgrp"),
        "{refused}"
    );
    assert!(explain_emulated().contains("nested virtualisation"));
}
