//! Values of the network's flags.

use super::*;

#[test]
fn networks_that_cannot_be_are_refused_with_the_reason() {
    assert_eq!("bridge".parse::<Connection>().unwrap(), Connection::Default);
    let reason = |text: &str| text.parse::<Connection>().unwrap_err().to_string();
    assert!(reason("host").contains("host-gateway"));
    assert!(reason("container:db").contains("another container's"));
    assert!(reason("a/b").contains("no name"));
    let own: Connection = "backend".parse().unwrap();
    assert_eq!(own.own(), Some("backend"));
}

#[test]
fn hardware_addresses() {
    assert_eq!(
        "02:42:ac:11:00:02".parse::<Mac>().unwrap(),
        Mac([2, 0x42, 0xac, 0x11, 0, 2])
    );
    for text in [
        "",
        "02:42:ac:11:00",
        "03:42:ac:11:00:02",
        "+2:42:ac:11:00:02",
        "00:00:00:00:00:00",
    ] {
        assert!(text.parse::<Mac>().is_err(), "{text}");
    }
}

#[test]
fn egress_values() {
    assert_eq!("deny".parse::<Egress>().unwrap(), Egress::Deny);
    let rule = "*.example.org:443";
    let Egress::Allow(parsed) = format!("allow={rule}").parse().unwrap() else {
        panic!("no rule");
    };
    assert_eq!(parsed.to_string(), rule);
    for text in ["", "allow", "allow=", "deny=1", "allow=a b", "allow=host:0"] {
        assert!(text.parse::<Egress>().is_err(), "{text}");
    }
}

#[test]
fn rates() {
    let rates = |text: &str| {
        let NetRate(rates) = text.parse().unwrap();
        (rates.inward, rates.outward)
    };
    assert_eq!(rates("10m"), (Some(10 << 20), Some(10 << 20)));
    assert_eq!(rates("in=8k"), (Some(8 << 10), None));
    assert_eq!(rates("out=1g,in=1m"), (Some(1 << 20), Some(1 << 30)));
    for text in ["", "0", "8191", "fast", "in=1m,in=2m", "up=1m", "1m,out=1m"] {
        assert!(text.parse::<NetRate>().is_err(), "{text}");
    }
}
