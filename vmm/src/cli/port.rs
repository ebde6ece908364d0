//! `hull port`: where a container's ports are published.

use std::path::PathBuf;
use std::process::ExitCode;

use super::ask;
use crate::failure::Failure;
use crate::publish;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Container: name, id, or beginning of an id
    #[arg(value_name = "CONTAINER")]
    container: String,
    /// Only this port of the container's
    #[arg(value_name = "PORT[/PROTOCOL]")]
    port: Option<String>,
}

pub(super) fn run(args: &Args, root: Option<PathBuf>) -> Result<ExitCode, Failure> {
    let containers = ask::containers(root)?;
    let container = ask::find(&containers, &args.container)?;
    let wanted = args.port.as_deref().map(publish::port).transpose()?;
    let mut bound = container.state().bound();
    bound.retain(|port| wanted.is_none_or(|wanted| wanted == (port.guest, port.transport)));
    for port in &bound {
        match wanted {
            Some(_) => println!("{}", port.host),
            None => println!(
                "{}/{} -> {}",
                port.guest,
                publish::name(port.transport),
                port.host
            ),
        }
    }
    match (bound.is_empty(), &args.port) {
        (true, Some(port)) => {
            let text = format!("Container {} does not publish port {port}", args.container);
            Err(Failure::new(text).code(1))
        }
        _ => Ok(ExitCode::SUCCESS),
    }
}
