//! resolv.conf as it is found.

use super::*;

#[test]
fn reads_what_counts() {
    let found = parse(
        "# made by hand\nnameserver 192.0.2.1\nnameserver fe80::1%eth0\n\
         nameserver 2001:db8::53 # second\ndomain old\nsearch example.org example.com\noptions ndots:2 edns0\n",
    );
    let servers: Vec<IpAddr> = vec![
        "192.0.2.1".parse().unwrap(),
        "2001:db8::53".parse().unwrap(),
    ];
    assert_eq!(found.servers, servers);
    assert_eq!(found.search, ["example.org", "example.com"]);
    assert_eq!(found.options, ["ndots:2", "edns0"]);
}

#[test]
fn a_host_without_servers_asks_itself() {
    assert_eq!(parse("").servers, [IpAddr::V4(Ipv4Addr::LOCALHOST)]);
}
