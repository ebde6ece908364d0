//! A small proxy in front of a registry that breaks what passes through it, as a script says, and remembers what it saw.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: Vec<u8>,
    /// How many requests with this method and target came before.
    pub(crate) earlier: usize,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    pub(crate) fn is_blob(&self) -> bool {
        self.method == "GET" && self.target.contains("/blobs/sha256:")
    }

    pub(crate) fn is_manifest(&self) -> bool {
        self.target.contains("/manifests/")
    }
}

/// What to do with a request.
pub(crate) enum Action {
    /// Let it through.
    Pass,
    /// Let it through without one of its headers.
    Without(&'static str),
    /// Let it through, and close the connection after so many bytes of the answer's body.
    Cut(usize),
    /// Let it through, and fall silent after so many bytes of the answer's body.
    Stall(usize),
    /// Let it through, and change one byte of the answer's body.
    Flip(usize),
    /// Let it through piece by piece. Each waits until this, which is told how many bytes went before it and how many it
    /// has, returns.
    Paced(Box<dyn FnMut(usize, usize)>),
    /// Answer with this head, without the final empty line, and body.
    Answer(String, Vec<u8>),
    /// Answer with this head and a body without end.
    Endless(String),
    /// Let it through, but let single bytes of the answer's body drip.
    Drip,
    /// Answer nothing.
    Hang,
    /// Close the connection.
    Close,
}

type Script = dyn Fn(&Seen) -> Action + Send + Sync;

/// The proxy, serving until dropped.
pub(crate) struct Faults {
    /// `127.0.0.1:PORT`.
    pub(crate) address: String,
    shared: Arc<Shared>,
}

struct Shared {
    upstream: String,
    script: Box<Script>,
    seen: Mutex<Vec<Seen>>,
    stop: AtomicBool,
}

impl Faults {
    pub(crate) fn start(
        upstream: &str,
        script: impl Fn(&Seen) -> Action + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let shared = Arc::new(Shared {
            upstream: upstream.to_owned(),
            script: Box::new(script),
            seen: Mutex::default(),
            stop: AtomicBool::new(false),
        });
        let server = shared.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if server.stop.load(Ordering::Relaxed) {
                    return;
                }
                let server = server.clone();
                let stream = stream.unwrap();
                std::thread::spawn(move || {
                    // A client that went away is no fault of the proxy.
                    let _ = server.serve(stream);
                });
            }
        });
        Self { address, shared }
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap().clone()
    }

    pub(crate) fn count(&self, matches: impl Fn(&Seen) -> bool) -> usize {
        self.seen().iter().filter(|seen| matches(seen)).count()
    }
}

impl Drop for Faults {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(&self.address);
    }
}

impl Shared {
    fn serve(&self, client: TcpStream) -> io::Result<()> {
        client.set_read_timeout(Some(Duration::from_secs(10)))?;
        let mut reader = BufReader::new(client.try_clone()?);
        let mut writer = client;
        let Some((line, headers)) = head(&mut reader)? else {
            return Ok(());
        };
        let mut words = line.split(' ');
        let (method, target) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        let length = headers
            .get("content-length")
            .map_or(0, |value| value.parse().unwrap());
        let mut body = Vec::new();
        reader.by_ref().take(length).read_to_end(&mut body)?;
        let mut request = Seen {
            method: method.to_owned(),
            target: target.to_owned(),
            headers,
            body,
            earlier: 0,
        };
        {
            let mut seen = self.seen.lock().unwrap();
            let same =
                |other: &&Seen| other.method == request.method && other.target == request.target;
            request.earlier = seen.iter().filter(same).count();
            seen.push(request.clone());
        }
        match (self.script)(&request) {
            Action::Pass => self.pass(&request, &mut writer, usize::MAX, None),
            Action::Without(header) => {
                request.headers.remove(header);
                self.pass(&request, &mut writer, usize::MAX, None)
            }
            Action::Cut(at) => self.pass(&request, &mut writer, at, None),
            Action::Stall(at) => {
                self.pass(&request, &mut writer, at, None)?;
                self.hang();
                Ok(())
            }
            Action::Paced(pace) => carry(&request, &self.upstream, &mut writer, pace),
            Action::Flip(at) => self.pass(&request, &mut writer, usize::MAX, Some(at)),
            Action::Answer(head, body) => {
                write!(
                    writer,
                    "{head}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
                    body.len()
                )?;
                writer.write_all(&body)
            }
            Action::Endless(head) => {
                write!(writer, "{head}\r\nConnection: close\r\n\r\n")?;
                let until = Instant::now() + Duration::from_secs(10);
                while Instant::now() < until && !self.stop.load(Ordering::Relaxed) {
                    writer.write_all(&[b' '; 4096])?;
                }
                Ok(())
            }
            Action::Drip => {
                self.pass(&request, &mut writer, 0, None)?;
                let until = Instant::now() + Duration::from_secs(10);
                while Instant::now() < until && !self.stop.load(Ordering::Relaxed) {
                    writer.write_all(b"x")?;
                    std::thread::sleep(Duration::from_millis(20));
                }
                Ok(())
            }
            Action::Hang => {
                self.hang();
                Ok(())
            }
            Action::Close => Ok(()),
        }
    }

    fn hang(&self) {
        let until = Instant::now() + Duration::from_secs(10);
        while Instant::now() < until && !self.stop.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Asks upstream and hands on at most `limit` bytes of the body, the `flip`-th changed.
    fn pass(
        &self,
        request: &Seen,
        client: &mut TcpStream,
        limit: usize,
        flip: Option<usize>,
    ) -> io::Result<()> {
        let mut upstream = ask(&self.upstream, request)?;
        let mut answer = Vec::new();
        upstream.read_to_end(&mut answer)?;
        let start = answer
            .windows(4)
            .position(|window| window == b"\r\n\r\n")
            .map_or(answer.len(), |at| at + 4);
        if let Some(byte) = flip.and_then(|flip| answer.get_mut(start + flip)) {
            *byte ^= 1;
        }
        let end = answer.len().min(start.saturating_add(limit));
        client.write_all(&answer[..end])
    }
}

/// Hands on what upstream answers, piece by piece.
fn carry(
    request: &Seen,
    upstream: &str,
    client: &mut TcpStream,
    mut pace: impl FnMut(usize, usize),
) -> io::Result<()> {
    let mut server = ask(upstream, request)?;
    let mut piece = vec![0; 32 << 10];
    let mut before = 0;
    loop {
        let count = server.read(&mut piece)?;
        if count == 0 {
            return Ok(());
        }
        pace(before, count);
        client.write_all(&piece[..count])?;
        before += count;
    }
}

/// Sends a request upstream.
fn ask(upstream: &str, request: &Seen) -> io::Result<TcpStream> {
    let mut upstream = TcpStream::connect(upstream)?;
    write!(
        upstream,
        "{} {} HTTP/1.1\r\n",
        request.method, request.target
    )?;
    for (name, value) in &request.headers {
        if name != "connection" {
            write!(upstream, "{name}: {value}\r\n")?;
        }
    }
    write!(upstream, "Connection: close\r\n\r\n")?;
    upstream.write_all(&request.body)?;
    Ok(upstream)
}

/// The first line and the headers, with names in lower case.
fn head(reader: &mut impl BufRead) -> io::Result<Option<(String, HashMap<String, String>)>> {
    let mut first = String::new();
    if reader.read_line(&mut first)? == 0 {
        return Ok(None);
    }
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let line = line.trim_end();
        if line.is_empty() {
            return Ok(Some((first.trim_end().to_owned(), headers)));
        }
        if let Some((name, value)) = line.split_once(':') {
            headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
    }
}
