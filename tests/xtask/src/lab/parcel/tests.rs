//! A parcel arrives as it was sent, whatever bytes are in it.

use super::*;

#[test]
fn arrives_as_it_was_sent() {
    let odd = OsString::from_vec(b"a b\n\"c\" \xff $d".to_vec());
    let parcel = Parcel {
        terminal: false,
        directory: PathBuf::from("/some where"),
        command: vec!["sh".into(), OsString::new(), odd.clone()],
        environment: vec![("A".into(), OsString::new()), ("B".into(), odd)],
    };
    assert_eq!(Parcel::decode(&parcel.encode()).unwrap(), parcel);
}

#[test]
fn a_cut_parcel_is_refused() {
    assert!(Parcel::decode(b"").is_err());
    assert!(Parcel::decode(b"pipes\0/\x003\0a\0b\0").is_err());
}
