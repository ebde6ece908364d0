//! Images from registries for the command line: the options that several verbs share, and what to advise when a
//! registry says no. Knows no machine.

use std::env;
use std::ffi::OsStr;
use std::io::IsTerminal;
use std::path::Path;
use std::sync::Arc;

use image::reference::{Reference, Source};
use image::registry::{Client, Fault, Progress, RegistryError, Settings, Unwatched};
use image::trust::{Origin, Policy, TrustError, Verdict};
use image::{
    Digest, Image, JudgeError, Platform, Pull, PullError, Pulled, PushError, RemoveError, Store,
};

use crate::cli::rmi;
use crate::failure::{Failure, LAUNCHER};
use crate::progress::{Bars, Lines};

// How to talk to registries. (No doc comment: in a verb it would become the verb's help.)
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Connection {
    /// Whether to insist on TLS and valid certificates; false also takes plain http
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) tls_verify: Option<bool>,
}

// What to fetch, and under which rules. (No doc comment, either.)
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Fetch {
    /// Platform of the image
    #[arg(long, value_name = "OS/ARCH[/VARIANT]", value_parser = platform)]
    pub(crate) platform: Option<Platform>,
    /// Rules to leave out: `image` accepts what policy.json would not
    #[arg(long, value_name = "WHAT")]
    pub(crate) insecure_options: Vec<Exemption>,
    /// Show nothing of a transfer
    #[arg(short, long)]
    pub(crate) quiet: bool,
    #[command(flatten)]
    pub(crate) connection: Connection,
}

/// When `hull run` asks the registry.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum When {
    /// Every time, for a newer image
    Always,
    /// If the image is not in the store
    #[default]
    Missing,
    /// Not at all
    Never,
}

/// What an image on the command line is.
#[derive(Debug, Clone)]
pub(crate) enum Wanted {
    /// In the store, under this name or by its id.
    Stored(Box<Image>, Option<Reference>),
    /// Somewhere else.
    Source(Source),
}

/// A rule that can be left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Exemption {
    /// The policy for images (policy.json)
    Image,
}

/// What is shown of a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Show {
    /// Bars on a terminal, lines elsewhere.
    Progress,
    /// Nothing.
    Nothing,
}

impl Show {
    /// Progress, unless the user wants it quiet.
    pub(crate) fn unless(quiet: bool) -> Self {
        if quiet { Self::Nothing } else { Self::Progress }
    }
}

fn platform(text: &str) -> Result<Platform, String> {
    let mut parts = text.split('/');
    let mut next = || parts.next().filter(|part| !part.is_empty());
    let (os, architecture, variant) = (next(), next(), next());
    match (os, architecture, parts.next()) {
        (Some(os), Some(architecture), None) if !text.ends_with('/') => Ok(Platform {
            os: os.to_owned(),
            architecture: architecture.to_owned(),
            variant: variant.map(str::to_owned),
        }),
        _ => Err("not of the form linux/amd64 or linux/arm/v7".to_owned()),
    }
}

/// Shows a transfer on standard error.
fn watcher(show: Show) -> Arc<dyn Progress> {
    match show {
        Show::Nothing => Arc::new(Unwatched),
        Show::Progress if std::io::stderr().is_terminal() => Arc::new(Bars::new()),
        Show::Progress => Arc::new(Lines::default()),
    }
}

impl Connection {
    /// A client, and who watches it.
    pub(crate) fn client(&self, show: Show) -> Result<(Client, Arc<dyn Progress>), Failure> {
        let progress = watcher(show);
        let settings = Settings {
            tls_verify: self.tls_verify,
            progress: progress.clone(),
            ..Settings::default()
        };
        let client = Client::new(&|name| env::var_os(name), settings)?;
        Ok((client, progress))
    }
}

impl Fetch {
    /// Pulls an image, and tells once that nobody has vouched for it.
    pub(crate) fn pull(&self, store: &Store, reference: &Reference) -> Result<Pulled, Failure> {
        let policy = self.policy()?;
        let (client, progress) = self.connection.client(Show::unless(self.quiet))?;
        let pull = Pull {
            client: &client,
            policy: policy.as_ref(),
            platform: self.platform.clone().unwrap_or_else(Platform::host),
            progress,
        };
        let pulled = store.pull(reference, &pull).map_err(failed)?;
        let lax = policy
            .as_ref()
            .is_some_and(|policy| !policy.demands_signatures());
        if pulled.verdict == Verdict::Unchecked && lax && store.first_time("unsigned") {
            eprintln!(
                "note: images are accepted unsigned; a policy.json (containers-policy.json(5)) in /etc/hull can demand signatures"
            );
        }
        Ok(pulled)
    }

    /// What `text` means: an image of the store, by its name or its id, or else something to be fetched or converted.
    /// docker's order: a whole id, a name, the beginning of an id.
    pub(crate) fn find(&self, store: &Store, text: &OsStr, when: When) -> Result<Wanted, Failure> {
        let typed = text.to_str().unwrap_or_default();
        let refused = |error| rmi::refused(error).code(LAUNCHER);
        if typed.parse::<Digest>().is_ok() || Digest::from_hex(typed).is_ok() {
            let image = store.resolve(typed).map_err(refused)?;
            return Ok(Wanted::Stored(Box::new(image), None));
        }
        let source = Source::parse(text)?;
        let Source::Registry(reference) = &source else {
            return Ok(Wanted::Source(source));
        };
        if when == When::Always {
            return Ok(Wanted::Source(source));
        }
        let Some(image) = store.named(reference)? else {
            return match store.resolve(typed) {
                Ok(image) => Ok(Wanted::Stored(Box::new(image), None)),
                Err(RemoveError::Unknown(_)) => Ok(Wanted::Source(source)),
                Err(error) => Err(refused(error)),
            };
        };
        if let Some(platform) = &self.platform {
            // A name may stand for an image of another platform that was pulled before.
            let config = store.config(&image.id)?;
            if config.os != platform.os || config.architecture != platform.architecture {
                return Ok(Wanted::Source(source));
            }
        }
        Ok(Wanted::Stored(Box::new(image), Some(reference.clone())))
    }

    /// The image that is wanted. One that is in the store is judged as well: the policy may have changed since it came.
    pub(crate) fn obtain(
        &self,
        store: &Store,
        wanted: &Wanted,
        when: When,
    ) -> Result<Image, Failure> {
        match wanted {
            Wanted::Stored(image, name) => self.judged(store, image, name.as_ref(), when),
            Wanted::Source(Source::Registry(reference)) if when == When::Never => {
                Err(Failure::new(format!("{reference} is not in the store"))
                    .hint(format!("`hull pull {}` fetches it.", reference.familiar())))
            }
            Wanted::Source(Source::Registry(reference)) => Ok(self.pull(store, reference)?.image),
            Wanted::Source(source) => {
                if let Some(policy) = self.policy()? {
                    policy.judge(&Origin::of(source), &[]).map_err(distrusted)?;
                }
                let mut image = store.get(source)?;
                // Where this is lost, the image is judged by its id as one of unknown origin: more strictly.
                let _ = store.note_origin(&mut image, source);
                Ok(image)
            }
        }
    }

    fn judged(
        &self,
        store: &Store,
        image: &Image,
        name: Option<&Reference>,
        when: When,
    ) -> Result<Image, Failure> {
        let Some(policy) = self.policy()? else {
            return Ok(image.clone());
        };
        match (store.judge(image, name, &policy), name) {
            (Ok(_), _) => Ok(image.clone()),
            // It came when nobody asked for signatures: its registry may have some.
            (Err(JudgeError::Trust(TrustError::Unsigned { .. })), Some(name))
                if when == When::Missing && image.origins.contains(&name.to_string()) =>
            {
                Ok(self.pull(store, name)?.image)
            }
            (Err(JudgeError::Trust(error)), _) => Err(distrusted(error)),
            (Err(JudgeError::Store(error)), _) => Err(error.into()),
        }
    }

    fn policy(&self) -> Result<Option<Policy>, Failure> {
        if self.insecure_options.contains(&Exemption::Image) {
            return Ok(None);
        }
        Ok(Some(Policy::from_environment(&|name| env::var_os(name))?))
    }
}

/// Whether the machine's policy lets images from `origin` into the store.
pub(crate) fn admit(origin: &Origin) -> Result<(), Failure> {
    let policy = Policy::from_environment(&|name| env::var_os(name))?;
    policy
        .judge(origin, &[])
        .map(drop)
        .map_err(|error| Failure::new(error).code(1))
}

const OVERRIDE: &str =
    "`--insecure-options=image` leaves the policy out this once, if you know what you do.";

/// An image that the policy refuses, with advice.
fn distrusted(error: TrustError) -> Failure {
    Failure::new(error).hint(OVERRIDE)
}

/// A pull that failed, with advice.
fn failed(error: PullError) -> Failure {
    let hint = match &error {
        PullError::Registry(registry) => advice(registry),
        PullError::Trust(_) => Some(OVERRIDE.to_owned()),
        _ => None,
    };
    hinted(Failure::new(error), hint)
}

/// A push that failed, with advice.
pub(crate) fn not_pushed(error: PushError) -> Failure {
    let hint = match &error {
        PushError::Registry(registry) => advice(registry),
        _ => None,
    };
    hinted(Failure::new(error), hint)
}

/// Something else that failed at a registry, with advice.
pub(crate) fn refused(error: RegistryError) -> Failure {
    let hint = advice(&error);
    hinted(Failure::new(error), hint)
}

fn hinted(failure: Failure, hint: Option<String>) -> Failure {
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

fn advice(error: &RegistryError) -> Option<String> {
    match error {
        RegistryError::Denied {
            host, identified, ..
        } => {
            let host = match host.as_str() {
                "registry-1.docker.io" | "auth.docker.io" => "docker.io",
                other => other,
            };
            Some(match identified {
                true => format!(
                    "The credentials for {host} do not allow it, or the image does not exist."
                ),
                false => {
                    format!("It may be private or not exist; `hull login {host}` identifies you.")
                }
            })
        }
        RegistryError::Exchange(exchange) => match &exchange.fault {
            Fault::Handshake(_) => Some(format!(
                "A private authority's certificate goes into /etc/containers/certs.d/{}/ca.crt; \
                 `--tls-verify=false` does without.",
                exchange.host
            )),
            Fault::Tls(_) if !Path::new("/etc/ssl/certs").exists() => {
                Some("On Debian, `apt-get install ca-certificates` brings them.".to_owned())
            }
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests;
