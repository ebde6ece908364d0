//! `--ulimit NAME=SOFT[:HARD]`, docker's names for setrlimit(2). Sets nothing.

use std::str::FromStr;

use protocol::Limit;

/// In the order of their numbers on x86-64 Linux; the empty one (address space) has no name in docker.
const NAMES: [&str; 16] = [
    "cpu",
    "fsize",
    "data",
    "stack",
    "core",
    "rss",
    "nproc",
    "nofile",
    "memlock",
    "",
    "locks",
    "sigpending",
    "msgqueue",
    "nice",
    "rtprio",
    "rttime",
];

/// A limit of a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ulimit(pub(crate) Limit);

/// What is no limit.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UlimitError {
    #[error("write it as nofile=1024 or nofile=1024:2048")]
    Form,
    #[error("no resource {0:?}: there are {names}", names = names())]
    Resource(String),
    #[error("{0:?} is not a number, nor -1 for no limit")]
    Number(String),
    #[error("the soft limit is above the hard one")]
    Order,
}

impl FromStr for Ulimit {
    type Err = UlimitError;

    fn from_str(text: &str) -> Result<Self, UlimitError> {
        let (name, limits) = text.split_once('=').ok_or(UlimitError::Form)?;
        let known = NAMES
            .iter()
            .position(|known| *known == name && !name.is_empty());
        let resource = known.and_then(|number| u8::try_from(number).ok());
        let resource = resource.ok_or_else(|| UlimitError::Resource(name.to_owned()))?;
        let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
        let (soft, hard) = (number(soft)?, number(hard)?);
        if soft > hard {
            return Err(UlimitError::Order);
        }
        Ok(Self(Limit {
            resource,
            soft,
            hard,
        }))
    }
}

fn names() -> String {
    let named = NAMES.into_iter().filter(|name| !name.is_empty());
    named.collect::<Vec<_>>().join(" ")
}

fn number(text: &str) -> Result<u64, UlimitError> {
    match text {
        "-1" | "unlimited" => Ok(u64::MAX),
        _ if text.starts_with('+') => Err(UlimitError::Number(text.to_owned())),
        _ => text
            .parse()
            .map_err(|_| UlimitError::Number(text.to_owned())),
    }
}
