//! One HTTP request and its answer, with redirects, time-outs, back-off and bounds. Knows no registry, no image and no
//! credentials: an `Authorization` is a secret that belongs to one origin.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use ureq::config::Config;
use ureq::http::{HeaderMap, HeaderValue, Method, Request, header};
use ureq::unversioned::transport::DefaultConnector;
use ureq::{Agent, AsSendBody, Body, Proxy, SendBody};

use super::answer::Answer;
use super::error::{ExchangeError, Fault};
use super::names::Names;
use super::proxy::Proxies;
use super::text;
use super::tls::Authorities;
use super::url::{Origin, Url};
use crate::date;
use crate::secret::Secret;

#[cfg(test)]
mod tests;

/// Most redirects followed in a row.
const REDIRECTS_MAX: usize = 5;
/// How long a server may be silent after it got a whole blob: it may have to read all of it again.
const COMMIT: Duration = Duration::from_secs(300);
/// Longest answer header that is accepted, in bytes.
const HEADER_MAX: usize = 64 * 1024;

/// What bounds an exchange in time.
#[derive(Debug, Clone)]
pub struct Limits {
    /// To look up a name and connect, TLS included.
    pub connect: Duration,
    /// The longest silence while an answer or a request body is on its way.
    pub stall: Duration,
    /// From the request to the end of a small document (manifest, token).
    pub document: Duration,
    /// How often a request is tried in all.
    pub attempts: u32,
    /// The first pause between two attempts; it doubles.
    pub pause: Duration,
    /// The longest pause, also where `Retry-After` asks for more: then the exchange fails and says so.
    pub pause_max: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(20),
            stall: Duration::from_secs(30),
            document: Duration::from_secs(60),
            attempts: 5,
            pause: Duration::from_millis(250),
            pause_max: Duration::from_secs(60),
        }
    }
}

/// Told before a pause: the host, why, and how long.
pub(crate) type Pausing<'a> = &'a (dyn Fn(&str, &Fault, Duration) + Sync);

/// The client half of HTTP/1.1.
pub(crate) struct Http {
    authorities: Authorities,
    proxies: Proxies,
    verify: bool,
    pub(crate) limits: Limits,
    agents: Mutex<HashMap<(Origin, bool), Agent>>,
}

/// A request that can be made again.
pub(crate) struct Call<'a> {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) authorization: Option<Secret>,
    pub(crate) payload: Payload<'a>,
    /// Whether the server's certificate may be anybody's.
    pub(crate) insecure: bool,
    /// Whether the answer is a small document, bounded in time as a whole.
    pub(crate) document: bool,
    /// Whether it cannot be made again as it is: the caller starts over instead.
    pub(crate) once: bool,
}

/// What a request carries.
#[derive(Clone, Copy)]
pub(crate) enum Payload<'a> {
    None,
    Bytes(&'a [u8]),
    /// A file from its start, and its length.
    File(&'a File, u64),
}

impl<'a> Call<'a> {
    pub(crate) fn get(url: Url) -> Self {
        Self {
            method: Method::GET,
            url,
            headers: Vec::new(),
            authorization: None,
            payload: Payload::None,
            insecure: false,
            document: false,
            once: false,
        }
    }
}

impl Http {
    pub(crate) fn new(
        authorities: Authorities,
        proxies: Proxies,
        verify: bool,
        limits: Limits,
    ) -> Self {
        Self {
            authorities,
            proxies,
            verify,
            limits,
            agents: Mutex::default(),
        }
    }

    /// Makes the request until it is answered with something other than "try again", as often as the limits allow.
    pub(crate) fn persist(
        &self,
        call: &Call<'_>,
        pausing: Pausing<'_>,
    ) -> Result<Answer, ExchangeError> {
        let mut attempt = 1;
        loop {
            let (fault, wished) = match self.once(call) {
                Ok(answer) if !is_transient(answer.status.as_u16()) => return Ok(answer),
                Ok(answer) => {
                    let wished = retry_after(&answer.headers, now());
                    let status = answer.status.as_u16();
                    let reason = answer.refusal();
                    (Fault::Status { status, reason }, wished)
                }
                Err(ExchangeError { fault, .. }) if fault.is_transient() => (fault, None),
                Err(error) => return Err(error),
            };
            let host = call.url.origin().authority();
            if wished.is_some_and(|wished| wished > self.limits.pause_max) {
                let seconds = wished.unwrap_or_default().as_secs();
                return Err(ExchangeError::new(host, Fault::Busy { seconds }));
            }
            if call.once || attempt >= self.limits.attempts {
                return Err(ExchangeError::new(host, fault));
            }
            let pause = wished.unwrap_or_else(|| self.pause(attempt));
            pausing(&host, &fault, pause);
            std::thread::sleep(pause);
            attempt += 1;
        }
    }

    /// The pause after the `attempt`-th failure: doubling, with up to a half taken off at random so that clients part.
    pub(crate) fn pause(&self, attempt: u32) -> Duration {
        let whole = self
            .limits
            .pause
            .saturating_mul(1 << attempt.saturating_sub(1).min(16))
            .min(self.limits.pause_max);
        let mut random = [0];
        let _ = ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut random);
        whole - whole.mul_f64(f64::from(random[0]) / 512.0)
    }

    /// Makes the request once and follows redirects of GET and HEAD.
    pub(crate) fn once(&self, call: &Call<'_>) -> Result<Answer, ExchangeError> {
        let first = call.url.origin();
        let started = Instant::now();
        let mut url = call.url.clone();
        for _ in 0..=REDIRECTS_MAX {
            let answer = self.send(call, url)?;
            let followed = matches!(call.method, Method::GET | Method::HEAD)
                && matches!(answer.status.as_u16(), 301 | 302 | 303 | 307 | 308);
            if !followed {
                return Ok(answer);
            }
            let host = answer.url.origin().authority();
            let fail = |fault| Err(ExchangeError::new(host, fault));
            let Some(next) = answer.location() else {
                return fail(Fault::Redirect {
                    to: text::printable(&answer.header(&header::LOCATION).unwrap_or_default(), 100),
                });
            };
            let to = next.origin();
            // Plain http would show the content, and often a signed address, to everybody on the way. A peer must not
            // make hull talk to services of this machine either.
            let downgrade = first.secure && !to.secure && self.verify && !call.insecure;
            if downgrade || (to.is_loopback() && !first.is_loopback()) {
                return fail(Fault::Redirect {
                    to: next.to_string(),
                });
            }
            if call.document && started.elapsed() > self.limits.document {
                return fail(Fault::Stalled);
            }
            url = next;
        }
        Err(ExchangeError::new(first.authority(), Fault::Redirects))
    }

    fn send(&self, call: &Call<'_>, url: Url) -> Result<Answer, ExchangeError> {
        let origin = url.origin().clone();
        // What is insecure is one registry, not what it redirects to.
        let own = &origin == call.url.origin();
        let verify = self.verify && !(call.insecure && own);
        let agent = self.agent(&origin, verify)?;
        let failed =
            |error: ureq::Error| ExchangeError::new(origin.authority(), Fault::from(error));
        let invalid = |_| ExchangeError::new(origin.authority(), Fault::Header);
        let mut request = Request::builder().method(&call.method).uri(url.whole());
        for (name, value) in &call.headers {
            request = request.header(*name, value);
        }
        if let Some(authorization) = call.authorization.as_ref().filter(|_| own) {
            let mut value = HeaderValue::from_str(authorization.expose())
                .map_err(|_| ExchangeError::new(origin.authority(), Fault::Header))?;
            value.set_sensitive(true);
            request = request.header(header::AUTHORIZATION, value);
        }
        let total = call.document.then_some(self.limits.document);
        let stall = self.limits.stall;
        let response = match call.payload {
            Payload::None => run(&agent, request.body(()).map_err(invalid)?, total, stall),
            Payload::Bytes(bytes) => {
                run(&agent, request.body(bytes).map_err(invalid)?, total, stall)
            }
            Payload::File(file, size) => {
                let mut file = file;
                file.seek(SeekFrom::Start(0))
                    .map_err(|error| failed(ureq::Error::Io(error)))?;
                let mut bounded = file.take(size);
                let request = request
                    .header(header::CONTENT_LENGTH, size)
                    .body(SendBody::from_reader(&mut bounded))
                    .map_err(invalid)?;
                run(&agent, request, total, stall.max(COMMIT))
            }
        };
        let (parts, body) = response.map_err(failed)?.into_parts();
        Ok(Answer {
            status: parts.status,
            headers: parts.headers,
            body,
            url,
        })
    }

    fn agent(&self, origin: &Origin, verify: bool) -> Result<Agent, ExchangeError> {
        let key = (origin.clone(), verify);
        let mut agents = self.agents.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(agent) = agents.get(&key) {
            return Ok(agent.clone());
        }
        let failed = |fault| ExchangeError::new(origin.authority(), fault);
        let mut config = Config::builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("hull/", env!("CARGO_PKG_VERSION")))
            .accept_encoding("identity")
            .max_response_header_size(HEADER_MAX)
            .max_idle_connections_per_host(8)
            .timeout_resolve(Some(self.limits.connect))
            .timeout_connect(Some(self.limits.connect))
            .timeout_per_read(Some(self.limits.stall))
            .timeout_per_write(Some(self.limits.stall))
            .proxy(match self.proxies.of(origin) {
                Some(address) => Some(Proxy::new(address).map_err(|_| failed(Fault::Proxy))?),
                None => None,
            });
        if origin.secure {
            let tls = self
                .authorities
                .config(&origin.authority(), verify)
                .map_err(|error| failed(Fault::Tls(error)))?;
            config = config.tls_config(tls);
        }
        let agent = Agent::with_parts(config.build(), DefaultConnector::default(), Names::new());
        agents.insert(key, agent.clone());
        Ok(agent)
    }
}

fn run(
    agent: &Agent,
    request: Request<impl AsSendBody>,
    total: Option<Duration>,
    stall: Duration,
) -> Result<ureq::http::Response<Body>, ureq::Error> {
    let request = agent
        .configure_request(request)
        .timeout_global(total)
        .timeout_per_read(Some(stall))
        .build();
    agent.run(request)
}

/// Whether a status says that the same request may succeed in a moment.
pub(crate) fn is_transient(status: u16) -> bool {
    matches!(status, 408 | 425 | 429 | 500 | 502 | 503 | 504)
}

/// Seconds since 1970 from which on a number in `Retry-After` can only be a date.
const DATE: u64 = 1_000_000_000;

/// The pause a server asks for: seconds, a date (RFC 9110 §10.2.3), or, as docker hub has it, seconds since 1970.
fn retry_after(headers: &HeaderMap, now: u64) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    let seconds = match text.parse() {
        Ok(number @ DATE..) => number.saturating_sub(now),
        Ok(pause) => pause,
        Err(_) => date::http(text, now)?.saturating_sub(now),
    };
    Some(Duration::from_secs(seconds))
}

/// Seconds since 1970.
fn now() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |now| now.as_secs())
}
