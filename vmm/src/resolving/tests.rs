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

#[test]
fn who_follows_hears_of_other_servers_once_and_when_asked() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("resolv.conf");
    let write = |text: &str| {
        let new = directory.path().join("new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, &path).unwrap();
    };
    write("nameserver 192.0.2.1\n");
    let (mut following, asks) = Following::of(path.to_str().unwrap().to_owned().leak()).unwrap();
    let mut ask = || {
        send(&asks, &[0], SendFlags::empty()).unwrap();
        assert!(following.answer());
        let mut answer = [0; 64];
        let heard = recv(&asks, &mut answer[..], RecvFlags::DONTWAIT);
        heard.ok().map(|(length, _)| answer[..length].to_vec())
    };
    assert_eq!(ask(), None);
    write("nameserver 192.0.2.2\nnameserver 2001:db8::2\n");
    let servers = ["192.0.2.2", "2001:db8::2"].map(|server| server.parse().unwrap());
    assert_eq!(ask(), Some(network::encode_servers(&servers)));
    assert_eq!(ask(), None);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(
        ask(),
        Some(network::encode_servers(&[Ipv4Addr::LOCALHOST.into()]))
    );
    drop(asks);
    assert!(!following.answer(), "its network is gone");
}
