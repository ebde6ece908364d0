//! As much of DNS (RFC 1035) as it takes to see which name is asked for and which addresses are answered. Refuses to resolve.

#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The port.
pub(crate) const PORT: u16 = 53;

const HEADER: usize = 12;
/// Bytes of a record before its data, with a name that points.
const RECORD: usize = 12;
/// Most records of an answer that are looked at.
const MOST_RECORDS: u16 = 256;
const A: u16 = 1;
const AAAA: u16 = 28;
const INTERNET: u16 = 1;
/// The flags of an answer that refuses: response, recursion available, code 5.
const REFUSED: [u8; 2] = [0x81, 0x85];
/// Those of an answer with authority: the same but code 0.
const ANSWERED: [u8; 2] = [0x85, 0x80];
/// As many bytes of answers as fit into any message.
const MOST_ANSWERS: usize = 512;

/// What a message asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Question {
    pub(crate) id: u16,
    /// In lower case, without the last dot.
    pub(crate) name: String,
    kind: u16,
    /// Where the records after it begin.
    end: usize,
}

/// The question of a query or an answer. One that asks nothing, or more than one thing, has none.
pub(crate) fn question(message: &[u8]) -> Option<Question> {
    let [id0, id1, _, _, 0, 1, ..] = message else {
        return None;
    };
    let mut name = String::new();
    let mut at = HEADER;
    loop {
        let length = usize::from(*message.get(at)?);
        at = at.checked_add(1)?;
        if length == 0 {
            break;
        }
        // No question needs to point elsewhere.
        if length > 63 || name.len() > 253 {
            return None;
        }
        let end = at.checked_add(length)?;
        let label = message.get(at..end)?;
        // A dot within a label would make another name of it.
        if label.contains(&b'.') {
            return None;
        }
        if !name.is_empty() {
            name.push('.');
        }
        name.push_str(&String::from_utf8(label.to_ascii_lowercase()).ok()?);
        at = end;
    }
    let [k0, k1, c0, c1] = *message.get(at..)?.first_chunk()?;
    (u16::from_be_bytes([c0, c1]) == INTERNET).then_some(Question {
        id: u16::from_be_bytes([*id0, *id1]),
        name,
        kind: u16::from_be_bytes([k0, k1]),
        end: at.checked_add(4)?,
    })
}

/// The addresses of an answer to `question`; nothing if it answers another one.
pub(crate) fn addresses(message: &[u8], question: &Question) -> Vec<IpAddr> {
    let mut found = Vec::new();
    if self::question(message).as_ref() == Some(question) {
        // A record that is not whole ends the list.
        let _ = collect(message, question, &mut found);
    }
    found
}

fn collect(message: &[u8], question: &Question, found: &mut Vec<IpAddr>) -> Option<()> {
    let [_, _, flags, _, _, _, c0, c1, ..] = message else {
        return None;
    };
    if flags & 0x80 == 0 {
        return None;
    }
    let mut at = question.end;
    for _ in 0..u16::from_be_bytes([*c0, *c1]).min(MOST_RECORDS) {
        at = skip_name(message, at)?;
        let [k0, k1, _, _, _, _, _, _, l0, l1] = *message.get(at..)?.first_chunk()?;
        let start = at.checked_add(10)?;
        at = start.checked_add(u16::from_be_bytes([l0, l1]).into())?;
        let data = message.get(start..at)?;
        match (u16::from_be_bytes([k0, k1]), data.len()) {
            (A, 4) => found.push(Ipv4Addr::from(*data.first_chunk()?).into()),
            (AAAA, 16) => found.push(Ipv6Addr::from(*data.first_chunk()?).into()),
            _ => {}
        }
    }
    Some(())
}

fn skip_name(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        let length = *message.get(at)?;
        match length {
            0 => return at.checked_add(1),
            1..=63 => at = at.checked_add(1)?.checked_add(length.into())?,
            0xc0.. => return at.checked_add(2),
            _ => return None,
        }
    }
}

/// An answer to `query` from whoever must know: those of these addresses that the question is for.
pub(crate) fn answer(query: &[u8], question: &Question, addresses: &[IpAddr]) -> Option<Vec<u8>> {
    let mut answer = query.get(..question.end)?.to_vec();
    let mut count = 0_u16;
    for address in addresses {
        let (kind, bytes) = match address {
            IpAddr::V4(address) => (A, address.octets().to_vec()),
            IpAddr::V6(address) => (AAAA, address.octets().to_vec()),
        };
        let room = MOST_ANSWERS.saturating_sub(answer.len());
        if kind != question.kind || bytes.len().saturating_add(RECORD) > room {
            continue;
        }
        count = count.saturating_add(1);
        // The name of the question, its kind, and seconds for which this holds.
        answer.extend([0xc0, 12]);
        answer.extend([kind, INTERNET].map(u16::to_be_bytes).as_flattened());
        answer.extend([0, 0, 0, 1, 0, u8::try_from(bytes.len()).ok()?]);
        answer.extend(bytes);
    }
    if let Some([f0, f1, _, _, c0, c1, rest @ ..]) = answer.get_mut(2..HEADER) {
        [*f0, *f1] = ANSWERED;
        [*c0, *c1] = count.to_be_bytes();
        rest.fill(0);
    }
    Some(answer)
}

/// An answer that refuses to answer `query`.
pub(crate) fn refusal(query: &[u8], question: &Question) -> Option<Vec<u8>> {
    let mut answer = query.get(..question.end)?.to_vec();
    if let Some([f0, f1, _, _, counts @ ..]) = answer.get_mut(2..HEADER) {
        [*f0, *f1] = REFUSED;
        counts.fill(0);
    }
    Some(answer)
}
