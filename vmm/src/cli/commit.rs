//! `hull commit`: a container's file system becomes an image, of one layer.

use std::io::{self, PipeReader, Read};
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread::{Builder, JoinHandle};

use image::reference::Reference;
use image::trust::Origin;
use image::{Execution, Store};

use super::import::Change;
use super::{ask, cp};
use crate::container::Container;
use crate::failure::Failure;
use crate::registry::admit;
use crate::store;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// How to run it, in a Dockerfile's words: CMD, ENTRYPOINT, ENV, USER, WORKDIR, LABEL, STOPSIGNAL,
    /// VOLUME
    #[arg(short, long, value_name = "INSTRUCTION")]
    change: Vec<Change>,
    /// A note for its history
    #[arg(short, long, default_value = "")]
    message: String,
    /// Whose it is
    #[arg(short, long, default_value = "")]
    author: String,
    /// Container: a name, an id, or the beginning of one
    container: String,
    /// The image's name
    name: Option<String>,
}

pub(super) fn run(args: &Args, root: Option<PathBuf>) -> Result<ExitCode, Failure> {
    let name: Option<Reference> = args.name.as_deref().map(str::parse).transpose()?;
    let container = ask::find(&ask::containers(root.clone())?, &args.container)?;
    admit(&Origin::Tarball)?;
    let store = store::open(root.clone())?;
    let mut execution = execution(&container, &store)?;
    for change in &args.change {
        change.apply(&mut execution).map_err(Failure::new)?;
    }
    // Before there is a thread: it may have to fork.
    let job = cp::root_of(&container, root)?;
    let (reader, mut writer) = std::io::pipe()?;
    let packing = Builder::new().spawn(move || cp::pour(job, &mut writer))?;
    let mut tar = Checked {
        tar: reader,
        packing: Some(packing),
        failure: None,
    };
    let label = &container.config.name;
    let image = store.import(label, &mut tar, name.as_ref(), |diff_id| {
        serde_json::json!({
            "architecture": "amd64",
            "os": "linux",
            "author": args.author,
            "config": execution,
            "rootfs": { "type": "layers", "diff_ids": [diff_id] },
            "history": [{
                "author": args.author,
                "created_by": format!("hull commit {label}"),
                "comment": args.message,
            }],
        })
        .to_string()
        .into_bytes()
    });
    if let Some(failure) = tar.failure {
        return Err(failure);
    }
    let image = image.map_err(|error| Failure::new(error).code(1))?;
    println!("{}", image.id);
    Ok(ExitCode::SUCCESS)
}

/// How to run the image: as its image says, with what was said when the container was made.
fn execution(container: &Container, store: &Store) -> Result<Execution, Failure> {
    let mut execution = match container.config.rootfs {
        Some(_) => Execution::default(),
        None => store.resolve(&container.config.image_id)?.execution,
    };
    let process = container.task()?.process;
    let text = |bytes: &protocol::Bytes| String::from_utf8_lossy(bytes).into_owned();
    let command = &container.config.command;
    match command.strip_prefix(execution.entrypoint.as_slice()) {
        Some(rest) => execution.cmd = rest.to_vec(),
        None => {
            execution.entrypoint.clear();
            execution.cmd.clone_from(command);
        }
    }
    execution.env = process.env.iter().map(text).collect();
    execution.user = text(&process.user);
    execution.working_dir = text(&process.cwd);
    let labels = container.config.labels.clone();
    execution.labels.extend(labels);
    Ok(execution)
}

/// A tar whose end is one only when whoever writes it says that it is whole.
struct Checked {
    tar: PipeReader,
    packing: Option<JoinHandle<Result<(), Failure>>>,
    failure: Option<Failure>,
}

impl Read for Checked {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.tar.read(buffer) {
            Ok(0) if !buffer.is_empty() => {}
            other => return other,
        }
        let packed = self.packing.take().map(JoinHandle::join);
        match packed {
            None | Some(Ok(Ok(()))) => Ok(0),
            Some(Ok(Err(failure))) => {
                self.failure = Some(failure);
                Err(io::ErrorKind::UnexpectedEof.into())
            }
            Some(Err(_)) => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}
