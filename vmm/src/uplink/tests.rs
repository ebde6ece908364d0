//! Addresses of cards, and devices that cannot be had.

use super::*;

#[test]
fn an_address_comes_with_its_network() {
    let cidr = |text: &str| text.parse::<Cidr>().map_err(drop);
    let own = cidr("192.0.2.5/24").unwrap();
    assert_eq!(own.to_string(), "192.0.2.5/24");
    assert!(own.has("192.0.2.1".parse().unwrap()) && !own.has("192.0.3.1".parse().unwrap()));
    assert!(!own.has("::1".parse().unwrap()));
    let six = cidr("2001:db8::5/64").unwrap();
    assert!(six.has("2001:db8::1".parse().unwrap()));
    assert!(!six.has("2001:db8:0:1::1".parse().unwrap()));
    assert!(cidr("0.0.0.0/0").unwrap().has("192.0.2.1".parse().unwrap()));
    for odd in [
        "192.0.2.5",
        "192.0.2.5/33",
        "::1/129",
        "/8",
        "x/8",
        "192.0.2.5/",
        "192.0.2.5/-1",
    ] {
        assert_eq!(cidr(odd), Err(()), "{odd}");
    }
}

#[test]
fn a_card_is_what_guest_init_is_told() {
    let card = Card {
        addresses: vec!["192.0.2.5/24".parse().unwrap()],
        ways: vec![
            Way::out("192.0.2.1".parse().unwrap()),
            Way {
                to: "198.51.100.0/24".parse().unwrap(),
                by: None,
            },
        ],
    };
    let network = card.network([2, 0, 0, 0, 0, 1], 1500);
    assert_eq!(network.addresses[0].address, Bytes(vec![192, 0, 2, 5]));
    assert_eq!(network.routes[0].destination, Bytes(vec![0; 4]));
    assert_eq!(network.routes[0].gateway, Bytes(vec![192, 0, 2, 1]));
    assert_eq!(
        (network.routes[1].prefix, network.routes[1].gateway.len()),
        (24, 0)
    );
}

#[test]
fn names_of_devices_are_those_that_the_kernel_takes() {
    for name in ["tap0", "a", "br-1.2_x", "fifteen-letters"] {
        assert!(is_device_name(name), "{name}");
    }
    for name in [
        "",
        ".",
        "..",
        "a/b",
        "a b",
        "tap%d",
        "a:b",
        "sixteen-letters-",
        "tap\n",
        "é",
    ] {
        assert!(!is_device_name(name), "{name}");
    }
}
