//! Proxies from the environment.

use super::*;

fn proxies(variables: &'static [(&str, &str)]) -> Proxies {
    Proxies::new(&|name| {
        variables
            .iter()
            .find(|(key, _)| *key == name)
            .map(|(_, value)| (*value).into())
    })
}

fn of(proxies: &Proxies, secure: bool, authority: &str) -> Option<String> {
    let origin = Origin::new(secure, authority).unwrap();
    proxies.of(&origin).map(str::to_owned)
}

#[test]
fn each_scheme_has_its_proxy() {
    let both = proxies(&[
        ("HTTPS_PROXY", "http://s:1"),
        ("http_proxy", "http://h:1"),
        ("HTTP_PROXY", "http://loses:1"),
        ("ALL_PROXY", "http://a:1"),
    ]);
    assert_eq!(of(&both, true, "x.io").as_deref(), Some("http://s:1"));
    assert_eq!(of(&both, false, "x.io").as_deref(), Some("http://h:1"));
    let all = proxies(&[("ALL_PROXY", "http://a:1"), ("https_proxy", "")]);
    assert_eq!(of(&all, true, "x.io").as_deref(), Some("http://a:1"));
    assert_eq!(of(&proxies(&[]), true, "x.io"), None);
}

#[test]
fn this_machine_and_the_exempt_are_reached_directly() {
    let some = proxies(&[
        ("ALL_PROXY", "http://a:1"),
        (
            "NO_PROXY",
            "example.com, .inner.org,*.wild.net,10.0.0.0/8,192.168.1.1,[fd00::1],port.io:5000,fe80::/10,bad/x",
        ),
    ]);
    for (authority, direct) in [
        ("localhost:5000", true),
        ("127.3.2.1", true),
        ("[::1]", true),
        ("example.com", true),
        ("a.example.com:8443", true),
        ("notexample.com", false),
        ("inner.org", false),
        ("a.inner.org", true),
        ("b.wild.net", true),
        ("wild.net", false),
        ("10.200.3.4", true),
        ("11.0.0.1", false),
        ("192.168.1.1", true),
        ("192.168.1.2", false),
        ("[fd00::1]", true),
        ("[fe80::1]", true),
        ("[fec0::1]", false),
        ("port.io:5000", true),
        ("port.io", false),
    ] {
        assert_eq!(of(&some, true, authority).is_none(), direct, "{authority}");
    }
    let none = proxies(&[("ALL_PROXY", "http://a:1"), ("NO_PROXY", "*")]);
    assert_eq!(of(&none, true, "x.io"), None);
}
