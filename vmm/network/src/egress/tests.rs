//! What rules say, and what no rule can.

use super::*;

fn egress(texts: &[&str]) -> Egress {
    Egress::new(Some(
        texts.iter().map(|text| text.parse().unwrap()).collect(),
    ))
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn rules_are_read_and_written() {
    for text in [
        "192.0.2.1/32",
        "10.0.0.0/8:443",
        "[2001:db8::/32]:53",
        "2001:db8::1/128",
        "example.org",
        "*.example.org:443",
    ] {
        assert_eq!(text.parse::<Rule>().unwrap().to_string(), text);
    }
    assert_eq!(
        "Example.ORG.".parse::<Rule>().unwrap().to_string(),
        "example.org"
    );
    for text in [
        "",
        "*",
        "*.",
        "a..b",
        "10.0.0.0/33",
        "host:port",
        "host:0",
        "a b",
        "::1/129",
        "x/8",
    ] {
        assert!(text.parse::<Rule>().is_err(), "{text}");
    }
}

#[test]
fn networks_and_ports() {
    let egress = egress(&["192.0.2.0/24:443", "2001:db8::/32", "198.51.100.7"]);
    assert!(egress.allows(address("192.0.2.200"), Some(443)));
    assert!(!egress.allows(address("192.0.2.200"), Some(80)));
    assert!(!egress.allows(address("192.0.2.200"), None));
    assert!(!egress.allows(address("192.0.3.1"), Some(443)));
    assert!(egress.allows(address("2001:db8:ffff::1"), None));
    assert!(egress.allows(address("198.51.100.7"), Some(1)));
    assert!(!Egress::new(Some(Vec::new())).allows(address("192.0.2.1"), Some(443)));
    assert!(Egress::new(None).allows(address("192.0.2.1"), Some(443)));
}

#[test]
fn names_lead_where_dns_said() {
    let mut egress = egress(&["*.example.org:443", "example.com"]);
    assert!(egress.allows_name("a.b.example.org") && egress.allows_name("example.com"));
    for name in [
        "example.org",
        "badexample.org",
        "www.example.com",
        ".example.org",
        "",
    ] {
        assert!(!egress.allows_name(name), "{name}");
    }
    egress.pin("www.example.org", address("192.0.2.1"));
    egress.pin("evil.test", address("192.0.2.2"));
    assert!(egress.allows(address("192.0.2.1"), Some(443)));
    assert!(!egress.allows(address("192.0.2.1"), Some(22)));
    assert!(!egress.allows(address("192.0.2.2"), Some(443)));
    egress.pin("example.com", address("127.0.0.1"));
    assert!(!egress.allows(address("127.0.0.1"), Some(80)));
}

#[test]
fn pins_are_bounded() {
    let mut egress = egress(&["example.com"]);
    for number in 0..10_000_u32 {
        egress.pin(
            "example.com",
            Ipv4Addr::from_bits(0xc000_0000 + number).into(),
        );
    }
    assert!(egress.pins.len() <= MOST_PINS && egress.order.len() <= MOST_PINS);
    assert!(egress.allows(Ipv4Addr::from_bits(0xc000_0000 + 9999).into(), None));
}
