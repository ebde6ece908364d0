//! Lists of servers, turns, and questions that are kept.

use std::os::unix::net::UnixDatagram;

use super::*;

fn addresses(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

#[test]
fn a_list_arrives_as_it_was_sent() {
    let all = addresses(&["192.0.2.1", "2001:db8::53", "127.0.0.53"]);
    assert_eq!(decode_servers(&encode_servers(&all)), all);
    assert!(decode_servers(&[0; 15]).is_empty());
    assert_eq!(decode_servers(&[1; 16 * 40]).len(), MOST_SERVERS);
}

#[test]
fn the_host_is_asked_once_a_second_and_heard_until_it_is_gone() {
    let (host, own) = UnixDatagram::pair().unwrap();
    host.set_nonblocking(true).unwrap();
    let mut servers = Servers::new(addresses(&["192.0.2.1"]));
    servers.look(0);
    assert!(!servers.hear(), "there is nobody to ask");
    servers.heed(own.into());
    for now in [5, 6, 5 + LOOK - 1, 5 + LOOK] {
        servers.look(now);
    }
    let mut word = [0; 8];
    assert_eq!(host.recv(&mut word).unwrap(), 1);
    assert_eq!(host.recv(&mut word).unwrap(), 1);
    assert!(host.recv(&mut word).is_err());
    host.send(&encode_servers(&servers.all)).unwrap();
    assert!(!servers.hear(), "they are the same");
    servers.stay_with(1);
    let new = addresses(&["192.0.2.2", "192.0.2.3"]);
    host.send(&encode_servers(&new)).unwrap();
    assert!(servers.hear());
    assert_eq!((servers.all.clone(), servers.current), (new, 0));
}

#[test]
fn who_waits_asks_the_next_after_longer_and_longer() {
    let mut turn = Turn::new(0);
    let ticks = |turn: &mut Turn| (1..).find(|_| turn.tick(1)).unwrap();
    let waits: Vec<u32> = (0..5).map(|_| ticks(&mut turn)).collect();
    assert_eq!(waits, [4, 8, 16, 32, 32]);
    turn.answered();
    assert_eq!(ticks(&mut turn), 4);
    assert!(turn.refused(3) && turn.refused(3) && !turn.refused(3));
    assert!(turn.refused(2) && !turn.refused(2));
    assert!(!turn.refused(1));
}

#[test]
fn questions_are_kept_once_each_and_not_without_bound() {
    let mut servers = Servers::new(Vec::new());
    for round in 0..2 {
        servers.keep(1, &[0, 1, round], None);
        servers.keep(1, &[0, 2, round], None);
        servers.keep(2, &[0, 1, round], None);
    }
    let of_one: Vec<_> = servers.unanswered(1).map(<[u8]>::to_vec).collect();
    assert_eq!(of_one, [[0, 1, 1], [0, 2, 1]]);
    assert!(servers.take(1, &[0, 1]).is_some());
    assert!(servers.take(1, &[0, 1]).is_none());
    assert!(servers.take(2, &[0, 2]).is_none());
    servers.forget(2);
    assert_eq!(servers.queries.len(), 1);
    servers.keep(3, &[0; LONGEST_QUERY + 1], None);
    assert_eq!(servers.queries.len(), 1);
    for number in 0..u16::MAX {
        servers.keep(3, &number.to_be_bytes(), None);
    }
    assert_eq!(servers.queries.len(), MOST_QUERIES);
    assert_eq!(servers.unanswered(1).count(), 0, "the oldest is gone");
}
