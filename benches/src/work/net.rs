//! Both ends of a connection: who serves, outside of the guest, and who asks.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use anyhow::{Result, ensure};

use crate::{time, time_each};

/// Where it is served.
pub(crate) const PORT: u16 = 7007;
/// Bytes that are carried each way.
const CARRIED: usize = 16 << 20;
/// Bytes of one write.
const PIECE: usize = 128 << 10;
/// Connections that are made, and questions that are asked.
const TIMES: u32 = 100;

/// Does for each connection what its first byte says, one after the other, until somebody ends it.
pub(crate) fn serve() -> Result<()> {
    let listener = TcpListener::bind(("0.0.0.0", PORT))?;
    println!("ready");
    for stream in listener.incoming() {
        // Who goes away is no fault.
        let _ = answer(stream?);
    }
    Ok(())
}

fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut word = [0];
    while stream.read(&mut word)? > 0 {
        match word {
            // All that comes, then a byte back.
            [b'<'] => {
                receive(&mut stream)?;
                stream.write_all(b"!")?;
            }
            [b'>'] => send(&mut stream)?,
            _ => stream.write_all(&word)?,
        }
    }
    Ok(())
}

fn send(stream: &mut TcpStream) -> std::io::Result<()> {
    let piece = vec![1; PIECE];
    (0..CARRIED / PIECE).try_for_each(|_| stream.write_all(&piece))
}

fn receive(stream: &mut TcpStream) -> std::io::Result<()> {
    let (mut left, mut piece) = (CARRIED, vec![0; PIECE]);
    while left > 0 {
        match stream.read(&mut piece)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            count => left = left.saturating_sub(count),
        }
    }
    Ok(())
}

/// Connects to who serves at this address.
pub(crate) fn ask(server: &str) -> Result<()> {
    let connect = || TcpStream::connect((server, PORT));
    // Once for names, neighbours and windows.
    let mut stream = connect()?;
    stream.set_nodelay(true)?;
    let mut answer = [0];
    for round in ["", "ask and be answered, a byte each"] {
        let mut ask = || -> Result<()> {
            for _ in 0..TIMES {
                stream.write_all(b"?")?;
                stream.read_exact(&mut answer)?;
            }
            Ok(())
        };
        match round {
            "" => ask()?,
            what => time_each(what, TIMES, ask)?,
        }
    }
    time_each("connect and close", TIMES, || {
        (0..TIMES).try_for_each(|_| connect().map(drop))?;
        Ok(())
    })?;
    for round in ["", "send 16 MiB"] {
        let mut work = || -> Result<()> {
            stream.write_all(b"<")?;
            send(&mut stream)?;
            stream.read_exact(&mut answer)?;
            Ok(())
        };
        match round {
            "" => work()?,
            what => time(what, work)?,
        }
    }
    ensure!(answer == *b"!", "The server's last word was another");
    time("receive 16 MiB", || {
        stream.write_all(b">")?;
        receive(&mut stream)?;
        Ok(())
    })
}
