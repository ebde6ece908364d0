//! Tests of fragments, of their key in the cache and of the check against Kconfig's output.

use super::Fragment;

fn fragment(text: &str) -> Fragment {
    let mut fragment = Fragment::default();
    fragment.add(text).unwrap();
    fragment
}

#[test]
fn strips_reasons_and_sorts() {
    let text = "# A title\n\nCONFIG_B=y     # because\nCONFIG_A=\"-hull\" # shown by uname\nCONFIG_N=14 # small\n";
    assert_eq!(
        fragment(text).kconfig(),
        "CONFIG_A=\"-hull\"\nCONFIG_B=y\nCONFIG_N=14\n"
    );
}

#[test]
fn refuses_lines_without_reason_value_or_name() {
    for text in [
        "CONFIG_A=y",
        "CONFIG_A=y #",
        "CONFIG_A # reason",
        "CONFIG_A= # reason",
        "A=y # reason",
    ] {
        assert!(Fragment::default().add(text).is_err(), "{text:?}");
    }
}

#[test]
fn refuses_the_same_option_twice_in_a_file_but_lets_a_flavour_override() {
    assert!(
        Fragment::default()
            .add("CONFIG_A=y # one\nCONFIG_A=n # two\n")
            .is_err()
    );
    let mut both = fragment("CONFIG_A=y # one\n");
    both.add("CONFIG_A=n # the flavour has none\n").unwrap();
    assert_eq!(both.kconfig(), "CONFIG_A=n\n");
}

#[test]
fn key_depends_on_options_and_release_but_not_on_reasons() {
    let key = fragment("CONFIG_A=y # one\nCONFIG_B=y # two\n").key("6.12.1", "");
    assert_eq!(
        key,
        fragment("CONFIG_B=y # another\n\nCONFIG_A=y # order\n").key("6.12.1", "")
    );
    assert_ne!(key, fragment("CONFIG_A=y # one\n").key("6.12.1", ""));
    assert_ne!(
        key,
        fragment("CONFIG_A=y # one\nCONFIG_B=y # two\n").key("6.12.2", "")
    );
    assert_ne!(
        key,
        fragment("CONFIG_A=y # one\nCONFIG_B=y # two\n").key("6.12.1", "--- a/file")
    );
    assert_eq!(key.len(), 16);
}

#[test]
fn check_names_each_option_that_was_lost_or_forced() {
    let wanted = fragment(
        "CONFIG_A=y # 1\nCONFIG_B=n # 2\nCONFIG_C=14 # 3\nCONFIG_D=y # 4\nCONFIG_E=n # 5\n",
    );
    wanted
        .check("CONFIG_A=y\n# CONFIG_B is not set\nCONFIG_C=14\nCONFIG_D=y\n")
        .unwrap();
    let error = wanted
        .check("CONFIG_A=y\nCONFIG_B=y\nCONFIG_C=17\n")
        .unwrap_err()
        .to_string();
    for part in [
        "3 of 5",
        "CONFIG_B: n is asked for, y",
        "CONFIG_C: 14 is asked for, 17",
        "CONFIG_D: y is asked for, n",
    ] {
        assert!(error.contains(part), "{part:?} in {error}");
    }
    assert!(
        !error.contains("CONFIG_A") && !error.contains("CONFIG_E"),
        "{error}"
    );
}

#[test]
fn the_fragments_of_this_repository_are_well_formed() {
    for flavour in crate::kernel::Flavour::ALL {
        let mut fragment = Fragment::default();
        for name in flavour.fragments() {
            fragment
                .add_file(&crate::workspace::root().join("kernel-config").join(name))
                .unwrap();
        }
        assert!(fragment.kconfig().contains("CONFIG_PVH=y\n"));
    }
}
