//! `hull login`: who one is at a registry. The password is never an argument, where others could see it.

use std::io::{self, BufRead, IsTerminal, Read, Write};
use std::process::ExitCode;

use image::Secret;
use image::credentials::{Login, Stored};
use image::reference::{DEFAULT_DOMAIN, Reference};
use image::registry::RegistryError;
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

use crate::failure::Failure;
use crate::registry::{Connection, Show, refused};

/// Longest password, in bytes. Tokens have some thousands.
const PASSWORD_MAX: u64 = 64 * 1024;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// User name; asked for when missing
    #[arg(short, long, value_name = "NAME")]
    username: Option<String>,
    /// Read the password or token from standard input
    #[arg(long)]
    password_stdin: bool,
    #[command(flatten)]
    connection: Connection,
    /// Host of the registry
    #[arg(default_value = DEFAULT_DOMAIN)]
    registry: String,
}

pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let registry = registry(&args.registry)?;
    let login = Login::Password {
        user: user(args)?,
        secret: Secret::new(password(args.password_stdin)?),
    };
    let (client, _) = args.connection.client(Show::Progress)?;
    client.check(&registry, &login).map_err(not_taken)?;
    match client.credentials().store(registry.domain(), &login)? {
        Stored::File(path) => {
            eprintln!(
                "note: the password is in {} now, unencrypted",
                path.display()
            );
        }
        Stored::Helper(name) => eprintln!("note: docker-credential-{name} keeps the password"),
    }
    println!("Login succeeded");
    Ok(ExitCode::SUCCESS)
}

fn not_taken(error: RegistryError) -> Failure {
    match error {
        RegistryError::Denied { host, reason, .. } => Failure::new(format!(
            "{host} does not take this user name and password: {reason}"
        )),
        other => refused(other),
    }
}

/// A name in the registry that is meant.
pub(super) fn registry(text: &str) -> Result<Reference, Failure> {
    let host = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"))
        .unwrap_or(text);
    let host = host.split('/').next().unwrap_or_default();
    let name: Result<Reference, _> = format!("{host}/any").parse();
    match name {
        // What is no host would be a name space on docker hub.
        Ok(name) if matches!(name.path(), "any" | "library/any") => Ok(name),
        Ok(_) | Err(_) => Err(Failure::new(format!("{text:?} is no host of a registry"))
            .hint("Write registry.example.com, localhost:5000 or docker.io.")),
    }
}

fn user(args: &Args) -> Result<String, Failure> {
    if let Some(user) = &args.username {
        return Ok(user.clone());
    }
    if args.password_stdin || !io::stdin().is_terminal() {
        return Err(Failure::new("No user name is given").hint("Name one with --username."));
    }
    ask("User name: ")
}

fn password(from_stdin: bool) -> Result<String, Failure> {
    if from_stdin {
        let mut text = String::new();
        io::stdin().take(PASSWORD_MAX).read_to_string(&mut text)?;
        return Ok(text.trim_end_matches(['\r', '\n']).to_owned());
    }
    if !io::stdin().is_terminal() {
        return Err(Failure::new("There is no terminal to ask for a password")
            .hint("Pass it with --password-stdin."));
    }
    let shown = tcgetattr(io::stdin())?;
    let mut hidden = shown.clone();
    hidden.local_modes -= LocalModes::ECHO;
    tcsetattr(io::stdin(), OptionalActions::Flush, &hidden)?;
    let typed = ask("Password: ");
    tcsetattr(io::stdin(), OptionalActions::Flush, &shown)?;
    eprintln!("");
    typed
}

fn ask(question: &str) -> Result<String, Failure> {
    let mut terminal = io::stderr();
    terminal.write_all(question.as_bytes())?;
    terminal.flush()?;
    let mut line = String::new();
    io::stdin().lock().take(PASSWORD_MAX).read_line(&mut line)?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

#[cfg(test)]
mod tests;
