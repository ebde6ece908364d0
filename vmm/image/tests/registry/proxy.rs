//! Proxies from the environment: which connections go through one, and what it is told.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use image::registry::{Fault, RegistryError};

use crate::fixture::{Home, Image, Registry, noise};

/// A proxy that understands CONNECT, leads everything to one place, and remembers what it was told.
struct Tunnel {
    address: String,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Tunnel {
    fn to(upstream: &str, refuse: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let heads = Arc::new(Mutex::new(Vec::new()));
        let (told, upstream) = (heads.clone(), upstream.to_owned());
        // Ends with the test's process: nothing connects to it any more then.
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (told, upstream) = (told.clone(), upstream.clone());
                std::thread::spawn(move || serve(client.unwrap(), &told, &upstream, refuse));
            }
        });
        Self { address, heads }
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

fn serve(mut client: TcpStream, told: &Mutex<Vec<String>>, upstream: &str, refuse: bool) {
    let mut reader = BufReader::new(client.try_clone().unwrap());
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).unwrap() == 0 {
            return;
        }
    }
    told.lock().unwrap().push(head);
    if refuse {
        client
            .write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
            .unwrap();
        return;
    }
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
    let mut server = TcpStream::connect(upstream).unwrap();
    let (mut back, mut forth) = (server.try_clone().unwrap(), client.try_clone().unwrap());
    let other = std::thread::spawn(move || std::io::copy(&mut back, &mut forth));
    // Either side may close at any time.
    let _ = std::io::copy(&mut reader, &mut server);
    let _ = server.shutdown(std::net::Shutdown::Write);
    let _ = other.join();
}

#[test]
fn a_registry_is_reached_through_the_proxy_of_its_scheme() {
    let registry = Registry::with_tls();
    let tunnel = Tunnel::to(&registry.address, false);
    let mut home = Home::new();
    home.tls_verify = Some(false);
    home.variable("HTTPS_PROXY", format!("http://me:pw@{}", tunnel.address));
    home.variable("http_proxy", "http://127.0.0.1:9");
    home.variable("NO_PROXY", "direct.test");
    // A name that only the proxy knows.
    let to = "registry.test:8443/app:1".parse().unwrap();
    let image = Image::new(vec![noise(1, 200_000)]);
    image.publish(&home.client(), &to);
    image.assert_pulled(&home.client(), &to);
    let heads = tunnel.heads();
    assert!(!heads.is_empty());
    for head in heads {
        assert!(
            head.starts_with("CONNECT registry.test:8443 HTTP/1.1\r\n"),
            "{head}"
        );
        assert!(
            head.contains("Proxy-Authorization: Basic bWU6cHc=\r\n"),
            "{head}"
        );
    }
    // This machine is reached without it.
    let before = tunnel.heads().len();
    image.assert_pulled(&home.client(), &registry.name("app:1"));
    assert_eq!(tunnel.heads().len(), before);
}

#[test]
fn a_proxy_that_refuses_is_named_without_its_password() {
    let tunnel = Tunnel::to("127.0.0.1:9", true);
    let mut home = Home::new();
    home.tls_verify = Some(true);
    home.variable("SSL_CERT_FILE", {
        let registry = Registry::with_tls();
        home.write(
            "ca.pem",
            std::fs::read(registry.directory.path().join("cert.pem")).unwrap(),
        )
    });
    let from = "registry.test/app:1".parse().unwrap();
    for (proxy, refused) in [
        (format!("http://me:sekrit@{}", tunnel.address), true),
        ("sekrit://x y".to_owned(), false),
    ] {
        home.variable("https_proxy", proxy);
        let error = home.client().open(&from).unwrap().head().unwrap_err();
        assert!(
            !format!("{error} {error:?}").contains("sekrit"),
            "{error:?}"
        );
        let RegistryError::Exchange(exchange) = error else {
            panic!("{error:?}")
        };
        match refused {
            true => assert!(
                matches!(exchange.fault, Fault::ProxyRefused(_)),
                "{exchange}"
            ),
            false => assert!(matches!(exchange.fault, Fault::Proxy), "{exchange}"),
        }
    }
}
