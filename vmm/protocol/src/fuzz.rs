//! The body of the fuzz target: hostile bytes into every decoder. Called by tests/fuzz and by the tests of this crate.

use std::fmt::Debug;

use crate::{Decoder, FromGuest, FromHost, Item, Message, Opening, read, write};

/// Feeds `data` to the reader of each kind of message.
///
/// # Panics
/// When a decoded message is not the same after another round trip, or is shown with control characters, or the blocking and the incremental reader
/// differ.
pub fn decode(data: &[u8]) {
    kind::<Opening>(data);
    kind::<FromHost>(data);
    kind::<FromGuest>(data);
    kind::<Item>(data);
}

fn kind<M: Message + PartialEq + Debug>(data: &[u8]) {
    let mut rest = data;
    let mut decoder = Decoder::new();
    let mut bytes = data.chunks(7);
    loop {
        let mut source = rest;
        let Ok(Some(message)) = read::<M>(&mut source) else {
            break;
        };
        rest = source;
        let mut frame = Vec::new();
        let written = write(&mut frame, &message).ok();
        let again = written.map(|()| read::<M>(&mut frame.as_slice()));
        assert!(
            matches!(&again, Some(Ok(Some(again))) if *again == message),
            "{message:?} became {again:?}"
        );
        let shown = format!("{message:?}");
        assert!(!shown.contains(char::is_control), "{shown:?}");
        let incremental = loop {
            match decoder.take::<M>() {
                Ok(None) => match bytes.next() {
                    Some(more) => decoder.push(more),
                    None => break None,
                },
                Ok(found) => break found,
                Err(_) => break None,
            }
        };
        assert_eq!(incremental.as_ref(), Some(&message));
    }
    let left = decoder.into_rest().into_iter();
    let left: Vec<u8> = left.chain(bytes.flatten().copied()).collect();
    assert_eq!(left, rest);
}
