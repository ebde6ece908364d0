//! Messages as servers make them, and as attackers do.

use super::*;

const QUERY: &[u8] = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03wWw\x07example\x03ORG\x00\x00\x01\x00\x01";

fn answer(records: &[&[u8]]) -> Vec<u8> {
    let mut out = QUERY.to_vec();
    out[2] = 0x81;
    out[7] = u8::try_from(records.len()).unwrap();
    for record in records {
        out.extend(*record);
    }
    out
}

const ALIAS: &[u8] = b"\xc0\x0c\x00\x05\x00\x01\x00\x00\x00\x3c\x00\x02\xc0\x10";
const FOUR: &[u8] = b"\xc0\x10\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\xc0\x00\x02\x01";
const SIX: &[u8] = b"\x03www\x00\x00\x1c\x00\x01\x00\x00\x00\x3c\x00\x10\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01";

#[test]
fn finds_names_and_addresses() {
    let question = question(QUERY).unwrap();
    assert_eq!((question.id, &*question.name), (0x1234, "www.example.org"));
    let found = addresses(&answer(&[ALIAS, FOUR, SIX]), &question);
    let wanted: Vec<IpAddr> = vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()];
    assert_eq!(found, wanted);
    let refusal = refusal(QUERY, &question).unwrap();
    assert_eq!(
        refusal[..12],
        *b"\x12\x34\x81\x85\x00\x01\x00\x00\x00\x00\x00\x00"
    );
    assert_eq!(refusal[12..], QUERY[12..]);
}

#[test]
fn an_answer_to_something_else_has_no_addresses() {
    let question = question(QUERY).unwrap();
    let mut other = answer(&[FOUR]);
    other[1] = 0;
    assert!(addresses(&other, &question).is_empty());
    let mut other = answer(&[FOUR]);
    other[13] = b'x';
    assert!(addresses(&other, &question).is_empty());
    // A question is no answer.
    let mut other = answer(&[FOUR]);
    other[2] = 0x01;
    assert!(addresses(&other, &question).is_empty());
}

#[test]
fn what_is_cut_or_bent_is_survived() {
    let asked = question(QUERY).unwrap();
    let whole = answer(&[ALIAS, FOUR, SIX]);
    for length in 0..whole.len() {
        let cut = &whole[..length];
        question(cut);
        assert!(addresses(cut, &asked).len() <= 2);
        for value in [0, 0x3f, 0x40, 0xc0, 0xff] {
            let mut bent = whole.clone();
            bent[length] = value;
            addresses(&bent, &asked);
            refusal(&bent, &asked);
        }
    }
    assert!(question(b"\0\0\0\0\0\x01\0\0\0\0\0\0\x03a.b\0\0\x01\0\x01").is_none());
    assert!(question(b"\0\0\0\0\0\x02\0\0\0\0\0\0\0\0\x01\0\x01").is_none());
}
